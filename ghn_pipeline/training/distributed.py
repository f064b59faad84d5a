"""Data-parallel workers: their start, and their communication during training."""

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

#: The longest that workers wait for one another, such as for worker 0 while it measures.
PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class Team:
    """The workers that train one model together, from the view of one; by default it is alone.

    All workers must call the same method at the same step.

    Attributes:
        rank: rank of this worker; worker 0 leads, and alone saves, measures and reports.
        size: number of workers.
        device: device of this worker.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def leads(self) -> bool:
        """Whether this is worker 0."""
        return self.rank == 0

    def part(self, batch: int) -> slice:
        """Return this worker's `batch` rows of the batch of all workers."""
        return slice(self.rank * batch, (self.rank + 1) * batch)

    def parallel(self, model: nn.Module) -> nn.Module:
        """Return a wrapper of `model` whose gradients are means over the workers.

        Each worker keeps its own buffers, such as the running statistics of batch norm.
        """
        if self.size == 1:
            return model
        # the strides of a 1×1 kernel have two equivalent forms, and copying it does no harm
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")
        return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)

    def exchange(self, parallel: nn.Module, now: bool) -> AbstractContextManager[None]:
        """Return a context for a part of a step; it exchanges gradients only if `now`."""
        if now or not isinstance(parallel, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return parallel.no_sync()  # type: ignore[no-any-return]

    def means(self, values: Sequence[float]) -> list[float]:
        """Return the mean of each value over the workers."""
        return [total / self.size for total in self._over_all(values, dist.ReduceOp.SUM)]

    def largest(self, value: int) -> int:
        """Return the largest of the workers' values."""
        return int(self._over_all([value], dist.ReduceOp.MAX)[0])

    def share(self, value: Value) -> Value:
        """Return the value of worker 0."""
        box = [value]
        if self.size > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def stop(self, error: UserError) -> NoReturn:
        """End all workers, each of which must call this.

        Raises:
            UserError: worker 0 raises `error`.
            SystemExit: the other workers exit.
        """
        if self.leads:
            raise error
        # exit without an error, because torchrun ends worker 0 early if another worker fails
        sys.exit(0)

    def _over_all(self, values: Sequence[float], operation: dist.ReduceOp.RedOpType) -> list[float]:
        if self.size == 1:
            return list(values)
        # on the host: not every accelerator has float64, and nothing there need be waited for
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, operation)
        return tensor.tolist()  # type: ignore[no-any-return]


ALONE = Team()


@contextmanager
def joined(device: torch.device, workers: int) -> Iterator[Team]:
    """Join the other workers if torchrun has started this process, else work alone.

    Each worker has an accelerator of its own, if the machine has that many.

    Args:
        device: the kind of device.
        workers: the required number of workers.

    Raises:
        UserError: the number of workers is another one, or a worker is lost.
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
    stop_with_parent(os.getppid())  # a killed torchrun cannot stop this process
    team = Team(int(os.environ["RANK"]), workers, device)
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
        yield team
    except RuntimeError as error:
        # only their text identifies the errors of gloo
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            reason = textwrap.shorten(str(error), 120)
            raise UserError(f"worker {team.rank} has lost another worker ({reason})") from error
        raise
    dist.destroy_process_group()


def _backend(device: torch.device, *, alone: bool) -> str:
    """Return the backend that exchanges tensors.

    Args:
        device: the kind of device.
        alone: whether no other worker uses this one's accelerator.

    Raises:
        UserError: there is no backend for such a device.
    """
    # NCCL refuses two workers on one accelerator
    own = dist.get_default_backend_for_device(device) if alone else "gloo"
    if own == "gloo" and device.type not in ("cpu", "cuda"):
        raise UserError(
            f"several processes cannot train one network on this machine's {device.type.upper()}: "
            "set finalists.processes and mobile.processes to 1, or compute.device to cpu."
        )
    # gloo exchanges the numbers on the host for any device of the model
    return own if own == "gloo" else f"cpu:gloo,{device.type}:{own}"


def launch(workers: int, nodes: int, threads: int, program: Sequence[str]) -> None:
    """Run a program as several workers, and return once all have succeeded.

    They run on this machine, or on several machines of a Slurm job, one of which is this one.

    Args:
        workers: number of workers on all machines together.
        nodes: number of machines of a Slurm job.
        threads: threads of each worker.
        program: a script with its arguments, or "-m" and a module with its arguments.

    Raises:
        UserError: a worker failed, or a signal stopped them.
    """
    # otherwise torchrun prints that it chooses a number itself
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    job = os.environ.get("SLURM_JOB_ID")
    # Snakemake removes the variable, and then the job has as many nodes as were requested
    given = int(os.environ.get("SLURM_JOB_NUM_NODES", nodes)) if job else 1
    if job and nodes > 1 and given >= nodes:
        _launch_on_nodes(job, workers, nodes, program)
        return
    if nodes > 1:
        where = f"in a Slurm job of {nodes} nodes"
        print(f"not {where}, so all {workers} workers run on this machine", flush=True)
    agent(["--standalone", f"--nproc-per-node={workers}", *program])


def agent(words: Sequence[str]) -> None:
    """Do as `torchrun WORDS` does, in this process.

    Raises:
        UserError: a worker failed, a signal stopped them, or the nodes did not find each other.
    """
    # Slurm's signal ahead of a time limit is for the workers, which set their own handlers
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # torchrun would log the failures that the messages below report
    logging.disable()
    # the fault handler needs stderr to be a file, and ours may also write to a log
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
            f"{told}. Their messages stand above. The same command goes on from the last "
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
    # srun gets all options here, because a workflow engine may have removed Slurm's variables
    srun = [
        "srun", f"--jobid={job}", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1",
        "--overlap", "--cpu-bind=none", "--mpi=none", "--export=ALL", "--input=none",
        "--kill-on-bad-exit=1",
    ]  # fmt: skip
    torchrun = [
        f"--nnodes={nodes}", f"--nproc-per-node={workers // nodes}", "--rdzv-backend=c10d",
        f"--rdzv-endpoint={socket.gethostname()}:{port}", f"--rdzv-id={job}",
    ]  # fmt: skip
    # the shell ignores the signal from the first moment, before Python has started
    deaf = ["sh", "-c", 'trap "" USR1; exec "$@"', "sh"]
    python = [sys.executable, "-m", __name__]
    try:
        process = subprocess.Popen(
            [*srun, *deaf, *python, *torchrun, *program],
            # otherwise an agent warns at length if another one has ended
            env={**os.environ, "TORCH_CPP_LOG_LEVEL": "ERROR"},
        )
    except OSError as error:
        raise UserError(f"cannot start srun: {error.strerror}") from error
    with _passed_on(process):
        code = process.wait()
    if code:
        raise UserError(
            f"srun ended with {_named(code)}. The messages of the workers stand above. The same "
            "command goes on from the last checkpoint."
        )


@contextmanager
def _passed_on(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """End srun together with this process; the workers then have no time to save."""
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
