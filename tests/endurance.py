"""Endurance: kills at random over every kind of stage, and other trials. Linux only.

    python tests/endurance.py                         # 100 kills and more, and the other trials
    python tests/endurance.py --kills 20 --least 1 --trials
    python tests/endurance.py --kills 0 --least 0     # the other trials alone

Needs data/cifar10.bin. It first runs the smoke presets undisturbed. Stopped, it goes on in the same
folder from the rounds that it has done; the code must be the same. It prints what was done how
often, and what differed, byte for byte, from the undisturbed runs; it ends with 1 if anything did,
and with 130 if it was stopped. A round that differs is kept.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import leftovers
from kills import ENGINES, KINDS, PRESETS, STAGES, WAYS, Ground, Kill, Round, Stage, take_away
from trials import TRIALS, TrialError
from workplace import ROOT

#: Kills of one stage before it may end, and of a whole run.
OF_STAGE, OF_WHOLE = 3, 12


class Endurance:
    """The rounds so far, in a file of the folder, and those to come."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.engines = ENGINES if args.engine == "both" else (args.engine,)
        self.scales = tuple(PRESETS) if args.preset == "both" else (args.preset,)
        self.kinds = [kind for kind in KINDS if self._stages(kind)]
        self.kills, self.least, self.seed = args.kills, args.least, args.seed
        self.whole = args.whole
        self.ground = Ground(args.folder, ROOT / "data")
        self.file = args.folder / "rounds.jsonl"
        self.rounds: list[dict[str, Any]] = []
        if self.file.exists():
            lines = self.file.read_text(encoding="utf-8").splitlines()
            self.rounds = [json.loads(line) for line in lines]
        self.done = [Kill(**kill) for one in self.rounds for kill in one["kills"]]
        self.before, self.begun = len(self.done), time.monotonic()
        self.pace = dict.fromkeys(KINDS, 1.0)

    def _stages(self, kind: str) -> list[Stage]:
        return [s for s in STAGES if s.kind == kind and s.scale in self.scales]

    def prepare(self) -> None:
        """Run each preset undisturbed, where that is not done."""
        for scale in self.scales:
            for engine in self.engines:
                begun = time.monotonic()
                self.ground.undisturbed(scale, engine)
                took = time.monotonic() - begun
                print(f"undisturbed: {scale}, for {engine} ({took:.0f} s)", flush=True)

    def play(self) -> None:
        """Play whole runs, then single stages, those that were hit least first."""
        self.begun = time.monotonic()
        there = Counter((r["scale"], r["engine"]) for r in self.rounds if r["stage"] is None)
        for scale in self.scales:
            for engine in self.engines:
                for _ in range(self.whole - there[scale, engine]):
                    place = self.ground.fresh(self.ground.next(), scale, engine)
                    self._round(place, engine, scale, None, self._random())
        while (found := self._next()) is not None:
            engine, kind = found
            rng = self._random()
            stage = rng.choice(self._stages(kind))
            place = self.ground.copy(stage.scale, engine)
            take_away(place, stage)
            self._round(place, engine, stage.scale, stage, rng)

    def _next(self) -> tuple[str, str] | None:
        hits = Counter(kill.kind for kill in self.done)
        if len(self.done) >= self.kills and all(hits[kind] >= self.least for kind in self.kinds):
            return None
        each = Counter((kill.engine, kill.kind) for kill in self.done)
        pairs = [(engine, kind) for kind in self.kinds for engine in self.engines]
        return min(pairs, key=lambda pair: (hits[pair[1]], each[pair]))

    def _random(self) -> random.Random:
        return random.Random(f"{self.seed}/{len(self.rounds)}")

    def _round(self, place, engine, scale, stage: Stage | None, rng: random.Random) -> None:
        undisturbed = self.ground.undisturbed_folder(scale)
        now = Round(place, undisturbed, engine, scale, stage, rng, self._hit)
        now.play(OF_STAGE if stage else OF_WHOLE, self.pace[stage.kind] if stage else 1.0)
        if stage and not now.kills:  # each time it was too late
            self.pace[stage.kind] *= 0.7
        line = {
            "engine": engine,
            "scale": scale,
            "stage": stage and stage.words,
            "kills": [asdict(kill) for kill in now.kills],
            "went_on": now.went_on,
            "notes": now.notes,
            "faults": now.faults,
            "folder": str(place.folder),
        }
        self.rounds.append(line)
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for words in (*now.notes, *now.faults):
            print(f"  {words} ({place.folder})", flush=True)
        if not now.faults:
            shutil.rmtree(place.folder)

    def _hit(self, kill: Kill, words: str) -> None:
        self.done.append(kill)
        minutes, new = (time.monotonic() - self.begun) / 60, len(self.done) - self.before
        left = max(self.kills - len(self.done), 0) * minutes / new
        print(
            f"kill {len(self.done)} of {self.kills}, {new / minutes:.1f} a minute, about "
            f"{left:.0f} minutes left: {words}",
            flush=True,
        )

    # ---- what was done

    def table(self) -> str:
        """Return what was done how often, and what came of it."""
        head = ["kind of stage", *self.engines, *WAYS, "went on", "outcome"]
        rows = [head]
        faults = {kill["kind"] for r in self.rounds if r["faults"] for kill in r["kills"]}
        for kind in self.kinds:
            hits = [kill for kill in self.done if kill.kind == kind]
            counts = [sum(k.engine == engine for k in hits) for engine in self.engines]
            counts += [sum(k.way == way for k in hits) for way in WAYS]
            counts.append(sum(r["went_on"].get(kind, 0) for r in self.rounds))
            outcome = "SEE BELOW" if kind in faults else "the same bytes" if hits else ""
            rows.append([kind, *map(str, counts), outcome])
        sums = [sum(int(row[i]) for row in rows[1:]) for i in range(1, len(head) - 1)]
        rows.append(["all", *map(str, sums), f"{len(self.done)} kills, {len(self.rounds)} rounds"])
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        for one in self.rounds:
            for words in (*one["notes"], *one["faults"]):
                lines.append(f"{one['stage'] or 'a whole run'} by {one['engine']}: {words}")
        return "\n".join(lines)

    @property
    def sound(self) -> bool:
        """Whether no round had a fault."""
        return not any(one["faults"] for one in self.rounds)


def try_all(ground: Ground, names: list[str], found: dict[str, tuple[bool, str]]) -> None:
    """Try each, and note whether it came out as it should, and how."""
    for name in names:
        begun = time.monotonic()
        try:
            outcome = (True, TRIALS[name](ground))
        # whatever it is, the others are tried and told as well
        except Exception as error:
            kind = "" if isinstance(error, TrialError) else f"{type(error).__name__}: "
            outcome = (False, f"FAILED: {kind}{error}")
        finally:
            ground.kill()
        found[name] = outcome
        print(f"{name} ({time.monotonic() - begun:.0f} s): {outcome[1]}", flush=True)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--kills", type=int, default=120, help="that hit a running job (default 120)")
    add("--least", type=int, default=5, help="of them in each kind of stage (default 5)")
    add("--whole", type=int, default=1, help="runs from nothing, by preset and engine (default 1)")
    add("--engine", choices=[*ENGINES, "both"], default="both")
    add("--preset", choices=[*PRESETS, "both"], default="both")
    add("--trials", nargs="*", choices=list(TRIALS), default=list(TRIALS), metavar="NAME",
        help=f"other trials (default all): {'; '.join(TRIALS)}")  # fmt: skip
    add("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    add("--folder", type=Path, default=Path("endurance"), help="for all of it (default endurance)")
    args = parser.parse_args()
    if not (ROOT / "data/cifar10.bin").exists():
        sys.exit("data/cifar10.bin is missing: run `ghn data` first")
    leftovers.guard()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    args.folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {args.seed}, in {args.folder}", flush=True)
    run, tried, stopped = Endurance(args), dict[str, tuple[bool, str]](), False
    try:
        run.prepare()
        run.play()
        try_all(run.ground, args.trials, tried)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on. So far:")
        stopped = True
    print(f"\n{run.table()}\n")
    for name, (_, outcome) in tried.items():
        print(f"{name}: {outcome}")
    if not run.sound or not all(good for good, _ in tried.values()):
        return 1
    return 128 + signal.SIGINT if stopped else 0


if __name__ == "__main__":
    sys.exit(main())
