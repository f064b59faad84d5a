"""The graph hypernetwork, which generates all weights of networks from their graphs (Eq. 8-14)."""

from array import array
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import chain

import torch
from torch import Tensor, nn

from ghn_pipeline.model.compiled import propagate
from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.model.hypernetwork import Hypernetwork
from ghn_pipeline.model.network import Network, Place, Spec
from ghn_pipeline.model.propagation import Graphs, Propagation
from ghn_pipeline.system.compute import sent


class GHN(nn.Module):
    """GHN(A; φ, ϕ) of Eq. 11, stacked along the chain of modules (section 4.3).

    Args:
        node_types: the operations that a node may have; each has an embedding of its own.
        networks: networks that together use, in each module, all operations that it may have.
        passes: T, the number of propagation passes.
        scheme: "forward-backward" or "synchronous".
        share_parameters: whether all modules share one GHN (SP of Table 5). If not, each has one of
            its own, with its own embedding tables, G and H; its H has the branches of this module.
        pass_embeddings: whether each module hears the mean embedding of the one before (PE of
            Table 5). If not, no weight depends on an embedding of another module: see `own_end`.
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
        networks: Sequence[Network],
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
        self.modules_of_network = modules = len(networks[0].modules)
        self.passes, self.scheme, self.pass_embeddings = passes, scheme, pass_embeddings
        P = 1 if share_parameters else modules
        # section 7.2: the one-hot vector goes through a learned embedding matrix; tables of P GHNs
        # stand one below the other
        self.embedding = nn.Embedding(P * len(node_types), size)
        self.positions = nn.Embedding(modules, size) if positions else None
        self.scale_of = {scale: i for i, scale in enumerate(scales)}
        self.scales = nn.Embedding(P * len(scales), size) if len(scales) > 1 else None
        self.exits = nn.Embedding(P * 2, size) if exits else None
        self.propagation = Propagation(size, message_hidden, P)
        self.hypernetworks = nn.ModuleList(
            Hypernetwork(size, hidden, branches) for branches in branch_shapes(networks, P)
        )

    def forward(self, networks: Sequence[Network]) -> list[dict[str, Tensor]]:
        """Generate the weights of `networks` together: for each, a tensor by the name of each spec.

        Raises:
            ValueError: a network does not have the number of modules of this GHN.
        """
        graphs = self.graphs(networks)
        wanted = self.wanted(networks, graphs)
        of_graphs = [*self.one_hots(graphs), graphs.numbers]
        there = self.on_device([*of_graphs, *chain.from_iterable(one.numbers for one in wanted)])
        embeddings = self.propagate(graphs, there[: len(of_graphs)])  # Eq. 10: H follows G
        return self.generate(wanted, embeddings, there[len(of_graphs) :])

    def embed(self, networks: Sequence[Network]) -> tuple[Tensor, list[int]]:
        """Propagate through the chain of modules (Eq. 12 to 14).

        Returns:
            Embeddings of all nodes [B, nodes of all modules, D], and the first node of each module.

        Raises:
            ValueError: a network does not have the number of modules of this GHN.
        """
        graphs = self.graphs(networks)
        there = self.on_device([*self.one_hots(graphs), graphs.numbers])
        return self.propagate(graphs, there), graphs.starts

    def graphs(self, networks: Sequence[Network]) -> Graphs:
        """Return the block graphs of `networks`.

        Raises:
            ValueError: a network does not have the number of modules of this GHN.
        """
        if {len(n.modules) for n in networks} != {self.modules_of_network}:
            raise ValueError(f"this GHN weighs networks of {self.modules_of_network} modules")
        return Graphs([[module.block for module in n.modules] for n in networks])

    @property
    def tables(self) -> list[tuple[nn.Module, Callable[[Node], int], int]]:
        """The tables of embeddings (section 7.2), with the arguments of `Graphs.rows` for each.

        Their sum equals one matrix times the concatenated one-hot vectors of the node's operation,
        scale and exit, and of its module.
        """
        own = len(self.hypernetworks) > 1
        tables: list[tuple[nn.Module | None, Callable[[Node], int], int]] = [
            (self.embedding, lambda node: self.types[node.op], own * len(self.types)),
            (self.scales, lambda node: self.scale_of[node.scale], own * len(self.scale_of)),
            (self.exits, lambda node: int(node.exit), own * 2),
            (self.positions, lambda node: 0, 1),
        ]
        return [(table, of, apart) for table, of, apart in tables if table is not None]

    def one_hots(self, graphs: Graphs) -> list[list[int]]:
        """Return the place of the 1 in each one-hot vector of each node."""
        return [graphs.rows(of, apart) for _, of, apart in self.tables]

    def wanted(self, networks: Sequence[Network], graphs: Graphs) -> list["Wanted"]:
        """Return the weights that each hypernetwork generates."""
        members: list[list[tuple[int, Spec]]] = [[] for _ in self.hypernetworks]
        for b, network in enumerate(networks):
            for spec in network.specs:
                members[spec.place[0] % len(members)].append((b, spec))
        return [Wanted(one, graphs, self.pass_embeddings) for one in members]

    def on_device(self, lists: Sequence[list[int]]) -> list[Tensor]:
        """Return lists of numbers as tensors on the device of this GHN, by one copy."""
        # ten times as fast as torch.tensor
        numbers = torch.frombuffer(array("q", chain.from_iterable(lists)), dtype=torch.int64)
        there = sent(numbers, self.embedding.weight.device)
        return list(there.split_with_sizes(list(map(len, lists))))

    def propagate(self, graphs: Graphs, there: Sequence[Tensor]) -> Tensor:
        """Return embeddings [B, W, D] after all passes (Eq. 5 and 14).

        Args:
            graphs: the block graphs of the B networks.
            there: `one_hots(graphs)` and `graphs.numbers`, on the device of this GHN.
        """
        *places, numbers = there
        embedded = [table(rows) for (table, *_), rows in zip(self.tables, places, strict=True)]
        h = reduce(torch.add, embedded).view(len(graphs.chains), graphs.starts[-1], -1)
        synchronous = self.scheme == "synchronous"
        how = self.passes, synchronous, self.pass_embeddings
        return propagate(self.propagation, h, graphs, numbers, *how)

    def generate(
        self, wanted: Sequence["Wanted"], embeddings: Tensor, there: Sequence[Tensor]
    ) -> list[dict[str, Tensor]]:
        """Generate every weight from embeddings (Eq. 8 and 9).

        Args:
            wanted: the weights that each hypernetwork generates.
            embeddings: [B, W, D].
            there: the three `numbers` of each of `wanted`, on the device of this GHN.
        """
        weights: list[dict[str, Tensor]] = [{} for _ in embeddings]
        nodes = embeddings.flatten(0, 1)
        for i, (hypernetwork, one) in enumerate(zip(self.hypernetworks, wanted, strict=True)):
            if not one.members:  # a module without weights
                continue
            made = hypernetwork(nodes, *there[3 * i : 3 * i + 3], one.branches)
            for (b, spec), weight in zip(one.members, made, strict=True):
                weights[b][spec.name] = weight
        return weights


class Wanted:
    """The weights that a hypernetwork generates, in order of their branches and shapes.

    Args:
        members: for each weight the place of its network, counted from 0, and its spec.
        graphs: the block graphs of the B networks.
        pass_embeddings: whether weights may read embeddings of other modules than their own.

    Attributes:
        members: the given ones in this order.
        branches: for each branch and shape, the number of weights that have it.
        numbers: `ends`, `places` and `fan_in` of `Hypernetwork.forward`.
    """

    def __init__(
        self, members: Sequence[tuple[int, Spec]], graphs: Graphs, pass_embeddings: bool
    ) -> None:
        sorted_: dict[str, dict[tuple[int, ...], list[tuple[int, Spec]]]] = {}
        for b, spec in members:
            of_branch = sorted_.setdefault(spec.branch, {})
            of_branch.setdefault(spec.shape, []).append((b, spec))
        self.members = [
            member for shapes in sorted_.values() for group in shapes.values() for member in group
        ]
        self.branches = {
            branch: {shape: len(group) for shape, group in shapes.items()}
            for branch, shapes in sorted_.items()
        }
        width = graphs.starts[-1]

        def row(b: int, place: Place) -> int:
            return b * width + graphs.starts[place[0]] + place[1]

        edges: dict[tuple[int, int], int] = {}
        places = []
        for b, spec in self.members:
            at = row(b, spec.place)
            if spec.reads is not None:
                end = spec.reads
                if not pass_embeddings:
                    end = own_end(graphs.chains[b], spec.place, end)
                edge = row(b, end), at
                at = len(graphs.chains) * width + edges.setdefault(edge, len(edges))
            places.append(at)
        fan_in = [spec.fan_in for _, spec in self.members]
        self.numbers = [list(chain.from_iterable(edges)), places, fan_in]


def own_end(blocks: Sequence[Block], place: Place, reads: Place) -> Place:
    """Return the node of a module that stands for one that it reads in another.

    It is the node of the same number if both modules have the same block: if that one is a leaf
    there, this one is a leaf here. Otherwise it is the reading node itself.

    Args:
        blocks: the blocks of all modules.
        place: the reading node.
        reads: the node that it reads.
    """
    (m, v), (source, u) = place, reads
    return m, u if blocks[source] == blocks[m] else v


def branch_shapes(networks: Sequence[Network], count: int) -> list[dict[str, tuple[int, ...]]]:
    """Return for each hypernetwork the shape of the largest weight of each branch in `networks`.

    Args:
        networks: the networks.
        count: number of hypernetworks: 1 for all modules, or one for each.
    """
    largest: list[dict[str, tuple[int, ...]]] = [{} for _ in range(count)]
    for spec in chain.from_iterable(network.specs for network in networks):
        shapes = largest[spec.place[0] % count]
        known = shapes.get(spec.branch, spec.shape)
        shapes[spec.branch] = tuple(map(max, known, spec.shape))
    return largest
