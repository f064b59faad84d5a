"""DenseNets for CIFAR with one or several classifiers (Huang et al., 2018: DenseNet^MC)."""

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn

from ghn_pipeline.baselines.exits import Chain, classifier
from ghn_pipeline.data.torchvision_shim import import_torchvision

#: Each has a dense block, at half the side of the one before (Huang et al., 2017, section 3).
RESOLUTIONS = 3


def densenet(
    layers: int,
    channels: int,
    growth: int,
    classes: int,
    *,
    bottleneck: int,
    reduction: float,
    exits: Collection[int] = (),
) -> Chain:
    """Return a DenseNet-BC of 6 `layers` + 4 layers (Huang et al., 2017, section 3).

    Its classifiers are as in `resnet` (kalviny/MSDNet-PyTorch, models/densenet_mc.py).

    Args:
        layers: number of pairs of a 1×1 and a 3×3 convolution in each of three dense blocks.
        channels: channels of the first convolution.
        growth: channels that a pair adds.
        classes: number of classes.
        bottleneck: ratio of the channels between the convolutions of a pair to `growth`.
        reduction: share of the channels that a transition between dense blocks keeps.
        exits: the pairs of each dense block, counted from 1, that a further exit follows.
    """
    parts = import_torchvision().models.densenet
    steps: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
    classifiers, width = {}, channels
    for resolution in range(RESOLUTIONS):
        if resolution:
            reduced = math.floor(width * reduction)
            steps.append(parts._Transition(width, reduced))
            width = reduced
        for layer in range(1, layers + 1):
            steps.append(Dense(parts._DenseLayer(width, growth, bottleneck, drop_rate=0.0)))
            width += growth
            if layer in exits:
                halvings = RESOLUTIONS + 1 - resolution
                classifiers[len(steps)] = classifier(width, width, halvings, classes)
    steps.append(nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True)))
    classifiers[len(steps)] = classifier(width, width, 0, classes)
    return Chain(steps, classifiers)


class Dense(nn.Module):
    """A layer whose output is appended to its input."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Add channels to x [B, C, R, R]."""
        return torch.cat([x, self.layer(x)], 1)
