"""MSDNet for CIFAR (Huang et al., 2018, arXiv 1703.09844).

It has both savings of their section 4. Network reduction: the layers form as many parts as there
are scales; each part after the first drops the finest scale, and a transition reduces the channels
of the others. Lazy evaluation: a feature is computed only when an exit needs it. Details that the
paper leaves open follow its authors' code, gaohuang/MSDNet (Lua, at its defaults).
"""

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ghn_pipeline.baselines.exits import MultiExit, classifier, convolution, initialise

#: Channels of the two convolutions of a classifier (models/JointTrainContainer.lua).
CLASSIFIER_CHANNELS = 128


class Column(NamedTuple):
    """One layer at all its scales; a width is the channels of a scale over its growth factor.

    Attributes:
        finest: its finest scale, counted from 0, the scale of the image.
        reads: the finest scale that it reads, one finer if it drops a scale.
        width: width of its input.
        out: width of its output.
    """

    finest: int
    reads: int
    width: int
    out: int


def columns(
    depth: int, scales: int, channels: int, growth: int, reduction: float
) -> Iterator[Column]:
    """Yield the layers of an MSDNet in order; `MSDNet` explains the arguments."""
    reads, width = 0, channels
    for layer in range(depth):
        finest = layer // math.ceil(depth / scales)
        out = width + growth
        if finest > reads:
            out = math.floor(reduction * out)
        yield Column(finest, reads, width, out)
        reads, width = finest, out


class MSDNet(MultiExit):
    """A grid of layers and scales: each layer reads its own scale and the next finer one.

    Every exit reads the coarsest scale.

    Args:
        blocks: number of exits.
        base: number of layers before the first exit.
        step: number of layers between two exits.
        channels: output channels of the stem at a scale with growth factor 1.
        growth: channels that a layer adds at such a scale.
        classes: number of classes.
        growth_factors: for each scale, finest first, the factor of its channels and growth.
        bottleneck_factors: for each scale, the largest ratio of the channels of a 1×1 convolution
            that reads it to those of the 3×3 convolution after it.
        reduction: share of its channels that a scale keeps when a finer one is dropped.
    """

    def __init__(
        self,
        blocks: int,
        base: int,
        step: int,
        channels: int,
        growth: int,
        classes: int,
        *,
        growth_factors: Sequence[int] = (1, 2, 4),
        bottleneck_factors: Sequence[int] = (1, 2, 4),
        reduction: float = 0.5,
    ) -> None:
        super().__init__()
        scales = range(len(growth_factors))
        widths = [3, *(channels * factor for factor in growth_factors)]
        self.stem = nn.ModuleList(
            convolution(widths[s], widths[s + 1], kernel=3, stride=2 if s else 1) for s in scales
        )
        depth = base + (blocks - 1) * step
        grid = list(columns(depth, len(scales), channels, growth, reduction))
        self.layers = nn.ModuleList(
            nn.ModuleList(
                Layer(column, s, growth, growth_factors, bottleneck_factors)
                for column in grid
                if column.finest <= s
            )
            for s in scales
        )
        self.classifiers = nn.ModuleDict()
        for layer in range(base, depth + 1, step):
            read = grid[layer - 1].out * growth_factors[-1]
            self.classifiers[str(layer)] = classifier(read, CLASSIFIER_CHANNELS, 2, classes)
        initialise(self)

    def exits(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the logits of each exit; see `MultiExit.exits`."""
        coarsest = len(self.stem) - 1
        for layer, features in enumerate(self._features(coarsest, images)):
            if str(layer) in self.classifiers:
                yield self.classifiers[str(layer)](features)

    def _features(self, scale: int, images: Tensor) -> Iterator[Tensor]:
        """Yield the output of each layer at one scale, the stem first.

        A layer asks the finer scale only for the features of the layer before, because no exit
        needs later ones yet.
        """
        finer = self._features(scale - 1, images) if scale else iter([images])
        below = next(finer)
        x: Tensor = self.stem[scale](below)
        yield x
        layer_before = chain([below], finer)
        for layer in self.layers[scale].children():
            x = layer(x, next(layer_before, None))
            yield x


class Layer(nn.Module):
    """One layer at one scale, which appends new features to its input.

    Half of the new features come from the finer scale, if it reads one.

    Args:
        column: the layer.
        scale: the scale.
        growth, growth_factors, bottleneck_factors: the arguments of `MSDNet`.
    """

    def __init__(
        self,
        column: Column,
        scale: int,
        growth: int,
        growth_factors: Sequence[int],
        bottleneck_factors: Sequence[int],
    ) -> None:
        super().__init__()
        read = range(max(scale - 1, column.reads), scale + 1)
        factor = growth_factors[scale]
        self.paths = nn.ModuleList(
            bottlenecked(
                column.width * growth_factors[s],
                growth * factor // len(read),
                bottleneck_factors[s],
                stride=1 if s == scale else 2,
            )
            for s in read
        )
        dropped = column.finest > column.reads
        grown = (column.width + growth) * factor
        self.transition = convolution(grown, column.out * factor, 1) if dropped else nn.Identity()

    def forward(self, x: Tensor, finer: Tensor | None) -> Tensor:
        """Return x [B, C, R, R] with new features appended.

        They are made from x and, if this layer reads it, from the finer scale [B, C', 2R, 2R].
        """
        read = [finer, x][-len(self.paths) :]
        added = [path(features) for path, features in zip(self.paths, read, strict=True)]
        out: Tensor = self.transition(torch.cat([x, *added], 1))
        return out


def bottlenecked(inputs: int, outputs: int, factor: int, stride: int) -> nn.Sequential:
    """Return a 1×1 and a 3×3 convolution: [B, inputs, R, R] to [B, outputs, R/stride, R/stride]."""
    inner = min(inputs, factor * outputs)
    return nn.Sequential(
        convolution(inputs, inner, kernel=1), convolution(inner, outputs, kernel=3, stride=stride)
    )
