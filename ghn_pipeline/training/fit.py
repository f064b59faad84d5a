"""The training loop of graph hypernetworks, one-shot models and single networks."""

import json
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, NoReturn

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ghn_pipeline.system.compute import synchronize
from ghn_pipeline.system.errors import OutOfTimeError, UserError
from ghn_pipeline.system.files import write_atomically
from ghn_pipeline.system.progress import Progress
from ghn_pipeline.system.schema import Count, Index, Schema, Seconds, faults
from ghn_pipeline.training import checkpoint
from ghn_pipeline.training.distributed import ALONE, Team
from ghn_pipeline.training.measured import Measured


@dataclass
class Training:
    """A training. All randomness is a function of the step, so a checkpoint holds no generators.

    Attributes:
        name: name of the stage.
        model: the model with the parameters.
        optimizer: the optimizer of these parameters.
        losses: function from a step, counted from 0, to the terms of its loss; each term is
            differentiated before the next one is computed.
        rate: function from a step to its learning rate.
        steps: number of steps.
        clip: largest norm of the gradient, or None.
        observe: measurements by the number of steps after which they are taken; each returns a dict
            of numbers.
        describe: function from a step to its description, for the report of a loss that is not
            finite.
        team: the workers of the training; `losses` covers this worker's part of the batch.
        averaged: the running mean of the model's weights, or None.
    """

    name: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    losses: Callable[[int], Iterable[Tensor]]
    rate: Callable[[int], float]
    steps: int
    clip: float | None = None
    observe: Mapping[int, Callable[[], dict[str, float]]] = field(default_factory=dict)
    describe: Callable[[int], Any] = lambda step: None
    team: Team = ALONE
    averaged: AveragedModel | None = None

    @property
    def result(self) -> nn.Module:
        """The trained model: the running mean if there is one, else the model."""
        return self.model if self.averaged is None else self.averaged.module


@dataclass
class Log:
    """The measurements of a training so far.

    Attributes:
        curve: entries (steps done, mean loss since the last entry, learning rate).
        window: sum and number of the losses since the last entry.
        observed: the measurements by steps done, with the "seconds" of training until then.
        seconds: seconds of training over all resumes, times the number of workers.
    """

    curve: list[tuple[int, float, float]] = field(default_factory=list)
    window: list[float] = field(default_factory=lambda: [0.0, 0])
    observed: dict[int, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0


class SavedLog(Schema):
    """The log in a checkpoint, with the attributes of `Log`."""

    curve: list[tuple[Count, float, float]]
    window: Annotated[list[float], Field(min_length=2, max_length=2)]
    observed: dict[Count, Measured]
    seconds: Seconds


class Checkpoint(Schema):
    """A stopped training; the objects that load its tensors check them."""

    digest: str
    step: Index
    model: dict[str, Any]
    optimizer: dict[str, Any]
    averaged: dict[str, Any] | None
    log: SavedLog


def fit(
    training: Training,
    path: Path,
    digest: str,
    *,
    made_by: str,
    checkpoint_seconds: float,
    log_seconds: float,
    device: torch.device,
    saved_as: Callable[[Log], None] = lambda log: None,
) -> Log:
    """Train to the end, from the checkpoint at `path` if there is one.

    After a kill at any moment, another call resumes and reaches the same result. On a CPU with the
    same number of threads, the results are equal bit for bit.

    Each worker of a team calls this, and all stop at the same step. Worker 0 alone reads and
    writes files, observes and reports; only its log holds the measurements. More than two workers
    sum gradients in another order after a restart, so their result is the same except for rounding.

    Args:
        training: the training.
        path: path of the checkpoint.
        digest: digest of the settings, which the checkpoint must have.
        made_by: the command to name in messages about the checkpoint.
        checkpoint_seconds: seconds between checkpoints.
        log_seconds: seconds between lines of progress.
        device: the device to train on.
        saved_as: function that receives the log of each checkpoint once it is on the disk.

    Raises:
        UserError: a loss is not finite, a signal asks to stop, or the checkpoint does not fit.
        SystemExit: the other workers exit if worker 0 raises `UserError`.
    """
    with _only_writer(path, training.team), _asked_to_stop() as asked:
        step, log = _resume(training, path, digest, made_by)
        progress = None
        if training.team.leads:
            progress = Progress(training.name, training.steps, step, log_seconds)
        unread = Unread(training, step, device)
        saved = begun = time.monotonic()
        while step < training.steps:
            unread.add(_one_step(training, step, unread.failed))
            step += 1
            late = time.monotonic() - saved >= checkpoint_seconds
            report = int(progress is not None and (late or progress.due(step)))
            # the workers compare these on the host, so that all read and stop at the same step
            most = training.team.largest(2 * (asked[0] if asked else 0) + report)
            asked_by, report = divmod(most, 2)
            last = step == training.steps
            if report or asked_by or last or step in training.observe or _enters(training, step):
                unread.read(path, log)
            begun = _observe(training, step, log, begun, device)
            if progress is not None:
                if late or asked_by or last:
                    _save(training, path, digest, step, log)
                    saved_as(log)
                    saved = time.monotonic()
                if report or last:
                    progress.at(step, lambda: f"loss {unread.latest:.4f}")
            if asked_by and not last:
                training.team.stop(_stopped(training, step, path, asked_by))
        if progress is not None:
            progress.close()
        return log


def _stopped(training: Training, step: int, path: Path, number: int) -> UserError:
    return (OutOfTimeError if number == signal.SIGUSR1 else UserError)(
        f"{training.name}: stopped by {signal.Signals(number).name} at step {step} of "
        f"{training.steps}; saved in {path}. The same command goes on from there."
    )


def _only_writer(path: Path, team: Team) -> AbstractContextManager[None]:
    return checkpoint.only_writer(path) if team.leads else nullcontext()


def _one_step(training: Training, step: int, failed: Tensor) -> tuple[Tensor, Tensor]:
    """Make one step without reading from the device; return its loss and its gradient's norm.

    Args:
        training: the training.
        step: counted from 0.
        failed: 1 if a loss or a gradient has not been finite, else 0; this step updates it. Once it
            is 1, no step changes the weights, so they stay those of the step at fault.
    """
    for group in training.optimizer.param_groups:
        group["lr"] = training.rate(step)
    value = _differentiated(training, step)
    reached = [p for p in training.model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in reached if p.grad is not None])
    failed.logical_or_(~(value + norm).isfinite())
    if training.clip is not None:
        nn.utils.clip_grads_with_norm_(reached, training.clip, norm)
    training.optimizer.found_inf = failed  # type: ignore[attr-defined]  # read by fused optimizers
    training.optimizer.step()
    if training.averaged is not None:
        training.averaged.update_parameters(training.model)
    return value, norm


def _differentiated(training: Training, step: int) -> Tensor:
    """Fill the gradients of a step, and return its loss."""
    training.optimizer.zero_grad(set_to_none=True)
    terms = []
    for loss in training.losses(step):
        terms.append(loss.detach())
        loss.backward()  # type: ignore[no-untyped-call]
    return reduce(torch.add, terms)


class Unread:
    """Losses and gradients' norms of the last steps, which are still on the device.

    Reading them waits for the device, so they are read only where a report, a measurement or a
    checkpoint is due.

    Args:
        training: the training.
        step: the next step, counted from 0.
        device: the device.

    Attributes:
        failed: see `_one_step`.
        latest: the last loss that was read.
    """

    def __init__(self, training: Training, step: int, device: torch.device) -> None:
        self.training, self.step = training, step
        self.failed = torch.zeros((), device=device)
        self.latest = math.nan
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def add(self, pair: tuple[Tensor, Tensor]) -> None:
        """Add the loss and the norm of a step."""
        self.pairs.append(pair)

    def read(self, path: Path, log: Log) -> None:
        """Enter the losses into `log`; the workers of a team call this at the same step.

        Raises:
            UserError: a loss or a gradient was not finite.
        """
        numbers = torch.stack([number for pair in self.pairs for number in pair]).cpu().tolist()
        losses = self.training.team.means(numbers[::2])
        for loss, norm in zip(losses, numbers[1::2], strict=True):
            if not math.isfinite(loss + norm):
                _report_not_finite(self.training, self.step, loss, path, log)
            self.step += 1
            _enter(self.training, self.step, loss, log)
        self.pairs, self.latest = [], loss


def _enters(training: Training, step: int) -> bool:
    """Return whether the curve has an entry after this number of steps."""
    return step % max(1, training.steps // 200) == 0 or step == training.steps


def _enter(training: Training, step: int, loss: float, log: Log) -> None:
    log.window = [log.window[0] + loss, log.window[1] + 1]
    if _enters(training, step):
        log.curve.append((step, log.window[0] / log.window[1], training.rate(step - 1)))
        log.window = [0.0, 0]


def _observe(training: Training, step: int, log: Log, begun: float, device: torch.device) -> float:
    """Count the time since `begun` as training, then measure; return the time after measuring."""
    if step in training.observe:
        synchronize(device)  # queued work belongs to the cost of training
    now = time.monotonic()
    log.seconds += (now - begun) * training.team.size
    if step not in training.observe or not training.team.leads:
        return now
    log.observed[step] = {**training.observe[step](), "seconds": log.seconds}
    # the time of measuring is no part of the training's cost
    return time.monotonic()


def _report_not_finite(
    training: Training, step: int, loss: float, path: Path, log: Log
) -> NoReturn:
    report = path.with_suffix(".not-finite.json")
    _differentiated(training, step)  # later steps may have replaced its gradients
    content = {
        "training": training.name,
        "step": step,
        "loss": str(loss),
        "learning_rate": training.rate(step),
        "recent_losses": log.curve[-10:],
        "largest_parameters": {
            name: str(float(p.detach().abs().max()))  # JSON has no NaN
            for name, p in training.model.named_parameters()
        },
        "gradients_not_finite": [
            name
            for name, p in training.model.named_parameters()
            if p.grad is not None and not p.grad.isfinite().all()
        ],
        "of_the_step": training.describe(step),
    }
    if training.team.leads:
        write_atomically(report, json.dumps(content, indent=1))
    kept = f"; the last good checkpoint at {path} is untouched" if path.exists() else ""
    training.team.stop(
        UserError(
            f"{training.name}: at step {step} the loss is {loss} or its gradient is not finite. "
            f"Details are in {report}{kept}. A smaller learning rate or a smaller clip may help."
        )
    )


def _save(training: Training, path: Path, digest: str, step: int, log: Log) -> None:
    state = {
        "step": step,
        "model": training.model.state_dict(),
        "optimizer": training.optimizer.state_dict(),
        "averaged": None if training.averaged is None else training.averaged.state_dict(),
        "log": vars(log),
    }
    checkpoint.save(path, state, digest)


def _resume(training: Training, path: Path, digest: str, made_by: str) -> tuple[int, Log]:
    found = training.team.leads and path.exists()
    # all workers take what worker 0 read, because a shared folder may show an older file
    state = training.team.share(checkpoint.load(path, digest, made_by) if found else None)
    if state is None:
        return 0, Log()
    try:
        saved = Checkpoint.model_validate(state)
        _check_steps(saved, training.steps)
        training.model.load_state_dict(saved.model)
        training.optimizer.load_state_dict(saved.optimizer)
        if training.averaged is not None:
            training.averaged.load_state_dict(saved.averaged or {})
        _check_tensors(training)
    except ValidationError as error:
        raise _not_whole(path, faults(error)) from error
    # torch's own checks raise all kinds of errors
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _not_whole(path, shorten(f"{type(error).__name__}: {error}", 200)) from error
    return saved.step, Log(**state["log"])


def _not_whole(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} cannot be resumed: it was edited, or is of another network ({reason}). Move or "
        "delete it to train from the start."
    )


def _check_steps(saved: Checkpoint, steps: int) -> None:
    """Raise ValueError if a checkpoint, or its log, has more steps than it can have."""
    done = [step for step, *_ in saved.log.curve]
    if saved.step > steps:
        raise ValueError(f"step {saved.step} of {steps}")
    if done != sorted(set(done)) or max([*done, *saved.log.observed, 0]) > saved.step:
        raise ValueError(f"the log is not one of the first {saved.step} steps")


def _check_tensors(training: Training) -> None:
    """Raise ValueError if a tensor is not finite, or the optimizer's state has another shape."""
    for name, tensor in training.model.state_dict().items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} is not finite")
    for parameter, state in training.optimizer.state.items():
        for key, value in state.items():
            if not isinstance(value, Tensor):
                continue
            if (value.dim() and value.shape != parameter.shape) or not value.isfinite().all():
                raise ValueError(f"the optimizer's {key} is of another network or not finite")


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Collect requests to stop in a list, so that no signal ends the process within a step."""
    asked: list[int] = []
    old = {
        number: signal.signal(number, lambda received, _: asked.append(received))
        # clusters send SIGUSR1 ahead of a time limit
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    }
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
