"""The published accuracies of NAS-Bench-201, the truth that rankings are compared with."""

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

#: The data sets with published accuracies; GHNs are trained on the first.
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet-16-120"}


def truth(blocks: Sequence[Block], dataset: str) -> Floats:
    """Return the published accuracies [n] of cells, 0 to 1.

    Raises:
        UserError: the published tables are not installed, or lack one of the architectures.
    """
    table = published(dataset)
    return np.array([table[_key(block, table)].accuracy for block in blocks])


def _key(block: Block, table: Mapping[str, Published]) -> str:
    try:
        key = Cell(block.nodes).key
    except ValueError:  # no edge has such an operation
        key = ""
    if key not in table:
        raise UserError(
            "no accuracy is published for an architecture like these: the benchmark needs the "
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
    """Return the measurements of Spearman's coefficient over `blocks` during a training.

    Likelihood ranks the architectures. An undefined coefficient, of equal likelihoods, is left out.

    Args:
        training: the training of the model that gives the weights.
        splits: the images; the validation ones are used.
        space: the search space, which stacks blocks into networks.
        blocks: the architectures.
        points: number of measurements.
        images: number of images in the one batch that is used.
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
    """A cell's key, accuracy and rank (1 is best) among all published ones; the best accuracy."""

    key: str
    accuracy: float
    rank: int
    best: float


def standing(block: Block, dataset: str) -> Standing:
    """Return the standing of a cell among all 15,625 by published accuracy on a data set.

    Raises:
        UserError: the published tables are not installed.
    """
    table = published(dataset)
    key = _key(block, table)
    own = table[key].accuracy
    better = sum(entry.accuracy > own for entry in table.values())
    return Standing(key, own, better + 1, max(entry.accuracy for entry in table.values()))
