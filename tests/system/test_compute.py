"""Where the work is done."""

import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ghn_pipeline.system import compute
from ghn_pipeline.system.compute import (
    chosen,
    devices,
    fastest,
    hardware,
    precision,
    synchronize,
)
from ghn_pipeline.system.errors import UserError

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
ACCELERATORS = ("cuda", "mps", "xpu")

PAGE_FAULTS = """
import resource
import torch
from ghn_pipeline.system.compute import prepare_process

prepare_process(1)
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


# ---- accelerators ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ACCELERATORS)
def test_an_accelerator_that_torch_finds_is_used(kind, machine):
    machine(kind)
    assert fastest() == chosen("auto") == chosen(kind) == torch.device(kind)
    assert chosen("cpu") == CPU


def test_without_an_accelerator_the_processor_is_used(machine):
    assert fastest() == chosen("auto") == chosen("cpu") == CPU


@pytest.mark.parametrize(
    ("asked", "there"),
    [(a, t) for a in ACCELERATORS for t in (None, *ACCELERATORS) if a != t],
)
def test_an_accelerator_that_is_not_there_is_refused(asked, there, machine):
    machine(there)
    said = f"compute.device is {asked}, and torch finds no {asked.upper()} device here: set it to "
    with pytest.raises(UserError, match=f"{said}auto or {there or 'cpu'}"):
        chosen(asked)


@pytest.mark.parametrize("kind", ACCELERATORS)
def test_processes_share_the_accelerators(kind, machine):
    machine(kind, 2)
    a, b = torch.device(kind, 0), torch.device(kind, 1)
    assert devices(torch.device(kind), 0) == [a, b]
    assert devices(torch.device(kind), 3) == [a, b, a]


@pytest.mark.parametrize("kind", ("cuda", "xpu"))
def test_bfloat16_where_the_accelerator_has_it(kind, monkeypatch):
    for has, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(f"torch.{kind}.is_bf16_supported", lambda has=has: has)
        assert precision("auto", torch.device(kind)) == expected
        assert precision("float32", torch.device(kind)) == torch.float32
    assert precision("auto", torch.device("mps")) == torch.float32
    assert precision("bfloat16", torch.device("mps")) == torch.bfloat16


def test_the_name_of_an_accelerator(monkeypatch):
    for kind in ("cuda", "xpu"):
        monkeypatch.setattr(f"torch.{kind}.get_device_name", lambda device: f"the {device}")
        assert hardware(torch.device(kind, 1))["device"] == f"the {kind}:1"
    assert hardware(torch.device("mps"))["device"] == "mps"
    assert hardware(CPU)["device"] == "cpu"


def test_only_an_accelerator_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr("torch.accelerator.synchronize", waited.append)
    for kind in ("cpu", *ACCELERATORS):
        synchronize(torch.device(kind))
    assert waited == [torch.device(kind) for kind in ACCELERATORS]


# ---- other systems than Linux ------------------------------------------------------------------

ELSEWHERE = """
import json, os, torch
from ghn_pipeline.system.compute import chosen, cores, devices, hardware, prepare_process

prepare_process(1)
assert not hasattr(os, "sched_getaffinity")
print(json.dumps([cores(), len(devices(chosen("auto"), 0)), hardware(torch.device("cpu"))]))
"""


def test_a_machine_that_is_no_linux_is_described(not_linux):
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        env=not_linux,
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    cores, workers, described = json.loads(done.stdout)
    assert cores == workers == described["cores"] == os.cpu_count()
    assert described["processor"] == "Apple M2"
    assert described["device"] == "cpu"


def test_a_system_that_is_neither_has_what_python_knows(monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "FreeBSD")
    monkeypatch.setattr("platform.processor", lambda: "amd64")
    assert hardware(CPU)["processor"] == "amd64"


def test_the_processor_of_linux():
    if platform.system() != "Linux":
        pytest.skip("this is no Linux")
    named = subprocess.run(["uname", "-m"], capture_output=True, encoding="utf-8").stdout.strip()
    if named != "x86_64":
        pytest.skip("/proc/cpuinfo names no processor here")
    assert f": {hardware(CPU)['processor']}\n" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    assert compute.cores() == len(os.sched_getaffinity(0))
