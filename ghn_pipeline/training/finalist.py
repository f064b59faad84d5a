"""Training the best architectures from scratch, by data-parallel workers (section 7.3)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from ghn_pipeline.config import Config
from ghn_pipeline.data.images import Images, Splits
from ghn_pipeline.errors import UserError
from ghn_pipeline.network import Trained
from ghn_pipeline.training.batches import accuracy, fixed_batches, training_batch
from ghn_pipeline.training.distributed import Team
from ghn_pipeline.training.fit import Training
from ghn_pipeline.training.schedule import warmed_cosine
from ghn_pipeline.training.sgd import momentum_sgd


def ranked(accuracies: Sequence[float], rank: int) -> int:
    """Return the index of the `rank`-th best, 0 being the best; of equals the first is better.

    Raises:
        UserError: there are not so many.
    """
    if not 0 <= rank < len(accuracies):
        raise UserError(f"RANK {rank}: the architectures are ranked 0 to {len(accuracies) - 1}")
    return sorted(range(len(accuracies)), key=lambda i: -accuracies[i])[rank]


def finalist_training(
    name: str, model: Trained, splits: Splits, config: Config, team: Team
) -> Training:
    """Train `model` on batches that the workers of `team` share out among them.

    At the end the accuracy on the validation and test splits is measured, with the running
    statistics of batch norm.
    """
    settings = config.finalists
    together = settings.batch * team.size
    steps_per_epoch = len(splits.train) // together
    steps = settings.epochs * steps_per_epoch
    parallel = team.parallel(model)

    def loss(step: int) -> Tensor:
        model.train()
        images, labels = training_batch(
            splits,
            step,
            batch=together,
            padding=config.images.padding,
            seed=config.seeds.data_order,
            part=team.part(settings.batch),
        )
        return F.cross_entropy(parallel(images), labels)

    def judged(images: Images) -> float:
        batches = fixed_batches(images, splits, config.evaluation.batch)
        return accuracy(model.network, model.weights, batches, model.norm)

    def final() -> dict[str, float]:
        model.eval()
        return {"validation": judged(splits.validation), "test": judged(splits.test)}

    optimizer = momentum_sgd(model, settings)
    warmup = settings.warmup_epochs * steps_per_epoch
    rate = warmed_cosine(settings.learning_rate, team.size, warmup, steps)
    return Training(name, model, optimizer, loss, rate, steps, observe={steps: final}, team=team)
