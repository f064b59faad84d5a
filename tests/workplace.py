"""A folder to run the project's commands in, as a user's checkout is."""

import os
import shutil
import subprocess
import sys
import uuid
from itertools import pairwise
from pathlib import Path
from typing import Any

import leftovers
import pytest
import yaml

from ghn_pipeline.pipeline.tracking import WHEN

ROOT = Path(__file__).parents[1]
SMOKE = ("--configfile", "presets/smoke.yaml")
#: How the command line of a stage names its program.
PROGRAM = (b"/ghn", b"ghn_pipeline.cli")
#: Marks of processes: the folder that they work in, and the command that they belong to.
WORKPLACE, COMMAND = "GHN_WORKPLACE", "GHN_COMMAND"


class Workplace:
    """A folder to run commands in, as a user's checkout is, with results of its own.

    Its jobs send nothing to MLflow, unless a test takes `WHEN` out of its environment.
    """

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
            **{WORKPLACE: str(folder), WHEN: "later"},
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
        options = {"env": self.environment, **pipe, **options}
        return subprocess.Popen(words, cwd=self.folder, **options)

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the folder to its end; left by an exception, nothing of it goes on."""
        mark = uuid.uuid4().hex
        process = self.start(*words, env={**self.environment, COMMAND: mark})
        try:
            out, err = process.communicate()
        except BaseException:  # a time limit or Ctrl-C
            leftovers.end(COMMAND, mark, leftovers.GRACE)
            raise
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def running(self) -> list[int]:
        """Return all processes that were started in the folder, and theirs, in no order."""
        return leftovers.marked(WORKPLACE, str(self.folder))

    def kill(self) -> None:
        """Kill all of them."""
        leftovers.end(WORKPLACE, str(self.folder))

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
        parents = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                there = os.readlink(entry / "cwd") == str(self.folder.resolve())
                parent = leftovers.parent_of(int(entry.name))
            except OSError:  # gone in the meantime
                continue
            called = [after for word, after in pairwise(words) if word.endswith(PROGRAM)]
            if there and called == [verb.encode()]:
                parents[int(entry.name)] = parent
        # a supervisor may have no child yet, and a child of the job (git, for one) still has the
        # command line of the job before it has its own
        return [n for n, p in parents.items() if p in parents and parents[p] not in parents]

    def copy_to(self, folder: Path) -> "Workplace":
        """Return a workplace with the same results and checkpoints."""
        other = Workplace(folder, (self.folder / "data").resolve())
        for name in ("results", "checkpoints"):
            shutil.copytree(self.folder / name, folder / name)
        shutil.copy(self.folder / "mlflow.db", folder)
        return other
