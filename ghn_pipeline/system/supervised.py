"""A parent process that reports the signal that ended the work, as a killed process cannot."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from ghn_pipeline.system.processes import stop_with_parent

#: Signals that ask to stop; clusters send SIGUSR1 ahead of a time limit.
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
#: The pipe through which the child names its log; None in any other process.
_log_pipe: int | None = None


def supervised(work: Callable[[], int], name: str) -> int:
    """Do `work` in a child process and return its exit code.

    If a signal ends the child, a line with the signal's name goes to stderr and to the child's log,
    and the exit code is 128 plus its number, as in a shell. This process passes signals to stop on
    to the child, and if it is killed, the child is told to stop.

    Args:
        work: function that does the work and returns the exit code.
        name: name of the command, for the message.
    """
    log_reader, log_writer = os.pipe()
    # block these signals until this process can pass them on
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        os.close(log_reader)
        stop_with_parent(parent)
        global _log_pipe
        _log_pipe = log_writer
        return work()
    os.close(log_writer)
    for number in PASSED_ON:
        # signals that are ignored from the start stay ignored
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda received, _: _pass_on(received, child))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    # the child's process number may be reused after this wait, so no signal is passed on any more
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    _say(name, -code, log_reader)
    return 128 - code


def log_is(path: Path) -> None:
    """Tell the supervising process, if there is one, the path of this process's log."""
    if _log_pipe is not None:
        os.write(_log_pipe, os.fsencode(path.absolute()) + b"\n")


def _pass_on(number: int, child: int) -> None:
    # Ctrl-C at the terminal has also reached the child, which a second signal would end at once
    if number != signal.SIGINT or not _in_foreground():
        os.kill(child, number)


def _in_foreground() -> bool:
    """Return whether Ctrl-C at the terminal reaches this process, and so also the child."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
    except OSError:  # there is no terminal
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)


def _say(name: str, number: int, log_reader: int) -> None:
    known = number in set(signal.Signals)  # most real-time signals have no name
    line = f"{name}: ended by {signal.Signals(number).name if known else f'signal {number}'}"
    if number == signal.SIGKILL:
        line += ", sent by someone or, if memory ran out, by the system"
    os.set_blocking(log_reader, False)
    try:
        paths = os.read(log_reader, 65536).splitlines()
    except BlockingIOError:  # another process still holds the empty pipe open
        paths = []
    if not paths:
        print(line, file=sys.stderr)
        return
    log = Path(os.fsdecode(paths[-1]))
    try:
        with open(log, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        line += f" (this line is not in the log: {error.strerror})"
    print(f"{line}. Its earlier output is in {os.path.relpath(log)}", file=sys.stderr)
