"""The one training loop: of a graph hypernetwork, of a one-shot model, of a single network."""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ghn_pipeline.errors import UserError
from ghn_pipeline.files import write_atomically
from ghn_pipeline.progress import Progress
from ghn_pipeline.training import checkpoint


@dataclass
class Training:
    """What to train. Everything random is a function of the step, so nothing but numbers resumes.

    Attributes:
        name: for messages.
        model: holds the parameters.
        optimizer: over them.
        loss: of a step, counted from 0.
        rate: learning rate of a step.
        steps: in all.
        clip: largest norm of the gradient, or None.
        observe: measurements to take after so many steps, each a dict of numbers.
        describe: what to write down of a step whose loss is not finite.
    """

    name: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Callable[[int], Tensor]
    rate: Callable[[int], float]
    steps: int
    clip: float | None = None
    observe: Mapping[int, Callable[[], dict[str, float]]] = field(default_factory=dict)
    describe: Callable[[int], Any] = lambda step: None


@dataclass
class Log:
    """What a training has shown so far.

    Attributes:
        curve: (steps done, mean loss since the last entry, learning rate).
        window: sum and count of the losses since then.
        observed: by steps done, what was measured there; "seconds" of training up to there.
        seconds: of training, over all resumes.
    """

    curve: list[tuple[int, float, float]] = field(default_factory=list)
    window: list[float] = field(default_factory=lambda: [0.0, 0])
    observed: dict[int, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0


def fit(
    training: Training,
    path: Path,
    digest: str,
    *,
    checkpoint_seconds: float,
    log_seconds: float,
    device: torch.device,
    saved_as: Callable[[Log], None] = lambda log: None,
) -> Log:
    """Train to the end, from the checkpoint at `path` if there is one.

    Killed at any moment, a later call goes on to the same result: bit for bit on a CPU with the
    same number of threads. `saved_as` is told what each checkpoint holds, once it is on the disk.

    Raises:
        UserError: a loss that is not finite, a signal to stop, or a checkpoint that does not fit.
    """
    with checkpoint.only_writer(path), _asked_to_stop() as asked:
        step, log = _resume(training, path, digest)
        progress = Progress(training.name, training.steps, step, log_seconds)
        saved = begun = time.monotonic()
        earlier = log.seconds
        while step < training.steps:
            loss = _one_step(training, step, path, log)
            step += 1
            log.window = [log.window[0] + loss, log.window[1] + 1]
            if step % max(1, training.steps // 200) == 0 or step == training.steps:
                log.curve.append((step, log.window[0] / log.window[1], training.rate(step - 1)))
                log.window = [0.0, 0]
            if step in training.observe and device.type == "cuda":
                torch.cuda.synchronize(device)  # what is still queued belongs to the cost
            log.seconds = earlier + time.monotonic() - begun
            if step in training.observe:
                log.observed[step] = {**training.observe[step](), "seconds": log.seconds}
                # measuring is not training: leave it out of the training's cost
                begun = time.monotonic() - (log.seconds - earlier)
            due = time.monotonic() - saved >= checkpoint_seconds
            if due or asked or step == training.steps:
                _save(training, path, digest, step, log)
                saved_as(log)
                saved = time.monotonic()
            progress.at(step, lambda: f"loss {loss:.4f}")  # noqa: B023
            if asked and step < training.steps:
                by = signal.Signals(asked[0]).name
                raise UserError(
                    f"{training.name}: stopped by {by} at step {step} of {training.steps}; saved "
                    f"in {path}. The same command goes on from there."
                )
        progress.close()
        return log


def _one_step(training: Training, step: int, path: Path, log: Log) -> float:
    for group in training.optimizer.param_groups:
        group["lr"] = training.rate(step)
    training.optimizer.zero_grad(set_to_none=True)
    loss = training.loss(step)
    value = float(loss.detach())
    if not math.isfinite(value):
        _report_not_finite(training, step, value, path, log)
    loss.backward()  # type: ignore[no-untyped-call]
    reached = [p for p in training.model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in reached if p.grad is not None])
    if not math.isfinite(norm):
        _report_not_finite(training, step, value, path, log)
    if training.clip is not None:
        nn.utils.clip_grads_with_norm_(reached, training.clip, norm)
    training.optimizer.step()
    return value


def _report_not_finite(training: Training, step: int, loss: float, path: Path, log: Log) -> None:
    report = path.with_suffix(".not-finite.json")
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
    write_atomically(report, json.dumps(content, indent=1))
    raise UserError(
        f"{training.name}: at step {step} the loss is {loss} or its gradient is not finite. What "
        f"led to it is in {report}; the last good checkpoint at {path} is untouched. A smaller "
        "learning rate or a smaller clip may help."
    )


def _save(training: Training, path: Path, digest: str, step: int, log: Log) -> None:
    state = {
        "step": step,
        "model": training.model.state_dict(),
        "optimizer": training.optimizer.state_dict(),
        "log": vars(log),
    }
    checkpoint.save(path, state, digest)


def _resume(training: Training, path: Path, digest: str) -> tuple[int, Log]:
    if not path.exists():
        return 0, Log()
    state = checkpoint.load(path, digest, "the same command")
    training.model.load_state_dict(state["model"])
    training.optimizer.load_state_dict(state["optimizer"])
    return state["step"], Log(**state["log"])


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list instead of dying of them in the middle of a step."""
    asked: list[int] = []
    old = {
        number: signal.signal(number, lambda received, _: asked.append(received))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
