"""Training one network from scratch: the ground truth, and SGD stopped early (section 5.3)."""

import time
from collections.abc import Iterator, Sequence

from torch import Tensor

from ghn_pipeline.data.images import Splits
from ghn_pipeline.model.network import Trained
from ghn_pipeline.settings.config import Config
from ghn_pipeline.training.batches import accuracy, fixed_batches, summed_loss, training_batch
from ghn_pipeline.training.fit import Training
from ghn_pipeline.training.optimizers import momentum_sgd
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
        yield summed_loss(model.exits(images), labels)

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


def first_steps(
    model: Trained, splits: Splits, config: Config, measured_at: Sequence[int]
) -> dict[int, dict[str, float]]:
    """Train `model` for the most of `measured_at` steps: accuracy and seconds after each of them.

    The steps are the first of the whole recipe, at its rate (the rows of Table 4).
    """
    training = sgd_training("sgd", model, splits, config, measured_at)
    found, seconds = {}, 0.0
    for step in range(max(measured_at)):
        begun = time.monotonic()
        for group in training.optimizer.param_groups:
            group["lr"] = training.rate(step)
        training.optimizer.zero_grad(set_to_none=True)
        for loss in training.losses(step):
            loss.backward()  # type: ignore[no-untyped-call]
        training.optimizer.step()
        seconds += time.monotonic() - begun
        if step + 1 in measured_at:
            found[step + 1] = {**training.observe[step + 1](), "seconds": seconds}
    return found
