"""No process outlives the one that answers for it, however that one ends. Linux only.

A process and all that it starts carry a mark in their environment, where the operating system shows
it. Session and parent would not do: Snakemake's jobs outlive Snakemake, and Slurm's daemons are in
sessions of their own.
"""

import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

#: Marks what a process of tests has started; the value names that process.
TESTS = "GHN_STARTED_BY_TESTS"
#: Seconds that marked processes have to end by themselves, for example to give back a lock.
GRACE = 10.0


def parent_of(number: int) -> int:
    """Return the number of a process's parent.

    Raises:
        OSError: the process is gone.
    """
    # the name of the program, in brackets, may hold spaces
    text = Path(f"/proc/{number}/stat").read_text(encoding="utf-8")
    return int(text.rpartition(")")[2].split()[1])


def marked(name: str, value: str) -> list[int]:
    """Return the other processes with `name=value` in the environment they began with."""
    mark, found = f"{name}={value}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone in the meantime, or another user's
            if mark in (entry / "environ").read_bytes().split(b"\0") and alive(int(entry.name)):
                found.append(int(entry.name))
    return [number for number in found if number != os.getpid()]


def alive(number: int) -> bool:
    """Whether a process is there and has not ended; its parent may not have asked for its end."""
    try:
        text = Path(f"/proc/{number}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def end(name: str, value: str, grace: float = 0.0) -> None:
    """End the marked processes: asked to, where they have time for it, then killed."""
    stop = time.monotonic() + grace
    told: set[int] = set()
    while found := marked(name, value):
        late = time.monotonic() >= stop
        for number in found if late else set(found) - told:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL if late else signal.SIGTERM)
        told |= set(found)
        time.sleep(0.05)


def guard() -> None:
    """Let all that this process starts from here on end with it: a second process sees to that."""
    if sys.platform != "linux":
        return
    value = f"{os.getpid()}-{time.monotonic_ns()}"
    os.environ[TESTS] = value
    nothing = [(os.POSIX_SPAWN_OPEN, file, os.devnull, os.O_RDWR, 0) for file in range(3)]
    words = [sys.executable, "-IS", __file__, str(os.getpid()), value]
    # in a session of its own: a Ctrl-C at the terminal is not for it
    os.posix_spawn(words[0], words, {}, file_actions=nothing, setsid=True)


def _watch(number: int, value: str) -> None:
    with suppress(ProcessLookupError):  # ended already
        select.select([os.pidfd_open(number)], [], [])
    end(TESTS, value, GRACE)


if __name__ == "__main__":
    _watch(int(sys.argv[1]), sys.argv[2])
