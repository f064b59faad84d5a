"""The start of a job compared with `import torch`, in processor time."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rows import Row, row

ROOT = Path(__file__).parent.parent
#: The largest time up to the first step of a training, beyond `import torch`, in milliseconds.
BEYOND = 1000.0

#: A program that starts a training by the command line, and ends before its first step.
TRAINING = """
import os
from ghn_pipeline import cli
old = cli._do
def work(args):
    from ghn_pipeline.training import fit
    fit._one_step = lambda *_: os._exit(0)
    old(args)
cli._do = work
cli.main()
"""
SMOKE = ["--config", "params.yaml", "presets/smoke.yaml"]


def startup(pairs: int) -> Row:
    """Compare the start of `ghn sgd` with that of torch alone; this needs data/cifar10.bin."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("params.yaml", "presets", "data"):
            os.symlink(ROOT / file, folder / file)
        seconds(folder, "from ghn_pipeline import cli; cli.main()", "architectures", *SMOKE)
        beyond = []
        for _ in range(pairs):
            torch = seconds(folder, "import torch")
            training = seconds(folder, TRAINING, "sgd", "0", *SMOKE)
            beyond.append((1e3 * (training - torch), BEYOND))
            if (folder / "results/smoke/sgd").exists():
                raise SystemExit("`ghn sgd` did not end before its first step")
    return row("start of `ghn sgd` beyond `import torch` / one second", beyond, 1.0)


def seconds(folder: Path, code: str, *words: str) -> float:
    """Run code, and return the processor time of its process and of those that it starts."""
    given = {**os.environ, "PYTHONPATH": str(ROOT), "GHN_TRACKING": "later"}
    given.pop("PYTHONDONTWRITEBYTECODE", None)  # with it, every start would compile this package
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env=given,
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return sum(os.times()[2:4]) - sum(before[2:4])
