"""Published accuracies, the truth that rankings are compared with."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ghn_pipeline.data.images import Splits
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network
from ghn_pipeline.ranking.correlation import Floats, coefficients
from ghn_pipeline.spaces.published import PublishedAccuracies
from ghn_pipeline.spaces.space import Space
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.training.batches import fixed_batches, judge
from ghn_pipeline.training.fit import Training


def truth(published: PublishedAccuracies, blocks: Sequence[Block], dataset: str) -> Floats:
    """Return the published accuracies [n] of architectures, 0 to 1.

    Raises:
        UserError: the published tables are not there, or lack one of the architectures.
    """
    table = published.accuracies(dataset)
    return np.array([table[_key(published, block, table)] for block in blocks])


def _key(published: PublishedAccuracies, block: Block, table: Mapping[str, float]) -> str:
    key = published.key(block)
    if key not in table:
        raise UserError(
            "no accuracy is published for an architecture like these: the benchmark needs "
            f"{published.needs}."
        )
    return key


def learning_curve(
    training: Training,
    splits: Splits,
    space: Space,
    published: PublishedAccuracies,
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
        published: the published accuracies of the space.
        blocks: the architectures.
        points: number of measurements.
        images: number of images in the one batch that is used.
        resolution: side of the images in pixels.

    Raises:
        UserError: `truth` raises it.
    """
    true = truth(published, blocks, published.first)

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
    """An architecture's key, accuracy and rank (1 is best) among all; the best accuracy."""

    key: str
    accuracy: float
    rank: int
    best: float


def standing(published: PublishedAccuracies, block: Block, dataset: str) -> Standing:
    """Return the standing of an architecture among all by published accuracy on a data set.

    Raises:
        UserError: `truth` raises it.
    """
    table = published.accuracies(dataset)
    key = _key(published, block, table)
    better = sum(accuracy > table[key] for accuracy in table.values())
    return Standing(key, table[key], better + 1, max(table.values()))
