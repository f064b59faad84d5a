"""What scoring gains by processes side by side: `python benchmarks/scoring.py`.

Scores the same random architectures of the quick preset with an untrained GHN and noise in place
of images, by one process and then by one on each core that this process may use, each process with
one thread, its start included. Options: --architectures.
"""

import argparse
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from ghn_pipeline.data.images import Images, Splits
from ghn_pipeline.pipeline.commit import commit
from ghn_pipeline.pipeline.spaces import space_of
from ghn_pipeline.ranking.scoring import Scored, Scorer, score
from ghn_pipeline.ranking.strategies import random_search
from ghn_pipeline.ranking.weights import scorer
from ghn_pipeline.settings.config import Config, load
from ghn_pipeline.system.compute import cores, hardware, prepare_process
from ghn_pipeline.training.ghn import build

ROOT = Path(__file__).parent.parent


def noise(config: Config) -> Splits:
    """Return random images in place of CIFAR-10's, of the configuration's number and size."""
    generator = torch.Generator().manual_seed(0)
    R, n = config.images.resolution, config.images.validation
    pixels = torch.randint(256, (n, 3, R, R), generator=generator).to(torch.uint8)
    images = Images(pixels, torch.randint(10, (n,), generator=generator))
    half = torch.full((3,), 0.5)
    return Splits(images, images, images, half, half)


def untrained_scorer(config: Config, device: torch.device) -> Scorer:
    """Make what scores with an untrained GHN."""
    prepare_process(config.compute.threads)
    space = space_of(config)
    ghn = build(space, config.ghn, config.seeds.initialisation)
    return scorer(ghn, space, noise(config), config.evaluation, config.images.resolution)


def timed(config: Config, architectures: int, processes: int) -> tuple[float, float, list[Scored]]:
    """Return the seconds that so many processes take, those of processors, and what they found."""
    propose = random_search(space_of(config), config.space.nodes, 0, architectures)
    with tempfile.TemporaryDirectory() as folder:
        begun, used = time.perf_counter(), processor_seconds()
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
        return time.perf_counter() - begun, processor_seconds() - used, scored


def processor_seconds() -> float:
    """Return what this process and those that it has seen end have had of the processors."""
    return sum(os.times()[:4])


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architectures", type=int, default=1000)
    architectures = parser.parse_args().architectures
    config = load([ROOT / "params.yaml", ROOT / "presets/quick.yaml"])
    prepare_process(config.compute.threads)
    processes = cores()
    print({**hardware(torch.device("cpu")), **commit(), "torch": torch.__version__}, flush=True)
    one, one_used, found = timed(config, architectures, 1)
    all_cores, all_used, same = timed(config, architectures, processes)
    if [s.score.values for s in same] != [s.score.values for s in found]:
        raise SystemExit("one process and many found different accuracies")
    print(
        f"{architectures} architectures, quick preset: {one:.1f} s by one process, "
        f"{all_cores:.1f} s by {processes}   ratio {one / all_cores:.2f}   "
        "target 1.8 on two cores\n"
        f"processor time: {one_used:.1f} s and {all_used:.1f} s; others on this machine spoil the "
        "ratio more than this"
    )


if __name__ == "__main__":
    main()
