"""On an accelerator, which is imitated, everything is what it is on the processor."""

import math
import sys
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from random import Random

import pytest
import small_trainings
import torch
from imitated import DEVICE, READS, imitated
from small_trainings import (
    KINDS,
    noise_images,
    small_config,
    small_finalist_training,
    small_space,
    small_training,
)
from torch import Tensor

from ghn_pipeline.data.images import Splits, _order, stream
from ghn_pipeline.model.network import Network
from ghn_pipeline.pipeline.build import finalist_recipe
from ghn_pipeline.ranking.proxies import PROXIES, initial_weights
from ghn_pipeline.ranking.weights import scorer
from ghn_pipeline.training import fit
from ghn_pipeline.training.distributed import Team
from ghn_pipeline.training.finalist import Finalist
from ghn_pipeline.training.fit import Training, _one_step
from ghn_pipeline.training.ghn import build

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def accelerator(monkeypatch):
    """Let torch take the name of the imitated device: of fused optimisers and of autocast."""
    optimizer = sys.modules["torch.optim.optimizer"]  # torch.optim has hidden the name
    fused = [CPU.type, DEVICE.type]
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: fused)
    monkeypatch.setattr(torch, "autocast", lambda *_, enabled: nullcontext())
    _order.cache_clear()  # of tensors that another test has left on the device of the same name


def moved(splits: Splits, device: torch.device) -> Splits:
    """The images on a device."""
    return replace(splits, **{f.name: getattr(splits, f.name).to(device) for f in fields(splits)})


def trained(training: Training) -> tuple[list[float], dict[str, Tensor], dict[str, float]]:
    """The losses of three steps, the weights after them, and what is measured then."""
    losses = []
    for step in range(3):
        training.optimizer.zero_grad()
        losses.append(0.0)
        for loss in training.losses(step):
            loss.backward()
            losses[-1] += loss.item()
        training.optimizer.step()
    measured = [measure() for measure in training.observe.values()]
    weights = {name: w.detach().cpu() for name, w in training.model.state_dict().items()}
    return losses, weights, measured[-1] if measured else {}


def assert_same(ours, theirs) -> None:
    (losses, weights, measured), (other_losses, other_weights, other_measured) = ours, theirs
    assert losses == other_losses and len(set(losses)) == 3
    assert weights.keys() == other_weights.keys()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    assert measured == other_measured


def made(kind: str, monkeypatch: pytest.MonkeyPatch) -> Training:
    """A training on the device."""
    if kind == "finalist":
        return small_finalist(DEVICE)
    noise = small_trainings.noise_images
    monkeypatch.setattr(small_trainings, "noise_images", lambda c: moved(noise(c), DEVICE))
    for name in ("build", "OneShot", "Trained"):
        make = getattr(small_trainings, name)
        monkeypatch.setattr(small_trainings, name, lambda *of, make=make: make(*of).to(DEVICE))
    training = small_training(kind, ROOT)
    assert {p.device for p in training.model.parameters()} == {DEVICE}
    return training


@pytest.mark.parametrize("kind", KINDS)
def test_each_training_is_the_same(kind, monkeypatch):
    expected = trained(small_training(kind, ROOT))
    with imitated():
        assert_same(trained(made(kind, monkeypatch)), expected)


@pytest.mark.parametrize("kind", [*KINDS, "finalist"])
def test_a_step_runs_where_there_are_no_numbers(kind, monkeypatch):
    """On the real meta device a read is an error, and so is a tensor that was left elsewhere."""
    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("_fused_sgd_", lambda *_, **__: None, "Meta")  # PyTorch has only Adam's
        training = made(kind, monkeypatch)
        failed = torch.zeros((), device=DEVICE)
        for step in range(2):
            loss, norm = _one_step(training, step, failed)
            assert loss.device == norm.device == DEVICE


@pytest.mark.parametrize("kind", [*KINDS, "finalist"])
def test_nothing_is_read_until_a_report_is_due(kind, monkeypatch, tmp_path):
    monkeypatch.setattr(fit, "_enters", lambda training, step: step == training.steps)
    with imitated():
        training = made(kind, monkeypatch)
        training.observe, losses, seen = {}, training.losses, []

        def watched(step):
            seen.append(len(READS))
            return losses(step)

        training.losses = watched
        log = fit.fit(
            training,
            tmp_path / "c",
            "d",
            made_by="it",
            checkpoint_seconds=1e9,
            log_seconds=1e9,
            device=DEVICE,
        )
    assert len(seen) == training.steps and set(seen) == {seen[0]}
    assert len(READS) > seen[0] and math.isfinite(log.curve[-1][1])


def small_finalist(device: torch.device) -> Training:
    changes = {"batch": 8, "norm_batch": 4, "epochs": 3, "cutout": 4}
    config = small_config(ROOT, {"finalists": changes})
    recipe, space = finalist_recipe(config, "best"), small_space(config)
    model = Finalist(Network(space.modules(space.sample(Random(5), 3)), 8), recipe, stream(0, "f"))
    splits, team = moved(noise_images(config), device), Team(device=device)
    return small_finalist_training("best", model.to(device), splits, config, recipe, team)


def test_a_finalist_is_the_same():
    expected = trained(small_finalist(CPU))
    with imitated():
        assert_same(trained(small_finalist(DEVICE)), expected)


def test_scores_are_the_same():
    config = small_config(ROOT, {"evaluation": {"measure": "flow", "flow": 0.5}})
    space, splits = small_space(config), noise_images(config)
    ghn, blocks = build(space, config.ghn, 0), [space.sample(Random(i), 3) for i in range(3)]
    expected = scorer(ghn, space, splits, config.evaluation, 8)(blocks)
    with imitated():
        found = scorer(ghn.to(DEVICE), space, moved(splits, DEVICE), config.evaluation, 8)(blocks)
    assert [score.values for score in found] == [score.values for score in expected]


@pytest.mark.parametrize("name", PROXIES)
def test_proxies_are_the_same(name):
    config = small_config(ROOT)
    space, images = small_space(config), torch.randn(4, 3, 8, 8, generator=stream("proxies"))
    labels = torch.arange(4)
    network = Network(space.modules(space.sample(Random(1), 3)), 8)
    weights = initial_weights(network, stream("weights"))
    expected = PROXIES[name].of(network, weights, images, labels)
    with imitated():
        there = {n: w.to(DEVICE) for n, w in weights.items()}
        found = PROXIES[name].of(network, there, images.to(DEVICE), labels.to(DEVICE))
    assert found == expected
