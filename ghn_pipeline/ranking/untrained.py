"""The baselines that score without a trained model: zero-cost proxies and a few steps of SGD."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from ghn_pipeline.data.images import Splits, stream
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network, Trained
from ghn_pipeline.ranking.proxies import PROXIES, initial_weights
from ghn_pipeline.ranking.scoring import Score, Scorer
from ghn_pipeline.settings.sections import Evaluation, Seeds, Sgd
from ghn_pipeline.spaces.space import Space
from ghn_pipeline.training.batches import training_batch
from ghn_pipeline.training.sgd import first_steps, sgd_training


def proxy_scorer(
    space: Space, splits: Splits, seeds: Seeds, *, batch: int, padding: int, resolution: int
) -> Scorer:
    """Return a scorer that scores blocks by every zero-cost proxy on the first training batch.

    Args:
        space: the search space, which stacks blocks into networks.
        splits: the images.
        seeds: seeds of the order of the images, of their crops, and of the networks' weights.
        batch: images in the batch.
        padding: padding of the crops in pixels.
        resolution: side of the images in pixels.
    """
    images, labels = training_batch(splits, 0, batch=batch, padding=padding, seed=seeds.data_order)

    def score_one(block: Block) -> Score:
        network = Network(space.modules(block), resolution)
        generator = stream(seeds.initialisation, "proxies")
        weights = {n: w.to(images.device) for n, w in initial_weights(network, generator).items()}
        found = {
            name: _timed(partial(proxy.of, network, weights, images, labels))
            for name, proxy in PROXIES.items()
        }
        return Score(
            block.hash,
            {name: value for name, (value, _) in found.items()},
            {name: seconds for name, (_, seconds) in found.items()},
        )

    return lambda blocks: [score_one(block) for block in blocks]


def sgd_scorer(
    space: Space,
    splits: Splits,
    recipe: Sgd,
    evaluation: Evaluation,
    seeds: Seeds,
    *,
    steps: Sequence[int],
    padding: int,
    resolution: int,
) -> Scorer:
    """Return a scorer that scores blocks by their accuracy after each of `steps` steps of SGD.

    Initialisation and order of images are not those of the ground truth, so that a row of Table 4
    does not predict its own continuation.

    Args:
        space: the search space, which stacks blocks into networks.
        splits: the images.
        recipe: the recipe of the training that these steps begin.
        evaluation: the validation batches for the accuracy.
        seeds: seeds of the order of the images, of their crops, and of the networks' weights.
        steps: the numbers of steps after which to measure.
        padding: padding of the crops in pixels.
        resolution: side of the images in pixels.
    """

    def score_one(block: Block) -> Score:
        network = Network(space.modules(block), resolution)
        model = Trained(network, stream(seeds.initialisation, "early"))
        model.to(splits.train.pixels.device)
        training = sgd_training(
            "sgd",
            model,
            splits,
            recipe,
            evaluation,
            padding=padding,
            seed=f"{seeds.data_order}/early",
            measured_at=steps,
        )
        found = first_steps(training, steps)
        return Score(
            block.hash,
            {f"sgd-{k}": m["accuracy"] for k, m in found.items()},
            {f"sgd-{k}": m["seconds"] for k, m in found.items()},
        )

    return lambda blocks: [score_one(block) for block in blocks]


def _timed(measure: Callable[[], float]) -> tuple[float, float]:
    begun = time.monotonic()
    return measure(), time.monotonic() - begun
