"""No kernel that this processor, or a lesser one, uses is wrong or writes out of bounds.

Known upstream: oneDNN's weight gradient of a strided 1×1 convolution in channels_last with few
input channels (uxlfoundation/oneDNN, issue 6035).
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ghn_pipeline.baselines import made
from ghn_pipeline.export import Exported
from ghn_pipeline.model.network import Network, Trained, keep_path
from ghn_pipeline.pipeline.build import finalist_recipe
from ghn_pipeline.pipeline.spaces import space_of
from ghn_pipeline.settings.config import Config, load
from ghn_pipeline.system.compute import hardware
from ghn_pipeline.training.finalist import Finalist

ROOT = Path(__file__).parents[1]
PRESETS = sorted((ROOT / "presets").glob("*smoke.yaml"))
CHECKING_ALLOCATOR = "libc_malloc_debug.so.0"


def checking_allocator() -> dict[str, str]:
    """The variables that make glibc end a process at once that has damaged its heap."""
    try:
        ctypes.CDLL(CHECKING_ALLOCATOR)
    except OSError:  # no glibc, or an older one
        return {}
    return {"LD_PRELOAD": CHECKING_ALLOCATOR, "MALLOC_CHECK_": "3"}


@pytest.mark.slow
@pytest.mark.parametrize("limit", [{}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}], ids=["own", "AVX2"])
def test_every_layer_agrees_with_float64_and_damages_no_memory(limit: dict[str, str]) -> None:
    environment = {**os.environ, **checking_allocator(), **limit}
    done = subprocess.run(
        [sys.executable, ROOT / "tests/layers.py"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        encoding="utf-8",
    )
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"exit code {done.returncode} at {last}: {done.stderr[-2000:]}"
    assert last == ["all layers are right"]


# ---- whatever the processor: there is no strided 1×1 convolution -------------------------------


class Strided(TorchDispatchMode):
    """Notes, while entered, the 1×1 convolutions that have a stride, and counts all."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = 0
        self.found: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at a convolution, then run it."""
        if func is torch.ops.aten.convolution.default:
            _, weight, _, stride = args[:4]
            self.convolutions += 1
            if weight.shape[2:].numel() == 1 and max(stride) > 1:
                self.found.append((tuple(weight.shape), tuple(stride)))
        return func(*args, **(kwargs or {}))


def _searched(config: Config) -> Iterator[nn.Module]:
    space = space_of(config)
    for seed in range(20):
        block = space.sample(Random(seed), config.space.nodes)
        network = Network(space.modules(block), config.images.resolution)
        trained = Trained(network, torch.Generator())
        yield trained
        yield Exported(trained, torch.zeros(3), torch.ones(3))


def _baselines(config: Config) -> Iterator[nn.Module]:
    for name in ("msdnet", "resnet_mc", "densenet_mc", "resnet_ensemble", "densenet_ensemble"):
        yield made(name, config.anytime, 10)


def _finalist(config: Config) -> Finalist:
    space = space_of(config)
    network = Network(space.modules(space.sample(Random(0), config.space.nodes)), 32)
    return Finalist(network, finalist_recipe(config, "best"), torch.Generator())


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_no_1x1_convolution_has_a_stride(preset: Path) -> None:
    config = load([ROOT / "params.yaml", preset])
    images = torch.empty(2, 3, 32, 32, device="meta")
    with Strided() as seen:
        for model in chain(_searched(config), _baselines(config)):
            model.to("meta")(images)
        if not config.space.exits:
            _finalist(config).to("meta")(images, keep_path, True)
    assert seen.convolutions > 100
    assert seen.found == []


def test_a_strided_convolution_would_be_found() -> None:
    with Strided() as seen:
        nn.Conv2d(4, 8, 1, stride=2)(torch.zeros(1, 4, 8, 8))
        nn.Conv2d(4, 8, 3, stride=2)(torch.zeros(1, 4, 8, 8))
    assert seen.found == [((8, 4, 1, 1), (2, 2))]
    assert seen.convolutions == 2


def test_the_record_names_the_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    own = torch.backends.cpu.get_cpu_capability()
    assert hardware(torch.device("cpu"))["instruction_set"] == own
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    limited = hardware(torch.device("cpu"))["instruction_set"]
    assert limited == f"{own}, oneDNN at most AVX2"
