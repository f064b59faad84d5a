"""Scoring architectures in parallel processes, resumable, none scored twice."""

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch

from ghn_pipeline.errors import UserError
from ghn_pipeline.files import read_json, write_atomically
from ghn_pipeline.progress import Progress
from ghn_pipeline.space.graph import Block
from ghn_pipeline.training.checkpoint import only_writer


@dataclass(frozen=True)
class Score:
    """What one architecture was found to be worth.

    Attributes:
        hash: of its block.
        accuracy: on the validation batches, 0 to 1.
        seconds: of the accelerator, its share of the generation of weights included.
    """

    hash: str
    accuracy: float
    seconds: float


#: Scores blocks together; what they are weighed with is already loaded.
Scorer = Callable[[Sequence[Block]], list[Score]]
#: Makes a scorer on a device; must be picklable.
ScorerMaker = Callable[[torch.device], Scorer]


def score(
    name: str,
    blocks: Sequence[Block],
    make_scorer: ScorerMaker,
    *,
    devices: Sequence[torch.device],
    together: int,
    partial: Path,
    digest: str,
    log_seconds: float,
) -> list[Score]:
    """Score `blocks`, `together` at a time, on all `devices` at once.

    What is done is kept in the file `partial`; a later call with the same digest goes on from it.
    Groups are always the same, so how often a run was stopped does not change a bit of it.

    Raises:
        UserError: the partial file cannot be written, a process was killed, or what the scorer
            raises.
    """
    groups = [blocks[i : i + together] for i in range(0, len(blocks), together)]
    with only_writer(partial):
        done = _read_partial(partial, digest)
        progress = Progress(name, len(groups), len(done), log_seconds)
        missing = [i for i in range(len(groups)) if i not in done]
        for i, scores in _scored([(i, groups[i]) for i in missing], make_scorer, devices):
            done[i] = scores
            write_atomically(partial, json.dumps(_partial_content(done, digest)))
            progress.at(len(done), lambda: f"accuracy {scores[-1].accuracy:.4f}")  # noqa: B023
        progress.close()
    return [s for i in range(len(groups)) for s in done[i]]


def _partial_content(done: dict[int, list[Score]], digest: str) -> dict[str, Any]:
    return {"digest": digest, "groups": {i: [asdict(s) for s in done[i]] for i in done}}


def _read_partial(partial: Path, digest: str) -> dict[int, list[Score]]:
    if not partial.exists():
        return {}
    content = read_json(partial, "the same command")
    if content.get("digest") != digest:
        raise UserError(f"{partial} belongs to another configuration. Delete it to score anew.")
    return {int(i): [Score(**s) for s in scores] for i, scores in content["groups"].items()}


def _scored(
    groups: Sequence[tuple[int, Sequence[Block]]],
    make_scorer: ScorerMaker,
    devices: Sequence[torch.device],
) -> Iterator[tuple[int, list[Score]]]:
    """Yield groups as they are scored: in this process on one device, else in one for each."""
    devices = devices[: len(groups)]
    if len(devices) <= 1:
        scorer = make_scorer(devices[0]) if groups else None
        for i, group in groups:
            assert scorer is not None
            yield i, scorer(group)
        return
    context = multiprocessing.get_context("spawn")
    free = context.Queue()
    for device in devices:
        free.put(device)
    with ProcessPoolExecutor(len(devices), context, _start_worker, (make_scorer, free)) as pool:
        try:
            futures = {pool.submit(_score_in_worker, group): i for i, group in groups}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a process that scored was killed, most likely for want of memory. What is scored "
                "is kept: the same command goes on, with less memory if compute.workers is smaller."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_makers: list[Callable[[], Scorer]] = []


def _start_worker(make_scorer: ScorerMaker, free: "multiprocessing.Queue[torch.device]") -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def die_with_parent() -> None:
        # a worker whose parent was killed would wait for ever
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=die_with_parent, daemon=True).start()
    device = free.get()
    _makers.append(lambda: make_scorer(device))


@cache
def _scorer() -> Scorer:
    # made by the first group, not as the process starts: what is raised there reaches nobody
    return _makers[0]()


def _score_in_worker(group: Sequence[Block]) -> list[Score]:
    return _scorer()(group)
