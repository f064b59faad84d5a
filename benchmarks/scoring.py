"""The gain of scoring by several processes side by side.

An untrained GHN scores random architectures of the quick preset, on noise in place of images. First
one process does this, and then one process on each core that this process may use scores the same
architectures. Each process has one thread, and the time includes its start.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from rows import Row, row

from ghn_pipeline.data.images import Images, Splits
from ghn_pipeline.pipeline.spaces import space_of
from ghn_pipeline.ranking.scoring import Scored, Scorer, score
from ghn_pipeline.ranking.strategies import random_search
from ghn_pipeline.ranking.weights import scorer
from ghn_pipeline.settings.config import Config
from ghn_pipeline.system.compute import cores, prepare_process
from ghn_pipeline.training.ghn import build


def noise(config: Config) -> Splits:
    """Return random images in place of CIFAR-10's, of the configuration's number and size."""
    generator = torch.Generator().manual_seed(0)
    R, n = config.images.resolution, config.images.validation
    pixels = torch.randint(256, (n, 3, R, R), generator=generator).to(torch.uint8)
    images = Images(pixels, torch.randint(10, (n,), generator=generator))
    half = torch.full((3,), 0.5)
    return Splits(images, images, images, half, half)


def untrained_scorer(config: Config, device: torch.device) -> Scorer:
    """Make a scorer with an untrained GHN."""
    prepare_process(config.compute.threads)
    space = space_of(config)
    ghn = build(space, config.ghn, config.seeds.initialisation)
    return scorer(ghn, space, noise(config), config.evaluation, config.images.resolution)


def timed(config: Config, architectures: int, processes: int) -> tuple[float, list[Scored]]:
    """Return the seconds that this number of processes takes, and the scored architectures."""
    propose = random_search(space_of(config), config.space.nodes, 0, architectures)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        scored = score(
            f"{processes} process(es)",
            propose,
            architectures,
            partial(untrained_scorer, config),
            devices=[torch.device("cpu")] * processes,
            together=config.evaluation.together,
            partial=Path(folder, "partial.json"),
            digest="",
            made_by="python benchmarks/scoring.py",
            log_seconds=config.compute.log_seconds,
        )
        return time.perf_counter() - begun, scored


def processes(config: Config, architectures: int, pairs: int) -> Row:
    """Compare scoring by one process and by one on each core that this process may use."""
    timings = []
    for _ in range(pairs):
        one, found = timed(config, architectures, 1)
        all_cores, same = timed(config, architectures, cores())
        if [s.score.values for s in same] != [s.score.values for s in found]:
            raise SystemExit("one process and many found different accuracies")
        timings.append((1e3 * one, 1e3 * all_cores))
    what = f"scoring {architectures} architectures by one process / by {cores()}, start included"
    # each core should add at least 0.9 of the speed of one process
    return row(f"{what}, quick shape", timings, 0.9 * cores(), at_least=True)
