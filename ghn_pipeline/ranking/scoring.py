"""Scoring what a search proposes, in parallel processes: resumable, none scored twice."""

import json
import math
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ghn_pipeline.model.graph import Block
from ghn_pipeline.system import files
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.processes import end_with_parent
from ghn_pipeline.system.progress import Progress
from ghn_pipeline.training.checkpoint import only_writer


@dataclass(frozen=True)
class Score:
    """What one architecture was found to be worth, by one or more measures.

    Attributes:
        hash: of its block.
        values: by measure; what weights are judged by is said in `weights.scorer`.
        seconds: of the accelerator, by what was measured apart, the share of generated weights
            included.
    """

    hash: str
    values: Mapping[str, float]
    seconds: Mapping[str, float]

    @property
    def shown(self) -> str:
        """The first measure, in words."""
        return " ".join(f"{name} {value:.4g}" for name, value in list(self.values.items())[:1])


@dataclass(frozen=True)
class Scored:
    """An architecture and what it was found to be worth."""

    block: Block
    score: Score


#: Proposes the next architectures, a generation, given all that are scored so far, in order. An
#: exact function of their blocks and accuracies: a search that goes on proposes the same again.
Strategy = Callable[[Sequence[Scored]], list[Block]]
#: Scores blocks together; what they are weighed with is already loaded.
Scorer = Callable[[Sequence[Block]], list[Score]]
#: Makes a scorer on a device; must be picklable.
ScorerMaker = Callable[[torch.device], Scorer]
#: Blocks that are scored together, by the number of their group.
Groups = Mapping[int, Sequence[Block]]
#: Scores groups, which come as they are done.
GroupScorer = Callable[[Groups], Iterator[tuple[int, list[Score]]]]


def score(
    name: str,
    propose: Strategy,
    count: int,
    make_scorer: ScorerMaker,
    *,
    devices: Sequence[torch.device],
    together: int,
    partial: Path,
    digest: str,
    made_by: str,
    log_seconds: float,
) -> list[Scored]:
    """Score `count` architectures, each generation `together` at a time, on all `devices` at once.

    A fixed list of blocks is a search of one generation: `lambda scored: blocks`. What is done is
    kept in the file `partial`; a later call with the same digest goes on from it. Groups are
    always the same, so how often a run was stopped does not change a bit of it.

    Args:
        name: the name in messages.
        propose: the strategy of the search; of its last generation only what is missing is scored.
        count: of architectures.
        make_scorer: called once in each process.
        devices: one process for each; no more than can be busy are started.
        together: blocks in a group; the last one of a generation may be smaller.
        partial: JSON file for what is done.
        digest: of the settings and of what the architectures are weighed with.
        made_by: the command that scores, for messages.
        log_seconds: seconds between lines of progress in a log.

    Raises:
        UserError: the partial file cannot be written, is damaged or is of another search, a
            process was killed, a score is not finite, or what the strategy or the scorer raises.
    """
    scored: list[Scored] = []
    devices = devices[: math.ceil(count / together)]
    with only_writer(partial), _group_scorer(make_scorer, devices) as score_groups:
        done = _read_partial(partial, digest, made_by)
        progress = Progress(name, count, sum(map(len, done.values())), log_seconds)
        first = 0
        while len(scored) < count:
            blocks = propose(scored)[: count - len(scored)]
            if not blocks:
                raise ValueError(f"after {len(scored)} of {count} nothing more was proposed")
            starts = range(0, len(blocks), together)
            groups = dict(enumerate((blocks[i : i + together] for i in starts), first))
            _check_same(groups, done, partial)
            for i, scores in score_groups({i: groups[i] for i in groups if i not in done}):
                _check_finite(name, scores)
                done[i] = scores
                files.write_atomically(partial, json.dumps(_partial_content(done, digest)))
                at = sum(map(len, done.values()))
                progress.at(at, lambda: scores[-1].shown)  # noqa: B023
            found = [s for i in groups for s in done[i]]
            scored += [Scored(b, s) for b, s in zip(blocks, found, strict=True)]
            first += len(groups)
        progress.close()
    return scored


def _check_finite(name: str, scores: Sequence[Score]) -> None:
    for s in scores:
        for measure, value in s.values.items():
            if not math.isfinite(value):
                raise UserError(
                    f"{name}: the {measure} of the architecture {s.hash} is {value}, which ranks "
                    "nothing. Other weights are needed: train what scores with another seed or a "
                    "smaller learning rate."
                )


def _partial_content(done: Mapping[int, list[Score]], digest: str) -> dict[str, Any]:
    groups = {str(i): [asdict(s) for s in scores] for i, scores in done.items()}
    return {"digest": digest, "groups": groups, "check": files.digest([digest, groups])}


def _read_partial(partial: Path, digest: str, made_by: str) -> dict[int, list[Score]]:
    if not partial.exists():
        return {}
    content = files.read_json(partial, made_by)
    made_of = (
        [content.get(key) for key in ("digest", "groups")] if isinstance(content, dict) else []
    )
    if not made_of or content.get("check") != files.digest(made_of):
        raise UserError(
            f"{partial} was changed or damaged after it was written. Delete it and run `{made_by}` "
            "again, which scores anew."
        )
    if made_of[0] != digest:
        raise UserError(f"{partial} belongs to another configuration. Delete it to score anew.")
    return {int(i): [Score(**s) for s in scores] for i, scores in content["groups"].items()}


def _check_same(groups: Groups, done: Mapping[int, list[Score]], partial: Path) -> None:
    for i in groups.keys() & done.keys():
        if [s.hash for s in done[i]] != [b.hash for b in groups[i]]:
            raise UserError(
                f"{partial} has scores of other architectures than those proposed now. "
                "Delete it to score anew."
            )


def _group_scorer(
    make_scorer: ScorerMaker, devices: Sequence[torch.device]
) -> AbstractContextManager[GroupScorer]:
    """Return what scores groups: in this process on one device, else in one for each."""
    if len(devices) > 1:
        return _processes(make_scorer, devices)
    scorer = cache(lambda: make_scorer(devices[0]))  # not made where all is done already
    return nullcontext(lambda groups: ((i, scorer()(group)) for i, group in groups.items()))


@contextmanager
def _processes(make_scorer: ScorerMaker, devices: Sequence[torch.device]) -> Iterator[GroupScorer]:
    """Keep processes for as long as the search takes; they start as groups have need of them."""
    context = multiprocessing.get_context("spawn")
    free = context.Queue()
    for device in devices:
        free.put(device)
    pool = ProcessPoolExecutor(len(devices), context, _start_worker, (make_scorer, free))

    def score_groups(groups: Groups) -> Iterator[tuple[int, list[Score]]]:
        futures = {pool.submit(_score_in_worker, group): i for i, group in groups.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()

    try:
        yield score_groups
    except BrokenProcessPool as error:
        raise UserError(
            "a process that scored was killed, most likely for want of memory. What is scored "
            "is kept: the same command goes on, with less memory if compute.workers is smaller."
        ) from error
    finally:
        # waits: a process that is still starting would miss the queue and say so in a traceback
        pool.shutdown(cancel_futures=True)


_makers: list[Callable[[], Scorer]] = []


def _start_worker(make_scorer: ScorerMaker, free: "multiprocessing.Queue[torch.device]") -> None:
    end_with_parent()
    device = free.get()
    _makers.append(lambda: make_scorer(device))


@cache
def _scorer() -> Scorer:
    # made by the first group, not as the process starts: what is raised there reaches nobody
    return _makers[0]()


def _score_in_worker(group: Sequence[Block]) -> list[Score]:
    return _scorer()(group)
