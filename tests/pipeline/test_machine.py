"""The device that a configuration asks for, and scales that are refused without an accelerator."""

import pytest
import torch

from ghn_pipeline.pipeline.machine import prepare_device
from ghn_pipeline.system.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def prepared(monkeypatch) -> list[int]:
    """The threads that the process is prepared with, which would outlive the test."""
    threads: list[int] = []
    monkeypatch.setattr("ghn_pipeline.pipeline.machine.prepare_process", threads.append)
    return threads


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_an_accelerator_is_used_unless_another_device_is_asked_for(
    kind, machine, prepared, configured
):
    machine(kind)
    assert prepare_device(configured()) == torch.device(kind)
    assert prepare_device(configured({"compute.device": kind})) == torch.device(kind)
    assert prepare_device(configured({"compute.device": "cpu"})) == CPU
    # and the paper's scale is not refused
    assert prepare_device(configured({"cpu_is_enough": False})) == torch.device(kind)


def test_the_process_is_prepared_with_the_threads_of_the_configuration(
    machine, prepared, configured
):
    prepare_device(configured({"compute.threads": 3}))
    assert prepared == [3]


def test_without_an_accelerator_the_papers_scale_is_refused(machine, prepared, configured):
    assert prepare_device(configured()) == CPU
    with pytest.raises(UserError, match="takes weeks without an accelerator"):
        prepare_device(configured({"cpu_is_enough": False}))


def test_a_device_that_is_not_there_is_refused(machine, prepared, configured):
    with pytest.raises(UserError, match="torch finds no CUDA device here"):
        prepare_device(configured({"compute.device": "cuda"}))
