"""The optimizers compute PyTorch's updates without loading its compiler."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from workplace import ROOT

from ghn_pipeline.training import optimizers

STEPS = """
import sys
from pathlib import Path

import torch

from ghn_pipeline.settings.config import load
from ghn_pipeline.training.optimizers import adam, momentum_sgd

layer = torch.nn.Linear(3, 2)
sgd = load([Path("params.yaml")]).sgd
for optimizer in (adam(layer.parameters(), 0.1), momentum_sgd(layer, sgd)):
    optimizer.zero_grad()
    layer(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""


def test_the_compiler_is_not_loaded():
    words = (sys.executable, "-c", STEPS)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, check=True, encoding="utf-8")
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_gives_pytorchs_bytes_and_state(nesterov, configured):
    settings = configured().sgd
    ours, theirs = (nn.Linear(3, 2) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    pairs = [
        (ours, optimizers.momentum_sgd(ours, settings, nesterov=nesterov)),
        (
            theirs,
            torch.optim.SGD(
                theirs.parameters(),
                lr=settings.learning_rate,
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
                nesterov=nesterov,
                fused=True,
            ),
        ),
    ]
    assert_equal_after_steps(pairs)


def test_adam_gives_pytorchs_bytes_and_state():
    ours, theirs = (nn.Linear(3, 2) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    assert_equal_after_steps(
        [
            (ours, optimizers.adam(ours.parameters(), 0.01)),
            (theirs, torch.optim.Adam(theirs.parameters(), lr=0.01, fused=True)),
        ]
    )


def assert_equal_after_steps(pairs):
    images = torch.randn(5, 4, 3)
    for model, optimizer in pairs:
        assert model.weight.requires_grad
        for batch in images:
            optimizer.zero_grad()
            model(batch).square().sum().backward()
            optimizer.step()
    (ours, our_optimizer), (theirs, their_optimizer) = pairs
    assert torch.equal(ours.weight, theirs.weight)
    a, b = our_optimizer.state_dict(), their_optimizer.state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert a["state"].keys() == b["state"].keys()
    for key, each in a["state"].items():
        for name, value in each.items():
            there = b["state"][key][name]
            assert torch.equal(value, there) if torch.is_tensor(value) else value == there
