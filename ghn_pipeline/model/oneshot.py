"""The one-shot model, with shared weights for each operation of each node (Pham et al. 2018)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ghn_pipeline.model.network import Network, initial


class OneShot(nn.Module):
    """Holds a weight for every weight name of the search space.

    Bottlenecks and the classifier keep one slice for each node that may be a leaf.

    Args:
        networks: networks that together use all names. Blocks with another number of nodes use
            other names (section 5.3).
        generator: generator of the initial values.
    """

    def __init__(self, networks: Sequence[Network], generator: torch.Generator) -> None:
        super().__init__()
        specs = {spec.name: spec for network in networks for spec in network.specs}
        self.weights = nn.ParameterDict(
            {name: initial(spec, generator) for name, spec in specs.items()}
        )

    def forward(self, networks: Sequence[Network]) -> list[dict[str, Tensor]]:
        """Return the shared weights of each network, a path of the model."""
        return [{spec.name: self.weights[spec.name] for spec in n.specs} for n in networks]
