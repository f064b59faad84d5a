"""Batches of images: for training as a function of the step, for evaluation fixed ones."""

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
    """Return the cropped, flipped and normalised images [B, 3, R, R] and labels [B] of a step.

    Args:
        splits: the images; the training ones are used.
        step: counted from 0.
        batch: images in the whole batch.
        padding: padding of the crops in pixels.
        seed: seed of the order and of the crops.
        part: the rows of the whole batch to return.
    """
    chosen = batch_at(splits.train, step, batch, seed)
    # the whole batch is cropped, because its rows share one stream of random numbers
    pixels = augment(splits.train.pixels[chosen], stream(seed, "crop", step), padding)[part]
    return _prepared(pixels, splits), splits.train.labels[chosen[part]]


def fixed_batches(
    images: Images, splits: Splits, batch: int, batches: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and labels in their own order; the last batch may be short.

    Args:
        images: the images to yield, usually `splits.validation`.
        splits: the data set; its mean and deviation normalise the images.
        batch: number of images in one batch.
        batches: the largest number of batches to yield; None for all.
    """
    end = len(images) if batches is None else min(len(images), batch * batches)
    for start in range(0, end, batch):
        part = slice(start, min(start + batch, end))
        yield _prepared(images.pixels[part], splits), images.labels[part]


def _prepared(pixels: Tensor, splits: Splits) -> Tensor:
    images = normalise(pixels, splits.mean, splits.std)
    # in this layout convolutions of small networks are 1.7 times as fast on a CPU
    return images.contiguous(memory_format=torch.channels_last)


def summed_loss(exits: Iterable[Tensor], labels: Tensor) -> Tensor:
    """Return the sum of the cross-entropies of the exits' logits [B, classes] (Huang et al.)."""
    first, *others = (F.cross_entropy(logits, labels) for logits in exits)
    return sum(others, start=first)


def accuracy(
    network: Network,
    weights: Mapping[str, Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    norm: NamedNorm = batch_statistics,
) -> float:
    """Return the fraction of images that the network's last exit classifies correctly."""
    return judge(network, weights, batches, norm)["accuracy"]


def judge(
    network: Network,
    weights: Mapping[str, Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    norm: NamedNorm = batch_statistics,
    budgets: tuple[float, float] | None = None,
) -> dict[str, float]:
    """Return the measures of `judge_exits` for a network with these weights.

    With `budgets` there is also "area", the area below its curve of accuracy (see `area`).
    """
    found = judge_exits(lambda images: run_exits(network, weights, images, norm), batches)
    if budgets:
        found["area"] = area(network.spent, accuracies_of(found), *budgets)
    return found


@torch.no_grad()
def judge_exits(
    exits: Callable[[Tensor], Iterator[Tensor]], batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, float]:
    """Return measures of how correct predictions are, each from 0 to 1.

    "accuracy" is the fraction of images classified correctly, and "likelihood" the geometric mean
    of the probability of the correct class, exp(-cross-entropy), both at the last exit. If there
    are several exits, "exit-K" is the accuracy of exit K, counted from 1.

    Args:
        exits: function from images [B, 3, R, R] to the logits [B, classes] of each exit.
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
    """Return the accuracies of all exits, in order, from the measures of `judge_exits`."""
    exits = [value for name, value in judged.items() if name.startswith("exit-")]
    return exits or [judged["accuracy"]]


def area(spent: Sequence[int], accuracies: Sequence[float], low: float, high: float) -> float:
    """Return the mean accuracy over budgets from `low` to `high` (section 5.2), from 0 to 1.

    A budget has the accuracy of the last exit that it reaches, which `run_to_budget` predicts with,
    and 0 before the first exit. The result is the area below this curve, over its width.

    Args:
        spent: multiply-adds up to each exit, never falling.
        accuracies: accuracies of the exits.
        low: lowest budget in multiply-adds.
        high: highest budget in multiply-adds.
    """
    ends = [*spent[1:], high]
    widths = [max(0.0, min(b, high) - max(a, low)) for a, b in zip(spent, ends, strict=True)]
    return sum(a * width for a, width in zip(accuracies, widths, strict=True)) / (high - low)
