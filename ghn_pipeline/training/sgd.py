"""Training one network from scratch, for the ground truth and for early SGD (section 5.3)."""

import time
from collections.abc import Iterator, Sequence

from torch import Tensor

from ghn_pipeline.data.images import Splits
from ghn_pipeline.model.network import Trained
from ghn_pipeline.settings.sections import Evaluation, Sgd
from ghn_pipeline.training.batches import accuracy, fixed_batches, summed_loss, training_batch
from ghn_pipeline.training.fit import Training
from ghn_pipeline.training.optimizers import momentum_sgd
from ghn_pipeline.training.schedule import cosine


def sgd_training(
    name: str,
    model: Trained,
    splits: Splits,
    recipe: Sgd,
    evaluation: Evaluation,
    *,
    padding: int,
    seed: int | str,
    measured_at: Sequence[int] = (),
) -> Training:
    """Train `model` by the recipe of the ground truth, measuring it on the way.

    After each of `measured_at` steps the accuracy on validation images is measured with the
    statistics of the batch, because running statistics are useless so early. At the end it is
    measured with the running statistics, on all validation images and on all test images.

    Args:
        name: the name in messages.
        model: the model to train.
        splits: the images.
        recipe: epochs, batch, rate, momentum and weight decay.
        evaluation: the validation batches for the accuracies on the way.
        padding: padding of the crops in pixels.
        seed: seed of the order of the images and of their crops.
        measured_at: the numbers of steps after which to measure.
    """
    steps = recipe.epochs * (len(splits.train) // recipe.batch)

    def losses(step: int) -> Iterator[Tensor]:
        model.train()
        images, labels = training_batch(
            splits, step, batch=recipe.batch, padding=padding, seed=seed
        )
        yield summed_loss(model.exits(images), labels)  # Eq. 1

    def early() -> dict[str, float]:
        images = fixed_batches(splits.validation, splits, evaluation.batch, evaluation.batches)
        return {"accuracy": accuracy(model.network, model.weights, images, model.norm_of_batch)}

    def final() -> dict[str, float]:
        model.eval()
        at_end = {
            name: accuracy(
                model.network,
                model.weights,
                fixed_batches(images, splits, evaluation.batch),
                model.norm,
            )
            for name, images in (("validation", splits.validation), ("test", splits.test))
        }
        return {**early(), **at_end} if steps in measured_at else at_end

    observe = {**dict.fromkeys(measured_at, early), steps: final}
    return Training(
        name,
        model,
        momentum_sgd(model, recipe),
        losses,
        cosine(recipe.learning_rate, steps),
        steps,
        observe=observe,
    )


def first_steps(training: Training, measured_at: Sequence[int]) -> dict[int, dict[str, float]]:
    """Train for the largest of `measured_at` steps, the beginning of the recipe (rows of Table 4).

    Args:
        training: a new training, which observes after each of these steps.
        measured_at: the numbers of steps after which to measure.

    Returns:
        The measurements by number of steps, with the "seconds" of training until then.
    """
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
