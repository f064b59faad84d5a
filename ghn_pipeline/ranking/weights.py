"""Scoring with the weights of a trained model: those a GHN generates or a one-shot model shares."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ghn_pipeline.data.images import Splits
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network
from ghn_pipeline.ranking.measures import Measure
from ghn_pipeline.ranking.scoring import Score, Scorer
from ghn_pipeline.spaces.space import Space
from ghn_pipeline.training.batches import fixed_batches


def scorer(
    model: nn.Module, space: Space, splits: Splits, evaluation: Measure, resolution: int
) -> Scorer:
    """Return a scorer of blocks with weights from `model`, by the measure of `evaluation`.

    Args:
        model: a GHN or a one-shot model, a function from networks to the weights of each.
        space: the search space, which stacks blocks into networks.
        splits: the images; the validation ones are used.
        evaluation: the measure, and its batches.
        resolution: side of the images in pixels.
    """

    def score_one(network: Network, weights: dict[str, Tensor]) -> tuple[dict[str, float], float]:
        begun = time.monotonic()
        images = fixed_batches(splits.validation, splits, evaluation.batch, evaluation.batches)
        return evaluation.values(network, weights, images), time.monotonic() - begun

    @torch.no_grad()
    def score(blocks: Sequence[Block]) -> list[Score]:
        begun = time.monotonic()
        networks = [Network(space.modules(b), resolution) for b in blocks]
        weights = model(networks)
        share = (time.monotonic() - begun) / len(blocks)
        found = [score_one(n, w) for n, w in zip(networks, weights, strict=True)]
        return [
            Score(b.hash, values, {"accuracy": s + share})
            for b, (values, s) in zip(blocks, found, strict=True)
        ]

    return score
