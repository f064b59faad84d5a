"""The one-shot model: weights for every operation of every node, shared (Pham et al. 2018)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ghn_pipeline.model.network import Network, initial


class OneShot(nn.Module):
    """Holds a weight for every name that a network can ask for.

    Bottlenecks and the classifier keep one slice for each node that may be a leaf.

    Args:
        networks: hold between them every weight that one can ask for. Blocks of another number of
            nodes have other names (section 5.3).
        generator: of the initial values.
    """

    def __init__(self, networks: Sequence[Network], generator: torch.Generator) -> None:
        super().__init__()
        specs = {spec.name: spec for network in networks for spec in network.specs}
        self.weights = nn.ParameterDict(
            {name: initial(spec, generator) for name, spec in specs.items()}
        )

    def forward(self, networks: Sequence[Network]) -> list[dict[str, Tensor]]:
        """Return the shared weights of the path that each network is."""
        return [{spec.name: self.weights[spec.name] for spec in n.specs} for n in networks]
