"""Batches of images as functions of the step, for training, and fixed ones, for judging."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ghn_pipeline.data.images import Images, Splits, augment, batch_at, normalise, stream
from ghn_pipeline.model.network import NamedNorm, Network, batch_statistics, run_exits

WHOLE = slice(None)


def training_batch(
    splits: Splits, step: int, *, batch: int, padding: int, seed: int | str, part: slice = WHOLE
) -> tuple[Tensor, Tensor]:
    """Return images [B, 3, R, R], cropped, flipped and normalised, and labels [B] of a step.

    Args:
        splits: the images, of which those for training are taken.
        step: counted from 0.
        batch: images in the whole batch.
        padding: padding of the crops in pixels.
        seed: seed of the order and of the crops.
        part: the rows to return, the same as they stand in the whole batch.
    """
    chosen = batch_at(splits.train, step, batch, seed)
    # all are cropped, for one stream of random numbers is drawn for all
    pixels = augment(splits.train.pixels[chosen], stream(seed, "crop", step), padding)[part]
    return _prepared(pixels, splits), splits.train.labels[chosen[part]]


def fixed_batches(
    images: Images, splits: Splits, batch: int, batches: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and labels in their own order; the last batch may be short.

    Args:
        images: usually `splits.validation`.
        splits: for the mean and deviation.
        batch: images in one batch.
        batches: how many at most; all where None.
    """
    end = len(images) if batches is None else min(len(images), batch * batches)
    for start in range(0, end, batch):
        part = slice(start, min(start + batch, end))
        yield _prepared(images.pixels[part], splits), images.labels[part]


def _prepared(pixels: Tensor, splits: Splits) -> Tensor:
    images = normalise(pixels, splits.mean, splits.std)
    # convolutions of small networks are 1.7 times as fast this way on a CPU
    return images.contiguous(memory_format=torch.channels_last)


def summed_loss(exits: Iterable[Tensor], labels: Tensor) -> Tensor:
    """Return the sum over exits of the cross-entropy of their logits [B, classes], as Huang et al.

    Of a network with one exit it is the cross-entropy.
    """
    first, *others = (F.cross_entropy(logits, labels) for logits in exits)
    return sum(others, start=first)


def accuracy(
    network: Network,
    weights: Mapping[str, Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    norm: NamedNorm = batch_statistics,
) -> float:
    """Return the fraction of images that the network's last exit classifies rightly."""
    return judge(network, weights, batches, norm)["accuracy"]


def judge(
    network: Network,
    weights: Mapping[str, Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    norm: NamedNorm = batch_statistics,
    budgets: tuple[float, float] | None = None,
) -> dict[str, float]:
    """Return by how much the network with these weights is right, as `judge_exits`.

    Where `budgets` are given, "area" is that below its curve of accuracy over them (see `area`).
    """
    found = judge_exits(lambda images: run_exits(network, weights, images, norm), batches)
    if budgets:
        found["area"] = area(network.spent, accuracies_of(found), *budgets)
    return found


@torch.no_grad()
def judge_exits(
    exits: Callable[[Tensor], Iterator[Tensor]], batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, float]:
    """Return by how much predictions are right, each measure from 0 to 1.

    "accuracy" is the fraction of images classified rightly; "likelihood" the geometric mean of the
    probability given to the right class, which is exp(-cross-entropy). Both are of the last exit.
    "exit-K" is the accuracy of exit K, counted from 1, where there are several.

    Args:
        exits: from images [B, 3, R, R] to the logits [B, classes] of each exit.
        batches: images and labels [B].
    """
    right: Counter[int] = Counter()
    loss = total = 0.0
    for images, labels in batches:
        for k, logits in enumerate(exits(images), 1):
            right[k] += int((logits.argmax(1) == labels).sum())
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        total += len(labels)
    found = {"accuracy": right[len(right)] / total, "likelihood": math.exp(-loss / total)}
    several = {f"exit-{k}": count / total for k, count in right.items()}
    return found | (several if len(several) > 1 else {})


def accuracies_of(judged: Mapping[str, float]) -> list[float]:
    """Return the accuracies of all exits, in order, from what `judge_exits` found."""
    exits = [value for name, value in judged.items() if name.startswith("exit-")]
    return exits or [judged["accuracy"]]


def area(spent: Sequence[int], accuracies: Sequence[float], low: float, high: float) -> float:
    """Return the mean accuracy over budgets from `low` to `high` (section 5.2), from 0 to 1.

    It is the area below the curve of the accuracy of the last exit that a budget reaches, which is
    what `run_to_budget` predicts with, 0 before the first, over its width.

    Args:
        spent: multiply-adds up to each exit, never falling.
        accuracies: of the exits.
        low: in multiply-adds.
        high: in multiply-adds.
    """
    ends = [*spent[1:], high]
    widths = [max(0.0, min(b, high) - max(a, low)) for a, b in zip(spent, ends, strict=True)]
    return sum(a * width for a, width in zip(accuracies, widths, strict=True)) / (high - low)
