"""What else may befall a run, each a trial: the same bytes, or one clear message and going on."""

import json
import multiprocessing
import os
import resource
import shutil
import sqlite3
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import torch
from kills import STAGES, Ground, Stage, command, difference, jobs, snakemake, take_away
from workplace import Workplace

SMOKE = "smoke"
HOUR = 3600
#: Loaded into every process of a place whose clock leaps: the clock on the wall, which the tests
#: may not set, is ahead by the seconds that a file holds. The monotonic one does not leap.
CLOCK = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *ahead;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("GHN_CLOCK"), O_RDONLY);
    ahead = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (ahead == MAP_FAILED)
        _exit(127);
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *ahead;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *kept) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (kept)
        *kept = now.tv_sec;
    return now.tv_sec;
}
"""


class TrialError(Exception):
    """It did not come out as it should."""


def stage(words: str, scale: str = SMOKE) -> Stage:
    """The stage that a `ghn` command makes."""
    return next(s for s in STAGES if (s.words, s.scale) == (words, scale))


def _without(ground: Ground, *stages: Stage, engine: str = "snakemake") -> Workplace:
    place = ground.copy(SMOKE, engine)
    for one in stages:
        take_away(place, one)
    return place


def _same(ground: Ground, place: Workplace) -> str:
    if found := difference(place, ground.undisturbed_folder(SMOKE), SMOKE):
        raise TrialError(f"differs: {', '.join(found)}")
    return "the same bytes"


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise TrialError(otherwise)


def _ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    out, err = process.communicate(timeout=900)
    return process.returncode, out + err


def _wait_for(condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    while not condition():
        if process.poll() is not None:
            raise TrialError(f"it ended too early:\n{_ended(process)[1][-2000:]}")
        time.sleep(0.02)


def _by_hand(place: Workplace, words: str) -> "subprocess.Popen[str]":
    files = ("params.yaml", "presets/smoke.yaml", "endurance.yaml")
    return place.start("ghn", *words.split(), "--config", *files)


# ---- two at once -------------------------------------------------------------------------------

AT_ONCE = ("ghn nodes-5", "scores ghn/nodes-5", "sgd 0", "ablations")


def _two_engines(ground: Ground, second: str) -> str:
    """Start an engine while Snakemake works in the same folder."""
    made = [stage(words) for words in AT_ONCE]
    place = _without(ground, *made, engine=second)
    one = place.start(*snakemake(SMOKE, made[-1].target))
    _wait_for(lambda: jobs(place), one)
    other = place.start(*command(second, SMOKE, made[-1]))
    ends = [_ended(process) for process in (one, other)]
    told = []
    for (code, said), engine in zip(ends, ("Snakemake", f"the second, {second}"), strict=True):
        _check("Traceback" not in said, f"a traceback of {engine}:\n{said[-2000:]}")
        told.append(f"{engine} ended with {code}")
        if code:
            last = [line for line in said.splitlines() if "lock" in line.lower()]
            told[-1] += f" ({(last or said.splitlines() or [''])[0].strip()[:80]})"
    for engine in dict.fromkeys((second, "snakemake")):
        code, said = _ended(place.start(*command(engine, SMOKE, made[-1])))
        _check(code == 0, f"{engine} does not go on:\n{said[-2000:]}")
    return f"{'; '.join(told)}; called again: {_same(ground, place)}"


def two_snakemakes(ground: Ground) -> str:
    """Two Snakemakes at once in one folder."""
    return _two_engines(ground, "snakemake")


def snakemake_and_dvc(ground: Ground) -> str:
    """Snakemake and DVC at once in one folder."""
    return _two_engines(ground, "dvc")


def by_hand(ground: Ground) -> str:
    """A verb by hand while the workflow runs it."""
    told = []
    for words in ("ghn default", "search random/0", "finalists top/0", "table4"):
        place = _without(ground, stage(words))
        engine = place.start(*snakemake(SMOKE, stage(words).target))
        _wait_for(partial(jobs, place), engine)
        ends = [_ended(process) for process in (_by_hand(place, words), engine)]
        for code, said in ends:
            _check(code == 0, f"{words} ended with {code}:\n{said[-2000:]}")
        told.append(f"{words}: {_same(ground, place)}")
        shutil.rmtree(place.folder)
    return "; ".join(told)


# ---- the disk ----------------------------------------------------------------------------------


def full_disk(ground: Ground) -> str:
    """A disk that fills in the middle of a checkpoint."""
    words = "ghn default"
    place = _without(ground, stage(words))
    (saved,) = (ground.undisturbed_folder(SMOKE) / "checkpoints/smoke/ghn").glob("default-*.pt")
    folder, size = place.folder / "checkpoints/smoke/ghn", saved.stat().st_size
    # room for one checkpoint and a half: the second is written beside the first
    with _small_disk(folder, size * 3 // 2) as (options, how):
        files = ("params.yaml", "presets/smoke.yaml", "endurance.yaml")
        process = place.start("ghn", *words.split(), "--config", *files, **options)
        code, said = _ended(process)
        last = said.splitlines()[-1] if said else ""
        _check(code == 1, f"it ended with {code}:\n{said[-2000:]}")
        _check("Traceback" not in said, f"a traceback:\n{said[-2000:]}")
        _check("cannot write" in said, f"the message is:\n{said[-2000:]}")
        steps = [torch.load(p, weights_only=True)["step"] for p in folder.glob("default-*.pt")]
        _check(not list(folder.glob(".*.tmp")), "half a checkpoint is left")
        # as a user makes room
        kept = place.folder / "kept"
        shutil.copytree(folder, kept)
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    code, said = _ended(_by_hand(place, words))
    _check(code == 0, f"it does not go on:\n{said[-2000:]}")
    if steps:
        _check(f"from step {steps[0]} of" in said, f"not from step {steps[0]}:\n{said[-2000:]}")
    return (
        f"by {how}: {last[:110]!r}; gone on from step {(steps or [0])[0]}: {_same(ground, place)}"
    )


@contextmanager
def _small_disk(folder: Path, size: int) -> Iterator[tuple[dict[str, object], str]]:
    """Make `folder` small; yield options for the process that fills it, and how it was done."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ("mount", "-t", "tmpfs", "-o", f"size={size}", "ghn-endurance", str(folder))
    # not root, or in a container
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        # nothing larger than half a checkpoint
        half = (size // 3, size // 3)
        yield {"preexec_fn": partial(resource.setrlimit, resource.RLIMIT_FSIZE, half)}, "ulimit -f"
        return
    try:
        yield {}, "a small tmpfs"
    finally:
        subprocess.run(["umount", str(folder)], check=True)


# ---- the clock ---------------------------------------------------------------------------------


def leaping_clock(ground: Ground) -> str:
    """A clock that leaps an hour forward and back."""
    made = [stage(words) for words in ("ghn default", "scores ghn/default", "table4")]
    place = _without(ground, *made)
    # what earlier stages have written an hour ahead, before the clock was set right
    _touch(place.folder / "results/smoke/architectures", HOUR)
    usual, leaps = dict(place.environment), 0
    with _clock(place) as leap:
        ended = threading.Event()

        def leap_on() -> None:
            nonlocal leaps
            while not ended.wait(0.5):
                leap(HOUR * (leaps % 2))
                leaps += 1

        leaping = threading.Thread(target=leap_on)
        leaping.start()
        try:
            code, said = _ended(place.start(*snakemake(SMOKE, made[-1].target)))
        finally:
            ended.set()
            leaping.join()
    # it refuses an output that is older than an input, and says so
    refused = "could indicate a clock skew problem" in said
    _check(code == 0 or refused, f"Snakemake ended with {code}:\n{said[-3000:]}")
    _check("Traceback" not in said, f"a traceback:\n{said[-2000:]}")
    # the clock is right again
    place.environment = usual
    _touch(place.folder / "results/smoke/architectures", 0)
    again = place.run(*snakemake(SMOKE, made[-1].target))
    _check(again.returncode == 0, f"called again:\n{again.stderr[-2000:]}")
    told = "Snakemake refused the clock" if refused else "it ended well"
    return f"{leaps} leaps, by a preloaded clock: {told}; called again: {_same(ground, place)}"


@contextmanager
def _clock(place: Workplace) -> Iterator[Callable[[int], None]]:
    """Give all processes of a place a clock that can be set ahead by so many seconds."""
    source, library, ahead = (place.folder / name for name in ("clock.c", "clock.so", "ahead"))
    source.write_text(CLOCK, encoding="utf-8")
    _check(shutil.which("cc") is not None, "it needs cc, a C compiler")
    built = subprocess.run(
        ["cc", "-shared", "-fPIC", "-O2", "-o", library, source],
        capture_output=True,
        encoding="utf-8",
    )
    _check(built.returncode == 0, f"cc:\n{built.stderr}")
    ahead.write_bytes(struct.pack("l", 0))
    place.environment |= {"LD_PRELOAD": str(library), "GHN_CLOCK": str(ahead)}
    with open(ahead, "r+b", buffering=0) as file:

        def leap(seconds: int) -> None:
            file.seek(0)
            file.write(struct.pack("l", seconds))

        leap(HOUR)
        told = place.run("python", "-c", "import time; print(time.time())").stdout
        _check(float(told) > time.time() + HOUR / 2, f"the clock does not leap: {told}")
        yield leap


def _touch(folder: Path, ahead: float) -> None:
    for path in folder.iterdir():
        os.utime(path, (time.time() + ahead,) * 2)


# ---- the store ---------------------------------------------------------------------------------


def trackers(ground: Ground, count: int = 40) -> str:
    """Many trackers at once on one store."""
    place = ground.copy(SMOKE, "snakemake")
    folders = sorted(path.parent for path in (place.folder / "results").rglob("run.json"))
    # some of them send the same
    sent = [folders[i % len(folders)] for i in range(count)]
    store = place.folder / "many.db"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ghn_pipeline.pipeline.tracking", "mlflow.tracking"])
    with context.Pool(count, _into, (f"sqlite:///{store}", str(place.folder))) as pool:
        runs = pool.map(_send, [str(folder) for folder in sent], chunksize=1)
    _check(None not in runs, f"{runs.count(None)} of {count} were not sent")
    by_folder = {
        folder: {r for f, r in zip(sent, runs, strict=True) if f == folder} for folder in sent
    }
    _check(all(len(found) == 1 for found in by_folder.values()), "one name has several runs")
    found = _runs(store)
    _check(set(found.values()) == {1}, f"runs of one key: {sorted(found.values())}")
    _check(len(found) == len(set(sent)), f"{len(found)} runs of {len(set(sent))}")
    return f"{count} processes sent {len(found)} results: each is one run"


def _into(store: str, folder: str) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = store
    os.chdir(folder)


def _send(folder: str) -> str | None:
    from ghn_pipeline.pipeline import tracking

    return tracking.send(Path(folder))


def _runs(store: Path) -> Counter[str]:
    """How many runs a store has by key, read without MLflow."""
    query = "SELECT value FROM tags JOIN runs USING (run_uuid) "
    query += "WHERE key = 'ghn.run' AND lifecycle_stage = 'active'"
    with closing(sqlite3.connect(store)) as base:
        return Counter(value for (value,) in base.execute(query))


def locked_store(ground: Ground, seconds: float = 60) -> str:
    """A database that is locked for a minute."""
    words = "sgd 0"
    place = _without(ground, stage(words))
    own = place.folder / "mlflow.db"
    shutil.copy(ground.folder / "mlflow.db", own)
    place.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{own}"
    with closing(sqlite3.connect(own, isolation_level=None)) as base:
        base.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        process = _by_hand(place, words)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        base.execute("ROLLBACK")
        held = time.monotonic() - begun
    code, said = _ended(process)
    _check(code == 0, f"it ended with {code}:\n{said[-2000:]}")
    _check("Traceback" not in said, f"a traceback:\n{said[-2000:]}")
    warned = "was not sent to MLflow" in said
    if warned:
        track = place.run("ghn", "track")
        _check(track.returncode == 0, f"ghn track:\n{track.stdout}{track.stderr[-2000:]}")
    key = json.loads((place.folder / "results/smoke/sgd/0/run.json").read_text(encoding="utf-8"))[
        "run"
    ]
    _check(_runs(own)[key] == 1, f"the store has {_runs(own)[key]} runs of it")
    told = "a warning, then `ghn track`" if warned else "it waited"
    return f"locked for {held:.0f} s: {told}; {_same(ground, place)}"


TRIALS: dict[str, Callable[[Ground], str]] = {
    "two Snakemakes in one folder": two_snakemakes,
    "Snakemake and DVC in one folder": snakemake_and_dvc,
    "a verb by hand while the workflow runs it": by_hand,
    "a disk that fills in a checkpoint": full_disk,
    "a clock that leaps an hour": leaping_clock,
    "40 trackers at once": trackers,
    "a database locked for a minute": locked_store,
}
