"""Anytime prediction from images to Figures 3, 4 and 8 to 10, at a size that says nothing of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from test_docs import DOCS, blocks_of

from ghn_pipeline.baselines import multiply_adds
from ghn_pipeline.baselines.msdnet import MSDNet
from ghn_pipeline.data import cifar10
from ghn_pipeline.export import load
from ghn_pipeline.model.network import Network
from ghn_pipeline.pipeline.spaces import anytime_space
from ghn_pipeline.settings import config

pytestmark = pytest.mark.slow

PRESET = "presets/anytime-smoke.yaml"
NAMES = [
    *(f"top/{i}" for i in range(3)),
    *(f"random/{i}" for i in range(4)),
    "best",
    "msdnet",
    "resnet_mc",
]
LOW, HIGH = 0.005e6, 0.4e6


@pytest.fixture(scope="module")
def made(workplaces):
    place = workplaces("anytime")
    done = place.run("snakemake", "anytime_prediction", "--cores", "2", "--configfile", PRESET)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return place


def read(place, name):
    return json.loads((place.folder / "results/anytime-smoke" / name).read_text(encoding="utf-8"))


def trained(place, name):
    """The result of a training and what was measured at its end."""
    result = read(place, f"anytime/{name}/run.json")["result"]
    (measured,) = result["measured"].values()
    return result, measured


def by_hand(spent, accuracies):
    """The mean over many budgets of the accuracy of the last exit that each reaches."""
    budgets = np.linspace(LOW, HIGH, 20_001)
    reached = [
        [0.0, *(a for s, a in zip(spent, accuracies, strict=True) if s <= b)][-1] for b in budgets
    ]
    return float(np.mean(reached))


def area(run, images):
    """The area of a trained network, by hand."""
    result, measured = run
    exits = range(1, 1 + len(result["spent"]))
    return by_hand(result["spent"], [measured[f"{images}/exit-{k}"] for k in exits])


def test_everything_is_there(made):
    folder = made.folder / "results/anytime-smoke"
    for figure in (3, 4, 8, 9, 10):
        assert (folder / f"figure{figure}.png").stat().st_size > 10_000
        assert (folder / f"figure{figure}.svg").stat().st_size > 1_000
    for table in ("anytime", "areas"):
        for form in ("csv", "md", "html", "tex"):
            assert (folder / f"{table}.{form}").stat().st_size > 0
        assert "anytime-smoke preset" in (folder / f"{table}.md").read_text(encoding="utf-8")
    assert "No area" not in (folder / "anytime.md").read_text(encoding="utf-8")
    made_of = {run["stage"] for run in read(made, "anytime_curves.provenance.json")["made_of"]}
    others = {"search/random/0", "scores/ghn/default"}
    assert made_of == {*others, *(f"anytime/{name}" for name in NAMES)}


@pytest.mark.parametrize("name", NAMES)
def test_every_exit_is_measured(made, name):
    result, measured = trained(made, name)
    exits = range(1, 1 + (4 if name == "resnet_mc" else 3))
    assert len(result["spent"]) == len(exits)
    assert set(measured) - {"seconds"} == {
        f"{images}/exit-{k}" for images in ("validation", "test") for k in exits
    }


def test_the_search_ranks_by_area_and_the_best_is_of_its_best(made):
    entries = read(made, "search/random/0/architectures.json")
    for entry in entries:
        assert 0 <= entry["area"] <= max(entry[f"exit-{k}"] for k in (1, 2, 3))
        assert entry["accuracy"] == entry["exit-3"]
    ranked = sorted(entries, key=lambda entry: -entry["area"])
    tops = [trained(made, f"top/{i}") for i in range(3)]
    assert [result["hash"] for result, _ in tops] == [entry["hash"] for entry in ranked[:3]]
    # random ones are of those that no GHN has seen
    randoms = [trained(made, f"random/{i}")[0]["hash"] for i in range(4)]
    drawn = read(made, "architectures/architectures.json")
    assert randoms == [entry["hash"] for entry in drawn[:4]]
    best = max(tops, key=lambda top: area(top, "validation"))[0]
    assert trained(made, "best")[0]["hash"] == best["hash"]


def test_the_best_is_as_wide_as_the_baselines_cost_allows(made):
    result, _ = trained(made, "best")
    limit = multiply_adds(MSDNet(3, 1, 1, 4, 2, 10), 8)
    assert trained(made, "msdnet")[0]["spent"] == limit
    assert result["spent"][-1] <= limit[-1]
    model = load(made.folder / "results/anytime-smoke/anytime_export").model
    assert model.network.spent == result["spent"]
    space = anytime_space(config.load([made.folder / "params.yaml", made.folder / PRESET]))
    wider = replace(space, channels=result["channels"] + 1)
    assert Network(wider.modules(space.read(result["block"])), 8).spent[-1] > limit[-1]


def test_the_exported_network_runs_to_a_budget(made):
    """Its accuracies at budgets are those that were measured at the exits."""
    exported = load(made.folder / "results/anytime-smoke/anytime_export")
    result, measured = trained(made, "best")
    pixels, labels = cifar10.load(made.folder / "data")
    test = torch.tensor(pixels[50_000:]).float() / 255
    test = torch.nn.functional.avg_pool2d(test, 4)
    with torch.no_grad():
        for k, spent in enumerate(result["spent"], 1):
            logits = torch.cat([exported.to_budget(part, spent) for part in test.split(1000)])
            right = (logits.argmax(1) == torch.tensor(labels[50_000:])).float().mean()
            assert float(right) == pytest.approx(measured[f"test/exit-{k}"], abs=2e-3)
        with pytest.raises(ValueError, match="less than"):
            exported.to_budget(test[:1], result["spent"][0] - 1)


def test_the_correlation_is_of_predicted_and_trained_areas(made):
    predicted = {e["hash"]: e["area"] for e in read(made, "search/random/0/architectures.json")}
    scored = read(made, "scores/ghn/default/run.json")["result"]
    predicted |= dict(zip(scored["hashes"], scored["values"]["area"], strict=True))
    found = read(made, "anytime_curves.json")
    for group, count in (("top", 3), ("random", 4)):
        runs = [trained(made, f"{group}/{i}") for i in range(count)]
        x = [predicted[result["hash"]] for result, _ in runs]
        y = [area(run, "test") for run in runs]
        assert found[group]["spearman"] == pytest.approx(spearmanr(x, y).statistic)
        assert found[group]["area"] == pytest.approx(np.mean(y), abs=1e-3)
    ghn = found["ghn"]
    # section 5.2: "the GHN is negligibly affected": an embedding of each of three scales
    assert ghn["parameters"] - ghn["parameters_at_one_scale"] == 3 * 32
    assert ghn["parameters"] < 1.1 * ghn["parameters_at_one_scale"]


def test_another_space_is_refused_in_one_line(made):
    done = made.run("ghn", "anytime_curves", "--config", "params.yaml", "presets/smoke.yaml")
    assert done.returncode == 1
    assert "space anytime" in done.stderr and "Traceback" not in done.stderr


def test_the_python_of_the_documentation_runs(made, monkeypatch):
    monkeypatch.chdir(made.folder)
    (code,) = blocks_of(DOCS / "explanation/anytime.md", "python")
    small = code.replace("anytime-quick", "anytime-smoke").replace("16, 16", "8, 8")
    names: dict[str, object] = {}
    exec(small, names)
    assert names["logits"].shape == (1, 10)
