"""The start of a job beside `import torch`, in processor time."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rows import Row, row

ROOT = Path(__file__).parent.parent
#: The most milliseconds up to the first step of a training, beyond `import torch`.
BEYOND = 1000.0

TORCH = "import time, torch; print(time.process_time())"
#: Trains by the command line, and prints the processor time before its first step.
TRAINING = """
import time
from ghn_pipeline import cli
from ghn_pipeline.training import fit
old, begun = fit._one_step, []
def first_step(*args):
    begun.append(time.process_time())
    return old(*args)
fit._one_step = first_step
cli.main()
print(begun[0])
"""
SMOKE = ["--config", "params.yaml", "presets/smoke.yaml"]


def startup(pairs: int) -> Row:
    """Compare the start of `ghn sgd` with that of torch alone; needs data/cifar10.bin."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("params.yaml", "presets", "data"):
            os.symlink(ROOT / file, folder / file)
        python(
            folder, "from ghn_pipeline import cli; cli.main(); print(0)", "architectures", *SMOKE
        )
        beyond = []
        for _ in range(pairs):
            torch = python(folder, TORCH)
            training = python(folder, TRAINING, "sgd", "0", *SMOKE)
            beyond.append((1e3 * (training - torch), BEYOND))
            shutil.rmtree(folder / "results/smoke/sgd")
            shutil.rmtree(folder / "checkpoints")
    return row("start of `ghn sgd` beyond `import torch` / one second", beyond, 1.0)


def python(folder: Path, code: str, *words: str) -> float:
    """Run code, and return the number that it prints as the last line."""
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "GHN_TRACKING": "later"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return float(done.stdout.split("\n")[-2])
