"""What several tests share: settings, CIFAR-10, folders to run commands in, one finished run."""

import copy
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from filelock import FileLock

from ghn_pipeline import cli
from ghn_pipeline.config import Config, validate
from ghn_pipeline.data import cifar10

ROOT = Path(__file__).parents[1]
SMOKE = ("--configfile", "presets/smoke.yaml")
#: What makes a configuration one of NAS-Bench-201.
CELLS = {
    "space.name": "nasbench201",
    "space.max_inputs": None,
    "space.operations": ["none", "identity", "conv_1x1", "conv_3x3", "avg_pool_3x3"],
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes: workers that share the tests then end at one time."""
    items.sort(key=lambda item: "slow" not in item.keywords)


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
        monkeypatch.setattr("ghn_pipeline.logs.keep", lambda path: None)
        monkeypatch.setattr("ghn_pipeline.tracking.send", lambda folder: None)
        assert cli.run(cli.parser().parse_args(words)) == 0

    return run


@pytest.fixture
def sampled_cells(
    configured, tmp_path, monkeypatch, in_process
) -> Callable[[dict[str, Any]], Config]:
    """Draw cells of NAS-Bench-201 with `ghn sample`, in an empty folder from here on.

    The configuration, which is returned, is that of the smoke preset with changes.
    """
    monkeypatch.chdir(tmp_path)

    def sample(changes: dict[str, Any]) -> Config:
        config = configured({**CELLS, **changes})
        Path("cells.yaml").write_text(yaml.safe_dump(config.model_dump()), encoding="utf-8")
        in_process("sample", "--config", "cells.yaml")
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
    modules = ("ghn_pipeline.training.search", "ghn_pipeline.search.scoring", "mlflow.tracking")
    context.set_forkserver_preload(list(modules))
    return context


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


class Workplace:
    """A folder to run commands in, as a user's checkout is, with results of its own."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = folder
        if not (folder / "params.yaml").exists():
            self._furnish(data)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        self.environment.update(
            PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            OMP_NUM_THREADS="1",
            CUDA_VISIBLE_DEVICES="",  # the same on a machine with an accelerator
            DVC_NO_ANALYTICS="1",
            # no cluster, even where Slurm is installed: its plugin would ask for one, in vain
            SLURM_CONF=os.devnull,
        )

    def _furnish(self, data: Path) -> None:
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("params.yaml", "Snakefile", "dvc.yaml", ".dvcignore"):
            shutil.copy(ROOT / name, folder)
        for name in ("presets", "workflow", "slurm"):
            shutil.copytree(ROOT / name, folder / name)
        # DVC needs a repository, and takes the settings of the last commit to compare with
        (folder / ".dvc").mkdir()
        shutil.copy(ROOT / ".dvc/config", folder / ".dvc")
        git = ("git", "-c", "user.name=test", "-c", "user.email=test", "-C", str(folder))
        subprocess.run([*git, "init", "--quiet"], check=True)
        subprocess.run([*git, "add", "params.yaml", "dvc.yaml", ".dvc"], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", "as shipped"], check=True)
        (folder / "data").symlink_to(data)

    def start(self, *words: str, **options: Any) -> "subprocess.Popen[str]":
        """Start a command in the folder."""
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
        return subprocess.Popen(words, cwd=self.folder, env=self.environment, **{**pipe, **options})

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the folder to its end."""
        process = self.start(*words)
        out, err = process.communicate()
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def snakemake(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run the workflow at the smoke preset's scale."""
        return self.run("snakemake", "--cores", "2", *SMOKE, *words)

    def ghn(self, *words: str, changes: dict[str, Any] | None = None):
        """Run a stage at the smoke preset's scale, with `changes` as one more file."""
        files = ["params.yaml", "presets/smoke.yaml"]
        if changes is not None:
            (self.folder / "changes.yaml").write_text(yaml.safe_dump(changes), encoding="utf-8")
            files.append("changes.yaml")
        return self.run("ghn", *words, "--config", *files)

    def processes(self, verb: str) -> list[int]:
        """Return the numbers of the `ghn VERB` processes that work in the folder.

        The process that supervises one is not among them.
        """
        if not Path("/proc").exists():
            pytest.skip("processes are found through /proc, which only Linux has")
        found, parents = [], set()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                there = os.readlink(entry / "cwd") == str(self.folder.resolve())
                parent = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
            except OSError:  # gone in the meantime
                continue
            if there and verb.encode() in words and b"python" in words[0]:
                found.append(int(entry.name))
                parents.add(int(parent))
        return [number for number in found if number not in parents]

    def copy_to(self, folder: Path) -> "Workplace":
        """Return a workplace with the same results and checkpoints."""
        other = Workplace(folder, (self.folder / "data").resolve())
        for name in ("results", "checkpoints"):
            shutil.copytree(self.folder / name, folder / name)
        shutil.copy(self.folder / "mlflow.db", folder)
        return other


@pytest.fixture(scope="session")
def finished(tmp_path_factory, cifar10_folder) -> Workplace:
    """A whole run of the smoke preset, from nothing, for all workers: look, do not touch."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with FileLock(f"{folder}.lock"):
        place = Workplace(folder, cifar10_folder)
        done = place.snakemake()  # of which a second worker finds nothing to be done
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
