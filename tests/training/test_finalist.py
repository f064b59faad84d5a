"""The best architectures, trained from scratch: which they are, and by what recipe."""

from pathlib import Path
from random import Random

import pytest
import torch
from small_trainings import noise_images, small_config, small_space

from ghn_pipeline.data.images import Images, stream
from ghn_pipeline.errors import UserError
from ghn_pipeline.network import Network, Trained
from ghn_pipeline.training.batches import accuracy, fixed_batches, training_batch
from ghn_pipeline.training.distributed import ALONE, Team
from ghn_pipeline.training.finalist import finalist_training, ranked
from ghn_pipeline.training.fit import fit

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
# 32 images: two epochs of four steps, one of them to warm up
SETTINGS = {"finalists": {"batch": 8, "workers": 1, "nodes": 1, "epochs": 2, "warmup_epochs": 1}}


def small_finalist(team=ALONE, changes=None):
    """An untrained finalist, its images and its training."""
    torch.set_num_threads(1)
    config = small_config(ROOT, SETTINGS)
    splits, space = noise_images(config), small_space(config)
    model = Trained(Network(space.modules(space.sample(Random(5), 3)), 8), stream(0, "f"))
    return model, splits, finalist_training("finalists/0", model, splits, config, team)


def test_ranks_are_by_accuracy_and_of_equals_the_first_is_better():
    accuracies = [0.2, 0.9, 0.5, 0.9, 0.1]
    assert [ranked(accuracies, rank) for rank in range(5)] == [1, 3, 2, 0, 4]


@pytest.mark.parametrize("rank", [-1, 5])
def test_a_rank_that_is_not_there_is_refused(rank):
    with pytest.raises(UserError, match=rf"RANK {rank}: .* 0 to 4"):
        ranked([0.1] * 5, rank)


def test_the_end_is_measured_with_running_statistics_on_both_splits(tmp_path):
    model, splits, training = small_finalist()
    log = fit(training, tmp_path / "c", "d", checkpoint_seconds=9, log_seconds=9, device=CPU)
    assert training.steps == 8
    measured = log.observed[8]
    model.eval()

    def judged(images: Images) -> float:
        return accuracy(model.network, model.weights, fixed_batches(images, splits, 7), model.norm)

    assert measured["validation"] == judged(splits.validation)
    assert measured["test"] == judged(splits.test)


def test_the_loss_is_of_the_whole_batch_by_the_papers_optimizer():
    model, splits, training = small_finalist()
    model.train()
    images, labels = training_batch(splits, 3, batch=8, padding=1, seed=3)
    expected = torch.nn.functional.cross_entropy(model(images), labels)
    assert torch.equal(training.loss(3), expected)
    assert type(training.optimizer) is torch.optim.SGD
    assert training.optimizer.defaults["momentum"] == 0.9
    assert training.optimizer.defaults["weight_decay"] == 3e-4
    assert training.clip is None


def test_more_workers_take_fewer_steps_at_a_higher_rate(monkeypatch):
    monkeypatch.setattr(Team, "parallel", lambda team, model: model)
    _, _, alone = small_finalist()
    _, _, training = small_finalist(Team(1, 2))
    assert training.steps == alone.steps / 2 == 4
    # an epoch is two steps; the peak is 2 × 0.025, where the warm-up ends
    assert [training.rate(k) for k in range(4)] == pytest.approx([0.025, 0.0375, 0.05, 0.025])
    assert training.team == Team(1, 2)
