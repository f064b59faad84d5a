"""What a scale is said to take, against hand computation, hand-written records, real files."""

import json
import sys
from pathlib import Path
from statistics import mean

import pytest
import torch
from conftest import ROOT, deep_update

from ghn_pipeline import artifacts, cli, plan
from ghn_pipeline.config import Config, validate
from ghn_pipeline.files import digest
from ghn_pipeline.network import Network, Trained
from ghn_pipeline.stages import settings
from ghn_pipeline.training import checkpoint


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working directory; few samples, for what they are the mean of takes a while."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "SAMPLES", 3)
    return tmp_path


@pytest.fixture
def paper(paper_settings):
    """Make the paper's configuration with changes."""
    return lambda changes=None: validate(deep_update(paper_settings, changes or {}), "the test")


def line(config: Config, command: str) -> plan.Line:
    (found,) = [line for line in plan.plan(config) if line.command.startswith(command)]
    return found


def finish(config: Config, stage: str, seconds: float, made_with: Config | None = None) -> None:
    """Write the record of a finished run by hand."""
    path = Path("results", config.scale, stage, "run.json")
    path.parent.mkdir(parents=True)
    key = digest(settings(made_with or config, stage))
    path.write_text(json.dumps({"digest": key, "accelerator_seconds": seconds}))


# ---- stated ------------------------------------------------------------------------------------


def test_the_papers_scale_takes_what_the_readme_says(paper):
    # where this fails because a section has a new setting: adapt plan.STATED_FOR
    lines = {li.command: li for li in plan.plan(paper())}
    assert lines["train-ghn default"].hours == pytest.approx(6.1)
    assert lines["train-oneshot"].hours == pytest.approx(9.8)
    sgd = lines["train-sgd INDEX"]
    assert sgd.jobs == 100
    assert sgd.hours == pytest.approx(100 * 50 * 703 * 0.09 / 3600)
    assert round(sgd.hours) == 88
    assert lines["score ghn/default"].hours == pytest.approx(100 * 0.08 / 3600)
    assert lines["score oneshot"].hours == pytest.approx(100 * 0.06 / 3600)


def test_finalists_take_steps_of_all_workers(paper):
    # 45,000 images are 21 steps an epoch of 32 workers with 64 images each
    found = line(paper(), "train-finalist")
    assert found.hours == pytest.approx(10 * 32 * 600 * 21 * 0.09 / 3600)
    assert "not counted" in found.rate.source


@pytest.mark.parametrize(
    "changes, lost",
    [
        ({"ghn.epochs": 100}, {"train-ghn default", "score ghn/default"}),
        ({"ghns.default": {"passes": 3}}, {"train-ghn default", "score ghn/default"}),
        ({"oneshot.batch": 32}, {"train-oneshot", "score oneshot"}),
        ({"sgd.batch": 32}, {"train-sgd INDEX"}),
        ({"finalists.batch": 32}, {"train-finalist RANK"}),
        ({"evaluation.batches": 1}, {"score ghn/default", "score oneshot"}),
        # what changes no cost, or only the number of steps
        ({"ghn.learning_rate": 0.1, "seeds.split": 9, "scale": "other"}, set()),
        ({"sgd.epochs": 5, "finalists.epochs": 5}, set()),
    ],
)
def test_what_is_not_the_papers_is_not_stated(paper, changes, lost):
    lines = plan.plan(paper(changes))
    assert {li.command for li in lines if li.rate and li.rate.seconds is None} == lost


def test_no_other_network_is_stated(paper):
    for changes in ({"network.channels": 16}, {"space.nodes": 5}, {"images.resolution": 16}):
        rates = [li.rate for li in plan.plan(paper(changes)) if li.rate]
        assert all(rate.source.startswith("no rate") for rate in rates)


def test_fewer_steps_take_fewer_seconds(paper):
    assert line(paper({"sgd.epochs": 5}), "train-sgd").hours == pytest.approx(8.79, abs=0.01)


# ---- measured ----------------------------------------------------------------------------------


def test_what_has_run_gives_the_rate_of_what_has_not(configured):
    config = configured()
    finish(config, "sgd/0", 30)
    finish(config, "sgd/3", 60)
    finish(config, "sgd/1", 9000, made_with=configured({"sgd.epochs": 9}))
    Path("results/smoke/sgd/2").mkdir()
    Path("results/smoke/sgd/2/run.json").write_text("{")
    found = line(config, "train-sgd")
    assert found.rate == plan.Rate(45, "measured, 2 of 5 runs")
    assert found.hours == pytest.approx(5 * 45 / 3600)


def test_measured_comes_before_stated(paper):
    finish(paper(), "ghn/default", 7200)
    assert line(paper(), "train-ghn").rate == plan.Rate(7200, "measured, 1 of 1 runs")


def test_each_ghn_has_a_rate_of_its_own(configured):
    two = {"ghns": {"small": {"passes": 2}}, "correlation.ghns": ["default", "small"]}
    config = configured(two)
    finish(config, "ghn/small", 36)
    assert line(config, "train-ghn small").hours == pytest.approx(0.01)
    assert line(config, "train-ghn default").hours is None


def test_a_finalist_keeps_all_its_workers_busy(configured):
    config = configured()
    finish(config, "finalists/0", 1800)  # of the accelerators of both
    assert line(config, "train-finalist").hours == pytest.approx(0.5)
    assert "0.25 h on 2 at once" in plan.show(config)


# ---- disk --------------------------------------------------------------------------------------


def on_disk(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, int]:
    """Bytes of the checkpoint after a step, and of model.pt."""
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    state = {"model": model.state_dict()}
    checkpoint.save(Path("checkpoint.pt"), {**state, "optimizer": optimizer.state_dict()}, "")
    checkpoint.save(Path("model.pt"), state, "")
    return Path("checkpoint.pt").stat().st_size, Path("model.pt").stat().st_size


@pytest.mark.parametrize("stage", ["ghn/default", "oneshot"])
def test_disk_of_what_adam_trains(configured, stage):
    config = configured({"network.channels": 64})
    model = artifacts.untrained(config, stage)
    saved, published = on_disk(model, torch.optim.Adam(model.parameters()))
    found = line(config, artifacts.maker_of(stage).removeprefix("ghn "))
    assert found.disk == pytest.approx(saved + 2 * published, rel=0.1)


def test_disk_of_what_sgd_trains(configured, monkeypatch):
    config = configured({"network.channels": 64})
    space = artifacts.space_of(config)
    network = Network(space.modules(space.examples(3)[2]), config.images.resolution)
    monkeypatch.setattr(plan, "Network", lambda *_: network)
    model = Trained(network, torch.Generator())
    saved, published = on_disk(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    assert line(config, "train-sgd").disk == pytest.approx(5 * saved, rel=0.1)
    assert line(config, "train-finalist").disk == pytest.approx(saved + 2 * published, rel=0.1)


def test_disk_of_the_images_and_of_the_mean_network(configured):
    config = configured()
    assert line(config, "prepare-data").disk == 60_000 * 3_073
    space, rng = artifacts.space_of(config), plan.Random(1)
    drawn = [Network(space.modules(space.sample(rng, 3)), 8).parameters for _ in range(3)]
    trained, _ = plan._mean_size(config)
    assert trained == mean(drawn)


# ---- as text -----------------------------------------------------------------------------------


def test_a_training_goes_on_in_a_next_job(paper):
    compute = paper({"compute.minutes": 240, "compute.stop_seconds": 180}).compute
    # each works for 240 x 60 - 180 = 14,220 s
    assert [plan.turns(s, compute) for s in (0, 14_220, 14_221, 26 * 3600)] == [1, 1, 2, 7]
    config = paper()
    finish(config, "oneshot", 26 * 3600)
    assert "26.00 h: 7 jobs of 240 min" in plan.show(config)


def test_the_totals_leave_out_what_has_no_rate_and_say_so(configured):
    config = configured()
    finish(config, "sgd/0", 3600)
    said = plan.show(config)
    total = next(row for row in said.splitlines() if row.startswith("in all"))
    assert total.split()[2:4] == ["13", "5.00"]
    assert "hours of the device" in said
    assert "5 of 6 stages have no rate" in said
    assert said.count("no rate: none finished with these settings") == 5


def test_the_papers_totals(paper):
    said = plan.show(paper())
    total = next(row for row in said.splitlines() if row.startswith("in all"))
    assert total.split()[2:4] == ["117", "204.58"]
    assert "accelerator-hours" in said
    assert "no rate" not in said


def test_the_command_prints_the_plan_and_writes_nothing(folder, monkeypatch, capsys):
    files = [str(ROOT / "params.yaml"), str(ROOT / "presets/smoke.yaml")]
    monkeypatch.setattr(sys, "argv", ["ghn", "plan", "--config", *files])
    assert cli.main() == 0
    assert capsys.readouterr().out.startswith("stage ")
    assert list(folder.iterdir()) == []
