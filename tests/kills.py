"""Jobs, their parents and the engines are killed at random; the same command then goes on.

A round copies a finished run, takes one stage away (or all), lets an engine make it again, and
kills. After each kill the same command is given as the README says. In the end every result must be
as in the run that nothing disturbed.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import leftovers
import pandas as pd
import small_imagenet
import yaml
from workplace import ROOT, WORKPLACE, Workplace

from ghn_pipeline.pipeline import dvc
from ghn_pipeline.pipeline import stage as declarations
from ghn_pipeline.pipeline.tracking import WHEN
from ghn_pipeline.settings.config import load

PRESETS = {"smoke": "all", "anytime-smoke": "anytime_prediction"}
ENGINES = ("snakemake", "dvc")
#: No digest depends on these, except on mobile.folder: without it mobile networks are only counted.
SETTINGS = {
    "compute": {"checkpoint_seconds": 0.2, "log_seconds": 0.5},
    "mobile": {"folder": "imagenet"},
}
#: What is killed, and how often of 14 times; workers are those of a training by several processes.
WAYS = {"job": 4, "its parent": 3, "a worker": 3, "the engine": 2, "all at once": 2}
#: Seconds that an engine may take to end after a kill, or to finish what is left.
PATIENCE = 900.0
#: Keys of a record that differ between two equal runs, and its hash, which covers them.
OWN = {"run", "finished", "slurm_job", "commit", "dirty", "hardware", "accelerator_seconds"}
OWN |= {"seconds", "seconds_each", "sha256"}


@dataclass(frozen=True)
class Stage:
    """One stage, as the command line and both engines name it; its files below results/SCALE."""

    kind: str
    scale: str
    words: str
    name: str
    dvc: str
    files: tuple[str, ...]

    @property
    def target(self) -> str:
        """The result that Snakemake is asked for."""
        return f"results/{self.scale}/{self.files[-1]}"


def _stages() -> list[Stage]:
    """List the stages of both scales, except for what the second shares with the first."""
    found: dict[str, Stage] = {}
    for scale in PRESETS:
        config = load([ROOT / "params.yaml", ROOT / f"presets/{scale}.yaml"])
        for one in declarations.needed(config.space.chapters):
            for name in one.names(config, made=True) if one.record else ():
                kind = "table" if one.is_table and one.kind != "anytime_curves" else one.kind
                words = declarations.command(name).removeprefix("ghn ")
                part = f"@{name.rpartition('/')[2]}" if one.each else ""
                files = [
                    f.removeprefix(f"results/{scale}/") for f in declarations.files(config, name)
                ]
                made = Stage(kind, scale, words, name, dvc.name(one) + part, tuple(files))
                found.setdefault(name, made)
    return list(found.values())


STAGES = _stages()
KINDS = list(dict.fromkeys(stage.kind for stage in STAGES))
KIND_OF = {stage.words: stage.kind for stage in STAGES}


# ---- places ------------------------------------------------------------------------------------


class Ground:
    """The folder of an endurance run: what was not disturbed, copies of it, one store of runs."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data = folder.resolve(), data

    def fresh(self, folder: Path, scale: str, engine: str) -> Workplace:
        """Return a place with no results, for one scale and engine."""
        place = self._settled(Workplace(folder, self.data))
        if not (place.folder / "imagenet").exists():
            small_imagenet.grow(place.folder / "imagenet")
        if engine == "dvc":
            self._for_dvc(place, scale)
        return place

    def undisturbed(self, scale: str, engine: str = "snakemake") -> Workplace:
        """Return a whole run, made if it is not there: look, do not touch."""
        place = self.fresh(self.undisturbed_folder(scale), scale, "snakemake")
        # it may have been stopped, or killed
        if any((place.folder / ".snakemake").glob("locks/*")):
            _must(place.run(*snakemake(scale, PRESETS[scale], option="--unlock")))
        _must(place.run(*snakemake(scale, PRESETS[scale], option="--rerun-incomplete")))
        if engine == "snakemake":
            return place
        # DVC takes what Snakemake has made for its own
        other = self.undisturbed_folder(scale, engine)
        if not other.exists():
            half = other.with_name(f"{other.name}.half")
            shutil.rmtree(half, ignore_errors=True)
            shutil.copytree(place.folder, half, symlinks=True)
            self._for_dvc(adopted := self._settled(Workplace(half, self.data)), scale)
            _must(adopted.run("dvc", "commit", "--force", "--with-deps"))
            # or else it would bring back from there what is taken away
            shutil.rmtree(half / ".dvc/cache/runs")
            half.rename(other)
        return self._settled(Workplace(other, self.data))

    def copy(self, scale: str, engine: str) -> Workplace:
        """Return a place like the undisturbed one."""
        folder, source = self.next(), self.undisturbed_folder(scale, engine)
        shutil.copytree(source, folder, symlinks=True, copy_function=_copy)
        return self._settled(Workplace(folder, self.data))

    def undisturbed_folder(self, scale: str, engine: str = "snakemake") -> Path:
        """Where an undisturbed run stands."""
        return self.folder / "undisturbed" / (scale if engine == "snakemake" else f"{scale}-dvc")

    def next(self) -> Path:
        """Return the folder of a new place."""
        places = self.folder / "places"
        places.mkdir(parents=True, exist_ok=True)
        # those of earlier runs stay where something differed
        return next(folder for n in count(1) if not (folder := places / str(n)).exists())

    def kill(self) -> None:
        """Kill every process that works in a place."""
        for folder in (self.folder / "places").glob("*"):
            leftovers.end(WORKPLACE, str(folder))

    def _settled(self, place: Workplace) -> Workplace:
        # one store for all: to make a new one takes longer than most stages
        place.environment.pop(WHEN, None)  # a kill may hit what sends
        place.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{self.folder}/mlflow.db"
        (place.folder / "endurance.yaml").write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
        return place

    def _for_dvc(self, place: Workplace, scale: str) -> None:
        data = place.folder / "data"
        if data.is_symlink():  # it follows no link out of its folder
            data.unlink()
            data.mkdir()
            _link(self.data / "cifar10.bin", data / "cifar10.bin")
        _must(place.run("ghn", "configure", f"presets/{scale}.yaml", "endurance.yaml"))


def _copy(source: str, target: str) -> None:
    (_link if source.endswith("cifar10.bin") else shutil.copy2)(Path(source), Path(target))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # of another file system
        shutil.copyfile(source, target)


def _must(done: "subprocess.CompletedProcess[str]") -> None:
    if done.returncode:
        raise RuntimeError(f"{' '.join(done.args)}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def snakemake(scale: str, target: str, option: str | None = None) -> list[str]:
    """The words of Snakemake's command."""
    files = (f"presets/{scale}.yaml", "endurance.yaml")
    options = ["--cores", "2", *([option] if option else []), "--configfile", *files]
    return ["snakemake", *options, "--", target]


def command(engine: str, scale: str, stage: Stage | None, option: str | None = None) -> list[str]:
    """The words that make a stage, or all, by an engine; only Snakemake has options."""
    if engine == "snakemake":
        return snakemake(scale, PRESETS[scale] if stage is None else stage.target, option)
    return ["dvc", "repro", *([] if stage is None else [stage.dvc])]


def take_away(place: Workplace, stage: Stage) -> None:
    """Remove the results of a stage, what it could go on from, and DVC's memory of it."""
    results = place.folder / "results" / stage.scale
    paths = [results / file for file in stage.files if (results / file).exists()]
    if (results / stage.name).is_dir():
        paths = [results / stage.name]
    paths += (place.folder / "checkpoints" / stage.scale).glob(f"{stage.name}-*")
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    lock = place.folder / "dvc.lock"
    if lock.exists():
        made = yaml.safe_load(lock.read_text(encoding="utf-8"))
        del made["stages"][stage.dvc]
        lock.write_text(yaml.safe_dump(made), encoding="utf-8")


def difference(place: Workplace, undisturbed: Path, scale: str) -> list[str]:
    """Return the results that are not as in the undisturbed run."""
    ours, theirs = (_results(f / "results" / scale) for f in (place.folder, undisturbed))
    return sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name))


def _results(folder: Path) -> dict[str, object]:
    """Every result by its name; of records and provenances what two runs share."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        said = name.startswith(("logs/", "benchmarks/")) or path.name == "mlflow.json"
        if path.is_dir() or said or path.name.startswith("."):
            continue
        content = path.read_bytes()
        is_record = path.name == "run.json" or name.endswith(".provenance.json")
        found[name] = _shared(json.loads(content)) if is_record else content
    return found


def _shared(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shared(each) for key, each in value.items() if key not in OWN}
    return [_shared(each) for each in value] if isinstance(value, list) else value


# ---- jobs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A `ghn` command that works: the process that supervises it, its own, its workers."""

    words: str
    parent: int
    process: int
    workers: tuple[int, ...]


def jobs(place: Workplace) -> list[Job]:
    """Return what works in a place."""
    words, parents = {}, {}
    for number in place.running():
        with suppress(OSError):  # gone in the meantime
            line = Path(f"/proc/{number}/cmdline").read_text(encoding="utf-8").split("\0")
            words[number], parents[number] = line, leftovers.parent_of(number)
    ghn = {}
    for number, line in words.items():
        if len(line) > 2 and line[1].endswith("/ghn"):
            end = line.index("--config") if "--config" in line else -1
            ghn[number] = " ".join(line[2:end])
    return [
        Job(
            ghn[number],
            parents[number],
            number,
            tuple(n for n in words if parents[n] == number and "ghn_pipeline.cli" in words[n]),
        )
        for number in sorted(ghn)
        # its parent is the first `ghn`; a fork of its own, such as one for git, is no job
        if parents[number] in ghn and parents[parents[number]] not in ghn
    ]


# ---- kills -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kill:
    """A kill that hit a running job."""

    engine: str
    kind: str
    way: str
    after: float


@dataclass
class Round:
    """One stage, or all (`stage` is None), made by one engine under kills."""

    place: Workplace
    undisturbed: Path
    engine: str
    scale: str
    stage: Stage | None
    rng: random.Random
    tell: Callable[["Kill", str], None]
    ways: Sequence[str] = tuple(WAYS)
    kills: list[Kill] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: by kind, how often a job went on from what an earlier one had saved
    went_on: dict[str, int] = field(default_factory=dict)

    def play(self, wanted: int, pace: float) -> None:
        """Kill up to `wanted` times, let the work end, and compare.

        Args:
            wanted: kills.
            pace: a factor on the time after which a job is hit, from none to the time it takes.
        """
        try:
            while len(self.kills) < wanted:
                before = len(self.kills)
                self._strike(self._start(), pace)
                if len(self.kills) == before:  # it came to its end before that
                    break
            self._finish()
        except subprocess.TimeoutExpired as error:
            self.faults.append(str(error))
        finally:
            self.place.kill()
        found = difference(self.place, self.undisturbed, self.scale)
        self.faults += [f"differs: {name}" for name in found]
        for stage in STAGES:
            before = _resumptions(self.undisturbed, stage) if self.stage else 0
            new = _resumptions(self.place.folder, stage) - before
            if stage.scale == self.scale and new:
                self.went_on[stage.kind] = self.went_on.get(stage.kind, 0) + new

    # ---- engines

    @property
    def _said(self) -> Path:
        return self.place.folder / "said.txt"

    def _start(self) -> "subprocess.Popen[str]":
        asked, option = (self.engine, self.scale, self.stage), None
        ended = [kill.way in ENDS_ENGINE for kill in self.kills]
        if self.engine == "snakemake" and any(ended):
            if ended[-1]:
                _must(self.place.run(*command(*asked, "--unlock")))
            # a later call may have been stopped before it came to what the first left half done
            option = "--rerun-incomplete"
        words = command(*asked, option)
        with open(self._said, "a", encoding="utf-8") as said:
            return self.place.start(*words, stdout=said, stderr=said)

    def _finish(self) -> None:
        process = self._start()
        if process.wait(PATIENCE) == 0:
            return
        text = self._said.read_text(encoding="utf-8")
        self.notes.append(f"a second call was needed: {text[-300:]!r}")
        if self._start().wait(PATIENCE):
            self.faults.append("it does not come to its end: see said.txt")

    # ---- one kill

    def _strike(self, process: "subprocess.Popen[str]", pace: float) -> None:
        job = self._wait_for_job(process)
        if job is None:
            return
        after = self.rng.uniform(0, pace * self._duration(job))
        stop = time.monotonic() + after
        while time.monotonic() < stop and leftovers.alive(job.process):
            time.sleep(0.01)
        # of a whole run another one, where this has ended
        while (job := self._wait_for_job(process)) is not None and not _held(job):
            pass
        if job is None:
            return
        ways = self._fit(job)
        way = self.rng.choices(ways, [WAYS[way] for way in ways])[0]
        said = len(self._said.read_text(encoding="utf-8"))
        # an engine that was killed leaves its jobs behind, and the next one does not know of them
        own = _descends(job.parent, process.pid)
        self._kill(way, job, process)
        self.kills.append(Kill(self.engine, KIND_OF[job.words], way, round(after, 2)))
        words = f"{job.words} by {self.engine}: {way}, after {after:.1f} s"
        self.tell(self.kills[-1], words)
        if way in ENDS_ENGINE:
            process.wait(PATIENCE)
            # its jobs go on, and may meet those of the next call
            time.sleep(self.rng.choice((0.0, 0.0, 1.0, 4.0)))
            return
        code = process.wait(PATIENCE)
        if own:
            self._check_end(way, job, code, said)

    def _words(self) -> set[str]:
        if self.stage:
            return {self.stage.words}
        return {stage.words for stage in STAGES if stage.scale == self.scale} | COMMON

    def _wait_for_job(self, process: "subprocess.Popen[str]") -> Job | None:
        """Return a job that works, or None once the engine has ended."""
        while process.poll() is None:
            if found := [j for j in jobs(self.place) if j.words in self._words() and self._fit(j)]:
                return self.rng.choice(found)
            time.sleep(0.02)
        return None

    def _duration(self, job: Job) -> float:
        stage = next(s for s in STAGES if s.words == job.words)
        folder = self.undisturbed / "results" / self.scale / "benchmarks"
        return float(pd.read_csv(folder / f"{stage.name}.tsv", sep="\t")["s"].iloc[0])

    def _fit(self, job: Job) -> list[str]:
        return [way for way in self.ways if job.workers or way != "a worker"]

    def _kill(self, way: str, job: Job, process: "subprocess.Popen[str]") -> None:
        if way == "all at once":
            self.place.kill()
            return
        engine = process.pid
        number = {"job": job.process, "its parent": job.parent, "the engine": engine}.get(way)
        os.kill(number or self.rng.choice(job.workers), signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.kill(job.process, signal.SIGCONT)

    def _check_end(self, way: str, job: Job, code: int, said: int) -> None:
        if code == 0:
            self.faults.append(f"{self.engine} ends well, though {way} of {job.words} was killed")
        text = self._said.read_text(encoding="utf-8")[said:]
        if way == "job" and "ended by SIGKILL" not in text:
            self.faults.append(f"nothing says that {job.words} was killed")
        if "Traceback" in text:
            self.faults.append(f"a traceback after {way} of {job.words} was killed")


def _resumptions(folder: Path, stage: Stage) -> int:
    log = folder / "results" / stage.scale / "logs" / f"{stage.name}.log"
    return log.read_text(encoding="utf-8").count("goes on from") if log.exists() else 0


ENDS_ENGINE = ("the engine", "all at once")
#: Stages of both scales, by their words.
COMMON = {"architectures", "ghn default", "scores ghn/default", "search random/0"}


def _descends(number: int, ancestor: int) -> bool:
    """Whether a process was started by `ancestor`, or by one that it has started, and so on."""
    with suppress(OSError):  # one of them is gone
        while number not in (0, 1, ancestor):
            number = leftovers.parent_of(number)
    return number == ancestor


def _held(job: Job) -> bool:
    """Freeze a job, so that a kill hits it while it works; return whether it was there."""
    try:
        os.kill(job.process, signal.SIGSTOP)
    except ProcessLookupError:
        return False
    while True:
        try:
            text = Path(f"/proc/{job.process}/stat").read_text(encoding="utf-8")
        except OSError:
            return False
        if (state := text.rpartition(")")[2].split()[0]) in "TZX":
            return state == "T"
        time.sleep(0.001)
