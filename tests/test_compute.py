"""Where the work is done."""

import platform
import resource
import subprocess
import sys

import pytest

PAGE_FAULTS = """
import resource
import torch
from pathlib import Path
from ghn_pipeline.compute import prepare_process
from ghn_pipeline.config import load

prepare_process(load([Path("params.yaml"), Path("presets/smoke.yaml")]))
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [torch.ones(2**22) for _ in range(6)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told so")
def test_freed_memory_is_used_again() -> None:
    command = [sys.executable, "-c", PAGE_FAULTS]
    faults = int(
        subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    )
    # six tensors of 16 MiB were freed and asked for again
    assert faults < 6 * 2**24 / resource.getpagesize() / 100
