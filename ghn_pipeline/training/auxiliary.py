"""The auxiliary head (section 7.3), a second classifier inside the network for training only."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ghn_pipeline.model.network import Network


def tapped(network: Network) -> int:
    """Return the number of the module that the head reads, at 2/3 of the network (section 7.3).

    As in DARTS it is the first module of the last third: block 13 of 18, right after a reduction.
    """
    blocks = len(network.modules) - 2  # without the stem and the classifier
    return 1 + 2 * blocks // 3


class AuxiliaryHead(nn.Module):
    """Pooling, a 1×1 convolution, one as large as the remaining image, and a matrix, as in NASNet.

    Args:
        network: the network whose `tapped` module it reads.
        channels: channels of the two convolutions.
    """

    def __init__(self, network: Network, channels: Sequence[int]) -> None:
        super().__init__()
        module = network.modules[m := tapped(network)]
        #: the nodes whose concatenated outputs it reads
        self.leaves = [(m, v) for v in module.block.leaves]
        into = module.channels * len(module.block.leaves)
        side = -(-network.resolution // module.scale)
        # windows of 5 pixels at every third one, if the side has so many
        self.pools = side >= 5
        left = (side - 5) // 3 + 1 if self.pools else side
        first, second = channels
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(into, first, 1, bias=False), nn.Conv2d(first, second, left, bias=False)]
        )
        # the head is never evaluated, so it needs no running statistics
        self.norms = nn.ModuleList(nn.BatchNorm2d(c, track_running_stats=False) for c in channels)
        self.classifier = nn.Linear(second, network.modules[-1].channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes] from the output [B, C, H, W] of the tapped module."""
        x = F.relu(x)
        if self.pools:
            x = F.avg_pool2d(x, 5, 3)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.relu(norm(convolution(x)))
        logits: Tensor = self.classifier(x.flatten(1))
        return logits
