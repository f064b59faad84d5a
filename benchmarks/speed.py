"""The cost of generated weights, with its limits: `python benchmarks/speed.py`.

Each row compares two pieces of work that are timed in turn in this process, on one thread of a
processor or on an accelerator. The command writes the table into docs/reference/costs.md, and the
rows and the machine into speed.json. --pairs sets the number of pairs. With --quick the command
leaves out the paper's shape and writes nothing.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import scoring
from propagation import propagation, together
from rows import Row, keep
from startup import startup
from steps import operations, pixels_first, training_steps
from steps import scoring as scoring_step

from ghn_pipeline.pipeline.commit import commit
from ghn_pipeline.pipeline.machine import hardware
from ghn_pipeline.settings.config import Config, load
from ghn_pipeline.system.compute import fastest, prepare_process

ROOT = Path(__file__).parent.parent
PRESETS = ("quick", "nasbench201", "nasbench201-long")


def rows(configs: dict[str, Config], pairs: int, device: torch.device) -> Iterator[Row]:
    """Make every row."""
    yield startup(pairs)
    for name, config in configs.items():
        if name != "nasbench201-long":
            yield operations(config, 20, device)
    for name, config in configs.items():
        yield training_steps(config, "GHN", pairs, device)
        if name != "nasbench201-long":
            yield training_steps(config, "one-shot", pairs, device)
    yield scoring_step(configs["quick"], pairs, device)
    yield from propagation(configs.get("paper", configs["quick"]), pairs, device)
    yield together(configs["quick"], pairs, device)
    for of_ghn in (False, True):
        yield pixels_first(configs["quick"], of_ghn, pairs, device)
    yield scoring.processes(configs["quick"], 200, 1)


def main() -> None:
    """Print every row, and keep all rows so far after each, in case the run is stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="leave out the paper's shape")
    args = parser.parse_args()
    device = fastest()
    prepare_process(1)
    machine = {**hardware(device), **commit(), "torch": torch.__version__}
    print(machine, flush=True)
    configs = {
        name: load([ROOT / "params.yaml", ROOT / f"presets/{name}.yaml"]) for name in PRESETS
    }
    if not args.quick:
        configs["paper"] = load([ROOT / "params.yaml"])
    made = []
    for row in rows(configs, args.pairs, device):
        made.append(row)
        if not args.quick:
            keep(made, machine)


if __name__ == "__main__":
    main()
