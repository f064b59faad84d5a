"""The full training of a network by data-parallel workers, with all regularisation (section 7.3).

The recipe sets the number of workers; the number of processes that do their work does not change
the result. The images of a step form groups, each with its own batch statistics, and each process
runs some of the groups, one after another.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_pipeline.data.images import Images, Splits, cutout, stream
from ghn_pipeline.model.network import Network, Path, Trained, run_steps
from ghn_pipeline.settings.sections import Recipe
from ghn_pipeline.system.compute import sent
from ghn_pipeline.training.auxiliary import AuxiliaryHead
from ghn_pipeline.training.batches import accuracy, fixed_batches, training_batch
from ghn_pipeline.training.distributed import Team
from ghn_pipeline.training.drop_path import drop_path, paths
from ghn_pipeline.training.fit import Training
from ghn_pipeline.training.optimizers import momentum_sgd
from ghn_pipeline.training.schedule import cosine, warmed


class Finalist(nn.Module):
    """A network, with an auxiliary head if it has a weight in the loss; both use `generator`."""

    def __init__(self, network: Network, recipe: Recipe, generator: torch.Generator) -> None:
        super().__init__()
        self.trained = Trained(network, generator)
        self.head: AuxiliaryHead | None = None
        if recipe.auxiliary_weight:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
                self.head = AuxiliaryHead(network, recipe.auxiliary_channels)

    def forward(self, images: Tensor, path: Path, track: bool) -> list[Tensor]:
        """Return the logits [B, classes] of the network and, if there is one, of the head.

        Args:
            images: normalised images [B, 3, R, R].
            path: the hook of `network.run`.
            track: whether these images update the running statistics of batch norm.
        """
        trained = self.trained
        norm = trained.norm if track else trained.norm_of_batch
        leaves, auxiliary = self.head.leaves if self.head else [], []
        read: list[Tensor] = []
        for place, x in run_steps(trained.network, trained.weights, images, norm, path):
            if place in leaves:
                read.append(x)
            if self.head is not None and place == leaves[-1]:
                auxiliary = [self.head(torch.cat(read, dim=1))]
        return [x, *auxiliary]


def losses_of(
    model: Finalist,
    recipe: Recipe,
    batch_at: Callable[[int], tuple[Tensor, Tensor]],
    steps: int,
    seed: str,
    team: Team,
    dtype: torch.dtype,
) -> Callable[[int], Iterator[Tensor]]:
    """Return a function from a step to its losses, one for each image group of this process.

    Args:
        model: the model to train.
        recipe: batches, drop-path, CutOut and the weight of the head.
        batch_at: function from a step to this process's normalised images [B, 3, R, R] and labels
            [B].
        steps: number of steps, over which drop-path grows linearly.
        seed: seed of drop-path and CutOut, which are drawn for the images of all processes.
        team: the processes.
        dtype: number type of convolutions and products.
    """
    parallel, device = team.parallel(model), team.device
    inputs = sum(count for count, _ in paths(model.trained.network).values())
    rows = team.part(recipe.together // team.size)

    def prepared(step: int) -> tuple[Tensor, Tensor, Tensor]:
        images, labels = batch_at(step)
        if recipe.cutout:
            size = (2, recipe.together)
            centres = torch.randint(images.shape[-1], size, generator=stream(seed, "cutout", step))
            images = cutout(images, centres[:, rows], recipe.cutout)
        draws = torch.rand(inputs, recipe.together, generator=stream(seed, "drop-path", step))
        return images, labels, sent(draws[:, rows], device)

    def losses(step: int) -> Iterator[Tensor]:
        model.train()
        images, labels, draws = prepared(step)
        groups = len(images) // recipe.norm_batch
        for g in range(groups):
            group = slice(g * recipe.norm_batch, (g + 1) * recipe.norm_batch)
            path = drop_path(
                model.trained.network, recipe.drop_path * step / steps, draws[:, group]
            )
            # only the first of all groups updates the running statistics
            track = team.leads and g == 0
            with team.exchange(parallel, now=g == groups - 1):
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    found = parallel(images[group], path, track)
                weights = (1, recipe.auxiliary_weight)
                terms = [
                    w
                    * F.cross_entropy(
                        x.float(), labels[group], label_smoothing=recipe.label_smoothing
                    )
                    for w, x in zip(weights, found, strict=False)
                ]
                yield sum(terms[1:], terms[0]) / groups

    return losses


def finalist_training(
    name: str,
    model: Finalist,
    splits: Splits,
    recipe: Recipe,
    team: Team,
    *,
    padding: int,
    seed: str,
    dtype: torch.dtype,
    evaluation_batch: int,
) -> Training:
    """Train `model` on CIFAR-10 with a learning rate that falls as a cosine.

    At the end the accuracies on the validation and test images are measured, with running
    statistics.

    Args:
        name: the name in messages.
        model: the model to train.
        splits: the images.
        recipe: the recipe of the training.
        team: the processes.
        padding: padding of the crops in pixels.
        seed: seed of the order of the images, their crops, CutOut and drop-path.
        dtype: number type of convolutions and products.
        evaluation_batch: images per batch in the final evaluation.
    """
    epoch = len(splits.train) // recipe.together
    steps = recipe.epochs * epoch

    def batch_at(step: int) -> tuple[Tensor, Tensor]:
        return training_batch(
            splits,
            step,
            batch=recipe.together,
            padding=padding,
            seed=seed,
            part=team.part(recipe.together // team.size),
        )

    def judged(images: Images) -> float:
        trained = model.trained
        batches = fixed_batches(images, splits, evaluation_batch)
        return accuracy(trained.network, trained.weights, batches, trained.norm)

    def final() -> dict[str, float]:
        model.eval()
        return {"validation": judged(splits.validation), "test": judged(splits.test)}

    warmup = recipe.warmup_epochs * epoch
    fall = cosine(recipe.learning_rate * recipe.workers, steps - warmup)
    return Training(
        name,
        model,
        momentum_sgd(model, recipe),
        losses_of(model, recipe, batch_at, steps, seed, team, dtype),
        warmed(recipe.learning_rate, recipe.workers, warmup, fall),
        steps,
        observe={steps: final},
        team=team,
    )
