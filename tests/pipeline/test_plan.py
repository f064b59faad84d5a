"""What a scale is said to take, against hand computation, hand-written records, real files."""

import re
from pathlib import Path
from random import Random
from statistics import mean

import pytest
import torch
from conftest import ROOT, deep_update
from stage_results import finish

from ghn_pipeline import cli
from ghn_pipeline.model.network import Network, Trained
from ghn_pipeline.pipeline import build, costs, plan, spaces, stage
from ghn_pipeline.settings.config import Config, load, validate
from ghn_pipeline.system.registry import Registry
from ghn_pipeline.training import checkpoint
from ghn_pipeline.training.finalist import Finalist
from ghn_pipeline.training.ghn import running_mean


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working directory; few samples, for what they are the mean of takes a while."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(costs, "SAMPLES", 3)
    return tmp_path


@pytest.fixture
def paper(paper_settings):
    """Make the paper's configuration with changes."""
    return lambda changes=None: validate(deep_update(paper_settings, changes or {}), "the test")


def only(names: list[str]) -> dict[str, object]:
    """Changes of a configuration in which these GHNs are trained; none but the first is shown."""
    parts = ("figure5a", "figure5b", "table5")
    shown = {f"ablations.{part}": names[:1] for part in parts}
    return {"correlation.ghns": names, **shown}


GUESS = "guess: as the first GHN, in proportion to nodes and epochs alone"


def line(config: Config, command: str) -> plan.Line:
    (found,) = [line for line in plan.plan(config) if line.command.startswith(command)]
    return found


# ---- stated ------------------------------------------------------------------------------------


def test_the_notice_of_the_papers_scale_is_of_the_plan(paper, configured):
    hours = sum(line.hours or 0 for line in plan.plan(paper()))
    said = int(re.search(r"some (\d+) hours", paper().notice)[1])
    assert said == pytest.approx(hours, rel=0.05)
    assert configured().notice == ""


def test_the_papers_scale_takes_what_the_paper_says(paper):
    # where this fails because a section has a new setting: adapt costs.STATED_FOR
    lines = {li.command: li for li in plan.plan(paper())}
    assert lines["ghn default"].hours == pytest.approx(6.1)
    assert lines["oneshot SEED"].hours == pytest.approx(9.8)
    sgd, repeat, short = (lines[name] for name in ("sgd INDEX", "repeat INDEX", "short RANK"))
    assert (sgd.jobs, repeat.jobs, short.jobs) == (100, 20, 10)
    assert sgd.hours == pytest.approx(100 * 50 * 703 * 0.09 / 3600)
    assert repeat.hours == pytest.approx(20 * 50 * 703 * 0.09 / 3600)
    assert short.hours == pytest.approx(10 * 50 * 703 * 0.09 / 3600)
    assert lines["scores ghn/NAME"].hours == pytest.approx(19 * 100 * 0.08 / 3600)
    assert lines["scores oneshot/SEED"].hours == pytest.approx(100 * 0.06 / 3600)
    # three seeds, 1000 architectures each
    for method in ("random", "evolution"):
        assert lines[f"search {method}/SEED"].hours == pytest.approx(3 * 1000 * 0.08 / 3600)


def test_finalists_take_the_batches_of_all_workers(paper):
    # 45,000 images are 21 steps an epoch of 32 workers with 64 images each
    lines = {li.command: li for li in plan.plan(paper())}
    for part, jobs in (("top/RANK", 10), ("random/RANK", 10), ("best/SEED", 5)):
        found = lines[f"finalists {part}"]
        assert found.hours == pytest.approx(jobs * 32 * 600 * 21 * 0.09 / 3600)
        assert "drop-path, auxiliary head, exchange not counted" in found.rate.source


def test_who_does_the_work_of_the_workers_changes_only_how_long_it_takes(paper):
    found = line(paper({"finalists.processes": 8, "finalists.nodes": 2}), "finalists top")
    assert found.hours == pytest.approx(10 * 32 * 600 * 21 * 0.09 / 3600)
    assert found.accelerators == 8


GHNS = {"scores ghn/NAME", "search random/SEED", "search evolution/SEED"}
ONESHOTS = {"oneshot SEED", "scores oneshot/SEED"}
#: of which Table 4 says nothing
UNSAID = {"memory", "scores proxies", "scores sgd"}
FINALISTS = {f"finalists {name}" for name in ("top/RANK", "random/RANK", "best/SEED")}


@pytest.mark.parametrize(
    "changes, lost",
    [
        ({"ghn.batch": 32}, {"ghn default", *GHNS}),
        ({"ghns.default": {"passes": 3}}, {"ghn default", *GHNS}),
        ({"ghn.operation_weights": {"identity": 2}}, {"ghn default", *GHNS}),
        ({"oneshot": {"batch": 32}}, ONESHOTS),
        ({"training.batch": 32}, {"ghn default", *GHNS, *ONESHOTS}),
        ({"sgd.batch": 32}, {"sgd INDEX", "repeat INDEX", "short RANK"}),
        ({"finalists.norm_batch": 32}, FINALISTS),
        ({"evaluation.batches": 1}, {*GHNS, "scores oneshot/SEED"}),
        # what changes no cost, or only the number of batches
        ({"ghn.learning_rate": 0.1, "seeds.split": 9, "scale": "other"}, set()),
        (
            {
                "ghn.seeds": [3],
                "ghn.average": 0.9,
                "ghn.warmup": 9,
                "ghn.positions": True,
            },
            set(),
        ),
        ({"correlation.drawn": 200, "proxies.batch": 32}, set()),
        ({"sgd.epochs": 5, "finalists.epochs": 5, "search.evaluations": 100}, set()),
    ],
)
def test_what_is_not_the_papers_is_not_stated(paper, changes, lost):
    lines = plan.plan(paper({**only(["default"]), **changes}))
    assert {li.command for li in lines if li.rate and li.rate.seconds is None} == lost | UNSAID


def test_no_other_network_is_stated(paper):
    for changes in ({"network.channels": 16}, {"space.nodes": 5}, {"images.resolution": 16}):
        rates = [
            li.rate for li in plan.plan(paper(changes)) if li.rate and "mobile" not in li.command
        ]
        assert all(rate.source.startswith("no rate") for rate in rates)


def test_fewer_steps_take_fewer_seconds(paper):
    assert line(paper({"sgd.epochs": 5}), "sgd").hours == pytest.approx(8.79, abs=0.01)


def test_without_imagenet_the_mobile_network_is_only_counted(paper):
    found = line(paper(), "mobile")
    assert (found.hours, found.disk) == (0, 0)
    assert "mobile.folder names no ImageNet" in found.rate.source
    found = line(paper({"mobile.folder": "/imagenet"}), "mobile")
    assert found.hours is None
    assert found.accelerators == 32


# ---- guessed -----------------------------------------------------------------------------------


def test_an_ablation_is_guessed_from_the_first_ghn(paper):
    lines = {li.command: li for li in plan.plan(paper())}
    for name, hours in (("nodes-17", 6.1 * 17 / 7), ("passes-1", 6.1), ("individual", 6.1)):
        assert lines[f"ghn {name}"].hours == pytest.approx(hours)
        assert lines[f"ghn {name}"].rate.source.startswith("guess")


def test_a_guess_follows_what_the_first_ghn_took(configured):
    more = {"ghns.longer": {"epochs": 36}, "ghns.wider": {"embedding": 64}}
    config = configured({**more, **only(["default", "longer", "nodes-5", "wider"])})
    assert line(config, "ghn nodes-5").hours is None  # nothing to go by
    finish(config, "ghn/default", seconds=300)
    # of 3 nodes and 12 epochs
    assert line(config, "ghn nodes-5").rate == costs.Rate(500, GUESS)
    assert line(config, "ghn longer").rate == costs.Rate(900, GUESS)
    assert line(config, "ghn wider").hours is None


# ---- measured ----------------------------------------------------------------------------------


def test_what_has_run_gives_the_rate_of_what_has_not(configured):
    config = configured()
    finish(config, "sgd/0", seconds=30)
    finish(config, "sgd/3", seconds=60)
    finish(configured({"sgd.epochs": 9}), "sgd/1", seconds=9000)
    Path("results/smoke/sgd/2").mkdir()
    Path("results/smoke/sgd/2/run.json").write_text("{", encoding="utf-8")
    found = line(config, "sgd")
    assert found.rate == costs.Rate(45, "measured, 2 of 9 runs")
    assert found.hours == pytest.approx(5 * 45 / 3600)
    # by the same recipe
    assert line(config, "short").rate == found.rate


@pytest.mark.parametrize(
    "command, stage, jobs",
    [
        ("scores ghn/NAME", "scores/ghn/stacked", 5),
        ("search random", "search/evolution/0", 1),
        ("finalists top", "finalists/best/0", 1),
        ("memory", "memory", 1),
        ("scores proxies", "scores/proxies", 1),
    ],
)
def test_every_stage_that_computes_is_measured(command, stage, jobs, configured):
    config = configured()
    finish(config, stage, seconds=7200)
    found = line(config, command)
    assert (found.jobs, found.hours) == (jobs, 2 * jobs)


def test_a_mobile_training_is_measured(configured):
    config = configured({"mobile.folder": "/imagenet"})
    finish(config, "mobile", seconds=7200)
    assert line(config, "mobile").hours == 2


def test_measured_comes_before_stated_and_guessed(paper):
    finish(paper(), "ghn/default", seconds=7200)
    finish(paper(), "ghn/passes-1", seconds=3600)
    assert line(paper(), "ghn default").rate == costs.Rate(7200, "measured, 1 of 1 runs")
    assert line(paper(), "ghn passes-1").rate == costs.Rate(3600, "measured, 1 of 1 runs")


def test_a_finalist_keeps_all_its_processes_busy(configured):
    config = configured()
    finish(config, "finalists/top/0", seconds=1800)  # of the accelerators of both
    assert line(config, "finalists random").hours == pytest.approx(0.5)
    assert "0.25 h on 2 at once" in plan.show(config)


def test_scoring_takes_as_long_as_there_are_architectures_drawn(paper):
    # more are scored than are trained from scratch
    lines = {li.command: li for li in plan.plan(paper({"correlation.drawn": 300}))}
    assert lines["sgd INDEX"].jobs == 100
    assert lines["scores oneshot/SEED"].hours == pytest.approx(300 * 0.06 / 3600)
    assert lines["scores ghn/NAME"].hours == pytest.approx(19 * 300 * 0.08 / 3600)


def test_networks_with_exits_have_a_plan_of_their_own():
    config = load([ROOT / "params.yaml", ROOT / "presets/anytime.yaml"])
    commands = {li.command: li.jobs for li in plan.plan(config)}
    trained = {"top/RANK": 10, "random/INDEX": 12, "best": 1}
    trained |= dict.fromkeys(config.anytime.rivals, 1)
    assert commands == {
        **dict.fromkeys(("data", "architectures", "ghn default", "scores ghn/NAME"), 1),
        "search random/SEED": 1,
        **{f"anytime {name}": jobs for name, jobs in trained.items()},
        "tables and figures": 2,  # the curves and the claims
    }


def test_the_disk_of_a_baseline_is_that_of_its_files():
    config = load([ROOT / "params.yaml", ROOT / "presets/anytime.yaml"])
    lines = {li.command: li for li in plan.plan(config)}
    model = build.baseline(config, "msdnet")
    kept, published = on_disk(model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))
    # MLflow keeps a copy of model.pt
    assert lines["anytime msdnet"].disk == pytest.approx(kept + 2 * published, rel=0.02)
    # the best one is as wide as MSDNet's multiply-adds allow
    assert lines["anytime best"].disk > lines["anytime top/RANK"].disk > 0


def test_only_what_the_workflow_runs_of_a_space_is_planned(configured):
    # the benchmark is held against published accuracies
    commands = {li.command: li.jobs for li in plan.plan(configured())}
    assert {c for c in commands if c.startswith("scores ")} == {
        *("scores ghn/NAME", "scores oneshot/SEED", "scores proxies", "scores sgd")
    }
    # four tables, the ablations, the curves and the best of the searches, the claims
    assert commands["tables and figures"] == 8


def test_a_stage_that_is_declared_is_planned(configured, monkeypatch):
    config = configured({"search.seeds": [0, 1]})
    before = {li.command: li for li in plan.plan(config)}
    monkeypatch.setattr(stage, "_STAGES", Registry("stage", dict(stage._STAGES)))

    def work(job: stage.Job) -> None:
        """Do nothing."""

    stage.stage(
        "extra/SEED",
        reads=("search/evolution/{search.seeds}",),
        each="search.seeds",
        writes=(),
        needs="training",
        chapters=("memory",),
        costs=lambda config, part: costs.Costs(7, costs.Rate(3600, f"as {part} says"), 3),
    )(work)
    stage.declared.cache_clear()
    try:
        after = {li.command: li for li in plan.plan(config)}
    finally:
        stage.declared.cache_clear()
    found = after.pop("extra SEED")
    assert (found.jobs, found.hours, found.disk, found.accelerators) == (2, 2, 7, 3)
    assert (found.rate.source, found.trains) == ("as 0 says", True)
    assert after == before


def test_of_what_is_read_in_part_no_more_is_planned(folder):
    (folder / "more.yaml").write_text("search: {seeds: [0, 1, 2]}\n", encoding="utf-8")
    files = [ROOT / "params.yaml", ROOT / "presets/anytime-smoke.yaml", folder / "more.yaml"]
    config = load(files)
    assert len(config.search.seeds) == 3  # of which the first alone chooses networks with exits
    commands = {li.command: li.jobs for li in plan.plan(config) if "search" in li.command}
    assert commands == {"search random/SEED": 1}


# ---- disk --------------------------------------------------------------------------------------


def on_disk(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, average: float = 0.0
) -> tuple[int, int]:
    """Bytes of the checkpoint after a step, and of model.pt."""
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    state = {"model": model.state_dict()}
    kept = {"averaged": running_mean(model, average).state_dict()} if average else {}
    kept["optimizer"] = optimizer.state_dict()
    checkpoint.save(Path("checkpoint.pt"), {**state, **kept}, "")
    checkpoint.save(Path("model.pt"), state, "")
    return Path("checkpoint.pt").stat().st_size, Path("model.pt").stat().st_size


@pytest.mark.parametrize(
    ("stage", "shown", "average"),
    [
        ("ghn/default", "ghn default", 0.0),
        ("ghn/default", "ghn default", 0.9),
        ("oneshot/0", "oneshot SEED", 0.0),
        ("oneshot/0", "oneshot SEED", 0.9),
    ],
)
def test_disk_of_what_adam_trains(configured, stage, shown, average):
    config = configured({"network.channels": 64, "training.average": average})
    model = build.untrained(config, stage)
    saved, published = on_disk(model, torch.optim.Adam(model.parameters()), average)
    found = line(config, shown)
    assert found.disk == pytest.approx(saved + 2 * published, rel=0.1)


def test_disk_of_what_sgd_trains(configured, monkeypatch):
    config = configured({"network.channels": 64})
    space = spaces.space_of(config)
    network = Network(space.modules(space.examples(3)[2]), config.images.resolution)
    monkeypatch.setattr("ghn_pipeline.model.network.Network", lambda *_: network)
    model = Trained(network, torch.Generator())
    saved, published = on_disk(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    assert line(config, "sgd").disk == pytest.approx(saved, rel=0.1)
    assert line(config, "short").disk == pytest.approx(saved, rel=0.1)
    # the model and its ONNX file
    assert line(config, "export").disk == pytest.approx(2 * 2 * published, rel=0.1)


@pytest.mark.parametrize("weight", [0.5, 0.0])
def test_disk_of_a_finalist_with_and_without_a_head(weight, configured, monkeypatch):
    config = configured({"network.channels": 64, "finalists.auxiliary_weight": weight})
    space = spaces.space_of(config)
    network = Network(space.modules(space.examples(3)[2]), config.images.resolution)
    monkeypatch.setattr("ghn_pipeline.model.network.Network", lambda *_: network)
    model = Finalist(network, config.finalists, torch.Generator())
    saved, published = on_disk(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    found = line(config, "finalists best")
    assert found.disk == pytest.approx(saved + 2 * published, rel=0.1)


def test_disk_of_the_images_and_of_the_mean_network(configured):
    config = configured()
    assert line(config, "data").disk == 60_000 * 3_073
    space, rng = spaces.space_of(config), Random(1)
    networks = [Network(space.modules(space.sample(rng, 3)), 8) for _ in range(3)]
    hashes = [network.modules[1].block.hash for network in networks]
    assert [block.hash for block in costs.drawn(config)] == hashes
    trained, _ = costs.mean_size(networks)
    assert trained == mean(network.parameters for network in networks)


def test_the_mobile_network_is_as_large_as_its_limit_allows(configured):
    small, large = (
        line(configured({"mobile.folder": "/imagenet", "mobile.multiply_adds": limit}), "mobile")
        for limit in (1, 4)
    )
    # four times the multiply-adds are twice the channels; the weights of 1000 classes only double
    assert 2 < large.disk / small.disk < 4


# ---- as text -----------------------------------------------------------------------------------


def test_a_training_goes_on_in_a_next_job(paper):
    compute = paper({"compute.minutes": 240, "compute.stop_seconds": 180}).compute
    # each works for 240 x 60 - 180 = 14,220 s
    assert [plan.turns(s, compute) for s in (0, 14_220, 14_221, 26 * 3600)] == [1, 1, 2, 7]
    config = paper()
    finish(config, "oneshot/0", seconds=26 * 3600)
    assert "26.00 h: 7 jobs of 240 min" in plan.show(config)


def test_the_totals_leave_out_what_has_no_rate_and_say_so(configured):
    config = configured()
    finish(config, "sgd/0", seconds=3600)
    said = plan.show(config)
    total = next(row for row in said.splitlines() if row.startswith("in all"))
    # five of the ground truth, three of them again, a short one
    assert total.split()[2:4] == ["42", "9.00"]
    assert "hours of the device" in said
    assert "16 of 20 stages have no rate" in said
    assert said.count(costs.NO_RATE.source) == 16
    disk = sum(li.jobs * li.disk for li in plan.plan(config)) / 1e6
    assert float(total.split()[4]) == pytest.approx(disk, abs=0.05)


def test_of_nothing_known_there_is_no_total(configured):
    said = plan.show(configured())  # the mobile network is only counted, which takes nothing
    total = next(row for row in said.splitlines() if row.startswith("in all"))
    assert total.split()[2:4] == ["42", "?"]


def test_the_papers_totals(paper):
    said = plan.show(paper())
    total = next(row for row in said.splitlines() if row.startswith("in all"))
    # 3 to 17 nodes but 7 are 73 in all, guessed by 7
    ghns = 6.1 * (1 + 73 / 7 + 9 + 2) + 9.8
    batches = 0.09 * (130 * 35_150 + 25 * 600 * 21 * 32) / 3600
    scoring = (0.08 * (19 * 100 + 6000) + 0.06 * 100) / 3600
    assert total.split()[2:4] == ["217", f"{ghns + batches + scoring:.2f}"]
    assert "accelerator-hours" in said
    assert said.count("no rate: ") == len(UNSAID)


def test_the_command_prints_the_plan_and_writes_nothing(folder, capsys):
    files = [str(ROOT / "params.yaml"), str(ROOT / "presets/smoke.yaml")]
    assert cli.run(cli.parser().parse_args(["plan", "--config", *files])) == 0
    assert capsys.readouterr().out.startswith("stage ")
    assert list(folder.iterdir()) == []
