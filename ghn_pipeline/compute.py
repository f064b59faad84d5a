"""Where the work is done: the accelerator, or the processor."""

import ctypes
import os
import platform

import torch

from ghn_pipeline.config import Config
from ghn_pipeline.errors import UserError
from ghn_pipeline.sections import PRESETS_OF

#: Of mallopt in glibc's malloc.h, and the largest that M_MMAP_THRESHOLD may be on 64 bits.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, LARGEST_THRESHOLD = -1, -3, 2**25


def prepare_device(config: Config) -> torch.device:
    """Return the device to work on, this process being prepared (see `prepare_process`).

    Raises:
        UserError: there is no accelerator and the scale needs one, or the device is not there.
    """
    prepare_process(config)
    available = torch.cuda.is_available()
    if config.compute.device == "cuda" and not available:
        raise UserError("compute.device is cuda, and no CUDA device is to be found here.")
    device = torch.device("cuda" if available and config.compute.device != "cpu" else "cpu")
    if device.type == "cpu" and not config.cpu_is_enough:
        first, second = PRESETS_OF[config.space.name]
        raise UserError(
            f"the scale {config.scale!r} takes weeks without an accelerator; none is used here. "
            f"Choose a preset (snakemake --cores all --configfile presets/{first}.yaml, or "
            f"presets/{second}.yaml), or insist: cpu_is_enough: true in the configuration."
        )
    return device


def prepare_process(config: Config) -> None:
    """Make this process compute as all of the run do; each new process must be told."""
    # the number of threads changes the order of sums, and so the last bits
    torch.set_num_threads(config.compute.threads)
    torch.set_flush_denormal(True)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Have glibc keep freed activations: it gives them back, and the next costs a fault a page."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)


def precision(config: Config, device: torch.device) -> torch.dtype:
    """Return the type of numbers in which finalists are multiplied; their weights are float32."""
    asked = config.compute.precision
    fit = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if asked == "bfloat16" or (asked == "auto" and fit) else torch.float32


def devices(device: torch.device, workers: int) -> list[torch.device]:
    """Return the device of each of `workers` processes; 0: one for each accelerator or core.

    The cores are those that Slurm or Snakemake has given to this job, where one of them has.
    """
    if device.type == "cuda":
        count = torch.cuda.device_count()
        return [torch.device("cuda", i % count) for i in range(workers or count)]
    given = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("OMP_NUM_THREADS")
    return [device] * (workers or int(given or len(os.sched_getaffinity(0))))


def hardware(device: torch.device) -> dict[str, str | int]:
    """Describe the machine for the record of a run."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processor": _processor(),
        "instruction_set": _instruction_set(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
    }


def _instruction_set() -> str:
    """Name the vector instructions that torch uses here: rounding differs from one to another."""
    own = torch.backends.cpu.get_cpu_capability()
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return f"{own}, oneDNN at most {limit}" if limit else own


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
    except OSError:  # not Linux
        names = []
    return names[0] if names else platform.processor()
