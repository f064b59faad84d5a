"""A proxy that counts the nodes that halve."""

from torch import Tensor

from ghn_pipeline.model.network import Network
from ghn_pipeline.ranking.proxies import proxy


@proxy("Halving Nodes")
def halves(network: Network, weights: dict[str, Tensor], images: Tensor, labels: Tensor) -> float:
    """Return how many nodes of the network halve their input."""
    return float(sum(node.op == "half" for m in network.modules for node in m.block.nodes))
