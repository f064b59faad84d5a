"""What README and docs tell a reader to type, typed: at the size of the smoke preset."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from test_docs import DOCS, PAGES, README, blocks_of, text_of

pytestmark = pytest.mark.slow

#: Commands that other tests run, or that cannot be run here; each with the test, or the reason.
ELSEWHERE = {
    r"make (benchmark|benchmark-long)$": "workflow/test_benchmark_chapter.py",
    r"make anytime$": "workflow/test_anytime_chapter.py",
    r"make (chapters|smoke)$": "conftest.py",
    r"make claims|ghn keep": "pipeline/test_evidence.py",
    r"snakemake --cores all --configfile": "conftest.py",
    r"snakemake claims .*/claims-nasbench201": "workflow/test_benchmark_chapter.py",
    r"snakemake benchmark .*/darts": "workflow/test_darts_chapter.py",
    r"snakemake --report": "workflow/test_snakemake.py",
    r"make (check|test)$": "what runs this test",
    r".*--profile slurm": "workflow/test_slurm.py",
    r"python tests/slurm_cluster.py": "test_slurm_cluster.py",
    r"dvc (repro|params|metrics|plots)": "workflow/test_engines.py",
    r"ghn configure presets/smoke.yaml$": "workflow/test_engines.py",
    r"ghn (ui|track)$": "pipeline/test_tracking.py",
    r"ghn configure$|python tests/golden.py": "pipeline/test_golden.py",
    r"mlflow server|mkdocs serve": "they serve until they are stopped",
    r"docker ": "test_container.py",
    r"export PATH|\.venv": "the tests have the environment on their path",
}
#: Pages whose commands follow one another in one folder.
TUTORIALS = (DOCS / "tutorial.md", DOCS / "howto/change-and-compare.md")


def typed(page: Path) -> list[str]:
    """Return the commands of a page's shell blocks, without comments."""
    text = "\n".join(blocks_of(page, "bash")).replace("\\\n", " ")
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return [" ".join(line.split()) for line in lines if line]


def elsewhere(command: str) -> bool:
    return any(re.match(pattern, command) for pattern in ELSEWHERE)


def run_by_make(command: str) -> str:
    """Return the command that a target of the Makefile runs in an environment that is there."""
    quiet = ["--dry-run", "--no-print-directory", "--assume-old=.venv/installed"]
    words = ["make", *quiet, *command.split()[1:]]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def small(workplaces):
    """A folder in which the quick preset is as small as that of smoke, with the GHNs of its own."""
    place = workplaces("reader")
    smoke, quick = (
        yaml.safe_load((place.folder / f"presets/{name}.yaml").read_text(encoding="utf-8"))
        for name in ("smoke", "quick")
    )
    own = {
        "scale": "quick",
        "ghn": smoke["ghn"] | {"epochs": 1, "halve_at": []},
        "ghns": quick["ghns"],
        "correlation": smoke["correlation"] | {"ghns": ["default", "short"]},
        "ablations": {"figure5a": ["short"], "figure5b": ["short"], "table5": ["short"]},
    }
    preset = place.folder / "presets/quick.yaml"
    # as JSON, for what two entries share would become an alias
    preset.write_text(json.dumps(smoke | own), encoding="utf-8")
    return place


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_the_commands_of_a_tutorial_do_what_it_says(page, small):
    """The files that a page tells the reader to write are written first."""
    for block in blocks_of(page, "yaml"):
        if name := re.match(r"# (\w+\.yaml)", block):
            (small.folder / name[1]).write_text(block, encoding="utf-8")
    commands = ["make quick", *typed(page)]
    for command in dict.fromkeys(commands):
        if not elsewhere(command):
            line = run_by_make(command) if command.startswith("make ") else command
            if page != TUTORIALS[0] and "--cores" in line:
                line += " --dry-run"  # the tutorial's are run to the end
            done = small.run("sh", "-c", line)
            assert done.returncode == 0, f"{command}\n{done.stdout[-1000:]}{done.stderr[-2000:]}"
    for path in set(re.findall(r"`(results/quick/[\w./-]+\.md)`", text_of(page))):
        assert (small.folder / path).is_file(), path


@pytest.mark.parametrize("page", [p for p in PAGES if p not in TUTORIALS], ids=lambda p: p.stem)
def test_every_other_command_is_one_of_a_tutorial_or_run_by_a_test(page):
    followed = {command for tutorial in TUTORIALS for command in typed(tutorial)} | {"make quick"}
    for command in typed(page):
        assert elsewhere(command) or command in followed, command
    named = [test for test in ELSEWHERE.values() if test.endswith(".py")]
    assert all((ROOT / "tests" / test).is_file() for test in named)


@pytest.mark.parametrize("page", [README, DOCS / "reference/results.md"], ids=lambda p: p.stem)
def test_python_that_loads_the_winner_runs(page, finished, monkeypatch):
    monkeypatch.chdir(finished.folder)
    for code in blocks_of(page, "python"):
        names: dict[str, object] = {}
        # the smoke preset's images are 8×8
        exec(code.replace("results/quick", "results/smoke").replace("16, 16", "8, 8"), names)
        if "logits" in names:
            assert names["logits"].shape == (1, 10)


def test_python_of_extensions_is_what_the_tests_run():
    blocks = blocks_of(DOCS / "howto/extend.md", "python")
    files = [path.read_text(encoding="utf-8") for path in (ROOT / "tests/extensions").glob("*.py")]
    assert sorted(blocks) == sorted(files)


def test_no_other_page_has_python():
    """Except for anytime.md, whose block tests/workflow/test_anytime_chapter.py runs."""
    tested = ("README.md", "results.md", "extend.md", "anytime.md")
    assert [p for p in PAGES if blocks_of(p, "python") and p.name not in tested] == []
