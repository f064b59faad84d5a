"""Where the work is done: the accelerator, or the processor."""

import ctypes
import os
import platform
import subprocess

import torch

from ghn_pipeline.system.errors import UserError

CPU = torch.device("cpu")

#: Of mallopt in glibc's malloc.h, and the largest that M_MMAP_THRESHOLD may be on 64 bits.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, LARGEST_THRESHOLD = -1, -3, 2**25


def chosen(asked: str) -> torch.device:
    """Return the device that was asked for.

    Args:
        asked: the type of a device; "auto" for the fastest.

    Raises:
        UserError: it is an accelerator that is not there.
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


def synchronize(device: torch.device) -> None:
    """Wait until all that is queued on `device` is done; the processor queues nothing."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def prepare_process(threads: int) -> None:
    """Make this process compute as all of the run do; each new process must be told."""
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
        asked: "float32" or "bfloat16"; "auto" for the latter where an accelerator has it.
        device: where they are computed.
    """
    # torch cannot be asked whether MPS has them
    fit = device.type in ("cuda", "xpu") and torch.get_device_module(device).is_bf16_supported()
    return torch.bfloat16 if asked == "bfloat16" or (asked == "auto" and fit) else torch.float32


def devices(device: torch.device, workers: int) -> list[torch.device]:
    """Return the device of each of `workers` processes; 0: one for each accelerator or core.

    The cores are those that Slurm or Snakemake has given to this job, where one of them has.
    """
    if device.type != "cpu":
        count = torch.accelerator.device_count()
        return [torch.device(device.type, i % count) for i in range(workers or count)]
    given = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("OMP_NUM_THREADS")
    return [device] * (workers or int(given or cores()))


def cores() -> int:
    """Return how many cores this process may use; where only Linux could tell, all that exist."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def hardware(device: torch.device) -> dict[str, str | int]:
    """Describe the machine for the record of a run."""
    return {
        "device": _name(device),
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


def _name(device: torch.device) -> str:
    if device.type in ("cuda", "xpu"):
        name: str = torch.get_device_module(device).get_device_name(device)
        return name
    return device.type  # an MPS is a part of the processor, whose name is told as well


def _processor() -> str:
    if platform.system() == "Linux":
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1] for line in file if line.startswith("model name")]
        name = names[0] if names else ""  # processors by ARM have none there
    elif platform.system() == "Darwin":
        words = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(words, capture_output=True, encoding="utf-8", check=True).stdout
    else:
        name = ""
    return name.strip() or platform.processor()
