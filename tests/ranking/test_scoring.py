"""Scoring by many processes, stopped and killed: the same scores, none scored twice."""

import fcntl
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from mutations import THOUSAND, changed_json, damaged

from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.ranking.scoring import Score, score
from ghn_pipeline.ranking.strategies import evolution
from ghn_pipeline.spaces.classification import Classification
from ghn_pipeline.system.errors import UserError

CPU = torch.device("cpu")
OPERATIONS = ("a", "b", "c", "d", "e", "f", "g")
BLOCKS = [Block((Node("input_1"), Node("input_2"), Node(op, (0, 1)))) for op in OPERATIONS]


def scored_at(accuracy, block):
    return Score(block.hash, {"accuracy": accuracy}, {"accuracy": 1.0})


@dataclass
class Maker:
    """Makes scorers whose scores depend on the whole group, and that leave a trace of each block.

    Attributes:
        folder: of the traces: one file for each time that a block is scored.
        at: the operation of the block at which something happens.
        happens: "kill", "refuse", "no model" or "wait".
    """

    folder: Path
    at: str = ""
    happens: str = ""

    def __call__(self, device):
        if self.happens == "no model":
            raise UserError("the model is truncated")
        return self.score

    def score(self, blocks):
        operations = [block.nodes[2].op for block in blocks]
        if self.at in operations:
            self.happen()
        for op in operations:
            (self.folder / f"{op}.{uuid.uuid4()}").touch()
        return [
            scored_at((ord(op) * 100 + i * 10 + len(blocks)) / 1e5, block)
            for i, (block, op) in enumerate(zip(blocks, operations, strict=True))
        ]

    def happen(self):
        if self.happens == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.happens == "refuse":
            raise UserError("the images are altered")
        if self.happens == "wait":
            with open(self.folder / "lock", "w", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                (self.folder / "waiting").touch()
                time.sleep(600)

    def counts(self):
        return Counter(f.name.split(".")[0] for f in self.folder.iterdir())


@pytest.fixture
def traces(tmp_path):
    folder = tmp_path / "traces"
    folder.mkdir()
    return folder


def scored(propose, count, maker, partial, workers, digest="d"):
    return score(
        "scores",
        propose,
        count,
        maker,
        devices=[CPU] * workers,
        together=2,
        partial=partial,
        digest=digest,
        made_by="ghn scores x",
        log_seconds=60,
    )


def run(maker, partial, workers=1, digest="d"):
    found = scored(lambda _: BLOCKS, len(BLOCKS), maker, partial, workers, digest)
    assert [s.block for s in found] == BLOCKS
    return [s.score for s in found]


#: by hand, from the four groups ab, cd, ef, g: 100 × letter + 10 × place + size of the group
EXPECTED = [0.09702, 0.09812, 0.09902, 0.10012, 0.10102, 0.10212, 0.10301]


@pytest.mark.parametrize("workers", [1, 9])
def test_scores_do_not_depend_on_the_number_of_workers(workers, traces, tmp_path):
    scores = run(Maker(traces), tmp_path / "p.json", workers)
    assert [s.hash for s in scores] == [b.hash for b in BLOCKS]
    assert [s.values["accuracy"] for s in scores] == pytest.approx(EXPECTED)
    assert Maker(traces).counts() == dict.fromkeys(OPERATIONS, 1)


NOT_LINUX = """
import sys
from pathlib import Path
from ghn_pipeline.system.compute import devices
from test_scoring import CPU, Maker, run
workers = len(devices(CPU, 0))
run(Maker(Path(sys.argv[1])), Path(sys.argv[2]), max(2, workers))
print(workers)
"""


def test_processes_score_where_there_is_no_linux(traces, tmp_path, not_linux):
    here = Path(__file__).parent
    not_linux["PYTHONPATH"] += f"{os.pathsep}{here}{os.pathsep}{here.parent}"
    done = subprocess.run(
        [sys.executable, "-c", NOT_LINUX, traces, tmp_path / "p.json"],
        env={**not_linux, "HOME": str(tmp_path)},  # nobody says how many cores this job has
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == os.cpu_count()
    assert Maker(traces).counts() == dict.fromkeys(OPERATIONS, 1)
    scores = run(Maker(traces), tmp_path / "p.json")  # none is scored again
    assert [s.values["accuracy"] for s in scores] == pytest.approx(EXPECTED)


def test_what_is_done_is_not_done_again(traces, tmp_path):
    first = run(Maker(traces), tmp_path / "p.json")
    assert run(Maker(traces), tmp_path / "p.json", workers=2) == first
    assert Maker(traces).counts() == dict.fromkeys(OPERATIONS, 1)


def test_killed_between_any_two_groups_it_goes_on_to_the_same_scores(traces, tmp_path, forkserver):
    for at in "aceg":  # the first of each group: with one worker this very process is killed
        child = forkserver.Process(
            target=run, args=(Maker(traces, at, "kill"), tmp_path / "p.json")
        )
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        # up to here everything was done, and once
        assert Maker(traces).counts() == dict.fromkeys("abcdefg"[: "abcdefg".index(at)], 1)
    scores = run(Maker(traces), tmp_path / "p.json")
    assert [s.values["accuracy"] for s in scores] == pytest.approx(EXPECTED)
    assert Maker(traces).counts() == dict.fromkeys(OPERATIONS, 1)


def test_the_partial_file_of_another_configuration_is_refused(traces, tmp_path):
    run(Maker(traces), tmp_path / "p.json", digest="old")
    before = (tmp_path / "p.json").read_bytes()
    with pytest.raises(UserError, match=r"p\.json belongs to another configuration"):
        run(Maker(traces), tmp_path / "p.json", digest="new")
    assert (tmp_path / "p.json").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b'{"digest": "d", "gro', b"\xff\xfe"])
def test_a_partial_file_that_is_not_whole_is_refused(content, traces, tmp_path):
    (tmp_path / "p.json").write_bytes(content)
    with pytest.raises(UserError, match=r"p\.json is not whole"):
        run(Maker(traces), tmp_path / "p.json")


EDITS = {
    "accuracy 9.9": lambda c: c["groups"]["0"][1]["values"].update(accuracy=9.9),
    "accuracy -3": lambda c: c["groups"]["0"][1]["values"].update(accuracy=-3),
    "accuracy in words": lambda c: c["groups"]["0"][1]["values"].update(accuracy="good"),
    "another accuracy": lambda c: c["groups"]["0"][1]["values"].update(accuracy=0.0975),
    "another measure": lambda c: c["groups"]["0"][1].update(values={"area": 0.5}),
    "no seconds": lambda c: c["groups"]["1"][0].update(seconds={}),
    "another architecture": lambda c: c["groups"]["2"][0].update(hash=BLOCKS[0].hash),
    "groups swapped": lambda c: c["groups"].update({"0": c["groups"]["1"]}),
    "a group left out": lambda c: c["groups"].pop("1"),
    "an architecture left out": lambda c: c["groups"]["1"].pop(),
    "a group that is none": lambda c: c["groups"].update({"x": []}),
    "an unknown key": lambda c: c["groups"]["0"][0].update(accuracy=1),
    "no groups": lambda c: c.pop("groups"),
    "no digest": lambda c: c.pop("digest"),
    "no check": lambda c: c.pop("check"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_partial_file_is_refused(edit, traces, tmp_path):
    partial = tmp_path / "p.json"
    run(Maker(traces), partial)
    content = json.loads(partial.read_text(encoding="utf-8"))
    edit(content)
    partial.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"p\.json was changed .* run `ghn scores x` again"):
        run(Maker(traces), partial)


@pytest.mark.parametrize("text", ["[]", "3", "null", '{"digest": "d"}', '{"check": null}'])
def test_json_of_something_else_is_no_partial_file(text, traces, tmp_path):
    (tmp_path / "p.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"p\.json was changed or damaged"):
        run(Maker(traces), tmp_path / "p.json")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused_and_not_kept(value, tmp_path):
    def score_all(blocks):
        return [scored_at(value if b is BLOCKS[3] else 0.5, b) for b in blocks]

    with pytest.raises(UserError, match=rf"accuracy of the architecture {BLOCKS[3].hash} is "):
        run(lambda _: score_all, tmp_path / "p.json")
    kept = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))["groups"]
    assert list(kept) == ["0"]


def test_a_thousand_mutations_of_a_partial_file(traces, tmp_path):
    partial = tmp_path / "p.json"
    whole = run(Maker(traces), partial)
    content = partial.read_bytes()

    @THOUSAND
    @given(changed_json(json.loads(content)) | damaged(content))
    def holds(mutated):
        partial.write_bytes(mutated)
        try:
            assert run(Maker(traces), partial) == whole
        except UserError as error:
            assert "\n" not in str(error)
            assert partial.read_bytes() == mutated

    holds()
    assert Maker(traces).counts() == dict.fromkeys(OPERATIONS, 1)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("happens", "message"),
    [("refuse", "the images are altered"), ("no model", "the model is truncated")],
)
def test_a_workers_message_arrives(workers, happens, message, traces, tmp_path, capfd):
    with pytest.raises(UserError, match=f"^{message}$"):
        run(Maker(traces, "c", happens), tmp_path / "p.json", workers)
    assert "Traceback" not in capfd.readouterr().err


def test_a_killed_worker_is_one_clear_message(traces, tmp_path, capfd):
    with pytest.raises(UserError, match=r"was killed.*memory.*the same command goes on"):
        run(Maker(traces, "g", "kill"), tmp_path / "p.json", workers=2)
    assert "Traceback" not in capfd.readouterr().err
    # what was kept is whole, and used
    partial = tmp_path / "p.json"
    kept = json.loads(partial.read_text(encoding="utf-8"))["groups"] if partial.exists() else {}
    done = Maker(traces).counts()
    scores = run(Maker(traces), tmp_path / "p.json")
    assert [s.values["accuracy"] for s in scores] == pytest.approx(EXPECTED)
    again = Maker(traces).counts() - done
    assert set(again) == set(OPERATIONS) - {op for i in kept for op in "abcdefg"[2 * int(i) :][:2]}


def test_workers_die_with_their_parent(traces, tmp_path, forkserver):
    arguments = (Maker(traces, "a", "wait"), tmp_path / "p.json", 2)
    parent = forkserver.Process(target=run, args=arguments)
    parent.start()
    wait_for((traces / "waiting").exists)
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()

    def released():  # only a process that is dead gives up the lock while it sleeps
        with open(traces / "lock", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    wait_for(released)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "a minute has passed"
        time.sleep(0.02)


# ---- a search: what is proposed depends on what was scored --------------------------------------

SPACE = Classification(
    ("a", "b", "c"), 2, blocks=1, channels=1, reductions=(), stem_multiplier=1, classes=2
)
COUNT = 12


@dataclass
class Toy:
    """Makes scorers that like the operation a; scores depend on the whole group as well.

    Attributes:
        folder: of the traces: one file for each time that a block is scored.
        last: where so many are scored, the process that scores is killed.
    """

    folder: Path
    last: int = 1000

    def __call__(self, device):
        return self.score

    def score(self, blocks):
        if self.counts().total() >= self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        for block in blocks:
            (self.folder / f"{block.hash}.{uuid.uuid4()}").touch()
        likes = [sum(node.op == "a" for node in block.nodes) for block in blocks]
        return [
            scored_at(like / 10 + i / 100 + len(blocks) / 1000, block)
            for i, (block, like) in enumerate(zip(blocks, likes, strict=True))
        ]

    def counts(self):
        return Counter(f.name.split(".")[0] for f in self.folder.iterdir())


def search(maker, partial, workers=1, seed=0, watch=lambda: None):
    """Groups of 2, 2, 1 (random), then 2, 2 (children), then 2, 1: a generation that is cut."""
    strategy = evolution(SPACE, 4, seed, population=5, sample=3, generation=4)

    def propose(scored):
        watch()
        return strategy(scored)

    return scored(propose, COUNT, maker, partial, workers)


@pytest.fixture
def undisturbed(tmp_path):
    """The search as one process does it at one go."""
    (tmp_path / "undisturbed").mkdir()
    return search(Toy(tmp_path / "undisturbed"), tmp_path / "undisturbed.json")


def test_a_search_killed_at_every_group_finds_the_same_and_scores_none_twice(
    undisturbed, traces, tmp_path, forkserver
):
    for last in (0, 2, 4, 5, 7, 9, 11):  # the groups begin here
        child = forkserver.Process(target=search, args=(Toy(traces, last), tmp_path / "p.json"))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert Toy(traces).counts() == {s.block.hash: 1 for s in undisturbed[:last]}
    assert search(Toy(traces), tmp_path / "p.json") == undisturbed
    assert Toy(traces).counts() == {s.block.hash: 1 for s in undisturbed}
    assert len(undisturbed) == COUNT


def test_a_search_by_many_processes_keeps_them_and_finds_the_same(undisturbed, traces, tmp_path):
    before, seen = set(multiprocessing.active_children()), []

    def watch():
        seen.append({p.pid for p in set(multiprocessing.active_children()) - before})

    assert search(Toy(traces), tmp_path / "p.json", workers=9, watch=watch) == undisturbed
    assert Toy(traces).counts() == {s.block.hash: 1 for s in undisturbed}
    # the random ones are three groups, so three of the nine processes have work
    assert [len(pids) for pids in seen] == [0, 3, 3]
    assert seen[1] == seen[2]
    assert set(multiprocessing.active_children()) <= before


def test_a_search_goes_on_after_a_worker_was_killed(undisturbed, traces, tmp_path):
    with pytest.raises(UserError, match=r"was killed.*memory.*the same command goes on"):
        search(Toy(traces, last=7), tmp_path / "p.json", workers=2)
    groups = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))["groups"].values()
    kept, before = {s["hash"] for group in groups for s in group}, Toy(traces).counts()
    assert len(kept) >= 5  # the first generation was over
    assert search(Toy(traces), tmp_path / "p.json") == undisturbed
    assert set(Toy(traces).counts() - before) == {s.block.hash for s in undisturbed} - kept


def test_the_partial_file_of_another_search_is_refused(traces, tmp_path):
    search(Toy(traces), tmp_path / "p.json")
    before = (tmp_path / "p.json").read_bytes()
    with pytest.raises(UserError, match=r"p\.json has scores of other architectures"):
        search(Toy(traces), tmp_path / "p.json", seed=1)
    assert (tmp_path / "p.json").read_bytes() == before


def test_a_strategy_that_proposes_nothing_does_not_go_on_for_ever(traces, tmp_path):
    with pytest.raises(ValueError, match="after 0 of 12 nothing"):
        scored(lambda _: [], COUNT, Toy(traces), tmp_path / "p.json", workers=1)
