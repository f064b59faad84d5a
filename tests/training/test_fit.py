"""The training loop: interrupted anywhere it ends the same; what is not finite stops it."""

import json
import math
import os
import random
import signal
from pathlib import Path

import pytest
import torch
from small_trainings import KINDS, STEPS, content, same, small_training
from torch import nn

from ghn_pipeline.settings.sections import Sgd
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.training import checkpoint, optimizers
from ghn_pipeline.training import fit as fitting
from ghn_pipeline.training.fit import Training, fit
from ghn_pipeline.training.ghn import running_mean

ROOT = Path(__file__).parents[2]
#: As in 7.3, except for the rate, which comes from the schedule alone.
SGD = Sgd(epochs=1, batch=2, learning_rate=1.0, momentum=0.9, weight_decay=3e-4)
CPU = torch.device("cpu")


def run(training, path, checkpoint_seconds=0.0):
    return fit(
        training,
        path,
        "d",
        made_by="it",
        checkpoint_seconds=checkpoint_seconds,
        log_seconds=60,
        device=CPU,
    )


def interrupted(training, at, act):
    """The same training, but for what `act` does inside the loss of step `at`."""
    losses = training.losses

    def altered(step):
        if step == at:
            act()
        return losses(step)

    training.losses = altered
    return training


class CutError(Exception):
    """Stands for a crash."""


def crash():
    raise CutError


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """For each kind what its checkpoint holds after a training from end to end."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    for kind in KINDS:
        run(small_training(kind, ROOT), folder / kind, checkpoint_seconds=1e9)
    return {kind: content(folder / kind) for kind in KINDS}


# ---- interrupted and resumed -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_crashes_at_random_steps_change_not_a_bit(kind, seed, tmp_path, uninterrupted):
    rng = random.Random(f"{kind}/{seed}")
    for at in sorted(rng.choices(range(STEPS), k=3)):
        # every step is saved, or one now and then
        seconds = rng.choice([0.0, 0.02])
        with pytest.raises(CutError):
            run(interrupted(small_training(kind, ROOT), at, crash), tmp_path / "c", seconds)
    run(small_training(kind, ROOT), tmp_path / "c", 1e9)
    assert same(content(tmp_path / "c"), uninterrupted[kind])


def test_a_crash_at_every_single_step_changes_not_a_bit(tmp_path, uninterrupted):
    for at in range(STEPS):
        with pytest.raises(CutError):
            run(interrupted(small_training("sgd", ROOT), at, crash), tmp_path / "c")
    run(small_training("sgd", ROOT), tmp_path / "c")
    assert same(content(tmp_path / "c"), uninterrupted["sgd"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_and_the_same_command_goes_on(
    kind, number, tmp_path, uninterrupted
):
    training = interrupted(small_training(kind, ROOT), 5, lambda: signal.raise_signal(number))
    with pytest.raises(UserError, match=rf"stopped by {number.name} at step 6 of 12.*goes on"):
        run(training, tmp_path / "c", checkpoint_seconds=1e9)
    assert torch.load(tmp_path / "c", weights_only=True)["step"] == 6
    run(small_training(kind, ROOT), tmp_path / "c", 1e9)
    assert same(content(tmp_path / "c"), uninterrupted[kind])


def test_signal_handlers_are_put_back(tmp_path):
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    run(small_training("sgd", ROOT), tmp_path / "c")
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == before


def _train_in_child(path, started):
    training = small_training("ghn", ROOT)
    losses = training.losses

    def told(step):
        started.send(step)
        return losses(step)

    training.losses = told
    run(training, path)


def test_sigkill_at_random_moments_changes_not_a_bit(tmp_path, uninterrupted, forkserver):
    rng, path, reached = random.Random(0), tmp_path / "c", 0
    for _ in range(3):
        steps, started = forkserver.Pipe(duplex=False)
        child = forkserver.Process(target=_train_in_child, args=(path, started))
        child.start()
        started.close()
        # some steps on from where the last one got to, then within a step or the writing
        last = reached + rng.randrange(1, 4)
        while (reached := steps.recv()) < last:
            pass
        child.join(rng.random() * 0.03)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert 0 < torch.load(path, weights_only=True)["step"] <= STEPS
    run(small_training("ghn", ROOT), path)
    assert same(content(path), uninterrupted["ghn"])


def averaged():
    """A GHN's training that keeps a running mean."""
    training = small_training("ghn", ROOT)
    training.averaged = running_mean(training.model, 0.9)
    return training


def _average_in_child(path):
    act = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
    run(interrupted(averaged(), 5, act), path)


def test_a_running_mean_goes_on_after_a_kill_and_crashes_to_the_same_bits(
    tmp_path, uninterrupted, forkserver
):
    run(averaged(), tmp_path / "whole", 1e9)
    child = forkserver.Process(target=_average_in_child, args=(tmp_path / "c",))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert torch.load(tmp_path / "c", weights_only=True)["step"] == 5
    for at in (5, 6, 11):
        with pytest.raises(CutError):
            run(interrupted(averaged(), at, crash), tmp_path / "c")
    run(averaged(), tmp_path / "c")
    whole = content(tmp_path / "whole")
    assert same(content(tmp_path / "c"), whole)
    assert whole["averaged"]["n_averaged"] == STEPS
    # the mean lags behind the model, which is trained as without it
    assert same(whole["model"], uninterrupted["ghn"]["model"])
    name, weight = next(iter(whole["model"].items()))
    assert not torch.equal(whole["averaged"][f"module.{name}"], weight)


def test_a_finished_training_is_not_trained_again(tmp_path, uninterrupted):
    first = run(small_training("sgd", ROOT), tmp_path / "c")
    again = run(interrupted(small_training("sgd", ROOT), 0, crash), tmp_path / "c")
    assert vars(again) == vars(first)


def test_measuring_on_the_way_does_not_change_the_training(tmp_path, uninterrupted):
    training = small_training("sgd", ROOT)
    training.observe = {}
    run(training, tmp_path / "c")
    silent = content(tmp_path / "c")
    assert same(silent["model"], uninterrupted["sgd"]["model"])
    assert same(silent["log"]["curve"], uninterrupted["sgd"]["log"]["curve"])


def test_a_second_writer_is_refused_and_the_first_goes_on(tmp_path, uninterrupted, monkeypatch):
    monkeypatch.setattr(checkpoint, "PATIENCE", 0)
    refused = []

    def try_too():
        with pytest.raises(UserError, match="another process is training"):
            run(small_training("oneshot", ROOT), tmp_path / "c")
        refused.append(True)

    run(interrupted(small_training("oneshot", ROOT), 6, try_too), tmp_path / "c", 1e9)
    assert refused
    assert same(content(tmp_path / "c"), uninterrupted["oneshot"])


# ---- not finite --------------------------------------------------------------------------------


def poisoned(kind, at, value, changes=None):
    """A training whose loss of step `at` is `value`, or its gradient where the loss is not."""
    training = small_training(kind, ROOT, changes)
    losses, name = training.losses, next(n for n, p in training.model.named_parameters())
    parameter = dict(training.model.named_parameters())[name]

    def altered(step):
        (real,) = losses(step)
        if step == at and value == "gradient":
            # the root of 0 is 0, but its slope is infinite
            return [real + (parameter - parameter.detach()).clamp(min=0).sum().sqrt()]
        return [real + value if step == at else real]

    training.losses = altered
    return training, name


@pytest.mark.parametrize("value", [math.nan, math.inf, "gradient"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_stops_and_is_reported(kind, value, tmp_path):
    path, report = tmp_path / "c.pt", tmp_path / "c.not-finite.json"
    training, parameter = poisoned(kind, 7, value)
    with pytest.raises(UserError) as stopped:
        run(training, path)
    assert "at step 7" in str(stopped.value)
    assert str(report) in str(stopped.value)
    # nothing was saved before the step, so the message speaks of no checkpoint
    assert ("is untouched" in str(stopped.value)) == path.exists()
    said = json.loads(report.read_text(encoding="utf-8"))
    assert said["step"] == 7
    assert said["learning_rate"] == training.rate(7)
    if value == "gradient":
        assert parameter in said["gradients_not_finite"]
    else:
        assert said["loss"] == str(value)
    # the architecture of the step; what trains one network has none to tell
    assert said["of_the_step"] == small_training(kind, ROOT).describe(7)
    if kind in ("ghn", "oneshot"):
        assert [type(op) for op, _ in said["of_the_step"]] == [str] * 5


@pytest.mark.parametrize("value", [math.nan, "gradient"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_last_good_checkpoint_is_untouched(kind, value, tmp_path, uninterrupted):
    with pytest.raises(CutError):
        run(interrupted(small_training(kind, ROOT), 7, crash), tmp_path / "c")
    before = (tmp_path / "c").read_bytes()
    with pytest.raises(UserError):
        run(poisoned(kind, 7, value)[0], tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == before
    # and with the cause gone the training goes on as if nothing had been
    run(small_training(kind, ROOT), tmp_path / "c")
    assert same(content(tmp_path / "c"), uninterrupted[kind])


@pytest.mark.parametrize("value", [math.nan, "gradient"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_weight_changes_from_the_step_at_fault_until_it_is_read(
    kind, value, tmp_path, monkeypatch
):
    monkeypatch.setattr(fitting, "_enters", lambda training, step: step == training.steps)
    good = interrupted(small_training(kind, ROOT), 7, crash)
    with pytest.raises(CutError):
        run(good, tmp_path / "good", 1e9)
    training, _ = poisoned(kind, 7, value)
    training.observe = {}
    with pytest.raises(UserError, match="at step 7"):
        run(training, tmp_path / "c", 1e9)
    ours, theirs = dict(training.model.named_parameters()), dict(good.model.named_parameters())
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_report_names_only_the_gradient_at_fault(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    def loss(step):
        # 0 * (slope of the root at 0) makes the gradient of the first bias not a number
        return [model(torch.ones(1, 2)).sum() + 0 * (model[0].bias * 0).sqrt().sum()]

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    training = Training("t", model, optimizer, loss, lambda step: 0.1, 3, clip=1.0)
    with pytest.raises(UserError):
        run(training, tmp_path / "c.pt")
    said = json.loads((tmp_path / "c.not-finite.json").read_text(encoding="utf-8"))
    assert said["gradients_not_finite"] == ["0.bias"]


def test_the_report_is_json_even_when_parameters_are_not_finite(tmp_path):
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(math.nan)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    training = Training("t", model, optimizer, lambda _: [model.weight.sum()], lambda _: 0.1, 3)
    with pytest.raises(UserError):
        run(training, tmp_path / "c.pt")

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    json.loads((tmp_path / "c.not-finite.json").read_text(encoding="utf-8"), parse_constant=refuse)


# ---- checkpoints that cannot be resumed ---------------------------------------------------------


def first_of(tensors):
    return next(t for t in tensors if t.is_floating_point() and t.dim() > 0)


def spoil(state, how):
    """Change a checkpoint's content in one way."""
    if how == "weight":
        first_of(state["model"].values()).fill_(math.nan)
    elif how == "moment":
        first_of(next(iter(state["optimizer"]["state"].values())).values()).fill_(math.inf)
    elif how == "shape":
        held = next(iter(state["optimizer"]["state"].values()))
        key = next(k for k, v in held.items() if v.dim() > 0)
        held[key] = torch.zeros(3, 3, 3)
    else:
        state |= how


LOG = {"curve": [], "window": [0.0, 0], "observed": {}, "seconds": 1.0}
SPOILED = [
    ("weight", "is not finite"),
    ("moment", "not finite"),
    ("shape", "of another network"),
    ({"step": 1_000_000}, "step 1000000 of"),
    ({"step": -1}, "step"),
    ({"step": "x"}, "step"),
    ({"step": True}, "step"),
    ({"step": 2.0}, "step"),
    ({"model": None}, "model"),
    ({"model": {}}, "Missing key"),
    ({"optimizer": {}}, "KeyError"),
    ({"optimizer": {"state": {}, "param_groups": [1]}}, "Error"),
    ({"averaged": 3}, "averaged"),
    ({"more": 1}, "more"),
    ({"log": {**LOG, "more": 1}}, r"log\.more"),
    ({"log": {}}, "log"),
    ({"log": {**LOG, "curve": [(1, 2.0)]}}, "log"),
    ({"log": {**LOG, "curve": [(99, 2.0, 0.1)]}}, "the log is not one of the first"),
    ({"log": {**LOG, "curve": [(2, 2.0, 0.1), (1, 2.0, 0.1)]}}, "the log is not one of the first"),
    ({"log": {**LOG, "observed": {99: {"final": 0.5}}}}, "the log is not one of the first"),
    ({"log": {**LOG, "observed": {1: {"final": 9.9}}}}, "out of range"),
    ({"log": {**LOG, "seconds": -1.0}}, "seconds"),
]


@pytest.mark.parametrize("kind", ["sgd", "ghn"])
@pytest.mark.parametrize(("how", "said"), SPOILED, ids=[str(how) for how, _ in SPOILED])
def test_a_checkpoint_that_was_edited_is_refused(kind, how, said, tmp_path):
    path = tmp_path / "c"
    with pytest.raises(CutError):
        run(interrupted(small_training(kind, ROOT), 5, crash), path)
    state = torch.load(path, weights_only=True)
    spoil(state, how)
    checkpoint.save(path, {k: v for k, v in state.items() if k != "digest"}, "d")
    before = path.read_bytes()
    with pytest.raises(UserError, match=rf"cannot be resumed.*{said}.*Move or delete it"):
        run(small_training(kind, ROOT), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("key", ["step", "model", "optimizer", "averaged", "log"])
def test_a_checkpoint_that_lacks_a_part_is_refused(key, tmp_path):
    path = tmp_path / "c"
    with pytest.raises(CutError):
        run(interrupted(small_training("sgd", ROOT), 5, crash), path)
    state = torch.load(path, weights_only=True)
    rest = {k: v for k, v in state.items() if k not in ("digest", key)}
    checkpoint.save(path, rest, "d")
    with pytest.raises(UserError, match=rf"cannot be resumed.*{key}: Field required"):
        run(small_training("sgd", ROOT), path)


# ---- the update, against loops written by hand ---------------------------------------------------


def regression():
    """A linear map fitted to noise, one batch for each step."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(20, 5, 3, generator=generator, dtype=torch.float64)
    y = 10 * torch.randn(20, 5, 2, generator=generator, dtype=torch.float64)
    start = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    return x, y, start


def fitted(optimizer_of, rate, clip, path):
    x, y, start = regression()
    model = nn.Linear(3, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(start)
    optimizer = optimizer_of(model.parameters())

    def losses(k):  # in two terms, whose gradients add up
        error = ((model(x[k]) - y[k]) ** 2).mean()
        yield error / 4
        yield 0.75 * ((model(x[k]) - y[k]) ** 2).mean()

    training = Training("t", model, optimizer, losses, rate, 20, clip=clip)
    return run(training, path), model.weight.detach()


def by_hand(update, rate, clip):
    """Losses and weights; the gradient is written out, d mean((xW' - y)²) / dW."""
    x, y, w = regression()
    memory, losses, clipped = {}, [], 0
    for k in range(20):
        error = x[k] @ w.T - y[k]
        losses.append(float((error**2).mean()))
        gradient = 2 * error.T @ x[k] / error.numel()
        norm = math.sqrt(float((gradient**2).sum()))
        if clip is not None and norm > clip:
            gradient, clipped = gradient * clip / norm, clipped + 1
        w = update(w, gradient, k, rate(k), memory)
    return losses, w, clipped


def adam(w, g, k, lr, memory):
    """Kingma and Ba 2015, Algorithm 1."""
    memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
    memory["v"] = 0.999 * memory.get("v", 0) + 0.001 * g**2
    m, v = memory["m"] / (1 - 0.9 ** (k + 1)), memory["v"] / (1 - 0.999 ** (k + 1))
    return w - lr * m / (v.sqrt() + 1e-8)


def momentum_sgd(w, g, k, lr, memory):
    memory["v"] = 0.9 * memory.get("v", 0) + g + 3e-4 * w
    return w - lr * memory["v"]


@pytest.mark.parametrize(
    ("update", "optimizer_of"),
    [
        (adam, lambda p: optimizers.adam(p, 7.0)),
        (momentum_sgd, lambda p: optimizers.momentum_sgd(nn.ParameterList(p), SGD)),
    ],
    ids=["adam", "sgd"],
)
@pytest.mark.parametrize("clip", [None, 12.0])
def test_updates_are_those_of_a_loop_by_hand(update, optimizer_of, clip, tmp_path):
    def rate(step):
        return 0.05 / (1 + step)

    log, weight = fitted(optimizer_of, rate, clip, tmp_path / "c")
    losses, expected, clipped = by_hand(update, rate, clip)
    # torch divides by the norm plus 1e-6
    torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-6)
    # fewer than 200 steps: each has its own point of the curve
    assert [step for step, _, _ in log.curve] == list(range(1, 21))
    assert [loss for _, loss, _ in log.curve] == pytest.approx(losses)
    assert [lr for _, _, lr in log.curve] == [rate(k) for k in range(20)]
    # the test means something: some steps were clipped, others not
    assert clip is None or 0 < clipped < 20


def test_the_running_mean_is_that_of_the_weights_of_each_step(tmp_path):
    x, y, start = regression()
    model = nn.Linear(3, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(start)
    kept, decay = running_mean(model, 0.7), 0.7
    weights, means = [], []

    def look():  # at what the step before this one left
        weights.append(model.weight.detach().clone())
        means.append(kept.module.weight.detach().clone())

    def losses(k):
        look()
        return [((model(x[k]) - y[k]) ** 2).mean()]

    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, fused=True)
    training = Training("t", model, optimizer, losses, lambda _: 0.05, 20, averaged=kept)
    run(training, tmp_path / "c")
    look()
    assert training.result is kept.module
    assert len(weights) == 21
    for k in range(1, 21):
        # of the first step whole, of each later one 30%, less 30% with every step since
        expected = decay ** (k - 1) * weights[1]
        for i in range(2, k + 1):
            expected = expected + (1 - decay) * decay ** (k - i) * weights[i]
        torch.testing.assert_close(means[k], expected, rtol=1e-12, atol=1e-12)


def test_without_a_running_mean_the_model_is_the_result():
    training = small_training("ghn", ROOT)
    assert training.averaged is None
    assert training.result is training.model


def test_the_trainings_use_the_papers_optimizers():
    for kind in ("ghn", "oneshot"):  # 7.2: ADAM
        assert isinstance(small_training(kind, ROOT).optimizer, torch.optim.Adam)
        assert small_training(kind, ROOT).clip == 5.0
    sgd = small_training("sgd", ROOT).optimizer  # 7.3
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.defaults["momentum"] == 0.9
    assert sgd.defaults["weight_decay"] == 3e-4
    assert not sgd.defaults["nesterov"]


def test_the_curve_of_a_long_training_holds_means_over_equal_windows(tmp_path):
    # 1,000 steps, a point every 5; interrupted in the middle of a window
    weight = nn.Parameter(torch.zeros(1))
    model = nn.ParameterList([weight])

    def training():
        optimizer = torch.optim.SGD([weight], lr=0.0, fused=True)
        return Training("t", model, optimizer, lambda k: [weight.sum() + k], lambda _: 0.0, 1000)

    stop = interrupted(training(), 502, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(UserError):
        run(stop, tmp_path / "c", 1e9)
    log = run(training(), tmp_path / "c", 1e9)
    assert [step for step, _, _ in log.curve] == list(range(5, 1001, 5))
    # the loss of step k is k, so the mean of the window that ends before step s is s - 3
    assert [loss for _, loss, _ in log.curve] == [step - 3 for step in range(5, 1001, 5)]
