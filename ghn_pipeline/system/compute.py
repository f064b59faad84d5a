"""The device that does the work: an accelerator, or the processor."""

import ctypes
import os
import platform
import subprocess

import torch
from torch import Tensor

from ghn_pipeline.system.errors import UserError

CPU = torch.device("cpu")

#: Constants of mallopt in glibc's malloc.h, and the largest M_MMAP_THRESHOLD on 64 bits.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, LARGEST_THRESHOLD = -1, -3, 2**25


def chosen(asked: str) -> torch.device:
    """Return the requested device.

    Args:
        asked: type of the device; "auto" for the fastest.

    Raises:
        UserError: the requested accelerator is missing.
    """
    found = fastest()
    if asked not in ("auto", "cpu", found.type):
        raise UserError(
            f"compute.device is {asked}, and torch finds no {asked.upper()} device here: set it to "
            f"auto or {found.type}."
        )
    return CPU if asked == "cpu" else found


def fastest() -> torch.device:
    """Return the kind of accelerator that torch finds (CUDA, MPS, XPU), else the processor."""
    return torch.accelerator.current_accelerator(check_available=True) or CPU


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the processor on `device`, without waiting for work that is queued there.

    The copy is queued as well, after its numbers have been put aside, so the tensor may change.
    """
    return tensor.to(device, non_blocking=True)


def synchronize(device: torch.device) -> None:
    """Wait for all queued work on `device`; the processor queues none."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def prepare_process(threads: int) -> None:
    """Prepare this process to compute exactly like the others of a run; each must call this."""
    # the number of threads changes the order of sums, and so the last bits
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Tell glibc to keep freed memory.

    Otherwise it returns the memory of activations to the system, and the next allocation causes a
    page fault for each page.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)


def precision(asked: str, device: torch.device) -> torch.dtype:
    """Return the number type of the finalists' convolutions; their weights stay float32.

    Args:
        asked: "float32" or "bfloat16"; "auto" for the latter if the accelerator has it.
        device: the device of the convolutions.
    """
    # torch cannot tell whether MPS has it
    fit = device.type in ("cuda", "xpu") and torch.get_device_module(device).is_bf16_supported()
    return torch.bfloat16 if asked == "bfloat16" or (asked == "auto" and fit) else torch.float32


def devices(device: torch.device, workers: int) -> list[torch.device]:
    """Return the devices of `workers` processes; 0 stands for one for each accelerator or core.

    If Slurm or Snakemake runs this job, its own cores count.
    """
    if device.type != "cpu":
        count = torch.accelerator.device_count()
        return [torch.device(device.type, i % count) for i in range(workers or count)]
    given = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("OMP_NUM_THREADS")
    return [device] * (workers or int(given or cores()))


def cores() -> int:
    """Return the number of cores that this process may use; except on Linux all cores count."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def hardware(device: torch.device) -> dict[str, str | int]:
    """Return a description of the machine for the record of a run."""
    return {
        "device": _name(device),
        "processor": _processor(),
        "instruction_set": _instruction_set(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
    }


def _instruction_set() -> str:
    """Return the name of the vector instructions that torch uses, which change rounding."""
    own = torch.backends.cpu.get_cpu_capability()
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return f"{own}, oneDNN at most {limit}" if limit else own


def _name(device: torch.device) -> str:
    if device.type in ("cuda", "xpu"):
        name: str = torch.get_device_module(device).get_device_name(device)
        return name
    return device.type  # MPS is part of the processor, whose name the record has as well


def _processor() -> str:
    if platform.system() == "Linux":
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1] for line in file if line.startswith("model name")]
        name = names[0] if names else ""  # ARM processors have no such line
    elif platform.system() == "Darwin":
        words = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(words, capture_output=True, encoding="utf-8", check=True).stdout
    else:
        name = ""
    return name.strip() or platform.processor()
