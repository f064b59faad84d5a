"""Propagation compared with its multiply-adds, and with a loop over single nodes."""

from collections.abc import Iterator, Sequence
from random import Random

import torch
from rows import Row, Work, compare
from torch import Tensor

from ghn_pipeline.model.ghn import GHN
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network
from ghn_pipeline.model.propagation import Update, update
from ghn_pipeline.pipeline.spaces import space_of
from ghn_pipeline.settings.config import Config
from ghn_pipeline.training.ghn import build

#: The largest ratios of propagation to its multiply-adds, for one architecture of N=7, T=5:
#: forward, and with gradients.
FLOOR = 10.0, 15.0
#: The smallest ratio of the loop over single nodes to propagation.
LOOP = 3.0


def propagation(config: Config, pairs: int, device: torch.device) -> Iterator[Row]:
    """Make the rows for 1, 8 and 64 architectures, N = 7 and 17, T = 1 and 5."""
    space = space_of(config)
    rng = Random(4)
    for passes in (1, 5):
        ghn = build(space, config.ghn.model_copy(update={"passes": passes}), 0).to(device)
        for nodes in (7, 17):
            for count in (1, 8, 64):
                networks = [
                    Network(space.modules(space.sample(rng, nodes)), 1) for _ in range(count)
                ]
                what = f"{count} together, N={nodes}, T={passes}"
                yield from of_shape(ghn, networks, what, pairs, device)


def of_shape(
    ghn: GHN, networks: list[Network], what: str, pairs: int, device: torch.device
) -> Iterator[Row]:
    """Make the rows of one shape: forward, and with gradients."""
    loop = Loop(ghn, networks)
    limited = what == "1 together, N=7, T=5"

    @torch.no_grad()
    def forward() -> None:
        ghn.embed(networks)

    def with_gradients() -> None:
        ghn.zero_grad()
        ghn.embed(networks)[0].sum().backward()

    @torch.no_grad()
    def loop_forward() -> None:
        loop()

    def loop_with_gradients() -> None:
        ghn.zero_grad()
        loop().sum().backward()

    with torch.no_grad():
        theirs, ours = loop(), ghn.embed(networks)[0].flatten(0, 1)[loop.real]
        if not torch.allclose(theirs, ours, atol=1e-4):
            raise SystemExit("the loop over single nodes finds other embeddings")
    sides: tuple[tuple[str, Work, Work, int], ...] = (
        ("forward", forward, loop_forward, 1),
        ("with gradients", with_gradients, loop_with_gradients, 3),
    )
    for (name, ours_, loop_, times), limit in zip(sides, FLOOR, strict=True):
        yield compare(
            f"propagation / its multiply-adds, {what}, {name}",
            limit if limited else None,
            [(ours_, Floor(ghn, networks, times))] * pairs,
            device,
        )
        yield compare(
            f"loop over nodes / propagation, {what}, {name}",
            LOOP,
            [(loop_, ours_)] * pairs,
            device,
            at_least=True,
        )


class Floor:
    """As many multiply-adds as propagation needs, in products of its matrices with many rows.

    With gradients, propagation needs three times as many as without. Each embedding is multiplied
    once by `state`, for the gates and for the first layer of M. Each sum of hidden layers of M is
    multiplied once by the product of the second layer and the input matrix, which are both linear.

    Args:
        ghn: the GHN whose propagation is compared.
        networks: the networks to propagate through.
        times: 1 without gradients, 3 with them.
    """

    def __init__(self, ghn: GHN, networks: Sequence[Network], times: int) -> None:
        _, rows, columns = ghn.propagation.state.shape
        D = rows - 1
        S = columns - 3 * D
        versions = messages = 0
        for module in (m for network in networks for m in network.modules):
            V = len(module.block.nodes)
            versions += V + ghn.passes * (2 * V - 1)
            messages += ghn.passes * (2 * V - 1)
        device = ghn.propagation.state.device
        self.products = [
            (torch.randn(times * n, k, device=device), torch.randn(k, m, device=device))
            for n, k, m in ((versions, D, 3 * D + S), (messages, S, 3 * D))
        ]

    def __call__(self) -> list[Tensor]:
        """Return both products."""
        return [x @ matrix for x, matrix in self.products]


class Loop:
    """Propagation that visits one node after another, each for all architectures at once.

    Public implementations of this recurrence do the same. Its index tensors are made beforehand.
    """

    def __init__(self, ghn: GHN, networks: Sequence[Network]) -> None:
        self.ghn, self.networks = ghn, networks
        device = ghn.embedding.weight.device
        self.modules = []
        real, first, width = (
            [],
            0,
            sum(
                max(len(n.modules[m].block.nodes) for n in networks)
                for m in range(len(networks[0].modules))
            ),
        )
        for m in range(len(networks[0].modules)):
            blocks = [n.modules[m].block for n in networks]
            V = max(len(block.nodes) for block in blocks)
            types = [
                [ghn.types[node.op] for node in block.nodes] + [0] * (V - len(block.nodes))
                for block in blocks
            ]
            updates = [Update(*(part.to(device) for part in one)) for one in one_by_one(blocks)]
            counts = torch.tensor([[len(block.nodes)] for block in blocks], device=device)
            mask = torch.arange(V, device=device) < counts
            self.modules.append((torch.tensor(types, device=device), updates, counts, mask))
            real += [
                b * width + first + v
                for b, block in enumerate(blocks)
                for v in range(len(block.nodes))
            ]
            first += V
        self.real = torch.tensor(real, device=device)

    def __call__(self) -> Tensor:
        """Return the embeddings of all nodes, module by module."""
        ghn, B = self.ghn, len(self.networks)
        passed = ghn.embedding.weight.new_zeros(B, ghn.embedding.embedding_dim)
        found = []
        for m, (types, updates, counts, mask) in enumerate(self.modules):
            V = types.shape[1]
            h = ghn.embedding(types)
            if ghn.positions is not None:
                h = h + ghn.positions.weight[m]
            heard = passed.repeat_interleave(V, 0)
            h = ghn.propagation(h.flatten(0, 1), heard, updates * ghn.passes, m).view(B, V, -1)
            found.append(h[mask])
            if ghn.pass_embeddings:
                passed = (h * mask[:, :, None]).sum(1) / counts
        return torch.cat(found)


def one_by_one(blocks: Sequence[Block]) -> list[Update]:
    """Return the updates of a forward-backward pass (Eq. 15), one node of each block at a time."""
    V = max(len(block.nodes) for block in blocks)
    order = [(v, True) for v in range(V)] + [(v, False) for v in reversed(range(V))]
    made = []
    for v, forth in order:
        # the last node of a block is not visited twice
        visited = [(b, v) for b, block in enumerate(blocks) if v < len(block.nodes) - (not forth)]
        if visited:
            made.append(update(blocks, visited, forth, not forth))
    return made


def together(config: Config, pairs: int, device: torch.device) -> Row:
    """Compare generating weights for 64 architectures one after another with all together."""
    space = space_of(config)
    ghn = build(space, config.ghn, 0).to(device)
    rng = Random(2)
    networks = [Network(space.modules(space.sample(rng, config.space.nodes)), 1) for _ in range(64)]
    for network in networks:
        _ = network.specs  # cached here, so that neither side spends time on it

    @torch.no_grad()
    def all_together() -> None:
        ghn(networks)

    @torch.no_grad()
    def one_after_another() -> None:
        for network in networks:
            ghn([network])

    what = f"64 architectures one after another / together, {config.scale} shape"
    return compare(what, None, [(one_after_another, all_together)] * pairs, device)
