"""Readers of the results of earlier stages."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from ghn_pipeline.model.graph import Block
from ghn_pipeline.pipeline import record
from ghn_pipeline.pipeline.schemas import Entries
from ghn_pipeline.pipeline.spaces import listed, space_of
from ghn_pipeline.pipeline.stage import (
    CHOSEN_BY,
    FIRST_GHN,
    command,
    filled,
    result_folder,
    settings,
)
from ghn_pipeline.settings.config import Config
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import digest, read_json
from ghn_pipeline.system.schema import faults
from ghn_pipeline.training import checkpoint

Floats = NDArray[np.float64]

#: The baselines that score without a trained model.
UNTRAINED = ("proxies", "sgd")


def first_ghn(config: Config) -> str:
    """Return the stage of the first GHN, which Table 4 shows and the search uses."""
    (name,) = filled(config, FIRST_GHN)
    return name


def chooser(config: Config) -> str:
    """Return the search that chooses the finalists, the paper's random search (section 5.1.1)."""
    (name,) = filled(config, CHOSEN_BY)
    return name


def exported(config: Config) -> str:
    """Return the exported training of the winner, the first of several."""
    return f"finalists/best/{config.finalists.seeds[0]}"


def architectures_of(config: Config) -> list[Block]:
    """Return the test architectures that `ghn architectures` drew.

    Raises:
        UserError: they are missing, stale or damaged.
    """
    return _drawn(config, "architectures", config.correlation.drawn)


def selection_of(config: Config) -> list[Block]:
    """Return the selection that `ghn architectures` drew.

    Raises:
        UserError: it is missing, stale or damaged.
    """
    return _drawn(config, "selection", config.correlation.selection)


def held_out(config: Config) -> set[str]:
    """Return the hashes of all architectures that training must not see.

    If accuracies are published for some architectures of the space, these are all among them.

    Raises:
        UserError: they are missing, stale or damaged.
    """
    blocks = [*architectures_of(config), *selection_of(config), *listed(config)]
    return {block.hash for block in blocks}


def _drawn(config: Config, which: str, count: int) -> list[Block]:
    blocks = [block for block, _ in _listed(config, "architectures", f"{which}.json")]
    if len(blocks) != count:
        path = result_folder(config, "architectures") / f"{which}.json"
        raise UserError(f"{path} holds {len(blocks)} architectures. Run `ghn architectures` again.")
    return blocks


def _listed(config: Config, stage: str, name: str) -> list[tuple[Block, dict[str, float]]]:
    """Read a stage's list of architectures, each with the values of its measures.

    Raises:
        UserError: it is missing, damaged or stale, or the hash of an entry is not its block's.
    """
    path, space = record.output(config, stage, name), space_of(config)
    try:
        entries = Entries.model_validate(read_json(path, command(stage))).root
        found = [(space.read(entry.block), entry.values) for entry in entries]
        if wrong := [e.hash for e, (b, _) in zip(entries, found, strict=True) if e.hash != b.hash]:
            raise UserError(f"the hash of another block: {', '.join(wrong[:3])}")
    except (ValidationError, UserError) as error:
        reason = faults(error) if isinstance(error, ValidationError) else error
        raise UserError(
            f"{path} holds no list of architectures ({reason}). Run `{command(stage)}` again."
        ) from error
    return found


def load_weights(config: Config, stage: str, model: nn.Module) -> None:
    """Load the final weights of a finished training into a model.

    Raises:
        UserError: they are missing, damaged, stale, not finite, or from another model.
    """
    path = record.output(config, stage, "model.pt")
    checkpoint.load_model(path, digest(settings(config, stage)), command(stage), model)


def weights_of(config: Config, model: str) -> str:
    """Return the SHA-256 of a trained model's file, "" for a baseline without one.

    Equal settings may give other weights on another machine.

    Raises:
        UserError: it is missing.
    """
    if model in UNTRAINED:
        return ""
    record.output(config, model, "model.pt")
    return str(record.read(config, model)["outputs"]["model.pt"])


def scored_with(config: Config, stage: str, model: str) -> dict[str, Any]:
    """Return the record of a scoring by the present weights of `model`.

    Raises:
        UserError: it is missing or stale, or other weights made it.
    """
    run = record.read(config, stage)
    weights = "" if model in UNTRAINED else record.read(config, model)["outputs"].get("model.pt")
    if run["inputs"].get("model.pt", "") != weights:
        raise UserError(
            f"{stage} was made with earlier weights of {model}, which have been replaced. Run "
            f"`{command(stage)}` again."
        )
    return run


def searched(config: Config, stage: str) -> list[tuple[Block, float]]:
    """Return the architectures of a search in the order of evaluation, with their scores.

    Raises:
        UserError: the search is missing, stale or damaged.
    """
    scored_with(config, stage, first_ghn(config))
    by = config.evaluation.measure
    try:
        return [
            (block, values[by]) for block, values in _listed(config, stage, "architectures.json")
        ]
    except KeyError as error:
        raise UserError(
            f"{stage} has an architecture without {by}. Run `{command(stage)}` again."
        ) from error


def finalist(config: Config, group: str, rank: int) -> Block:
    """Return the architecture of a finalist of the group "top", "random" or "best" (5.1.1).

    The random ones are the first that the random search drew.

    Raises:
        UserError: the rank does not exist, or the search or the winner is missing or stale.
    """
    if group == "best":
        return winner(config)
    blocks = by_rank(config, group, config.finalists.ranks)
    _check_rank(rank, blocks)
    return blocks[rank]


def by_rank(config: Config, group: str, ranks: Sequence[int]) -> list[Block]:
    """Return all architectures of the search in the order of the group "top" or "random".

    The random ones are in the order in which the random search drew them.

    Raises:
        UserError: the search is missing, stale or damaged, or lacks one of `ranks`.
    """
    found = searched(config, chooser(config))
    _check_rank(max(ranks), found)
    if group == "top":
        found = sorted(found, key=lambda entry: -entry[1])  # of equals the first ranks higher
    return [block for block, _ in found]


def _check_rank(rank: int, found: Sequence[object]) -> None:
    if not 0 <= rank < len(found):
        raise UserError(f"there is no rank {rank}: the ranks are 0 to {len(found) - 1}")


def winner(config: Config) -> Block:
    """Return the architecture that `ghn winner` chose.

    Raises:
        UserError: it is missing, stale or damaged.
    """
    result = record.read(config, "winner")["result"]
    return space_of(config).read(result.get("block", ()))


def trained_on(config: Config, stage: str, block: Block) -> dict[str, Any]:
    """Return the record of a training of `block`.

    Raises:
        UserError: it is missing or stale, or its architecture is no longer the chosen one.
    """
    run = record.read(config, stage)
    if run["result"]["hash"] != block.hash:
        raise UserError(
            f"{stage} trained the architecture {run['result']['hash']}, and {block.hash} is now "
            f"the chosen one. Run `{command(stage)}` again."
        )
    return run


def truths(config: Config) -> list[dict[str, Any]]:
    """Return the records of the ground truth in the order of the test architectures.

    Raises:
        UserError: one is missing or stale; the message names it.
    """
    return [record.read(config, f"sgd/{i}") for i in range(config.correlation.architectures)]


def repeats(config: Config) -> list[dict[str, Any]]:
    """Return the records of the first test architectures' trainings from another seed.

    Raises:
        UserError: one is missing or stale; the message names it.
    """
    return [record.read(config, f"repeat/{i}") for i in range(config.correlation.repeats)]


def accuracies(sgd: Sequence[dict[str, Any]], images: str) -> Floats:
    """Return the accuracies [n] at the end of trainings, on "test" or "validation" images."""
    return np.array([list(run["result"]["measured"].values())[-1][images] for run in sgd])
