"""A stage that trains: what its checkpoint and its model are of."""

import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from random import Random

import pytest
import torch
from small_trainings import noise_images, small_config, small_space

from ghn_pipeline.data.images import stream
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network, Trained
from ghn_pipeline.pipeline import build as building
from ghn_pipeline.pipeline.spaces import space_of
from ghn_pipeline.pipeline.stage import Job, find
from ghn_pipeline.spaces.nasbench201 import EDGES
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
    config = small_config(ROOT, {"training": {"average": average, "warmup": warmup}})
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
    changes = {"space.nodes": 2, "correlation.drawn": 5, "training.operation_weights": weights}
    config = sampled_cells({**changes, "images.resolution": 8})
    trained = []
    monkeypatch.setattr("ghn_pipeline.pipeline.build.images_of", lambda *_: noise_images(config))
    monkeypatch.setattr("ghn_pipeline.stages.train.train", lambda _, t, device: trained.append(t))
    for stage in (f"ghn/{config.correlation.ghns[0]}", "oneshot/0"):
        find(config, stage)[0].work(Job(config, stage, []))
    shares = {op: weights.get(op, 1) / 8 for op in EDGES}
    for training in trained:
        steps = [op for k in range(1000) for op, inputs in training.describe(k) if inputs == [0]]
        drawn = Counter(steps)
        for op in EDGES:  # but for the few cells that are held out
            assert drawn[op] / drawn.total() == pytest.approx(shares[op], abs=0.05)


@pytest.fixture
def from_scratch(monkeypatch):
    """Return the untrained trainings of one architecture, by the stage that makes them."""
    config, made = small_config(ROOT), []
    block = space_of(config).sample(Random(5), config.space.nodes)
    monkeypatch.setattr("ghn_pipeline.pipeline.build.images_of", lambda *_: noise_images(config))
    results = "ghn_pipeline.pipeline.results"
    monkeypatch.setattr(f"{results}.architectures_of", lambda _: [block, block])
    monkeypatch.setattr(f"{results}.finalist", lambda *_: block)
    monkeypatch.setattr("ghn_pipeline.stages.train.train", lambda _, t, *__, **___: made.append(t))
    early = "ghn_pipeline.ranking.untrained.first_steps"
    monkeypatch.setattr(early, lambda t, _: made.append(t) or {})

    def make(stage: str):
        if stage == "scores/sgd":
            building.scorer_of(config, "sgd", torch.device("cpu"))([block])
        else:
            find(config, stage)[0].work(Job(config, stage, []))
        return made.pop()

    return make


def test_trainings_of_one_architecture_share_neither_weights_nor_order_of_images(from_scratch):
    """SGD stopped early must not be the beginning of the run that it is held against."""
    stages = ("sgd/0", "sgd/1", "repeat/0", "short/0", "scores/sgd")
    trainings = {stage: from_scratch(stage) for stage in stages}
    first = {stage: weights(training) for stage, training in trainings.items()}
    assert torch.equal(weights(from_scratch("sgd/0")), first["sgd/0"])
    assert losses(from_scratch("sgd/0")) == losses(trainings["sgd/0"])
    for one, other in combinations(stages, 2):
        assert not torch.equal(first[one], first[other]), (one, other)
    # from the same weights, other images have another loss
    state = trainings["sgd/0"].model.state_dict()
    for training in trainings.values():
        training.model.load_state_dict(state)
    found = [losses(training) for training in trainings.values()]
    for k in range(3):
        assert len({of[k] for of in found}) == len(stages)


def weights(training) -> torch.Tensor:
    """All trained numbers."""
    return torch.nn.utils.parameters_to_vector(training.model.parameters()).detach().clone()


def losses(training) -> list[float]:
    """The losses of some steps, none of which changes the weights."""
    return [loss.item() for step in range(3) for loss in training.losses(step)]


@pytest.mark.parametrize("stage", ["sgd/0", "repeat/0", "short/0"])
def test_a_truth_is_measured_at_the_end_alone(from_scratch, stage):
    training = from_scratch(stage)
    ((step, measure),) = training.observe.items()
    assert step == training.steps == 12
    assert measure().keys() == {"validation", "test"}


def test_early_sgd_is_measured_after_the_steps_of_table_4(from_scratch):
    assert sorted(from_scratch("scores/sgd").observe) == [4, 7, 12]
