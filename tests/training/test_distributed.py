"""Several workers train as one: the same numbers, stopped together, none left behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from small_trainings import (
    content,
    noise_images,
    same,
    small_config,
    small_finalist_training,
    small_space,
)

from ghn_pipeline.data.images import stream
from ghn_pipeline.model.network import Network
from ghn_pipeline.pipeline.build import finalist_recipe
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.training.batches import training_batch
from ghn_pipeline.training.distributed import ALONE, Team, joined, launch
from ghn_pipeline.training.finalist import Finalist
from ghn_pipeline.training.fit import Training, fit

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
STEPS, BATCH = 20, 8  # images of both workers together


# ---- the program that the workers run ----------------------------------------------------------


def small_team_training(team: Team, pause: float = 0.0, workers: int = 2) -> Training:
    """A finalist with all regularisation; `pause` seconds go by in each step.

    Of two workers with half of the batch each, or of one with twice as much.
    """
    changes = {
        **{"workers": workers, "processes": 1, "nodes": 1, "epochs": 5, "warmup_epochs": 0},
        **{"batch": BATCH // workers, "norm_batch": BATCH // 2},
        **{"learning_rate": 0.1 / workers, "cutout": 4},
    }
    config = small_config(ROOT, {"finalists": changes})
    splits, space = noise_images(config), small_space(config)
    network = Network(space.modules(space.sample(Random(5), 3)), 8)
    recipe = finalist_recipe(config, "best")
    model = Finalist(network, recipe, stream(team.rank))  # others start from worker 0's weights
    training = small_finalist_training("best", model, splits, config, recipe, team)
    assert training.steps == STEPS

    def losses(step):
        time.sleep(pause)
        return training.losses(step)

    return replace(training, losses=losses)


def work(folder: Path, pause: float, workers: int) -> None:
    torch.set_num_threads(1)
    with joined(CPU, workers) as team:
        (folder / f"worker{team.rank}").write_text(str(os.getpid()), encoding="utf-8")
        training = small_team_training(team, pause)
        fit(
            training,
            folder / "c",
            "d",
            made_by="it",
            checkpoint_seconds=0,
            log_seconds=60,
            device=CPU,
        )


def main() -> None:
    """Start the workers, or be one of them."""
    folder, pause, nodes = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    try:
        if "RANK" in os.environ:
            work(folder, pause, 2)
        else:
            launch(2, nodes, 1, [__file__, *sys.argv[1:]])
    except UserError as error:
        sys.exit(f"{type(error).__name__}: {error}")


# ---- started from here -------------------------------------------------------------------------


def start(folder: Path, pause: float = 0.0, nodes: int = 1, **environment: str):
    """Start the workers through a process of their own."""
    folder.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    return subprocess.Popen(
        [sys.executable, __file__, str(folder), str(pause), str(nodes)],
        env={**kept, **environment},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def ended(process) -> str:
    """What the processes said on the way to a good end."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out + err


def begun(folder: Path) -> list[int]:
    """Wait until some steps are saved; return the workers' processes."""
    end = time.monotonic() + 60
    while not (folder / "c").exists() or saved_step(folder) < 3:
        assert time.monotonic() < end
        time.sleep(0.05)
    return [int((folder / f"worker{rank}").read_text(encoding="utf-8")) for rank in range(2)]


def saved_step(folder: Path) -> int:
    return torch.load(folder / "c", weights_only=True)["step"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict:
    """The checkpoint of two workers that were left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    said = ended(start(folder))
    assert "Traceback" not in said
    return content(folder / "c")


def close(a: dict, b: dict) -> bool:
    """Whether two checkpoints hold the same weights, statistics and curve, but for rounding."""
    for key, value in b["model"].items():
        torch.testing.assert_close(a["model"][key], value, rtol=0, atol=1e-4)
    # the curve is of all images, not of one worker's
    assert [loss for _, loss, _ in a["log"]["curve"]] == pytest.approx(
        [loss for _, loss, _ in b["log"]["curve"]], abs=1e-4
    )
    return a["step"] == b["step"] == STEPS


def test_two_workers_are_one_with_twice_the_batch(undisturbed, tmp_path):
    one = small_team_training(ALONE, workers=1)
    fit(one, tmp_path / "c", "d", made_by="it", checkpoint_seconds=1e9, log_seconds=60, device=CPU)
    assert close(undisturbed, content(tmp_path / "c"))
    assert set(undisturbed["log"]["observed"]) == {STEPS}


def test_two_workers_train_where_there_is_no_linux(undisturbed, not_linux, tmp_path):
    ended(start(tmp_path / "f", **not_linux))
    assert same(content(tmp_path / "f" / "c"), undisturbed)


def test_a_killed_worker_ends_all_and_the_same_command_goes_on(undisturbed, tmp_path):
    process = start(tmp_path / "f", pause=0.1)
    workers = begun(tmp_path / "f")
    os.kill(workers[1], signal.SIGKILL)
    killed = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - killed < 10
    assert process.returncode != 0
    assert "worker 1 ended with SIGKILL" in err
    assert "The same command goes on" in err
    assert "Traceback" not in err
    assert 3 <= saved_step(tmp_path / "f") < STEPS
    shutil.copy(tmp_path / "f/c", tmp_path / "c")
    ended(start(tmp_path / "f"))
    assert same(content(tmp_path / "f" / "c"), undisturbed)
    # one process goes on with the work of both
    alone = small_team_training(ALONE)
    fit(
        alone, tmp_path / "c", "d", made_by="it", checkpoint_seconds=1e9, log_seconds=60, device=CPU
    )
    assert close(content(tmp_path / "c"), undisturbed)


def test_a_signal_ahead_of_a_time_limit_stops_all_at_one_step(undisturbed, tmp_path):
    process = start(tmp_path / "f", pause=0.1)
    # as Slurm does: all processes of the step
    for pid in (process.pid, *begun(tmp_path / "f")):
        os.kill(pid, signal.SIGUSR1)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    step = saved_step(tmp_path / "f")
    # worker 0 speaks for all, and no worker was lost by another
    assert err.count(f"stopped by SIGUSR1 at step {step} of {STEPS}") == 1
    assert "OutOfTimeError" in err
    assert "lost" not in err
    assert "Traceback" not in err
    ended(start(tmp_path / "f"))
    assert same(content(tmp_path / "f" / "c"), undisturbed)


@pytest.mark.parametrize("system", ["Linux", "another"])
def test_no_worker_is_left_behind_when_the_command_is_killed(system, not_linux, tmp_path):
    process = start(tmp_path / "f", pause=0.1, **(not_linux if system == "another" else {}))
    begun(tmp_path / "f")
    process.kill()
    # the workers hold its pipes, so they have ended as well
    _, err = process.communicate(timeout=60)
    assert f"stopped by SIGTERM at step {saved_step(tmp_path / 'f')} of {STEPS}" in err


FAKE_SRUN = """#!/bin/sh
# two nodes, which are this machine; its own options end at the first word without a dash
echo "$@" > "$(dirname "$0")/words"
while [ "${1#-}" != "$1" ]; do shift; done
"$@" & first=$!
"$@" || exit
wait $first
"""


def test_in_a_slurm_job_each_node_has_an_agent(undisturbed, tmp_path):
    srun = tmp_path / "srun"
    srun.write_text(FAKE_SRUN, encoding="utf-8")
    srun.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    ended(start(tmp_path / "f", nodes=2, SLURM_JOB_ID="7", PATH=path))
    assert same(content(tmp_path / "f" / "c"), undisturbed)
    words = (tmp_path / "words").read_text(encoding="utf-8").split()
    assert {"--jobid=7", "--nodes=2", "--ntasks=2", "--nproc-per-node=1"} <= set(words)


def test_another_number_of_workers_is_refused(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="3 workers"), joined(CPU, 2):
        pass


@pytest.fixture
def joining(monkeypatch):
    """Join two workers of one machine with accelerators; return the team's device and backend."""
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "1")
    chosen = []
    monkeypatch.setattr("ghn_pipeline.training.distributed.stop_with_parent", lambda parent: None)
    monkeypatch.setattr("torch.accelerator.set_device_index", chosen.append)
    monkeypatch.setattr("torch.distributed.init_process_group", lambda b, timeout: chosen.append(b))
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)

    def join(kind: str, cards: int):
        monkeypatch.setattr("torch.accelerator.device_count", lambda: cards)
        with joined(torch.device(kind), 2) as team:
            return team.device, *chosen

    return join


@pytest.mark.parametrize(
    ("kind", "cards", "device", "backend"),
    [
        ("cuda", 4, "cuda:1", "cpu:gloo,cuda:nccl"),
        ("cuda", 1, "cuda:0", "gloo"),  # NCCL refuses two workers on one card
        ("xpu", 2, "xpu:1", "cpu:gloo,xpu:xccl"),
    ],
)
def test_each_worker_has_an_accelerator(kind, cards, device, backend, joining):
    device = torch.device(device)
    assert joining(kind, cards) == (device, device.index, backend)


@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_two_workers_on_one_accelerator_that_cannot_be_shared_are_refused(kind, joining):
    said = f"several processes cannot train one network on this machine's {kind.upper()}: set "
    with pytest.raises(UserError, match=said):
        joining(kind, 1)


# ---- batches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 5])  # four steps are an epoch
def test_the_workers_batches_are_parts_of_one(step):
    config = small_config(ROOT, {"finalists": {"batch": 8}})
    splits = noise_images(config)
    settings = {"batch": 8, "padding": 1, "seed": 3}
    images, labels = training_batch(splits, step, **settings)
    parts = [
        training_batch(splits, step, **settings, part=Team(rank, 4).part(2)) for rank in range(4)
    ]
    assert torch.equal(torch.cat([part[0] for part in parts]), images)
    assert torch.equal(torch.cat([part[1] for part in parts]), labels)
    assert all(len(part[1]) == 2 for part in parts)


if __name__ == "__main__":
    main()
