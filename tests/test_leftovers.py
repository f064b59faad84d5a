"""Tests end in time, and nothing that they started outlives them, however they end.

Each case is a session of pytest of its own, with the project's own options and hooks.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import conftest
import leftovers
import pytest
import slurm_cluster
from filelock import FileLock, Timeout
from workplace import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

#: A workflow whose one job sleeps, with a process in a session of its own, as daemons are.
SNAKEFILE = """
rule:
    output: "never"
    shell: "setsid sleep 1000 & sleep 1000"
"""
#: What one worker does while another has the workflow.
OTHER = """
import time

def test_other():
    time.sleep(1000)
"""
KILLED = """
import os
from filelock import FileLock
from pathlib import Path
from workplace import Workplace
import slurm_cluster

def test_workflow():
    here = Path({folder!r})
    with FileLock(here / "lock"):
        cluster = slurm_cluster.Cluster(here / "c")
        if slurm_cluster.installed():
            cluster.start()
            cluster.submit("sleep 1000")
        (here / "worker").write_text(str(os.getpid()))
        Workplace(here / "place", here).run("snakemake", "--cores", "1")
"""
SLOW = """
from pathlib import Path
from workplace import Workplace

def test_too_slow():
    Workplace(Path({folder!r}) / "place", Path()).run("sleep", "1000")

def test_next():
    pass
"""


@pytest.fixture
def session(tmp_path):
    """Start a session of pytest over files; what is left of it ends with the test."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "params.yaml").touch()
    (place / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    mark, started = {"GHN_SESSION": str(tmp_path)}, []

    def start(files: dict[str, str], *words: str) -> "subprocess.Popen[str]":
        paths = []
        for name, text in files.items():
            paths.append(tmp_path / f"test_{name}.py")
            paths[-1].write_text(text.format(folder=str(tmp_path)), encoding="utf-8")
        (tmp_path / "soon.py").write_text(
            "import conftest; conftest.LAST_SECONDS = 2\n", encoding="utf-8"
        )
        path = os.pathsep.join([str(tmp_path), str(ROOT / "tests"), str(ROOT)])
        options = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)]
        plugins = ["-p", "conftest", "-p", "soon", "-p", "no:cacheprovider"]
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, *plugins, *words, *map(str, paths)],
            env={**os.environ, **mark, "PYTHONPATH": path},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        started.append(process)
        return process

    yield start
    leftovers.end("GHN_SESSION", str(tmp_path))
    for process in started:
        process.communicate()


def left(folder: Path) -> list[int]:
    """What is left of a session, once what sees to its leftovers has had its time."""
    stop = time.monotonic() + leftovers.GRACE + 20
    while (found := leftovers.marked("GHN_SESSION", str(folder))) and time.monotonic() < stop:
        time.sleep(0.1)
    return found


def wait_for_words(folder: Path, words: str, process: "subprocess.Popen[str]") -> None:
    """Wait for a process of the session whose command line holds the words."""
    while process.poll() is None:
        for number in leftovers.marked("GHN_SESSION", str(folder)):
            try:
                line = Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:  # gone in the meantime
                continue
            if words.encode() in line:
                return
        time.sleep(0.1)
    pytest.fail(f"it ended too early:\n{process.communicate()[0]}")


def test_a_killed_worker_ends_the_run_and_leaves_nothing(session, tmp_path):
    process = session({"killed": KILLED, "other": OTHER}, "-n", "2")
    wait_for_words(tmp_path, "setsid sleep 1000", process)
    # a lock that is held, so that it can be seen to be given back
    with pytest.raises(Timeout), FileLock(tmp_path / "lock", timeout=0):
        pass
    os.kill(int((tmp_path / "worker").read_text(encoding="utf-8")), signal.SIGKILL)
    said, _ = process.communicate(timeout=280)
    assert process.returncode not in (0, None)
    assert re.search("1 failed|2 failed", said), said
    assert left(tmp_path) == []
    with FileLock(tmp_path / "lock", timeout=0):
        pass
    assert not list((tmp_path / "place/.snakemake").glob("locks/*"))
    if slurm_cluster.installed():
        assert slurm_cluster.Cluster(tmp_path / "c")._keepers() == []
    # as the project's own run has it: with the time that a guard takes, within 5 minutes
    assert conftest.LAST_SECONDS + leftovers.GRACE < 240


def test_a_killed_run_leaves_nothing(session, tmp_path):
    process = session({"killed": KILLED, "other": OTHER}, "-n", "2")
    wait_for_words(tmp_path, "setsid sleep 1000", process)
    process.kill()
    assert left(tmp_path) == []


def test_a_test_that_takes_too_long_fails_and_leaves_nothing(session, tmp_path):
    process = session({"slow": SLOW}, "-o", "timeout=5")
    said, _ = process.communicate(timeout=280)
    assert "1 failed, 1 passed" in said
    assert "Timeout" in said
    assert left(tmp_path) == []


def test_every_test_has_a_time_limit(request):
    assert 0 < float(request.config.getini("timeout")) <= 1200
