"""Snakemake and DVC: the same commands, inputs and outputs, and the same idea of what is stale."""

import ast
import re
import shutil
from pathlib import Path

import pytest
import yaml
from workplace import ROOT

from ghn_pipeline.pipeline import dvc
from ghn_pipeline.settings.config import load

pytestmark = pytest.mark.slow

RESULTS = "results/smoke"


@pytest.fixture(scope="module")
def place(workplaces):
    """A fresh folder whose params.yaml is the smoke preset, for both engines."""
    place = workplaces("engines")
    assert place.run("ghn", "configure", "presets/smoke.yaml").returncode == 0
    return place


# ---- one graph ---------------------------------------------------------------------------------


def of_snakemake(place):
    """{command: (inputs, outputs)} of all jobs, read off what a dry run says."""
    words = ("--cores", "2", "--dry-run", "--forceall", "--printshellcmds")
    done = place.run("snakemake", *words)
    assert done.returncode == 0, done.stderr
    jobs = {}
    for text in re.split(r"\n\n", done.stdout + done.stderr):
        fields = dict(re.findall(r"^ +(input|output): (.*)$", text, re.MULTILINE))
        for command in re.findall(r"^Shell command: (ghn .*)$", text, re.MULTILINE):
            jobs[command] = tuple(
                frozenset(filter(None, fields.get(side, "").split(", ")))
                for side in ("input", "output")
            )
    return jobs


PRINT_DVC = """
from dvc.repo import Repo
graph = {}
for stage in Repo().index.stages:
    files = [d.def_path for d in stage.deps if not d.def_path.endswith("params.yaml")]
    params = [p for d in stage.deps if d.def_path.endswith("params.yaml") for p in d.params]
    graph[stage.cmd] = (files, [o.def_path for o in stage.outs], params)
print(graph)
"""


def of_dvc(place):
    """{command: (inputs, outputs, parameters)} of all stages, read by DVC itself."""
    done = place.run("python", "-c", PRINT_DVC)
    assert done.returncode == 0, done.stderr
    return ast.literal_eval(done.stdout)


def files_below(paths, made):
    """Put in the place of a folder all files that are made in it."""
    return frozenset(
        file for path in paths for file in ([m for m in made if m.startswith(f"{path}/")] or [path])
    )


@pytest.mark.parametrize(
    ("preset", "count"),
    [
        # counted by hand: data, architectures, five GHNs and the one-shot model with their scores,
        # proxies and SGD of a few steps, ground truth and what of it is repeated, two searches, a
        # short training and the winner, three finalists, and what is made of these
        ("smoke", 2 + 2 * 6 + 2 + 5 + 3 + 2 + 2 + 3 + 11),
        # data, architectures, three GHNs and three one-shot models with their scores, proxies, SGD
        # of a few steps, the search, the benchmark, the ablations, the claims
        ("nasbench201", 2 + 2 * 6 + 2 + 1 + 3),
        # data, architectures, the GHN with its scores, the search; top ones, random ones, the best,
        # two baselines, what is made of them, and the claims
        ("anytime-smoke", 2 + 2 + 1 + 3 + 4 + 1 + 2 + 2),
    ],
)
def test_both_engines_have_the_same_graph(preset, count, workplaces):
    place = workplaces(preset)
    assert place.run("ghn", "configure", f"presets/{preset}.yaml").returncode == 0
    snakemake, dvc = of_snakemake(place), of_dvc(place)
    made = [out for _, outs, _ in dvc.values() for out in outs]
    found = {c: (files_below(ins, made), frozenset(outs)) for c, (ins, outs, _) in dvc.items()}
    assert found == snakemake
    assert len(found) == count


def test_a_file_of_the_user_is_an_input_for_both(workplaces):
    place = workplaces("table")
    (place.folder / "cells.csv").write_text("", encoding="utf-8")
    table = yaml.safe_dump({"benchmark": {"table": "cells.csv"}})
    (place.folder / "table.yaml").write_text(table, encoding="utf-8")
    assert place.run("ghn", "configure", "presets/darts.yaml", "table.yaml").returncode == 0
    for graph in (of_snakemake(place), of_dvc(place)):
        reads = [command for command, (ins, *_) in graph.items() if "cells.csv" in ins]
        assert reads == ["ghn architectures"]


def test_dvc_yaml_is_what_the_declarations_say():
    """As it is shipped, for the paper's space; `ghn configure` writes that of another."""
    written = dvc.text(load([ROOT / "params.yaml"]))
    assert (ROOT / "dvc.yaml").read_text(encoding="utf-8") == written


def test_an_ablation_is_one_entry_for_both(workplaces):
    place = workplaces("ablation")
    ghns = ["default", "nodes-5", "synchronous-1", "individual", "stacked", "short"]
    more = {"ghns": {"short": {"passes": 2}}, "correlation": {"ghns": ghns}}
    (place.folder / "more.yaml").write_text(yaml.safe_dump(more), encoding="utf-8")
    place.run("ghn", "configure", "presets/smoke.yaml", "more.yaml")
    for graph in (of_snakemake(place), of_dvc(place)):
        assert {"ghn ghn short", "ghn scores ghn/short"} < set(graph)


STAGE_OF = {
    "ghn architectures": "architectures",
    "ghn ghn default": "ghn",
    "ghn oneshot 0": "oneshot",
    "ghn sgd 3": "sgd",
    "ghn repeat 2": "repeat",
    "ghn scores ghn/default": "scores/ghn",
    "ghn scores oneshot/0": "scores/oneshot",
    "ghn scores proxies": "scores/proxies",
    "ghn scores sgd": "scores/sgd",
    "ghn search random/0": "search",
    "ghn search_curves": "search_curves",
    "ghn short 0": "short",
    "ghn winner": "winner",
    "ghn finalists top/0": "top",
    "ghn finalists best/0": "best",
    "ghn mobile": "mobile",
    **{f"ghn {name}": name for name in ("table1", "table2", "table3", "table4", "ablations")},
    **{f"ghn {name}": name for name in ("export", "memory", "benchmark", "claims")},
    "ghn top": "searched_top",
    "ghn anytime top/0": "anytime/top",
    "ghn anytime random/0": "anytime/random",
    "ghn anytime best": "anytime/best",
    "ghn anytime msdnet": "anytime/msdnet",
    "ghn anytime_curves": "anytime_curves",
}


def test_dvc_makes_anew_what_the_package_says(workplaces):
    """What a parameter changes, by DVC's graph, is what tests/workflow/test_stages.py lists."""
    from test_stages import OF_EXITS, TABLE

    other, graph = workplaces("anew"), {}
    assert other.run("ghn", "configure", "presets/smoke.yaml").returncode == 0
    # what several spaces have, such as the page of claims, is that of the smoke preset
    for preset in ("nasbench201", "anytime-smoke", "smoke"):
        config = load([ROOT / "params.yaml", ROOT / f"presets/{preset}.yaml"])
        (other.folder / "dvc.yaml").write_text(dvc.text(config), encoding="utf-8")
        graph |= of_dvc(other)
    made = {command: outs for command, (_, outs, *_) in graph.items()}

    def changed(parameter):
        anew = {
            command
            for command, (_, _, params) in graph.items()
            if any(f"{parameter}.".startswith(f"{p}.") for p in params)
        }
        # what reads something that is made anew is made anew too
        while True:
            files = [file for command in anew for file in made[command]]
            more = {
                command
                for command, (ins, *_) in graph.items()
                if any(f == i or f.startswith(f"{i}/") for f in files for i in ins)
            } - anew
            if not more:
                return anew
            anew |= more

    baselines = [(*row[:2], row[2][:1]) for row in OF_EXITS if row[0] == "anytime.rivals"]
    for parameter, _, expected in [*TABLE, *baselines]:
        found = {STAGE_OF[c] for c in changed(parameter) if c in STAGE_OF}
        # each of the first two stands in the path of every output; DVC sees a list of seeds as a
        # whole, and its commands find the first seed's training done
        if parameter not in ("scale", "data.folder", "training.seeds"):
            assert found == set(expected), parameter


# ---- one result --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reproduced(place, cifar10_folder):
    """The smoke preset, run to the end by DVC."""
    data = place.folder / "data"
    data.unlink()  # DVC follows no link out of its folder
    data.mkdir()
    shutil.copyfile(cifar10_folder / "cifar10.bin", data / "cifar10.bin")
    done = place.run("dvc", "repro")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    yield place
    (data / "cifar10.bin").unlink()  # pytest keeps the last folders, and this is large


def stages_run(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"Running stage '(.*)'", done.stdout))


def test_dvc_gives_the_tables_of_snakemake(reproduced, finished):
    for name in (
        *(f"table{n}.{form}" for n in range(1, 6) for form in ("csv", "md", "html", "tex")),
        *("table4.json", "ablations.json", "figure5a.svg", "figure5b.csv", "figure6.svg"),
        *("search_curves.svg", "search_curves.csv", "memory/memory.csv", "export/model.onnx"),
        *("export/architecture.json", "export/model.pt", "export/figure7.svg"),
    ):
        a, b = ((place.folder / RESULTS / name).read_bytes() for place in (reproduced, finished))
        assert a == b, name


def test_dvc_run_again_does_nothing(reproduced):
    done = reproduced.run("dvc", "repro")
    assert stages_run(done) == set()
    assert "up to date" in done.stdout
    status = reproduced.run("dvc", "status")
    assert status.stdout.strip() == "Data and pipelines are up to date."


def test_snakemake_finds_what_dvc_made_and_does_nothing(reproduced):
    done = reproduced.run("snakemake", "--cores", "2")
    assert "Nothing to be done" in done.stdout + done.stderr


def test_dvc_shows_metrics_plots_and_changed_parameters(reproduced):
    shown = reproduced.run("dvc", "metrics", "show", "--json").stdout
    assert '"ghn": {"pearson": ' in shown
    done = reproduced.run("dvc", "plots", "show")
    assert done.returncode == 0, done.stderr
    page = (reproduced.folder / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert "learning curves" in page
    assert "figure6" in page
    difference = reproduced.run("dvc", "params", "diff").stdout
    assert re.search(r"images.train\W+45000\W+640", difference)


def planned_by_snakemake(place, changes):
    assert place.run("ghn", "configure", str(changes)).returncode == 0
    done = place.run("snakemake", "--cores", "2", "--dry-run", "--quiet", "reason")
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)}


def test_one_parameter_reruns_the_same_stages_in_both(reproduced):
    """Also where the engine that is asked is not the one that made the results."""
    changes, back = reproduced.folder / "changes.yaml", reproduced.folder / "back.yaml"
    changes.write_text("proxies: {batch: 32}\n", encoding="utf-8")
    back.write_text("proxies: {batch: 64}\n", encoding="utf-8")
    planned = planned_by_snakemake(reproduced, changes)
    expected = {"scores": 1, "table4": 1, "claims": 1}
    assert {r: n for r, n in planned.items() if r not in ("all", "total")} == expected
    ran = stages_run(reproduced.run("dvc", "repro"))
    # Snakemake plans for the worst case; DVC sees that Table 4's findings have the same bytes
    assert ran == {"scores-proxies", "table4"}
    # Snakemake has no memory of any of this, and must see it all the same; the page of claims is
    # older than the findings, which DVC wrote again with the same bytes
    page = {"all": 1, "claims": 1, "total": 2}
    assert planned_by_snakemake(reproduced, changes) in ({}, page)
    assert planned_by_snakemake(reproduced, back) == planned
    # DVC has the first results in its cache
    assert stages_run(reproduced.run("dvc", "repro")) == set()
    assert planned_by_snakemake(reproduced, back) in ({}, page)


def test_the_table_refuses_what_the_other_engine_left_stale(reproduced):
    stale = Path(reproduced.folder / "stale.yaml")
    stale.write_text("ghn: {clip: 4.0}\n", encoding="utf-8")
    done = reproduced.run("ghn", "table4", "--config", "params.yaml", "stale.yaml")
    assert done.returncode == 1
    assert f"{RESULTS}/ghn/default/run.json is stale" in done.stderr
    assert "Traceback" not in done.stderr
