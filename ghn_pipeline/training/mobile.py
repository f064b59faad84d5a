"""The training of an ImageNet-mobile network (sections 5.1.2 and 7.3)."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ghn_pipeline.data.imagenet import ImageNet, training_batches, validation_batches
from ghn_pipeline.model.network import Trained
from ghn_pipeline.settings.sections import Mobile
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.training.distributed import Team
from ghn_pipeline.training.finalist import Finalist, losses_of
from ghn_pipeline.training.fit import Training
from ghn_pipeline.training.optimizers import momentum_sgd
from ghn_pipeline.training.schedule import decayed, warmed


def mobile_training(
    name: str,
    model: Finalist,
    imagenet: ImageNet,
    recipe: Mobile,
    team: Team,
    *,
    seed: str,
    dtype: torch.dtype,
    loaders: int,
) -> Training:
    """Train `model` on the images of a folder with a learning rate that decays every epoch.

    At the end the top-1 accuracy and, with more than five classes, the top-5 accuracy on the
    validation images are measured, with running statistics.

    Args:
        name: the name in messages.
        model: the model to train.
        imagenet: the images of the folder.
        recipe: the recipe of the training.
        team: the processes.
        seed: seed of the order of the images, their crops, CutOut and drop-path.
        dtype: number type of convolutions and products.
        loaders: number of processes that read files ahead, for each process of the team.

    Raises:
        UserError: the folder has fewer training images than a step needs.
    """
    epoch = len(imagenet.train) // recipe.together
    if epoch == 0:
        raise UserError(
            f"{recipe.folder} has {len(imagenet.train)} training images, and a step needs "
            f"{recipe.together} (mobile.batch times mobile.workers): choose a smaller batch."
        )
    steps, warmup = recipe.epochs * epoch, recipe.warmup_epochs * epoch
    device = team.device
    batches: list[Iterator[tuple[Tensor, Tensor]]] = []

    def batch_at(step: int) -> tuple[Tensor, Tensor]:
        if not batches:  # files are read ahead from the first step of this process
            ahead = training_batches(
                imagenet,
                range(step, steps),
                batch=recipe.together,
                resolution=recipe.resolution,
                seed=seed,
                processes=loaders,
                part=team.part(recipe.together // team.size),
                device=device,
            )
            batches.append(ahead)
        return next(batches[0])

    def final() -> dict[str, float]:
        model.eval()
        images = validation_batches(
            imagenet,
            batch=recipe.batch,
            resolution=recipe.resolution,
            processes=loaders,
            device=device,
        )
        return top_accuracies(model.trained, images, [1, 5][: 1 + (len(imagenet.classes) > 5)])

    after = decayed(recipe.learning_rate * recipe.workers, recipe.decay, epoch)
    return Training(
        name,
        model,
        momentum_sgd(model, recipe),
        losses_of(model, recipe, batch_at, steps, seed, team, dtype),
        warmed(recipe.learning_rate, recipe.workers, warmup, after),
        steps,
        observe={steps: final},
        team=team,
    )


@torch.no_grad()
def top_accuracies(
    model: Trained, batches: Iterable[tuple[Tensor, Tensor]], of: list[int]
) -> dict[str, float]:
    """Return for each k, as "topk", the share of images whose class is among the k likeliest.

    Args:
        model: the trained network.
        batches: images [B, 3, R, R] and labels [B].
        of: the values of k.
    """
    right, total = dict.fromkeys(of, 0), 0
    for images, labels in batches:
        likeliest = model(images).topk(max(of)).indices == labels[:, None]
        for k in of:
            right[k] += int(likeliest[:, :k].sum())
        total += len(labels)
    return {f"top{k}": right[k] / total for k in of}
