"""What a process prints stands in its log too, and the log is never in its way."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path
from ghn_pipeline.system import logs
logs.keep(Path(sys.argv[1]))
print("to stdout")
print("to stderr", file=sys.stderr)
logs.only("to the log")
raise RuntimeError("the end")
"""


def run(log):
    words = [sys.executable, "-c", PROGRAM, str(log)]
    return subprocess.run(words, capture_output=True, text=True, encoding="utf-8")


def test_all_that_is_printed_is_in_the_log_in_one_piece_over_all_starts(tmp_path):
    log = tmp_path / "a/b.log"
    for _ in range(2):
        done = run(log)
        assert done.stdout == "to stdout\n"
        assert "to the log" not in done.stderr
    text = log.read_text(encoding="utf-8")
    for line in ("to stdout\n", "to stderr\n", "to the log\n", "RuntimeError: the end\n"):
        assert text.count(line) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_costs_the_log_and_not_the_work():
    done = run("/dev/full")
    assert "to stdout\n" in done.stdout
    assert "to stderr\n" in done.stderr
    assert done.stderr.rstrip().endswith("RuntimeError: the end")
    assert done.stderr.count("not in the log any more") == 1
    assert done.returncode == 1  # that of the program's own error
