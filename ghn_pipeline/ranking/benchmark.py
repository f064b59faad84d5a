"""A space of which trained accuracies are published: the truth that a GHN is held against."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ghn_pipeline.data.images import Splits
from ghn_pipeline.data.nasbench201 import Published, published
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network
from ghn_pipeline.ranking.correlation import Floats, coefficients
from ghn_pipeline.space.nasbench201 import Cell
from ghn_pipeline.space.space import Space
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.training.batches import fixed_batches, judge
from ghn_pipeline.training.fit import Training

#: Data sets whose accuracies are published; GHNs are trained on the first.
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet-16-120"}


def truth(blocks: Sequence[Block], dataset: str) -> Floats:
    """Return the published accuracies [n] of cells, 0 to 1.

    Raises:
        UserError: the published tables are not installed, or have no such architecture.
    """
    table = published(dataset)
    return np.array([table[_key(block, table)].accuracy for block in blocks])


def _key(block: Block, table: Mapping[str, Published]) -> str:
    try:
        key = Cell(block.nodes).key
    except ValueError:  # an operation that no edge has
        key = ""
    if key not in table:
        raise UserError(
            "no accuracy is published of an architecture like these: the benchmark is of the "
            "space nasbench201 with 3 nodes (presets/nasbench201.yaml)."
        )
    return key


def learning_curve(
    training: Training,
    splits: Splits,
    space: Space,
    blocks: Sequence[Block],
    *,
    points: int,
    images: int,
    resolution: int,
) -> Mapping[int, Callable[[], dict[str, float]]]:
    """Return what to measure on the way: Spearman's coefficient over `blocks`, as it grows.

    Architectures are ranked by likelihood. A coefficient that is undefined, for all are alike, is
    left out.

    Args:
        training: of what weighs them.
        splits: the images; those for validation are judged.
        space: the search space, which stacks blocks into networks.
        blocks: the architectures.
        points: how often to measure.
        images: in the one batch that is judged.
        resolution: side of the images in pixels.

    Raises:
        UserError: the published tables are not installed.
    """
    true = truth(blocks, next(iter(DATASETS)))

    @torch.no_grad()
    def likelihood(block: Block) -> float:
        network = Network(space.modules(block), resolution)
        (weights,) = training.result([network])
        batch = fixed_batches(splits.validation, splits, images, 1)
        return judge(network, weights, batch)["likelihood"]

    def measure() -> dict[str, float]:
        found = coefficients(np.array([likelihood(block) for block in blocks]), true)["spearman"]
        return {} if math.isnan(found) else {"spearman": found}

    steps = (training.steps * i // points for i in range(1, points + 1))
    return {step: measure for step in steps if step}


@dataclass(frozen=True)
class Standing:
    """Where a cell stands among all published: its key, accuracy, rank (1 is best); the best."""

    key: str
    accuracy: float
    rank: int
    best: float


def standing(block: Block, dataset: str) -> Standing:
    """Return where a cell stands among the 15,625, by published accuracy on a data set.

    Raises:
        UserError: the published tables are not installed.
    """
    table = published(dataset)
    key = _key(block, table)
    own = table[key].accuracy
    better = sum(entry.accuracy > own for entry in table.values())
    return Standing(key, own, better + 1, max(entry.accuracy for entry in table.values()))
