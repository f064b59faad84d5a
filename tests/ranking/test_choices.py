"""Nothing that is reported took part in a choice: each truth is altered, and no score changes.

The truth of the paper's space is measured on the test images, that of the others is published.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch

from ghn_pipeline.data.images import Images, Splits
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network
from ghn_pipeline.pipeline import build
from ghn_pipeline.pipeline.spaces import space_of
from ghn_pipeline.ranking.scoring import Scorer
from ghn_pipeline.settings.config import Config
from ghn_pipeline.spaces.nasbench201 import EDGES, NasBench201Accuracies
from ghn_pipeline.training.batches import accuracy, fixed_batches
from ghn_pipeline.training.ghn import sampler, search_training

CPU = torch.device("cpu")
SIDE = 8
OTHERS = {
    "classification": {},
    "nasbench201": {
        "space": {"name": "nasbench201", "nodes": 3, "max_inputs": None, "operations": list(EDGES)},
        "network.stem_multiplier": 1,
    },
}


def images(count: int, seed: int) -> Images:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, 3, SIDE, SIDE), generator=generator)
    return Images(pixels.to(torch.uint8), torch.randint(10, (count,), generator=generator))


def splits(test: int, validation: int = 2) -> Splits:
    """Images that differ in the seeds of these parts alone."""
    mean, std = torch.full((3,), 0.5), torch.ones(3)
    return Splits(images(64, 1), images(200, validation), images(200, test), mean, std)


@pytest.fixture(params=list(OTHERS))
def config(request: Any, configured: Callable[[dict[str, Any]], Config]) -> Config:
    small = {"evaluation.batch": 100, "evaluation.batches": 2, "correlation.steps": [2]}
    return configured(OTHERS[request.param] | small)


def blocks(config: Config) -> list[Block]:
    space = space_of(config)
    return [space.sample(Random(seed), config.space.nodes) for seed in range(3)]


def scorer(config: Config, stage: str, found: Splits, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    monkeypatch.setattr(build, "images_of", lambda *_: found)
    monkeypatch.setattr(build, "load_weights", lambda *_: None)
    return build.scorer_of(config, stage, CPU)


def values(
    config: Config, stage: str, found: Splits, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, float]]:
    return [dict(s.values) for s in scorer(config, stage, found, monkeypatch)(blocks(config))]


@pytest.mark.parametrize("stage", ["ghn/default", "oneshot/0", "sgd", "proxies"])
def test_no_score_depends_on_the_test_images(
    config: Config, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = values(config, stage, splits(test=3), monkeypatch)
    assert values(config, stage, splits(test=4), monkeypatch) == first
    # scores do depend on the images that they may see; proxies see training images alone
    other = values(config, stage, splits(test=3, validation=5), monkeypatch)
    assert (other == first) == (stage == "proxies")


def test_no_step_of_training_depends_on_images_that_judge(config: Config) -> None:
    space, found = space_of(config), []
    for seen in (splits(test=3), splits(test=4, validation=5)):
        training = search_training(
            "ghn/default",
            build.untrained(config, "ghn/default"),
            sampler(space, config.ghn.nodes, 0, ()),
            space,
            seen,
            config.ghn,
            resolution=SIDE,
            padding=1,
            order=0,
        )
        found.append([loss.item() for step in range(2) for loss in training.losses(step)])
    assert found[0] == found[1]


def test_the_truth_does_depend_on_the_test_images(config: Config) -> None:
    network = Network(space_of(config).modules(blocks(config)[0]), SIDE)
    (weights,) = build.untrained(config, "ghn/default")([network])
    found = {
        accuracy(network, weights, fixed_batches(of.test, of, 100))
        for of in (splits(test=seed) for seed in range(3, 8))
    }
    assert len(found) > 1


def test_no_search_reads_published_accuracies(
    configured: Callable[[dict[str, Any]], Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither training nor scoring: the tables may as well not be there."""
    config = configured(OTHERS["nasbench201"] | {"evaluation.batch": 100})

    def refuse(*_: object) -> None:
        raise AssertionError("published accuracies were read")

    for name in ("accuracies", "key"):
        monkeypatch.setattr(NasBench201Accuracies, name, refuse)
    assert values(config, "ghn/default", splits(test=3), monkeypatch)
    test, selection = build.draw_held_out(config)
    assert test
    assert isinstance(selection, list)
