"""A space, an operation, a proxy, a measure and a stage from outside the package: a file each."""

import re
import shutil

import pandas as pd
import pytest
import yaml
from conftest import ROOT

pytestmark = pytest.mark.slow

SCALE = {
    "scale": "chains",
    "space": {"name": "chain", "operations": ["conv_1x1", "half"]},
    "evaluation": {"measure": "probability"},
    "correlation": {"ghns": ["default"]},
    "ghn": {"epochs": 1, "halve_at": []},
    "ablations": {"figure5a": [], "figure5b": [], "table5": []},
}
RESULTS = "results/chains"


@pytest.fixture(scope="module")
def places(workplaces):
    """Two folders with the same extensions: one for each engine."""
    found = [workplaces(engine) for engine in ("by-snakemake", "by-dvc")]
    for place in found:
        shutil.copytree(ROOT / "tests/extensions", place.folder / "extensions")
        (place.folder / "chains.yaml").write_text(yaml.safe_dump(SCALE), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def made(places):
    """The same results, made by both engines."""
    files = ["presets/smoke.yaml", "chains.yaml"]
    by_snakemake, by_dvc = places
    for place, words in (
        (by_snakemake, ["snakemake", "--cores", "2", "--configfile", *files]),
        (by_dvc, ["ghn", "configure", *files]),
        (by_dvc, ["dvc", "repro"]),
    ):
        done = place.run(*words)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return places


def test_both_engines_make_the_stage_of_an_extension_and_what_it_reads(made):
    table = pd.read_csv(made[0].folder / RESULTS / "agreement/agreement.csv")
    # the smoke preset draws 6 architectures of 3 nodes, and stacks 2 blocks
    assert len(table) == 6
    assert set(table.columns) == {"index", "hash", "probability", "halves"}
    assert table["probability"].between(0.01, 0.5).all()
    assert set(table["halves"]) <= {0, 2, 4, 6} and table["halves"].max() > 0
    for name in ("agreement/agreement.csv", "architectures/architectures.json"):
        first, second = ((place.folder / RESULTS / name).read_bytes() for place in made)
        assert first == second


def test_the_proxy_counts_the_operation_in_the_architectures_of_the_space(made):
    folder = made[0].folder / RESULTS
    drawn = yaml.safe_load(
        (folder / "architectures/architectures.json").read_text(encoding="utf-8")
    )
    counted = [2 * sum(node[0] == "half" for node in one["block"]) for one in drawn]
    scores = pd.read_csv(folder / "scores/proxies/scores.csv")
    assert scores["halves"].tolist() == counted


def test_a_finished_run_of_dvc_has_nothing_left_to_do(made):
    status = made[1].run("dvc", "status")
    assert "up to date" in status.stdout, status.stdout


def test_a_proxy_that_is_added_or_changed_is_scored_anew_and_nothing_else(made):
    """Neither a training nor the other scores depend on it; a stage depends on its own code."""
    place, files = made[0], ["--configfile", "presets/smoke.yaml", "chains.yaml"]
    dry = ["snakemake", "--cores", "1", "--dry-run", "--quiet", "reason"]
    assert "Nothing to be done" in str(place.run(*dry, *files))
    proxy = place.folder / "extensions/halves.py"
    before = proxy.read_text(encoding="utf-8")
    for path, text, rerun in (
        (proxy, before.replace("float(sum", "2.0 * float(sum"), {"scores": 1, "agreement": 1}),
        (proxy, before, {}),
        (place.folder / "extensions/agreement.py", "# changed\n", {"agreement": 1}),
    ):
        text = text if path == proxy else path.read_text(encoding="utf-8") + text
        path.write_text(text, encoding="utf-8")
        done = place.run(*dry, *files)
        planned = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
        found = {rule: int(count) for rule, count in planned if rule not in ("all", "total")}
        assert found == rerun, path


def test_help_plan_and_messages_know_what_extensions_add(places):
    place, files = places[0], ["--config", "params.yaml", "presets/smoke.yaml", "chains.yaml"]
    assert "extensions/half.py" in place.run("ghn", "check", *files).stdout
    assert "Write the scores of the first GHN beside" in place.run("ghn", "--help").stdout
    plan = place.run("ghn", "plan", *files).stdout
    assert {"agreement", "scores", "ghn"} <= {line.split()[0] for line in plan.splitlines() if line}
    other = place.run("ghn", "table4", *files)
    assert other.returncode == 1
    assert "the space chain does not have: it has agreement" in other.stderr


def test_an_extension_that_cannot_be_imported_is_named(workplaces):
    place = workplaces("damaged")
    (place.folder / "extensions").mkdir()
    (place.folder / "extensions/mine.py").write_text("import nothing_like_it\n", encoding="utf-8")
    done = place.run("ghn", "check")
    assert done.returncode == 1
    assert done.stderr.startswith("ghn: extensions/mine.py cannot be imported (ModuleNotFound")
    assert "Traceback" not in done.stderr
