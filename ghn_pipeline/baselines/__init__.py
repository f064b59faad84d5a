"""The baselines of the anytime networks of section 5.2, and their costs.

Huang et al. (2018, "Multi-Scale Dense Networks for Resource Efficient Image Classification", arXiv
1703.09844) compare them on CIFAR-10: MSDNet itself, a ResNet and a DenseNet with several
classifiers, and ensembles of both. Weights are drawn from torch's global generator.
"""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from ghn_pipeline.baselines.densenet import densenet
from ghn_pipeline.baselines.ensemble import Ensemble
from ghn_pipeline.baselines.exits import MultiExit
from ghn_pipeline.baselines.msdnet import MSDNet
from ghn_pipeline.baselines.resnet import resnet
from ghn_pipeline.settings.sections import Anytime, DenseNets, ResNets


def made(name: str, settings: Anytime, classes: int) -> MultiExit:
    """Make an untrained baseline.

    Args:
        name: the baseline, one of `settings.rivals`.
        settings: the settings of all baselines.
        classes: number of classes of images.
    """
    of = getattr(settings, name)
    arguments = {**of.model_dump(), "classes": classes}
    if isinstance(of, ResNets):
        return Ensemble([resnet(**{**arguments, "blocks": b}) for b in of.blocks])
    if isinstance(of, DenseNets):
        return Ensemble([densenet(**{**arguments, "layers": n}) for n in of.layers])
    makers: dict[str, Callable[..., MultiExit]] = {
        "msdnet": MSDNet,
        "resnet_mc": resnet,
        "densenet_mc": densenet,
    }
    return makers[name](**arguments)


def multiply_adds(network: MultiExit, resolution: int) -> list[int]:
    """Return for each exit the multiply-adds of all work up to it, for one image.

    Convolutions and matrices count, as in `Network.spent`.

    Args:
        network: the network, counted in evaluation mode and returned to its own mode.
        resolution: side of the image in pixels.
    """
    training = network.training
    network.eval()
    image = next(network.parameters()).new_zeros(1, 3, resolution, resolution)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        counts = [counter.get_total_flops() // 2 for _ in network.exits(image)]
    network.train(training)
    return counts
