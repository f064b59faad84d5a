"""A stage that trains: what its checkpoint and its model are of."""

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import torch
from small_trainings import noise_images, small_config, small_space

from ghn_pipeline.data.images import stream
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network, Trained
from ghn_pipeline.pipeline.stage import Job, find
from ghn_pipeline.space.nasbench201 import EDGES
from ghn_pipeline.stages.train import train
from ghn_pipeline.training.ghn import build, sampler, search_training
from ghn_pipeline.training.sgd import sgd_training

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in an empty folder without a tracking server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ghn_pipeline.pipeline.tracking.send", lambda folder: None)


@pytest.fixture
def stage():
    """Train an architecture as `short/0`."""
    config = small_config(ROOT)
    space, splits = small_space(config), noise_images(config)

    def run(block: Block):
        model = Trained(Network(space.modules(block), 8), stream(0))
        training = sgd_training(
            "short/0",
            model,
            splits,
            config.sgd,
            config.evaluation,
            padding=1,
            seed=3,
            measured_at=(),
        )
        device = next(model.parameters()).device
        train(config, training, device, of=block.hash, hash=block.hash)
        return json.loads(Path("results/smoke/short/0/run.json").read_text(encoding="utf-8"))[
            "result"
        ]

    first = space.sample(Random(5), 3)
    return run, space, first


def test_another_architecture_of_the_same_weights_is_trained_from_its_own_start(
    stage, capsys, recwarn
):
    run, space, first = stage
    names = {s.name: s.shape for s in Network(space.modules(first), 8).specs}
    rng = Random(0)
    mutants = (space.mutate(rng, first) for _ in range(10_000))
    other = next(
        m
        for m in mutants
        if m.hash != first.hash
        and {s.name: s.shape for s in Network(space.modules(m), 8).specs} == names
    )
    results = [run(block) for block in (first, other, first)]
    assert [r["hash"] for r in results] == [first.hash, other.hash, first.hash]
    assert results[0]["final_loss"] != results[1]["final_loss"]
    assert results[0] == results[2]  # gone on with, not trained again
    assert "goes on from step 12" in "".join(capsys.readouterr())


def ghn_training(order=0, average=0.0, warmup=0):
    """A GHN's training as `ghn/default`."""
    config = small_config(ROOT)
    space, splits = small_space(config), noise_images(config)
    model, draw = build(space, config.ghn, 0), sampler(space, 3, 0, forbidden=())
    return search_training(
        "ghn/default",
        model,
        draw,
        space,
        splits,
        config.ghn,
        resolution=8,
        padding=1,
        order=order,
        average=average,
        warmup=warmup,
    )


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_the_running_mean_is_published_where_one_is_kept(average):
    training = ghn_training(average=average)
    train(small_config(ROOT), training, torch.device("cpu"))
    published = torch.load("results/smoke/ghn/default/model.pt", weights_only=True)["model"]
    last = training.model.state_dict()
    mean = training.averaged.module.state_dict() if average else last
    assert published.keys() == mean.keys() == last.keys()
    assert all(torch.equal(published[name], mean[name]) for name in mean)
    same = [torch.equal(published[name], last[name]) for name in last]
    assert not any(same) if average else all(same)


def test_the_rate_of_a_ghn_rises_first():
    plain, rising = ghn_training(), ghn_training(warmup=4)
    rates = [rising.rate(step) / plain.rate(step) for step in range(6)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_the_order_of_the_images_follows_its_own_seed():
    first, again, other = (
        [loss.item() for step in (0, 5) for loss in ghn_training(order).losses(step)]
        for order in (1, 1, 2)
    )
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_training_draws_an_operation_as_often_as_it_is_weighed(sampled_cells, monkeypatch):
    weights = {"identity": 3, "conv_3x3": 2}
    changes = {"space.nodes": 2, "correlation.drawn": 5, "ghn.operation_weights": weights}
    config = sampled_cells({**changes, "images.resolution": 8})
    trained = []
    monkeypatch.setattr("ghn_pipeline.pipeline.build.images_of", lambda *_: noise_images(config))
    monkeypatch.setattr("ghn_pipeline.stages.train.train", lambda _, t, device: trained.append(t))
    for stage in (f"ghn/{config.correlation.ghns[0]}", "oneshot"):
        find(config, stage)[0].work(Job(config, stage, []))
    weighed, shared = (
        Counter(op for step in range(1000) for op, inputs in t.describe(step) if inputs == [0])
        for t in trained
    )
    shares = {op: weights.get(op, 1) / 8 for op in EDGES}
    for drawn, expected in ((weighed, shares), (shared, dict.fromkeys(EDGES, 1 / 5))):
        for op in EDGES:  # but for the few cells that are held out
            assert drawn[op] / drawn.total() == pytest.approx(expected[op], abs=0.05)
