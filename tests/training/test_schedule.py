"""Learning rates at every step, against the formulas and against torch's own schedulers."""

import math

import pytest
import torch
from small_trainings import STEPS, small_training

from ghn_pipeline.training.schedule import cosine, decayed, halved, rising, warmed

EPOCH = 45000 // 64  # steps of the paper's epoch: 703 whole batches


def schedulers_rates(make, steps):
    """The rates of one of torch's schedulers, step by step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


def test_halved_is_the_papers_at_every_step():
    # 7.2: 200 epochs, "1e-3 that is divided by 2 at epoch 100 and 150"
    rate = halved(1e-3, [100, 150], EPOCH)
    expected = [1e-3] * 100 * EPOCH + [5e-4] * 50 * EPOCH + [2.5e-4] * 50 * EPOCH
    assert [rate(k) for k in range(200 * EPOCH)] == expected


def test_halved_is_torchs_multistep():
    rates = schedulers_rates(
        lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2 * 7, 5 * 7], gamma=0.5), 60
    )
    rate = halved(1e-3, [5, 2], steps_per_epoch=7)  # in any order
    assert [rate(k) for k in range(60)] == pytest.approx(rates)


def test_a_rate_rises_as_torchs_linear_one():
    rates = schedulers_rates(
        lambda o: torch.optim.lr_scheduler.LinearLR(o, start_factor=1 / 10, total_iters=9), 30
    )
    assert [rising(lambda _: 1e-3, 10)(k) for k in range(30)] == pytest.approx(rates)
    # onto what falls meanwhile
    fall = halved(1e-3, [1], 5)
    rate = rising(fall, 10)
    assert [rate(k) for k in (0, 4, 5, 9, 10)] == pytest.approx([1e-4, 5e-4, 3e-4, 5e-4, 5e-4])
    assert [rising(fall, 0)(k) for k in range(20)] == [fall(k) for k in range(20)]


def test_cosine_is_the_formula_at_every_step():
    # 7.3: one period of cosine, l_max = 0.025; here over the 50 epochs of 5.3
    steps = 50 * EPOCH
    rate = cosine(0.025, steps)
    for k in range(steps):
        assert rate(k) == pytest.approx(0.025 * math.cos(math.pi * k / steps / 2) ** 2, abs=1e-12)
    assert rate(0) == 0.025
    assert rate(steps) == pytest.approx(0, abs=1e-12)


def test_cosine_is_torchs_cosine():
    rates = schedulers_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40), 40)
    assert [cosine(1e-3, 40)(k) for k in range(40)] == pytest.approx(rates)


def test_the_finalists_rate_is_the_formula_at_every_step():
    # 7.3: 600 epochs, 32 workers, "an initial linear warmup of 5 epochs"; batch 64 of each worker
    epoch = 45000 // (64 * 32)
    warmup, steps = 5 * epoch, 600 * epoch
    rate = warmed(0.025, 32, warmup, cosine(0.025 * 32, steps - warmup))
    for k in range(steps):
        if k < warmup:
            expected = 0.025 + (0.8 - 0.025) * k / warmup
        else:
            left = (k - warmup) / (steps - warmup)
            expected = 0.8 * math.cos(math.pi * left / 2) ** 2
        assert rate(k) == pytest.approx(expected, abs=1e-12)
    assert rate(0) == 0.025
    assert rate(warmup) == 0.8
    assert max(map(rate, range(steps))) == 0.8
    assert rate(steps) == pytest.approx(0, abs=1e-12)


def test_the_mobile_rate_is_the_formula_at_every_step():
    # 7.3: 250 epochs, "initial learning rate 0.1 multiplied by 0.97 every epoch"
    epoch, workers = 11, 4
    rate = warmed(0.1, workers, 5 * epoch, decayed(0.1 * workers, 0.97, epoch))
    for k in range(250 * epoch):
        risen = 0.1 + 0.3 * k / (5 * epoch)
        expected = risen if k < 5 * epoch else 0.4 * 0.97 ** (k // epoch - 5)
        assert rate(k) == pytest.approx(expected)
    alone = warmed(0.1, 1, 0, decayed(0.1, 0.97, 7))
    rates = schedulers_rates(lambda o: torch.optim.lr_scheduler.StepLR(o, 7, gamma=0.97), 60)
    assert [alone(k) / 100 for k in range(60)] == pytest.approx(rates)


def test_one_worker_without_warmup_does_as_it_would_alone():
    rate, plain = warmed(0.025, 1, 0, cosine(0.025, 40)), cosine(0.025, 40)
    assert [rate(k) for k in range(40)] == [plain(k) for k in range(40)]


def test_a_warmup_may_take_the_whole_training():
    rate = warmed(0.1, 3, 10, cosine(0.3, 0))
    assert [rate(k) for k in range(10)] == pytest.approx([0.1 + 0.02 * k for k in range(10)])


@pytest.mark.parametrize("kind", ["ghn", "oneshot"])
def test_search_trainings_are_halved_at_their_epochs(kind, pytestconfig):
    # 32 images in batches of 8 are 4 steps an epoch; halved at 1 and 2
    training = small_training(kind, pytestconfig.rootpath)
    assert training.steps == STEPS
    rates = [training.rate(k) for k in range(STEPS)]
    assert rates == [1e-3] * 4 + [5e-4] * 4 + [2.5e-4] * 4


def test_sgd_falls_over_the_whole_training(pytestconfig):
    training = small_training("sgd", pytestconfig.rootpath)
    expected = [0.025 * (1 + math.cos(math.pi * k / STEPS)) / 2 for k in range(STEPS)]
    assert [training.rate(k) for k in range(STEPS)] == pytest.approx(expected)
