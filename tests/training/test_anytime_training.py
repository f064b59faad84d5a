"""Training and judging of networks with exits: losses, rates, accuracies and areas by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_trainings import noise_images, small_config, small_training

from ghn_pipeline.model.network import run_exits
from ghn_pipeline.training.batches import (
    accuracies_of,
    area,
    fixed_batches,
    judge,
    judge_exits,
    summed_loss,
    training_batch,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def training():
    made = small_training("anytime", ROOT)
    return made.model, noise_images(small_config(ROOT)), made


def test_the_loss_is_the_sum_over_exits(training):
    model, splits, made = training
    images, labels = training_batch(splits, 2, batch=8, padding=1, seed="3/anytime/x")
    by_hand = sum(
        -torch.log_softmax(logits, 1)[range(8), labels].mean()
        for logits in run_exits(model.network, model.weights, images, model.norm_of_batch)
    )
    (loss,) = made.losses(2)
    torch.testing.assert_close(loss, by_hand)


def test_the_recipe_is_that_of_section_7_3(training):
    _, _, made = training
    assert made.steps == 12  # three epochs of 32 images by 8
    assert [made.rate(step) for step in (0, 3, 4, 7, 8, 11)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    )
    assert isinstance(made.optimizer, torch.optim.SGD)
    defaults = made.optimizer.defaults
    assert (defaults["momentum"], defaults["nesterov"], defaults["weight_decay"]) == (
        *(0.9, True),
        1e-4,
    )


def test_all_exits_are_measured_at_the_end_with_running_statistics(training):
    model, splits, made = training
    for step in range(4):
        made.optimizer.zero_grad()
        (loss,) = made.losses(step)
        loss.backward()
        made.optimizer.step()
    ((steps, measure),) = made.observe.items()
    found = measure()
    assert steps == made.steps
    model.eval()
    for of, images in (("validation", splits.validation), ("test", splits.test)):
        x = (images.pixels.float() / 255 - splits.mean[:, None, None]) / splits.std[:, None, None]
        with torch.no_grad():
            exits = list(run_exits(model.network, model.weights, x, model.norm))
        by_hand = [float((logits.argmax(1) == images.labels).float().mean()) for logits in exits]
        assert [found[f"{of}/exit-{k}"] for k in (1, 2, 3)] == pytest.approx(by_hand)


def test_judged_are_the_last_exit_and_each(training):
    model, splits, _ = training
    network, weights = model.network, model.weights
    found = judge(network, weights, fixed_batches(splits.validation, splits, 8), budgets=(1e3, 1e5))
    batches = list(fixed_batches(splits.validation, splits, 8))
    right, loss = np.zeros(3), 0.0
    with torch.no_grad():
        for x, y in batches:
            exits = list(run_exits(network, weights, x))
            right += [int((logits.argmax(1) == y).sum()) for logits in exits]
            loss += float(F.cross_entropy(exits[-1], y)) / len(batches)
    assert accuracies_of(found) == pytest.approx(right / 16)
    assert found["accuracy"] == found["exit-3"]
    assert found["likelihood"] == pytest.approx(np.exp(-loss))
    assert found["area"] == pytest.approx(area(network.spent, list(right / 16), 1e3, 1e5))


def test_one_exit_is_judged_without_a_number():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    found = judge_exits(lambda images: iter([logits]), [(torch.zeros(2), torch.tensor([0, 0]))])
    assert found.keys() == {"accuracy", "likelihood"}
    assert accuracies_of(found) == [0.5]
    assert float(summed_loss([logits], torch.tensor([0, 0]))) == pytest.approx(
        -np.log(found["likelihood"])
    )


@pytest.mark.parametrize("low, high", [(0, 10), (2, 5), (3, 4), (0, 1), (6, 9), (1.5, 6.5)])
def test_an_area_is_that_below_the_step_curve(low, high):
    spent, accuracies = [1, 3, 3, 6], [0.2, 0.5, 0.4, 0.3]
    budgets = np.linspace(low, high, 100_001)
    reached = [
        [0.0, *(a for s, a in zip(spent, accuracies, strict=True) if s <= b)][-1] for b in budgets
    ]
    assert area(spent, accuracies, low, high) == pytest.approx(np.mean(reached), abs=1e-4)
