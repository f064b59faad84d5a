"""Resumable scoring of a search's proposals in parallel processes."""

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
    """The score of one architecture by one or more measures.

    Attributes:
        hash: hash of its block.
        values: the values by measure.
        seconds: accelerator-seconds by measure, including a share of the generation of weights.
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
    """An architecture and its score."""

    block: Block
    score: Score


#: Proposes the next generation of architectures from all scored ones, in order. It is a function of
#: their blocks and scores alone, so a resumed search proposes the same again.
Strategy = Callable[[Sequence[Scored]], list[Block]]
#: Scores blocks together, with a model that is already loaded.
Scorer = Callable[[Sequence[Block]], list[Score]]
#: Makes a scorer on a device; it must be picklable.
ScorerMaker = Callable[[torch.device], Scorer]
#: Groups of blocks that are scored together, by number.
Groups = Mapping[int, Sequence[Block]]
#: Scores groups, and yields each as soon as it is done.
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

    A fixed list of blocks is a search of one generation: `lambda scored: blocks`. The file
    `partial` keeps the scores, and a later call with the same digest resumes from it. Groups are
    always the same, so interruptions do not change a bit of the result.

    Args:
        name: the name in messages.
        propose: the strategy of the search; its last generation is cut to the missing number.
        count: number of architectures.
        make_scorer: function that makes the scorer, called once in each process.
        devices: the device of each process; processes that would be idle do not start.
        together: number of blocks in a group; the last one of a generation may be smaller.
        partial: JSON file of the scores so far.
        digest: digest of the settings and of the weights that score.
        made_by: the command that scores, for messages.
        log_seconds: seconds between lines of progress in a log.

    Raises:
        UserError: the partial file cannot be written, is damaged or is from another search, a
            process was killed, a score is not finite, or the strategy or the scorer raises it.
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
                    f"{name}: the {measure} of the architecture {s.hash} is {value}, which cannot "
                    "be ranked. Train the scoring model again with another seed or a smaller "
                    "learning rate."
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
            "again to score anew."
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
    """Return a scorer of groups, in this process for one device, else in a process for each."""
    if len(devices) > 1:
        return _processes(make_scorer, devices)
    scorer = cache(lambda: make_scorer(devices[0]))  # only made if a group is left to score
    return nullcontext(lambda groups: ((i, scorer()(group)) for i, group in groups.items()))


@contextmanager
def _processes(make_scorer: ScorerMaker, devices: Sequence[torch.device]) -> Iterator[GroupScorer]:
    """Provide processes until the search ends; each starts when a group needs it."""
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
            "a scoring process was killed, most likely because memory ran out. The scores so far "
            "are kept, and the same command goes on; a smaller compute.workers takes less memory."
        ) from error
    finally:
        # wait, because a process that is still starting would print a traceback without the queue
        pool.shutdown(cancel_futures=True)


_makers: list[Callable[[], Scorer]] = []


def _start_worker(make_scorer: ScorerMaker, free: "multiprocessing.Queue[torch.device]") -> None:
    end_with_parent()
    device = free.get()
    _makers.append(lambda: make_scorer(device))


@cache
def _scorer() -> Scorer:
    # made for the first group, because an error at the start of a process reaches nobody
    return _makers[0]()


def _score_in_worker(group: Sequence[Block]) -> list[Score]:
    return _scorer()(group)
