"""A stage that is ended by a signal says so in its log and on stderr."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from ghn_pipeline.system import logs
from ghn_pipeline.system.supervised import supervised

def work():
    if sys.argv[1]:
        logs.keep(Path(sys.argv[1]))
    print("at work as", os.getpid(), flush=True)
    exec(sys.argv[2])
    return 3

sys.exit(supervised(work, "ghn verb"))
"""


@pytest.fixture
def start():
    """Start the program above; what is left of it ends with the test."""
    with ExitStack() as stack:

        def started(log: Path | str, act: str, **options) -> "subprocess.Popen[str]":
            words = [sys.executable, "-c", PROGRAM, str(log), act]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            process = subprocess.Popen(words, encoding="utf-8", **pipes, **options)
            stack.callback(process.kill)
            return stack.enter_context(process)

        yield started


def worker_of(process: "subprocess.Popen[str]") -> int:
    """The number of the child, once it is at work."""
    assert process.stdout is not None
    return int(process.stdout.readline().split()[-1])


def gone(number: int, seconds: float = 20) -> bool:
    """Whether a process ends within so many seconds."""
    for _ in range(int(seconds / 0.05)):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGBUS", "SIGTERM"])
def test_the_log_and_stderr_name_the_signal(name, start, tmp_path):
    log, number = tmp_path / "stage.log", signal.Signals[name]
    process = start(log, f"os.kill(os.getpid(), {int(number)})", cwd=tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number  # as a shell says it
    assert err.count("\n") == 1
    assert f"ghn verb: ended by {name}" in err
    assert err.rstrip().endswith("is in stage.log")
    first, last = log.read_text(encoding="utf-8").splitlines()
    assert first.startswith("at work as")
    assert last.startswith(f"ghn verb: ended by {name}")
    assert ("memory" in last) == (name == "SIGKILL")


def test_a_signal_without_a_name_is_told_by_its_number(start, tmp_path):
    number = signal.SIGRTMIN + 6
    process = start("", f"os.kill(os.getpid(), {number})")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"ghn verb: ended by signal {number}" in err


def test_signals_that_come_while_the_work_ends_are_no_traceback(start):
    process = start("", "pass")
    worker_of(process)
    while process.poll() is None:
        process.send_signal(signal.SIGUSR1)
    assert process.returncode in (3, 128 + signal.SIGUSR1)
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_work_whose_parent_is_gone_already_is_told_to_stop(tmp_path):
    program = f"""
import os, time
from ghn_pipeline.system.processes import stop_with_parent
parent = os.getpid()
if os.fork() == 0:
    while os.getppid() == parent:
        time.sleep(0.01)
    stop_with_parent(parent)
    time.sleep(5)
    open({str(tmp_path / "lives on")!r}, "w", encoding="utf-8")
"""
    subprocess.run([sys.executable, "-c", program], timeout=60)
    time.sleep(7)
    assert not (tmp_path / "lives on").exists()


def test_a_stage_without_a_log_says_it_on_stderr(start):
    process = start("", "os.abort()")
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (134, "ghn verb: ended by SIGABRT\n")


def test_exit_codes_and_errors_are_those_of_the_work(start, tmp_path):
    process = start(tmp_path / "log", "pass")
    assert (process.wait(60), process.stderr.read()) == (3, "")
    process = start(tmp_path / "log", "sys.exit(5)")
    assert (process.wait(60), process.stderr.read()) == (5, "")
    process = start(tmp_path / "log", "1 / 0")
    assert process.wait(60) == 1
    assert process.stderr.read().count("ZeroDivisionError: division by zero") == 1


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_to_stop_is_passed_on(name, start, tmp_path):
    handle = f"signal.signal(signal.{name}, lambda *_: sys.exit(7)); print(); time.sleep(60)"
    process = start(tmp_path / "log", handle, start_new_session=True)  # no terminal's Ctrl-C
    worker_of(process)
    process.stdout.readline()
    process.send_signal(signal.Signals[name])
    assert process.wait(20) == 7


def test_a_signal_that_is_ignored_from_the_start_stays_so(start, tmp_path):
    """Snakemake's jobs ignore Slurm's signal ahead of a time limit until a training listens."""
    process = start(
        tmp_path / "log",
        "time.sleep(1)",
        preexec_fn=lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    )
    worker = worker_of(process)
    process.send_signal(signal.SIGUSR1)
    os.kill(worker, signal.SIGUSR1)
    assert process.wait(20) == 3


def test_the_work_is_told_to_stop_when_its_parent_is_killed(start, tmp_path):
    process = start(tmp_path / "log", "time.sleep(60)")
    worker = worker_of(process)
    process.kill()
    process.wait()
    assert gone(worker)


LIMITED = """
import resource, sys
from ghn_pipeline import cli
import torch
def verb(args):
    "A verb."
    resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
    {act}
cli.OTHERS["check"] = (verb, {{}})
sys.exit(cli.run(cli.parser().parse_args(["check"])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps RLIMIT_AS")
@pytest.mark.parametrize("act", ["torch.empty(2**40)", "bytearray(2**40)"])
def test_want_of_memory_is_one_message(act):
    words = [sys.executable, "-c", LIMITED.format(act=act)]
    done = subprocess.run(words, capture_output=True, encoding="utf-8")
    assert done.returncode == 1
    assert done.stderr.startswith("ghn check: out of memory")
    assert done.stderr.count("\n") == 1
