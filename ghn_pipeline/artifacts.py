"""What earlier stages made, read back from the results folder as objects."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ghn_pipeline import record
from ghn_pipeline.compute import set_threads
from ghn_pipeline.config import Config
from ghn_pipeline.data import cifar10
from ghn_pipeline.data.images import Splits, split, stream
from ghn_pipeline.errors import UserError
from ghn_pipeline.files import digest, read_json
from ghn_pipeline.network import Network
from ghn_pipeline.paper.table4 import Row
from ghn_pipeline.search.scoring import Score, Scorer
from ghn_pipeline.space.classification import Classification
from ghn_pipeline.space.graph import Block
from ghn_pipeline.stages import first_ghn, result_folder, settings
from ghn_pipeline.training import checkpoint
from ghn_pipeline.training.batches import accuracy, fixed_batches
from ghn_pipeline.training.oneshot import OneShot
from ghn_pipeline.training.search import build

CLASSES = 10  # of CIFAR-10


def space_of(config: Config) -> Classification:
    """Return the search space of the configuration."""
    return Classification(
        operations=tuple(config.space.operations),
        max_inputs=config.space.max_inputs,
        blocks=config.network.blocks,
        channels=config.network.channels,
        reductions=tuple(config.network.reductions),
        stem_multiplier=config.network.stem_multiplier,
        classes=CLASSES,
    )


def images_of(config: Config, device: torch.device) -> Splits:
    """Return the images of the configuration, verified, on `device`.

    Raises:
        UserError: CIFAR-10 is missing or altered.
    """
    pixels, labels = cifar10.load(Path(config.data.folder))
    return split(
        pixels,
        labels,
        train=config.images.train,
        validation=config.images.validation,
        resolution=config.images.resolution,
        seed=config.seeds.split,
        device=device,
    )


def architectures_of(config: Config) -> list[Block]:
    """Return the test architectures that `ghn sample` drew.

    Raises:
        UserError: they are missing, stale or not whole.
    """
    record.read(config, "architectures", "ghn sample")
    path = result_folder(config, "architectures") / "architectures.json"
    space = space_of(config)
    entries = read_json(path, "ghn sample")
    try:
        blocks = [space.read(entry["block"]) for entry in entries]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} holds no architectures. Run `ghn sample` again.") from error
    if len(blocks) != len(config.correlation.architectures):
        raise UserError(f"{path} holds {len(blocks)} architectures. Run `ghn sample` again.")
    return blocks


def maker_of(stage: str) -> str:
    """Return the command that makes the results of a training or scoring."""
    kind, _, name = stage.partition("/")
    if kind == "scores":
        return f"ghn score {name}"
    return f"ghn train-{kind.removesuffix('s')} {name}".strip()  # finalists/0: train-finalist 0


def untrained(config: Config, stage: str) -> nn.Module:
    """Make the GHN or the one-shot model of `stage` as it is before training."""
    space, seed = space_of(config), config.seeds.initialisation
    if stage == "oneshot":
        return OneShot(space, config.space.nodes, stream(seed, "oneshot"))
    return build(space, config.named_ghn(stage.removeprefix("ghn/")), seed)


def scorer_of(config: Config, stage: str, device: torch.device) -> Scorer:
    """Return what scores blocks with the trained GHN or one-shot model of `stage`.

    Raises:
        UserError: the model is missing, truncated or of another configuration.
    """
    set_threads(config)
    space, splits = space_of(config), images_of(config, device)
    model = untrained(config, stage).to(device)
    path = result_folder(config, stage) / "model.pt"
    state = checkpoint.load(path, digest(settings(config, stage)), maker_of(stage))
    model.load_state_dict(state["model"])
    batch, batches = config.evaluation.batch, config.evaluation.batches

    def score_one(network: Network, weights: dict[str, Tensor]) -> tuple[float, float]:
        begun = time.monotonic()
        images = fixed_batches(splits.validation, splits, batch, batches)
        return accuracy(network, weights, images), time.monotonic() - begun

    @torch.no_grad()
    def score(blocks: Sequence[Block]) -> list[Score]:
        begun = time.monotonic()
        networks = [Network(space.modules(b), config.images.resolution) for b in blocks]
        weights = model(networks)
        share = (time.monotonic() - begun) / len(blocks)
        found = [score_one(n, w) for n, w in zip(networks, weights, strict=True)]
        return [Score(b.hash, a, s + share) for b, (a, s) in zip(blocks, found, strict=True)]

    return score


def table4_rows(config: Config) -> tuple[dict[str, Row], list[dict[str, Any]]]:
    """Collect what Table 4 is made of, and the records that say where it comes from.

    Raises:
        UserError: a stage is missing, or was made with other settings; it is named.
    """
    sgd = [
        record.read(config, f"sgd/{i}", f"ghn train-sgd {i}")
        for i in config.correlation.architectures
    ]
    made_of = list(sgd)
    measured = [run["result"]["measured"] for run in sgd]
    hashes = [run["result"]["hash"] for run in sgd]
    truth = np.array([list(m.values())[-1]["final"] for m in measured])
    rows = {}
    for k in config.correlation.steps:
        early = [m[str(k)] for m in measured]
        seconds = float(np.mean([e["seconds"] for e in early]))
        rows[f"sgd-{k}"] = Row(None, seconds, np.array([e["accuracy"] for e in early]), truth)
    for key, stage in (("oneshot", "oneshot"), ("ghn", first_ghn(config))):
        trained = record.read(config, stage, maker_of(stage))
        scored = record.read(config, f"scores/{stage}", maker_of(f"scores/{stage}"))
        result = scored["result"]
        if result["hashes"] != hashes:
            raise UserError(
                f"scores/{stage} and sgd/* are of different architectures. Run `ghn score {stage}` "
                "and the `ghn train-sgd` of those that differ again."
            )
        predicted = np.array(result["accuracies"])
        rows[key] = Row(trained["accelerator_seconds"], result["seconds_each"], predicted, truth)
        made_of += [trained, scored]
    return rows, made_of
