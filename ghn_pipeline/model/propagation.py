"""Message passing on block graphs: the graph neural network G of Eq. 3 to 5 and 12 to 15.

This is its definition. `compiled.py` does the same by one operator, where it can.

Letters: B architectures, V nodes of a block and W of all modules (both padded to the largest of the
B), D the length of an embedding.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.system.compute import sent


class Update(NamedTuple):
    """Nodes of several blocks that are updated together.

    In Eq. 15 these nodes exchange no message, so the result is exactly that of updating them one
    after another.

    Attributes:
        nodes: [r], places among the B·V nodes of the blocks.
        read: [r, k], places of the nodes that they hear, padded with 0.
        messages: [r, k, 1], 1 for a message and 0 for padding.
        outside: [r, 1], 1 for nodes that hear another module (Eq. 14).
    """

    nodes: Tensor
    read: Tensor
    messages: Tensor
    outside: Tensor


def update(
    blocks: Sequence[Block], level: Sequence[tuple[int, int]], forth: bool, back: bool
) -> Update:
    """Return the update of some nodes.

    Args:
        blocks: the blocks of one module in each architecture.
        level: for each node the place of its block in `blocks`, and its place in the block.
        forth: whether they hear the nodes that they read.
        back: whether they hear the nodes that read them.
    """
    V = max(len(block.nodes) for block in blocks)
    heard = [blocks[b].nodes[v].inputs * forth + blocks[b].children[v] * back for b, v in level]
    k = max(map(len, heard))
    read = [
        [b * V + u for u in us] + [0] * (k - len(us))
        for (b, _), us in zip(level, heard, strict=True)
    ]
    return Update(
        torch.tensor([b * V + v for b, v in level]),
        torch.tensor(read, dtype=torch.int64),
        torch.tensor([[[i < len(us)] for i in range(k)] for us in heard]).view(len(level), k, 1),
        torch.tensor([[forth and not blocks[b].nodes[v].inputs] for b, v in level]),
    )


def updates(blocks: Sequence[Block], synchronous: bool) -> list[Update]:
    """List the updates of one pass over `blocks`.

    For a block of |V| nodes, a pass updates 2|V| - 1 nodes in Eq. 15, and |V| in Eq. 3.

    Args:
        blocks: the blocks of one module in each architecture.
        synchronous: see `propagate`.
    """
    nodes = [(b, v) for b, block in enumerate(blocks) for v in range(len(block.nodes))]
    if synchronous:  # Eq. 3: all nodes, edges in both directions
        return [update(blocks, nodes, True, True)]
    depths = range(max(depth for block in blocks for depth in block.depths) + 1)
    levels = [[(b, v) for b, v in nodes if blocks[b].depths[v] == depth] for depth in depths]
    # Eq. 15: the last node is not visited twice
    again = [[(b, v) for b, v in level if v + 1 < len(blocks[b].nodes)] for level in levels[::-1]]
    return [update(blocks, level, True, False) for level in levels] + [
        update(blocks, level, False, True) for level in again if level
    ]


class Propagation(nn.Module):
    """G: a GRU cell as U (Eq. 3) and a two-layer MLP as M (Eq. 4), both of section 5.1.1.

    Its matrices multiply rows of numbers from the right, and the last row of each is its bias.

    Args:
        size: D, the length of an embedding.
        hidden: S, units of the hidden layer of M.
        count: P, 1 if all modules share G, or else the number of modules.

    Attributes:
        state: [P, D + 1, 3D + S], from an embedding to its part of the gates of U (reset, update
            and new state), and to the hidden layer of M before the ReLU.
        second: [P, S + 1, D], from the hidden layer of M to a message.
        inputs: [P, D + 1, 3D], from a message to its part of the gates of U.
    """

    def __init__(self, size: int, hidden: int, count: int = 1) -> None:
        super().__init__()

        def uniform(rows: int, columns: int) -> nn.Parameter:
            bound = 1 / math.sqrt(rows)  # the bound of nn.Linear and of nn.GRUCell
            return nn.Parameter(torch.empty(count, rows + 1, columns).uniform_(-bound, bound))

        self.state = uniform(size, 3 * size + hidden)
        self.second = uniform(hidden, size)
        self.inputs = uniform(size, 3 * size)

    def forward(self, h: Tensor, passed: Tensor, updates: Sequence[Update], m: int) -> Tensor:
        """Update embeddings.

        Args:
            h: initial embeddings [B·V, D].
            passed: for each node the mean embedding of the module before [B·V, D], or zero.
            updates: the updates of all passes, in order.
            m: the place of the module in the chain, counted from 0.

        Returns:
            Embeddings [B·V, D].
        """
        D, p = h.shape[1], m % len(self.state)
        (recurrent, own), (first, offset), (second, last), (inputs, given) = (
            (matrix[:-1].T, matrix[-1])
            for matrix in (
                self.state[p][:, : 3 * D],
                self.state[p][:, 3 * D :],
                self.second[p],
                self.inputs[p],
            )
        )
        for nodes, read, messages, outside in updates:
            hidden = F.relu(F.linear(h[read], first, offset))
            heard = F.linear(hidden, second, last) * messages  # Eq. 4
            message = heard.sum(1) + passed[nodes] * outside
            # Eq. 3
            new = torch.gru_cell(message, h[nodes], inputs, recurrent, given, own)
            h = h.index_copy(0, nodes, new)
        return h


class Graphs:
    """The block graphs of B networks, which have equally many modules.

    Args:
        chains: for each network the blocks of its modules.

    Attributes:
        starts: the first of each module's rows among the W of an architecture, and last W itself.
        blocks: each block once, by its identity, since blocks repeat in a chain.
    """

    def __init__(self, chains: Sequence[Sequence[Block]]) -> None:
        self.chains = chains
        self.modules = list(zip(*chains, strict=True))
        self.sizes = [max(len(block.nodes) for block in blocks) for blocks in self.modules]
        self.starts = list(accumulate(self.sizes, initial=0))
        self.blocks = {id(block): block for chain in chains for block in chain}

    @cached_property
    def numbers(self) -> list[int]:
        """The graphs as the operator reads them.

        The list holds, in this order: M, the number of modules; `starts`; for each of the B·M
        blocks, the place in this list where its own numbers (`Block.numbers`) begin; those
        numbers, once for each block.
        """
        M = len(self.modules)
        own = [block.numbers for block in self.blocks.values()]
        first = 2 + M + len(self.chains) * M
        begins = dict(zip(self.blocks, accumulate(map(len, own), initial=first), strict=False))
        places = [begins[id(block)] for chain in self.chains for block in chain]
        return [M, *self.starts, *places, *(n for numbers in own for n in numbers)]

    def rows(self, of: Callable[[Node], int], apart: int) -> list[int]:
        """Return a row of a table for each of the B·W nodes, and 0 for padding.

        Args:
            of: function from a node to its row in the table of its module.
            apart: number of rows from the table of one module to that of the next; 0 if they share
                one.
        """
        known = {id(b): [of(node) for node in b.nodes] for b in self.blocks.values()}
        rows: list[int] = []
        for chain in self.chains:
            for m, (block, size) in enumerate(zip(chain, self.sizes, strict=True)):
                numbers = known[id(block)]
                rows += [m * apart + n for n in numbers]
                rows += [0] * (size - len(numbers))
        return rows


def propagate(
    network: Propagation,
    h: Tensor,
    graphs: Graphs,
    passes: int,
    synchronous: bool,
    pass_embeddings: bool,
) -> Tensor:
    """Propagate through the chain of modules.

    Args:
        network: G.
        h: initial embeddings [B, W, D].
        graphs: the block graphs of the B networks.
        passes: T; one pass is one forward-backward phase, or one synchronous step.
        synchronous: whether all nodes are updated at once, with edges in both directions (Eq. 3);
            otherwise they are updated one after another, forward and back (Eq. 15).
        pass_embeddings: whether each module hears the mean embedding of the one before.

    Returns:
        Embeddings [B, W, D].
    """
    B, _, D = h.shape
    passed = h.new_zeros(B, D)  # Eq. 12
    known: dict[tuple[int, ...], list[Update]] = {}
    embeddings = []
    for m, (blocks, initial) in enumerate(
        zip(graphs.modules, h.split_with_sizes(graphs.sizes, 1), strict=True)
    ):
        key = tuple(map(id, blocks))  # repeated blocks have the same graph
        if key not in known:
            made = updates(blocks, synchronous)
            known[key] = [Update(*(sent(part, h.device) for part in one)) for one in made]
        V = graphs.sizes[m]
        heard = passed.repeat_interleave(V, 0)  # Eq. 14
        own = network(initial.flatten(0, 1), heard, known[key] * passes, m).view(B, V, D)
        embeddings.append(own)
        if pass_embeddings:  # Eq. 13: the mean over the nodes of the module
            counts = torch.tensor([[len(block.nodes)] for block in blocks], device=h.device)
            real = torch.arange(V, device=h.device) < counts
            passed = (own * real[:, :, None]).sum(1) / counts
    return torch.cat(embeddings, 1)
