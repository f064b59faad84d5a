"""ResNets for CIFAR with one or several classifiers (Huang et al., 2018: ResNet^MC)."""

from collections.abc import Collection

import torch.nn.functional as F
from torch import Tensor, nn

from ghn_pipeline.baselines.exits import Chain, classifier, convolution
from ghn_pipeline.data.torchvision_shim import import_torchvision
from ghn_pipeline.model.operations import take_every

#: Each has half the side and twice the channels of the one before (He et al., 2016, section 4.2).
RESOLUTIONS = 3


def resnet(blocks: int, channels: int, classes: int, *, exits: Collection[int] = ()) -> Chain:
    """Return a ResNet of 6 `blocks` + 2 layers (He et al., 2016, section 4.2).

    Its classifiers follow the code for ImageNet that MSDNet's authors refer to
    (kalviny/MSDNet-PyTorch, models/resnet_mc.py). They are as wide as their input, and their
    convolutions of stride 2 reduce every exit to the same side, 2 pixels for images of 32.

    Args:
        blocks: number of residual blocks at each of three resolutions.
        channels: channels at the first resolution.
        classes: number of classes.
        exits: the blocks of each resolution, counted from 1, that a further exit follows.
    """
    basic_block = import_torchvision().models.resnet.BasicBlock
    steps, classifiers = [convolution(3, channels, kernel=3)], {}
    for resolution in range(RESOLUTIONS):
        width = channels * 2**resolution
        for block in range(1, blocks + 1):
            if resolution and block == 1:
                steps.append(basic_block(width // 2, width, stride=2, downsample=Shortcut()))
            else:
                steps.append(basic_block(width, width))
            if block in exits:
                halvings = RESOLUTIONS + 1 - resolution
                classifiers[len(steps)] = classifier(width, width, halvings, classes)
    classifiers[len(steps)] = classifier(width, width, 0, classes)
    return Chain(steps, classifiers)


class Shortcut(nn.Module):
    """The shortcut around a block that halves the side, without weights (He et al., option A)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return every other pixel of x [B, C, R, R] and C channels of zeros, [B, 2C, R/2, R/2]."""
        return F.pad(take_every(x, 2), (0, 0, 0, 0, 0, x.shape[1]))
