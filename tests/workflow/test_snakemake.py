"""The whole workflow: to the end, killed and resumed, and what is made anew."""

import json
import os
import re
import signal
import time

import pytest
import torch
import trials
import yaml
from kills import take_away

from ghn_pipeline.export import load
from ghn_pipeline.pipeline.stage import needed
from ghn_pipeline.pipeline.tracking import WHEN

pytestmark = pytest.mark.slow

TABLE = (
    *("table4.csv", "table4.md", "table4.html", "table4.tex", "table4.json"),
    *("figure6.svg", "figure6.png"),
)
CHAPTERS = (
    *(f"table{n}.{form}" for n in (1, 2, 3, 5) for form in ("csv", "md", "html", "tex")),
    *(f"figure5{part}.{form}" for part in "ab" for form in ("csv", "md", "html", "png", "svg")),
    *(f"search_curves.{form}" for form in ("csv", "png", "svg")),
    *("export/architecture.json", "export/model.pt", "export/model.onnx", "export/figure7.png"),
    *("memory/memory.csv", "memory/memory.png"),
)
MODELS = ("oneshot/0/model.pt", "ghn/default/model.pt")
TABLE4_RUNS = {f"sgd/{i}" for i in range(5)} | {
    f"{kind}{model}" for kind in ("", "scores/") for model in ("oneshot/0", "ghn/default")
}
TABLE4_RUNS |= {"scores/proxies", "scores/sgd", *(f"repeat/{i}" for i in range(3))}
ABLATED = ("nodes-5", "synchronous-1", "individual", "stacked")
EVERY_RUN = (
    TABLE4_RUNS
    | {f"{kind}ghn/{name}" for kind in ("", "scores/") for name in ABLATED}
    | {"search/random/0", "search/evolution/0", "short/0", "winner", "mobile", "memory", "export"}
    | {"finalists/top/0", "finalists/random/0", "finalists/best/0", "architectures"}
)


@pytest.fixture(scope="module")
def killed(tmp_path_factory, finished):
    """A copy that trains both models again; the GHN is killed in the middle, then run again."""
    place = finished.copy_to(tmp_path_factory.mktemp("killed") / "place")
    # the engine remakes an earlier stage only for a later one that is missing
    trained = ("ghn default", "oneshot 0")
    for words in (*trained, "scores ghn/default", "scores oneshot/0", "table4"):
        take_away(place, trials.stage(words))
    # a store that does not answer must not change a result either
    del place.environment[WHEN]
    place.environment["MLFLOW_TRACKING_URI"] = "nowhere://"
    # saved after each step, so that there is a middle; it changes no result
    (place.folder / "save.yaml").write_text("compute: {checkpoint_seconds: 0}\n", encoding="utf-8")
    often = ("snakemake", "--cores", "2", "--configfile", "presets/smoke.yaml", "save.yaml")
    process = place.start(*often, "--", "results/smoke/ghn/default/model.pt")
    folder = place.folder / "checkpoints/smoke/ghn"
    while process.poll() is None and not list(folder.glob("default-*.pt")):
        time.sleep(0.01)
    (training,) = place.processes("ghn")
    os.kill(training, signal.SIGKILL)
    out, err = process.communicate()
    (checkpoint,) = folder.glob("default-*.pt")
    place.step = torch.load(checkpoint, weights_only=True)["step"]
    place.first = (process.returncode, out + err)
    place.published = (place.folder / "results/smoke/ghn/default/model.pt").exists()
    place.second = place.snakemake("--", "correlation")
    return place


# ---- one run -----------------------------------------------------------------------------------


def test_the_smoke_preset_runs_to_the_end(finished):
    results = finished.folder / "results/smoke"
    for name in (*TABLE, *CHAPTERS):
        assert (results / name).stat().st_size > 0
    records = {str(p.parent.relative_to(results)) for p in results.rglob("run.json")}
    assert records == EVERY_RUN


def test_the_exported_block_lists_its_nodes_as_the_weights_number_them(finished):
    folder = finished.folder / "results/smoke/export"
    content = json.loads((folder / "architecture.json").read_text(encoding="utf-8"))
    operations = {v: op for v, (op, _) in enumerate(content["block"])}
    names = [name.split("/") for name in load(folder).model.tensors]
    of_blocks = [(int(v), op) for m, v, op, *_ in names if op not in ("stem", "classifier")]
    assert len(of_blocks) > 3
    assert all(operations[v] == op for v, op in of_blocks)


def test_every_job_leaves_a_log_and_a_benchmark(finished):
    results = finished.folder / "results/smoke"
    tables = {one.kind for one in needed("classification") if one.is_table}
    for stage in EVERY_RUN | tables:
        assert (results / "logs" / f"{stage}.log").read_text(encoding="utf-8")
        header, row = (
            (results / "benchmarks" / f"{stage}.tsv").read_text(encoding="utf-8").splitlines()
        )
        assert float(dict(zip(header.split("\t"), row.split("\t"), strict=True))["s"]) > 0


def test_the_provenance_names_every_run(finished):
    results = finished.folder / "results/smoke"
    said = json.loads((results / "table4.provenance.json").read_text(encoding="utf-8"))
    assert {run["stage"] for run in said["made_of"]} == TABLE4_RUNS
    for run in said["made_of"]:
        assert run == json.loads((results / run["stage"] / "run.json").read_text(encoding="utf-8"))
        assert set(run) >= {"commit", "dirty", "digest", "settings", "packages", "finished"}
        assert re.fullmatch("[0-9a-f]{16}", run["digest"])
        # the seeds it was made with, of params.yaml
        assert [run["settings"][f"seeds.{key}"] for key in ("split", "data_order")] == [0, 3]
        assert run["cifar10"] == said["table"]["cifar10"]
    # that of the images: the digest is over the SHA-1 of each batch
    assert re.fullmatch("[0-9a-f]{16}", said["table"]["cifar10"])
    assert said["table"]["packages"]["torch"] == torch.__version__
    assert {run["commit"] for run in said["made_of"]} == {said["table"]["commit"]}


def test_every_training_and_scoring_is_in_mlflow(finished):
    for stage in EVERY_RUN:
        folder = finished.folder / "results/smoke" / stage
        sent, run = (
            json.loads((folder / f).read_text(encoding="utf-8"))
            for f in ("mlflow.json", "run.json")
        )
        assert sent["finished"] == run["finished"]


def test_a_second_call_does_nothing(finished):
    results = finished.folder / "results"
    before = {p: p.stat().st_mtime_ns for p in results.rglob("*")}
    done = finished.snakemake()
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr
    assert {p: p.stat().st_mtime_ns for p in results.rglob("*")} == before


# ---- a kill ----------------------------------------------------------------------------------


def test_a_killed_training_is_a_failure_and_publishes_nothing(killed):
    code, said = killed.first
    assert code != 0
    assert "ghn" in said
    # the engine's words point to the log, and the log names the signal
    told = "ghn ghn: ended by SIGKILL"
    assert re.search(f"{told}.* is in results/smoke/logs/ghn/default.log", said)
    assert "which signal ended it, is in results/smoke/logs/STAGE.log" in said
    log = (killed.folder / "results/smoke/logs/ghn/default.log").read_text(encoding="utf-8")
    assert log.count(told) == 1
    assert not killed.published
    assert 0 < killed.step < 120  # 12 epochs of 640 images in batches of 64: it was in the middle


def test_started_again_it_goes_on_where_it_was(killed):
    assert killed.second.returncode == 0, killed.second.stderr[-3000:]
    log = (killed.folder / "results/smoke/logs/ghn/default.log").read_text(encoding="utf-8")
    assert f"goes on from step {killed.step} of 120" in log
    assert "`ghn track` sends the results later" in killed.second.stderr


@pytest.mark.parametrize("name", TABLE)
def test_the_tables_have_the_same_bytes(name, finished, killed):
    a, b = ((place.folder / "results/smoke" / name).read_bytes() for place in (finished, killed))
    assert a == b


@pytest.mark.parametrize("name", MODELS)
def test_the_weights_are_the_same(name, finished, killed):
    a, b = (
        torch.load(place.folder / "results/smoke" / name, weights_only=True)
        for place in (finished, killed)
    )
    assert a["digest"] == b["digest"]
    assert list(a["model"]) == list(b["model"])
    assert all(torch.equal(a["model"][n], b["model"][n]) for n in a["model"])


# ---- what is made anew ---------------------------------------------------------------------------

TABLES = {"table1": 1, "table2": 1, "table3": 1, "table4": 1, "claims": 1}
TRUTH = {
    **{"sgd": 5, "repeat": 3, "scores": 1},
    **{"table4": 1, "ablations": 1, "top": 1, "claims": 1},
}
WINNER = {**{"winner": 1, "finalists": 1, "table2": 1, "export": 1, "mobile": 1, "table3": 1}}
SEARCH = {
    **{"search": 2, "search_curves": 1, "short": 1, **WINNER},
    **{"finalists": 3, "table1": 1},
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"compute": {"log_seconds": 9, "threads": 2, "checkpoint_seconds": 9}}, {}),
        ({"tables": {"costs": True}}, TABLES),
        (
            {"correlation": {"confidence": 0.9}},
            {"table4": 1, "ablations": 1, "top": 1, "claims": 1},
        ),
        ({"sgd": {"epochs": 4}}, {**TRUTH, "short": 1, **WINNER}),
        # one of the five has passes of its own
        ({"ghn": {"passes": 2}}, {
            **{"ghn": 4, "scores": 4, "table4": 1, "ablations": 1, "memory": 1},
            **{"top": 1, "claims": 1},
            **SEARCH,
        }),
        ({"images": {"padding": 2}}, {
            **TRUTH, "ghn": 5, "oneshot": 1, "scores": 8, **SEARCH
        }),
        ({"search": {"population": 3}}, {"search": 1, "search_curves": 1}),
        ({"mobile": {"epochs": 9}}, {"mobile": 1, "table3": 1}),
    ],
    ids=lambda value: next(iter(value), "nothing"),
)  # fmt: skip
def test_one_parameter_makes_anew_what_depends_on_it(changes, expected, finished):
    # a dry run: the finished folder stays as it is
    (finished.folder / "changes.yaml").write_text(yaml.safe_dump(changes), encoding="utf-8")
    done = finished.run(
        *("snakemake", "--cores", "2", "--dry-run", "--quiet", "reason"),
        *("--configfile", "presets/smoke.yaml", "changes.yaml"),
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    jobs = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)}
    for word in ("all", "total"):
        jobs.pop(word, None)
    assert jobs == expected


def test_lint_has_no_other_complaint_than_those_with_a_reason(workplace):
    """workflow/rules/stages.smk has the reasons."""
    done = workplace.run("snakemake", "--lint", "--configfile", "presets/smoke.yaml")
    assert set(re.findall(r"^    \* (.*):$", done.stdout + done.stderr, re.MULTILINE)) == {
        "No log directive defined",
        "Specify a conda environment or container for each rule.",
        "Shell command directly uses variable OPTIONS from outside of the rule",
    }


# ---- faults ------------------------------------------------------------------------------------


def test_faults_of_the_configuration_end_it_with_their_message(workplace):
    (workplace.folder / "bad.yaml").write_text(
        "sgd: {epoch: 3, batch: x}\ncpu_is_enough: 7\n", encoding="utf-8"
    )
    done = workplace.run(
        *("snakemake", "--cores", "2", "--configfile", "presets/smoke.yaml", "bad.yaml")
    )
    assert done.returncode != 0
    said = done.stdout + done.stderr
    for words in ("3 faults", "sgd.epoch: unknown key", "sgd.batch: ", "cpu_is_enough: "):
        assert words in said
    assert "Traceback" not in said
    assert not (workplace.folder / "results").exists()


@pytest.mark.parametrize(
    ("preset", "asked", "chapter", "has", "instead"),
    [
        ("nasbench201", "architecture_search", "architecture_search", "benchmark", "quick"),
        ("nasbench201", "correlation", "correlation", "benchmark", "quick"),
        (
            "nasbench201",
            "results/nasbench201/finalists/best/0/model.pt",
            "architecture_search",
            "benchmark",
            "quick",
        ),
        ("nasbench201", "results/nasbench201/memory/memory.csv", "memory", "benchmark", "quick"),
        ("anytime-smoke", "transfer", "transfer", "anytime", "quick"),
        ("anytime-smoke", "ablations", "ablations", "anytime", "quick"),
        ("anytime-smoke", "results/anytime-smoke/oneshot/0/run.json", "correlation", "it", "quick"),
        ("anytime-smoke", "results/anytime-smoke/scores/proxies/run.json", "", "it", "quick"),
        ("anytime-smoke", "benchmark", "benchmark", "anytime", "nasbench201"),
        ("smoke", "anytime_prediction", "anytime_prediction", "ablations", "anytime-quick"),
        ("smoke", "benchmark", "benchmark", "transfer, memory", "darts"),
        (
            "smoke",
            "results/smoke/figure8.svg",
            "anytime_prediction",
            "transfer, memory",
            "anytime-quick",
        ),
    ],
)
def test_a_chapter_that_the_space_has_not_is_refused_before_any_job(
    preset, asked, chapter, has, instead, workplace
):
    words = ("--cores", "1", "--configfile", f"presets/{preset}.yaml", "--", asked)
    for dry in ((), ("--dry-run",)):
        done = workplace.run("snakemake", *dry, *words)
        assert done.returncode == 1, done.stdout + done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("snakemake: ")
        for said in (
            f"belongs to the chapter {chapter}",
            "which the space",
            has,
            f"presets/{instead}",
        ):
            assert said in last
        assert "Traceback" not in done.stderr
        assert "rule " not in done.stdout + done.stderr  # no job was planned
    assert not (workplace.folder / "results").exists()
    assert not list((workplace.folder / ".snakemake/locks").glob("*"))


@pytest.mark.parametrize(
    ("preset", "asked"),
    [("nasbench201", "benchmark"), ("anytime-smoke", "anytime_prediction"), ("smoke", "transfer")],
)
def test_a_chapter_of_the_space_is_planned_without_a_word(preset, asked, workplace):
    done = workplace.run(
        *("snakemake", "--dry-run", "--configfile", f"presets/{preset}.yaml", "--", asked)
    )
    assert done.returncode == 0, done.stderr
    assert "paper's scale" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("files", "preset"),
    [((), "quick"), (("--configfile", "presets/anytime.yaml"), "anytime-quick")],
)
def test_a_dry_run_at_the_papers_scale_says_so_at_its_end(files, preset, workplace):
    done = workplace.run("snakemake", "--dry-run", *files)
    assert done.returncode == 0, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    for words in ("the paper's scale", "`ghn plan`", f"--configfile presets/{preset}.yaml"):
        assert words in last
    # what only lists rules has nothing to say
    assert "paper's scale" not in workplace.run("snakemake", "--list-rules", *files).stderr


@pytest.mark.parametrize("content", ["[1]", '{"table": 3}', '{"table": {}, "made_of": [1]}'])
def test_a_damaged_provenance_ends_no_command(content, workplace):
    path = workplace.folder / "results/smoke/table4.provenance.json"
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="utf-8")
    done = workplace.snakemake("--dry-run", "--", "results/smoke/table4.md")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("sgd: {epochs: 3,\n  epochs: 4}\n", ["line 2", "'epochs' is given twice"]),
        ("sgd: [1\n", ["not valid JSON or YAML"]),  # Snakemake reads these files first
        ("sgd: &a {epochs: 3}\n", ["line 1", "anchors"]),
        ("sgd: {learning_rate: 1e-3, epochs: yes}\n", ["1 fault", "sgd.epochs", "'yes'"]),
        ("- a\n", ["keys at top level"]),
    ],
)
def test_a_preset_that_is_not_read_ends_it_with_one_message(content, words, workplace):
    (workplace.folder / "bad.yaml").write_text(content, encoding="utf-8")
    done = workplace.run(
        *("snakemake", "--dry-run", "--configfile", "presets/smoke.yaml"), "bad.yaml"
    )
    assert done.returncode == 1
    for word in words:
        assert word in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\nscale: mine\n", ["line", "'scale' is given twice"]),
        (b"\nmore: " + b"[" * 5000, ["more than 20 deep"]),
        (b"\nmore: [1", ["is not plain YAML, line"]),
        (b"\n# caf\xe9\n", ["is not UTF-8"]),
        (b"\x00", ["#x0000"]),
    ],
)
def test_a_params_yaml_that_is_not_read_ends_it_with_one_message(content, words, workplace):
    with open(workplace.folder / "params.yaml", "ab") as file:
        file.write(content)
    done = workplace.run("snakemake", "--dry-run")
    assert done.returncode == 1
    for word in ("params.yaml", *words):
        assert word in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_papers_scale_without_an_accelerator_ends_with_the_presets_named(workplace):
    done = workplace.run("snakemake", "--cores", "2")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "This is the paper's scale" in said
    assert "presets/quick.yaml" in said
    assert "Traceback" not in said
    assert not list((workplace.folder / "results").rglob("run.json"))
