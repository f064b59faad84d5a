"""The full training of networks with exits, searched ones and baselines (sections 5.2, 7.3)."""

from collections.abc import Iterator
from typing import Protocol, cast

from torch import Tensor, nn

from ghn_pipeline.data.images import Images, Splits
from ghn_pipeline.settings.sections import Anytime
from ghn_pipeline.training.batches import (
    accuracies_of,
    fixed_batches,
    judge_exits,
    summed_loss,
    training_batch,
)
from ghn_pipeline.training.fit import Training
from ghn_pipeline.training.optimizers import momentum_sgd
from ghn_pipeline.training.schedule import divided


class WithExits(Protocol):
    """A network with exits, our own or a baseline, which must also be an `nn.Module`."""

    def exits(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the logits [B, classes] of each exit for normalised images [B, 3, R, R]."""


def anytime_training(
    name: str,
    network: WithExits,
    splits: Splits,
    recipe: Anytime,
    *,
    padding: int,
    seed: int | str,
    evaluation_batch: int,
) -> Training:
    """Train `network` by the recipe of Huang et al. (2018): section 7.3, anytime.

    The loss is the sum of the exits' losses. At the end the accuracies of all exits are measured on
    the validation and the test images, with running statistics.

    Args:
        name: the name in messages.
        network: the network to train.
        splits: the images.
        recipe: epochs, batch, rate, momentum and weight decay.
        padding: padding of the crops in pixels.
        seed: seed of the order of the images and of their crops.
        evaluation_batch: images per batch in the final evaluation.
    """
    model = cast(nn.Module, network)
    epoch = len(splits.train) // recipe.batch

    def losses(step: int) -> Iterator[Tensor]:
        model.train()
        images, labels = training_batch(
            splits, step, batch=recipe.batch, padding=padding, seed=seed
        )
        yield summed_loss(network.exits(images), labels)

    def judged(images: Images, of: str) -> dict[str, float]:
        found = judge_exits(network.exits, fixed_batches(images, splits, evaluation_batch))
        return {f"{of}/exit-{k}": value for k, value in enumerate(accuracies_of(found), 1)}

    def final() -> dict[str, float]:
        model.eval()
        return judged(splits.validation, "validation") | judged(splits.test, "test")

    steps = recipe.epochs * epoch
    return Training(
        name,
        model,
        momentum_sgd(model, recipe, nesterov=recipe.nesterov),
        losses,
        divided(recipe.learning_rate, recipe.divide_at, epoch),
        steps,
        observe={steps: final},
    )
