"""Training one network from scratch: the ground truth, and SGD stopped early (section 5.3)."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_pipeline.config import Config, Recipe, Sgd
from ghn_pipeline.data.images import Splits
from ghn_pipeline.network import Trained
from ghn_pipeline.training.batches import accuracy, fixed_batches, training_batch
from ghn_pipeline.training.fit import Training
from ghn_pipeline.training.schedule import cosine


def sgd_training(
    name: str, model: Trained, splits: Splits, config: Config, measured_at: Sequence[int]
) -> Training:
    """Train `model` by the recipe of the ground truth, measuring it on the way.

    After each of `measured_at` steps the accuracy is measured with the statistics of the batch,
    for the running ones are of no use so early; at the end with the running statistics, on the
    whole validation split.
    """
    settings = config.sgd
    steps = settings.epochs * (len(splits.train) // settings.batch)

    def losses(step: int) -> Iterator[Tensor]:
        model.train()
        images, labels = training_batch(
            splits,
            step,
            batch=settings.batch,
            padding=config.images.padding,
            seed=config.seeds.data_order,
        )
        yield F.cross_entropy(model(images), labels)

    def early() -> dict[str, float]:
        batch, batches = config.evaluation.batch, config.evaluation.batches
        images = fixed_batches(splits.validation, splits, batch, batches)
        return {"accuracy": accuracy(model.network, model.weights, images, model.norm_of_batch)}

    def final() -> dict[str, float]:
        model.eval()
        images = fixed_batches(splits.validation, splits, config.evaluation.batch)
        at_end = {"final": accuracy(model.network, model.weights, images, model.norm)}
        return {**early(), **at_end} if steps in measured_at else at_end

    observe = {**dict.fromkeys(measured_at, early), steps: final}
    return Training(
        name,
        model,
        momentum_sgd(model, settings),
        losses,
        cosine(settings.learning_rate, steps),
        steps,
        observe=observe,
    )


def momentum_sgd(model: nn.Module, settings: Sgd | Recipe) -> torch.optim.Optimizer:
    """Return SGD with momentum and weight decay over the parameters of `model` (section 7.3)."""
    return torch.optim.SGD(
        model.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=True,
    )
