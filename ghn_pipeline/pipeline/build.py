"""Builders of images, untrained models, scorers and baselines from a configuration."""

from pathlib import Path
from random import Random

import torch
from torch import nn

from ghn_pipeline.baselines import made, multiply_adds
from ghn_pipeline.baselines.exits import MultiExit
from ghn_pipeline.data import cifar10
from ghn_pipeline.data.images import Splits, split, stream
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.oneshot import OneShot
from ghn_pipeline.pipeline.results import load_weights
from ghn_pipeline.pipeline.spaces import CLASSES, listed, space_of
from ghn_pipeline.ranking.held_out import held_out
from ghn_pipeline.ranking.scoring import Scorer
from ghn_pipeline.ranking.untrained import proxy_scorer, sgd_scorer
from ghn_pipeline.ranking.weights import scorer
from ghn_pipeline.settings.config import Config
from ghn_pipeline.settings.sections import Recipe
from ghn_pipeline.system.compute import prepare_process
from ghn_pipeline.training.ghn import build, examples

SEEDS_APART = 1000  # between the streams of trainings that differ in their seed


def finalist_recipe(config: Config, group: str) -> Recipe:
    """Return the recipe of a group of finalists; only that of Table 2 has CutOut."""
    shared = {key: getattr(config.finalists, key) for key in Recipe.model_fields}
    return Recipe(**{**shared, "cutout": config.finalists.cutout if group == "best" else 0})


def baseline(config: Config, name: str) -> MultiExit:
    """Return an untrained baseline of anytime.rivals, its weights from torch's global generator."""
    return made(name, config.anytime, CLASSES)


def comparable(config: Config) -> int:
    """Return the multiply-adds of the first baseline, which the best network may take (7.3)."""
    return multiply_adds(baseline(config, config.anytime.rivals[0]), config.images.resolution)[-1]


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


def draw_held_out(config: Config) -> tuple[list[Block], list[Block]]:
    """Draw the test architectures and the selection; equal settings give equal draws.

    Raises:
        UserError: the space, or the table of published accuracies, has fewer architectures.
    """
    rng, asked = Random(config.seeds.test_architectures), config.correlation
    if cells := list(listed(config)):
        rng.shuffle(cells)
        hint = f": the table (benchmark.table) has {len(cells):,} cells"
        return held_out(iter(cells), asked.drawn, asked.selection, hint)
    draws = space_of(config).draws(rng, config.space.nodes)
    return held_out(draws, asked.drawn, asked.selection)


def untrained(config: Config, stage: str) -> nn.Module:
    """Return the untrained GHN or one-shot model of `stage`."""
    space, seed = space_of(config), config.seeds.initialisation
    kind, _, part = stage.partition("/")
    if kind == "oneshot":
        return OneShot(examples(space, config.space.nodes), stream(seed, kind, int(part)))
    ghn = config.models[part]
    return build(space, ghn, seed + SEEDS_APART * ghn.seeds[0])


def scorer_of(config: Config, stage: str, device: torch.device) -> Scorer:
    """Return the scorer of `stage`: a trained GHN, a trained one-shot model, or a baseline.

    Raises:
        UserError: the model is missing, truncated, or from another configuration.
    """
    prepare_process(config.compute.threads)
    config = config.of_proxies if stage == "proxies" else config
    space, splits = space_of(config), images_of(config, device)
    padding, resolution = config.images.padding, config.images.resolution
    if stage == "proxies":
        batch = config.proxies.batch
        return proxy_scorer(
            space, splits, config.seeds, batch=batch, padding=padding, resolution=resolution
        )
    if stage == "sgd":
        return sgd_scorer(
            space,
            splits,
            config.sgd,
            config.evaluation,
            config.seeds,
            steps=config.correlation.steps,
            padding=padding,
            resolution=resolution,
        )
    model = untrained(config, stage).to(device)
    load_weights(config, stage, model)
    return scorer(model, space, splits, config.evaluation, resolution)
