"""Parts of the baselines: networks with exits, classifiers, initial weights."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn


class MultiExit(nn.Module):
    """A network that predicts several times, each time after more work."""

    def exits(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the logits [B, classes] of each exit for normalised images [B, 3, R, R].

        The work for an exit is done only when the caller asks for it.
        """
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, classes] of the last exit."""
        *_, logits = self.exits(images)
        return logits


class Chain(MultiExit):
    """Modules one after another, with classifiers on the way.

    Args:
        steps: the modules; each reads the output of the one before.
        classifiers: the classifier of each exit, by the number of steps before it.
    """

    def __init__(self, steps: Sequence[nn.Module], classifiers: Mapping[int, nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.classifiers = nn.ModuleDict({str(n): exit for n, exit in classifiers.items()})
        initialise(self)

    def exits(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the logits of each exit; see `MultiExit.exits`."""
        x = images
        for done, step in enumerate(self.steps, 1):
            x = step(x)
            if str(done) in self.classifiers:
                yield self.classifiers[str(done)](x)


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution, batch norm and ReLU: [B, inputs, R, R] to [B, outputs, R/stride, ·]."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def classifier(inputs: int, channels: int, halvings: int, classes: int) -> nn.Sequential:
    """Return the classifier of an exit: convolutions of stride 2, mean over all pixels, a matrix.

    Args:
        inputs: number of input channels.
        channels: output channels of each convolution; `inputs` if there is none.
        halvings: number of convolutions.
        classes: number of classes.
    """
    widths = [inputs, *[channels] * halvings]
    convolutions = [convolution(i, o, kernel=3, stride=2) for i, o in pairwise(widths)]
    mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*convolutions, mean, nn.Linear(channels, classes))


def initialise(network: nn.Module) -> None:
    """Draw weights as the authors' own code does (gaohuang/MSDNet, models/msdnet.lua).

    Convolutions: normal, variance 2 / (kernel area × output channels) (He et al., 2015, fan-out).
    Matrices: as torch draws them, with a bias of zero.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
