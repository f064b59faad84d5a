"""Scheduled drop-path (section 7.3; Zoph et al. 2018, section 3), which drops inputs of nodes."""

from torch import Tensor

from ghn_pipeline.model.network import Network, Path, Place, keep_path


def paths(network: Network) -> dict[Place, tuple[int, float]]:
    """Return the nodes whose inputs may be dropped, with their numbers of inputs and their depths.

    The depth is the number of the block, counted from 1, over the number of blocks. The inputs of
    identities, and those that enter a block, are never dropped.
    """
    numbers = [module.number for module in network.modules]
    return {
        place: (len(step.reads), number / max(numbers))
        for place, step in network.steps.items()
        if step.operation.join == "sum" and (number := numbers[place[0]])
    }


def drop_path(network: Network, probability: float, draws: Tensor) -> Path:
    """Return a hook that drops inputs of nodes at random, for each image by itself.

    Inputs that stay are divided by their probability of staying, which preserves the mean.

    Args:
        network: the network that is run.
        probability: probability in the last block; block i of L has i/L of it.
        draws: [inputs of all `paths`, B], uniform in [0, 1), on the images' device.
    """
    if not probability:
        return keep_path
    scales: dict[Place, Tensor] = {}
    first = 0
    for place, (inputs, depth) in paths(network).items():
        kept = 1 - probability * depth
        mask = draws[first : first + inputs] < kept
        scales[place] = (mask / kept).reshape(-1, 1, 1, 1)
        first += inputs

    def drop(place: Place, x: Tensor) -> Tensor:
        return x * scales[place].to(x.dtype) if place in scales else x

    return drop
