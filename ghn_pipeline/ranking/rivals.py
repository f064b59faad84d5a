"""Scoring without a model trained before: zero-cost proxies, and a few steps of SGD."""

import time
from collections.abc import Callable
from functools import partial

from ghn_pipeline.data.images import Splits, stream
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network, Trained
from ghn_pipeline.ranking.proxies import PROXIES, initial_weights
from ghn_pipeline.ranking.scoring import Score, Scorer
from ghn_pipeline.settings.config import Config
from ghn_pipeline.space.space import Space
from ghn_pipeline.training.batches import training_batch
from ghn_pipeline.training.sgd import first_steps, sgd_training


def proxy_scorer(space: Space, splits: Splits, config: Config) -> Scorer:
    """Return a scorer that judges blocks by every zero-cost proxy, on the first training batch."""
    images, labels = training_batch(
        splits,
        0,
        batch=config.proxies.batch,
        padding=config.images.padding,
        seed=config.seeds.data_order,
    )

    def score_one(block: Block) -> Score:
        network = Network(space.modules(block), config.images.resolution)
        generator = stream(config.seeds.initialisation, "proxies")
        weights = {n: w.to(images.device) for n, w in initial_weights(network, generator).items()}
        found = {
            name: _timed(partial(proxy, network, weights, images, labels))
            for name, proxy in PROXIES.items()
        }
        return Score(
            block.hash,
            {name: value for name, (value, _) in found.items()},
            {name: seconds for name, (_, seconds) in found.items()},
        )

    return lambda blocks: [score_one(block) for block in blocks]


def sgd_scorer(space: Space, splits: Splits, config: Config) -> Scorer:
    """Return what scores blocks by their accuracy after each of `proxies.steps` steps of SGD."""

    def score_one(block: Block) -> Score:
        network = Network(space.modules(block), config.images.resolution)
        model = Trained(network, stream(config.seeds.initialisation, "sgd"))
        model.to(splits.train.pixels.device)
        training = sgd_training(
            "sgd",
            model,
            splits,
            config.sgd,
            config.evaluation,
            padding=config.images.padding,
            seed=config.seeds.data_order,
            measured_at=config.proxies.steps,
        )
        found = first_steps(training, config.proxies.steps)
        return Score(
            block.hash,
            {f"sgd-{k}": m["accuracy"] for k, m in found.items()},
            {f"sgd-{k}": m["seconds"] for k, m in found.items()},
        )

    return lambda blocks: [score_one(block) for block in blocks]


def _timed(measure: Callable[[], float]) -> tuple[float, float]:
    begun = time.monotonic()
    return measure(), time.monotonic() - begun
