"""What several tests share: settings, CIFAR-10, folders to run commands in, one finished run."""

import copy
import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import leftovers
import pytest
import torch
import yaml
from filelock import FileLock
from workplace import ROOT, SMOKE, Workplace

from ghn_pipeline import cli
from ghn_pipeline.data import cifar10
from ghn_pipeline.settings.config import Config, validate

#: What makes a configuration one of NAS-Bench-201.
CELLS = {
    "space.name": "nasbench201",
    "space.max_inputs": None,
    "space.operations": ["none", "identity", "conv_1x1", "conv_3x3", "avg_pool_3x3"],
}


#: Seconds that the other workers may go on when one was killed: the run has failed by then.
LAST_SECONDS = 180.0


def pytest_configure() -> None:
    """Let nothing outlive this process, a worker or the only one, however it ends."""
    leftovers.guard()
    # how long an example takes depends on what else the machine does
    hypothesis.settings.register_profile("no deadline", deadline=None)
    hypothesis.settings.load_profile("no deadline")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(error: object) -> None:
    """End the run soon where a worker was killed: the others would go on with whole files."""
    if error:
        # what this process has started are the workers; each has a mark of its own for the rest
        words = (leftovers.TESTS, os.environ[leftovers.TESTS])
        timer = threading.Timer(LAST_SECONDS, leftovers.end, words)
        timer.daemon = True
        timer.start()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes: workers that share the tests then end at one time.

    DVC's run needs no other one, so it goes on beside the one that most tests wait for.
    """
    first = ("test_engines", "test_endurance")
    items.sort(key=lambda item: (item.path.stem not in first, "slow" not in item.keywords))


def deep_update(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of `settings` with `changes`: {"sgd.epochs": 4} or nested mappings."""
    new = copy.deepcopy(settings)
    for path, value in changes.items():
        *sections, key = path.split(".")
        place = new
        for section in sections:
            place = place[section]
        place[key] = deep_update(place.get(key) or {}, value) if isinstance(value, dict) else value
    return new


@pytest.fixture(scope="session")
def paper_settings() -> dict[str, Any]:
    """params.yaml as plain YAML."""
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def smoke_settings(paper_settings) -> dict[str, Any]:
    """The smoke preset's settings, put together without the package's own code."""
    preset = yaml.safe_load((ROOT / "presets/smoke.yaml").read_text(encoding="utf-8"))
    return deep_update(paper_settings, preset)


@pytest.fixture(scope="session")
def configured(smoke_settings) -> Callable[..., Config]:
    """Make the smoke configuration with changes, named by their dotted paths."""
    return lambda changes=None: validate(deep_update(smoke_settings, changes or {}), "the test")


@pytest.fixture(autouse=True)
def denormals():
    """Numbers near zero are again what they were, where a test prepared its process as a run does.

    Hypothesis, in a test after it, refuses to draw floats otherwise.
    """
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def in_process(monkeypatch) -> Callable[..., None]:
    """Run a stage in this process, so that a test can look into it."""

    def run(*words: str) -> None:
        # this process prints on, and needs no log and no store
        monkeypatch.setattr("ghn_pipeline.system.logs.keep", lambda path: None)
        monkeypatch.setattr("ghn_pipeline.pipeline.tracking.send", lambda folder: None)
        assert cli.run(cli.parser().parse_args(words)) == 0

    return run


@pytest.fixture
def sampled_cells(
    configured, tmp_path, monkeypatch, in_process
) -> Callable[[dict[str, Any]], Config]:
    """Draw cells of NAS-Bench-201 with `ghn architectures`, in an empty folder from here on.

    The configuration, which is returned, is that of the smoke preset with changes.
    """
    monkeypatch.chdir(tmp_path)

    def sample(changes: dict[str, Any]) -> Config:
        config = configured({**CELLS, **changes})
        Path("cells.yaml").write_text(yaml.safe_dump(config.model_dump()), encoding="utf-8")
        in_process("architectures", "--config", "cells.yaml")
        return config

    return sample


@pytest.fixture(scope="session")
def cifar10_folder(pytestconfig) -> Path:
    """The folder of a verified cifar10.bin: the checkout's own, else one that is got now.

    A test that needs the real images fails where no source gives them; it does not pass unseen.
    """
    if (ROOT / "data" / cifar10.FILE_NAME).exists():
        return ROOT / "data"
    folder = pytestconfig.cache.mkdir("cifar10")
    data = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["data"]
    with FileLock(folder / "lock"):  # of several workers, one gets it
        cifar10.obtain(folder, data["sources"], data["local"], print)
    return folder


@pytest.fixture(scope="session")
def forkserver():
    """Makes processes that need not import the heavy packages again."""
    context = multiprocessing.get_context("forkserver")
    modules = ("ghn_pipeline.training.ghn", "ghn_pipeline.ranking.scoring", "mlflow.tracking")
    context.set_forkserver_preload(list(modules))
    return context


@pytest.fixture
def machine(monkeypatch) -> Callable[..., None]:
    """Make torch find so many accelerators of a kind, or none."""

    def have(kind: str | None, count: int = 1) -> None:
        found = kind and torch.device(kind)
        monkeypatch.setattr("torch.accelerator.current_accelerator", lambda check_available: found)
        monkeypatch.setattr("torch.accelerator.device_count", lambda: count)

    have(None)
    return have


@pytest.fixture
def not_linux(tmp_path) -> dict[str, str]:
    """The environment of processes that lack what macOS lacks, on what says to be an Apple M2."""
    (tmp_path / "bin").mkdir()
    sysctl = tmp_path / "bin/sysctl"
    sysctl.write_text(
        '#!/bin/sh\n[ "$*" = "-n machdep.cpu.brand_string" ] && echo Apple M2\n', encoding="utf-8"
    )
    sysctl.chmod(0o755)
    # a folder on PYTHONPATH is searched for sitecustomize.py when Python starts
    paths = [str(ROOT / "tests/not_linux"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PATH": f"{sysctl.parent}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.fixture(scope="session")
def finished(tmp_path_factory, cifar10_folder) -> Workplace:
    """A whole run of the smoke preset, from nothing, for all workers: look, do not touch."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with FileLock(f"{folder}.lock"):
        place = Workplace(folder, cifar10_folder)
        # a second worker finds nothing to be done
        for words in (["snakemake", "--cores", "2", *SMOKE], ["ghn", "track"]):
            done = place.run(*words)
            assert done.returncode == 0, done.stderr[-3000:]
    return place


@pytest.fixture(scope="session")
def workplaces(tmp_path_factory, cifar10_folder) -> Callable[[str], Workplace]:
    """Make fresh folders that several tests share."""
    return lambda name: Workplace(tmp_path_factory.mktemp(name), cifar10_folder)


@pytest.fixture
def workplace(tmp_path, cifar10_folder) -> Workplace:
    """A fresh folder with no results."""
    return Workplace(tmp_path / "place", cifar10_folder)
