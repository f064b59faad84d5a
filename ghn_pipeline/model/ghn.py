"""The graph hypernetwork, which generates all weights of networks from their graphs (Eq. 8-14)."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_pipeline.model.compiled import propagate
from ghn_pipeline.model.graph import Node
from ghn_pipeline.model.hypernetwork import Hypernetwork
from ghn_pipeline.model.network import Network, Spec
from ghn_pipeline.model.propagation import Graphs, Propagation


class GHN(nn.Module):
    """GHN(A; φ, ϕ) of Eq. 11, stacked along the chain of modules (section 4.3).

    Args:
        node_types: the operations that a node may have; each has an embedding of its own.
        branches: the shape of the largest weight of each branch of the hypernetwork.
        modules: number of modules of a network.
        passes: T, the number of propagation passes.
        scheme: "forward-backward" or "synchronous".
        share_parameters: whether all modules share one propagation network (SP of Table 5).
        pass_embeddings: whether a module receives the mean embedding of the one before (PE of
            Table 5).
        size: D, the length of an embedding.
        message_hidden: hidden units of M.
        hidden: hidden units of H.
        positions: whether the one-hot of a node has a part for the place of its module in the
            chain; without it, only passed embeddings distinguish modules.
        scales: the scales that a node may have; several add a part to the one-hot (section 7.2).
        exits: whether nodes may have exits, which add a part to the one-hot (section 7.2).
    """

    def __init__(
        self,
        node_types: Sequence[str],
        branches: Mapping[str, Sequence[int]],
        modules: int,
        *,
        passes: int,
        scheme: str,
        share_parameters: bool,
        pass_embeddings: bool,
        size: int,
        message_hidden: int,
        hidden: int,
        positions: bool = False,
        scales: Sequence[int] = (1,),
        exits: bool = False,
    ) -> None:
        super().__init__()
        self.types = {op: i for i, op in enumerate(node_types)}
        self.modules_of_network = modules
        self.passes, self.scheme, self.pass_embeddings = passes, scheme, pass_embeddings
        # section 7.2: the one-hot vector goes through a learned embedding matrix
        self.embedding = nn.Embedding(len(node_types), size)
        self.positions = nn.Embedding(modules, size) if positions else None
        self.scale_of = {scale: i for i, scale in enumerate(scales)}
        self.scales = nn.Embedding(len(scales), size) if len(scales) > 1 else None
        self.exits = nn.Embedding(2, size) if exits else None
        self.propagations = nn.ModuleList(
            Propagation(size, message_hidden) for _ in range(1 if share_parameters else modules)
        )
        self.hypernetwork = Hypernetwork(size, hidden, branches)

    def forward(self, networks: Sequence[Network]) -> list[dict[str, Tensor]]:
        """Generate the weights of `networks` together, a tensor for the name of each spec.

        Raises:
            ValueError: a network does not have the number of modules of this GHN.
        """
        embeddings, starts = self.embed(networks)  # Eq. 10: H of what G returns
        return self.generate(networks, embeddings, starts)

    def embed(self, networks: Sequence[Network]) -> tuple[Tensor, list[int]]:
        """Propagate through the chain of modules (Eq. 12 to 14).

        Returns:
            Embeddings of all nodes [B, nodes of all modules, D], and the first node of each module.
        """
        if {len(n.modules) for n in networks} != {self.modules_of_network}:
            raise ValueError(f"this GHN weighs networks of {self.modules_of_network} modules")
        graphs = Graphs([[module.block for module in n.modules] for n in networks])
        # Section 7.2: one matrix times the concatenated one-hot vectors of a node's operation, scale,
        # exit and module equals the sum of an embedding of each.
        tables: list[tuple[nn.Module | None, Callable[[int, Node], int]]] = [
            (self.embedding, lambda m, node: self.types[node.op]),
            (self.scales, lambda m, node: self.scale_of[node.scale]),
            (self.exits, lambda m, node: int(node.exit)),
            (self.positions, lambda m, node: m),
        ]
        parts = [(table, graphs.rows(of)) for table, of in tables if table is not None]
        # one copy to the device
        numbers = torch.tensor([n for _, rows in parts for n in rows] + graphs.numbers)
        *indices, described = numbers.to(self.embedding.weight.device).split_with_sizes(
            [*(len(rows) for _, rows in parts), len(graphs.numbers)]
        )
        embedded = [table(rows) for (table, _), rows in zip(parts, indices, strict=True)]
        h = reduce(torch.add, embedded).view(len(networks), graphs.starts[-1], -1)
        synchronous = self.scheme == "synchronous"
        how = self.passes, synchronous, self.pass_embeddings
        # Eq. 5 and 14
        return propagate(self.propagations, h, graphs, described, *how), graphs.starts

    def generate(
        self, networks: Sequence[Network], embeddings: Tensor, starts: Sequence[int]
    ) -> list[dict[str, Tensor]]:
        """Generate every weight from the values that `embed` returns (Eq. 8)."""
        groups: defaultdict[tuple[str, tuple[int, ...], bool], list[tuple[int, Spec]]]
        groups = defaultdict(list)
        for b, network in enumerate(networks):
            for spec in network.specs:
                groups[spec.branch, spec.shape, spec.reads is not None].append((b, spec))
        rows, width = embeddings.flatten(0, 1), embeddings.shape[1]
        hidden = F.relu(self.hypernetwork.node(rows))
        weights: list[dict[str, Tensor]] = [{} for _ in networks]
        for (branch, shape, on_edge), members in groups.items():
            nodes = [b * width + starts[s.place[0]] + s.place[1] for b, s in members]
            if on_edge:
                read = [b * width + starts[s.reads[0]] + s.reads[1] for b, s in members if s.reads]
                # section 7.2: a weight per edge takes the activations of parent and child
                ends = torch.cat((rows[read], rows[nodes]), dim=1)
                layer = F.relu(self.hypernetwork.edge(ends))
            else:
                layer = hidden[nodes]
            fan_in = torch.tensor([float(s.fan_in) for _, s in members], device=rows.device)
            generated = self.hypernetwork(layer, branch, shape, fan_in)  # Eq. 8 and 9
            for (b, spec), weight in zip(members, generated.unbind(0), strict=True):
                weights[b][spec.name] = weight
        return weights


def branch_shapes(networks: Sequence[Network]) -> dict[str, tuple[int, ...]]:
    """Return for each branch the shape that contains all its weights in `networks`."""
    largest: dict[str, tuple[int, ...]] = {}
    for network in networks:
        for spec in network.specs:
            known = largest.get(spec.branch, spec.shape)
            largest[spec.branch] = tuple(map(max, known, spec.shape))
    return largest
