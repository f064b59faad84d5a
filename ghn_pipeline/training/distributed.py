"""Data-parallel workers: how they are started, and what they must agree on while they train."""

import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.processes import is_worker, stop_with_parent

Value = TypeVar("Value")

CPU = torch.device("cpu")

#: How long a worker waits for the others: worker 0 measures while they wait.
PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class Team:
    """The workers that train one model together, as one of them sees it; by default it is alone.

    What a method does, all workers must do at the same step.

    Attributes:
        rank: of this worker; worker 0 leads: it alone saves, measures and reports.
        size: workers in all.
        device: of this worker.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def leads(self) -> bool:
        """Whether this is worker 0."""
        return self.rank == 0

    def part(self, batch: int) -> slice:
        """Return this worker's rows of the batch of all workers, of which each has `batch`."""
        return slice(self.rank * batch, (self.rank + 1) * batch)

    def parallel(self, model: nn.Module) -> nn.Module:
        """Return what to call in place of `model`, so that gradients are means over the workers.

        Buffers, such as the running statistics of batch norm, are each worker's own.
        """
        if self.size == 1:
            return model
        # of a 1×1 kernel the strides may be written in two ways, and of a copy there is no harm
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")
        return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)

    def exchange(self, parallel: nn.Module, now: bool) -> AbstractContextManager[None]:
        """Run and differentiate a part of a step within this; only the last one exchanges."""
        if now or not isinstance(parallel, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return parallel.no_sync()  # type: ignore[no-any-return]

    def mean(self, value: float) -> float:
        """Return the mean over the workers."""
        return self._over_all(value, dist.ReduceOp.SUM) / self.size

    def largest(self, value: int) -> int:
        """Return the largest of the workers' values."""
        return int(self._over_all(value, dist.ReduceOp.MAX))

    def share(self, value: Value) -> Value:
        """Return what worker 0 has given."""
        box = [value]
        if self.size > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def stop(self, error: UserError) -> NoReturn:
        """End all workers, which agree that they must.

        Raises:
            UserError: in worker 0, the one given.
            SystemExit: in the others.
        """
        if self.leads:
            raise error
        # as if well: torchrun would end worker 0, which has things to do, once another has failed
        sys.exit(0)

    def _over_all(self, value: float, operation: dist.ReduceOp.RedOpType) -> float:
        if self.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64)  # not every accelerator has float64
        dist.all_reduce(tensor, operation)
        return float(tensor)


ALONE = Team()


@contextmanager
def joined(device: torch.device, workers: int) -> Iterator[Team]:
    """Join the other workers, where torchrun has started this process; else work alone.

    Each worker has an accelerator of its own, if the machine has that many.

    Args:
        device: the kind of device.
        workers: how many there must be.

    Raises:
        UserError: there is another number of workers, or one of them is lost.
    """
    if not is_worker():
        yield Team(device=device)
        return
    if (started := int(os.environ["WORLD_SIZE"])) != workers:
        raise UserError(
            f"{started} workers were started, and the configuration asks for {workers}."
        )
    here, local = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    cards = torch.accelerator.device_count() if device.type != "cpu" else 0
    if cards:
        device = torch.device(device.type, local % cards)
        torch.accelerator.set_device_index(local % cards)
    backend = _backend(device, alone=cards >= here)
    stop_with_parent(os.getppid())  # torchrun, if it is killed, cannot tell this process any more
    team = Team(int(os.environ["RANK"]), workers, device)
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
        yield team
    except RuntimeError as error:
        # of gloo's errors only the text says that they are
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            reason = textwrap.shorten(str(error), 120)
            raise UserError(f"worker {team.rank} has lost another worker ({reason})") from error
        raise
    dist.destroy_process_group()


def _backend(device: torch.device, *, alone: bool) -> str:
    """Return what exchanges tensors; `alone`: no other worker uses this one's accelerator.

    Raises:
        UserError: nothing does on such a device.
    """
    # NCCL refuses two workers on one accelerator
    own = dist.get_default_backend_for_device(device) if alone else "gloo"
    if own == "gloo" and device.type not in ("cpu", "cuda"):
        raise UserError(
            f"several processes cannot train one network on this machine's {device.type.upper()}: "
            "set finalists.processes and mobile.processes to 1, or compute.device to cpu."
        )
    # numbers of the host go by gloo, wherever the model is
    return own if own == "gloo" else f"cpu:gloo,{device.type}:{own}"


def launch(workers: int, nodes: int, threads: int, program: Sequence[str]) -> None:
    """Run a program as several workers, and return when all have ended well.

    They run on this machine, or in a Slurm job on several of its machines, of which this is one.

    Args:
        workers: how many, on all machines together.
        nodes: on how many machines of a Slurm job.
        threads: of each worker.
        program: a script with its arguments, or "-m" and a module with its own.

    Raises:
        UserError: a worker failed, or a signal stopped them.
    """
    # or else torchrun says that it chooses a number itself
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    job = os.environ.get("SLURM_JOB_ID")
    # Snakemake takes the number away, but then the job has as many as were asked for
    given = int(os.environ.get("SLURM_JOB_NUM_NODES", nodes)) if job else 1
    if job and nodes > 1 and given >= nodes:
        _launch_on_nodes(job, workers, nodes, program)
        return
    if nodes > 1:
        where = f"in a Slurm job of {nodes} nodes"
        print(f"not {where}: all {workers} workers run on this machine", flush=True)
    agent(["--standalone", f"--nproc-per-node={workers}", *program])


def agent(words: Sequence[str]) -> None:
    """Do as `torchrun WORDS` does, in this process.

    Raises:
        UserError: a worker failed, a signal stopped them, or the nodes did not find each other.
    """
    # Slurm's signal ahead of a time limit is for the workers: they replace what they inherit
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # torchrun's own account of what is told below
    logging.disable()
    # it writes to the file below stderr, and ours may be a log as well
    warnings.filterwarnings("ignore", "Unable to enable fault handler")
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.run import main

    try:
        main(list(words))
    except ChildFailedError as error:
        ends = {rank: failure.exitcode for rank, failure in sorted(error.failures.items())}
        told = "; ".join(f"worker {rank} ended with {_named(code)}" for rank, code in ends.items())
        raise UserError(
            f"{told}. What they said stands above. The same command goes on from the last "
            "checkpoint."
        ) from error
    except SignalException as error:
        raise UserError(
            f"stopped by {error.sigval.name}. The same command goes on from the last checkpoint."
        ) from error
    except RendezvousError as error:
        raise UserError(f"the machines did not find each other: {error}") from error


def _named(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _launch_on_nodes(job: str, workers: int, nodes: int, program: Sequence[str]) -> None:
    """Let srun start one agent on each node; they find each other at a port of this one."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    # all is said here: a workflow engine may have taken Slurm's variables away
    srun = [
        "srun", f"--jobid={job}", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1",
        "--overlap", "--cpu-bind=none", "--mpi=none", "--export=ALL", "--input=none",
        "--kill-on-bad-exit=1",
    ]  # fmt: skip
    torchrun = [
        f"--nnodes={nodes}", f"--nproc-per-node={workers // nodes}", "--rdzv-backend=c10d",
        f"--rdzv-endpoint={socket.gethostname()}:{port}", f"--rdzv-id={job}",
    ]  # fmt: skip
    # ignored from the first moment, not only once Python has started
    deaf = ["sh", "-c", 'trap "" USR1; exec "$@"', "sh"]
    python = [sys.executable, "-m", __name__]
    try:
        process = subprocess.Popen(
            [*srun, *deaf, *python, *torchrun, *program],
            # or else an agent warns at length when another has gone
            env={**os.environ, "TORCH_CPP_LOG_LEVEL": "ERROR"},
        )
    except OSError as error:
        raise UserError(f"cannot start srun: {error.strerror}") from error
    with _passed_on(process):
        code = process.wait()
    if code:
        raise UserError(
            f"srun ended with {_named(code)}. What the workers said stands above. The same command "
            "goes on from the last checkpoint."
        )


@contextmanager
def _passed_on(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """End srun with this process, or else it goes on; the workers have no time to save then."""
    signals = (signal.SIGTERM, signal.SIGINT)
    old = [signal.signal(s, lambda *_: process.terminate()) for s in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, old, strict=True):
            signal.signal(number, handler)


if __name__ == "__main__":
    try:
        agent(sys.argv[1:])
    except UserError as error:
        sys.exit(f"{socket.gethostname()}: {error}")
