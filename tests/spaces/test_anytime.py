"""The anytime space: what it draws, and networks of exits against independent counts and runs."""

from collections import Counter
from dataclasses import fields, replace
from itertools import islice
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from ghn_pipeline.model.ghn import GHN
from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.model.network import (
    Network,
    Trained,
    rescale,
    run_exits,
    run_steps,
    run_to_budget,
)
from ghn_pipeline.spaces.anytime import Anytime, joined, split, with_exits
from ghn_pipeline.spaces.classification import Classification
from ghn_pipeline.spaces.nasbench201 import EDGES, NasBench201
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.training.batches import summed_loss

OPS = tuple(f"dense_{op}" for op in ("conv_1x1", "conv_3x3", "conv_5x5"))
POOLS = ("dense_max_pool_3x3", "dense_avg_pool_3x3")
SPACE = Anytime((*OPS, *POOLS), 2, 10, 3, 4, (2, 3), 1, 10)
SEEDS = range(6)


def drawn(seed: int, nodes: int = 12) -> Block:
    return SPACE.sample(Random(seed), nodes)


def network(seed: int, resolution: int = 16) -> Network:
    return Network(SPACE.modules(drawn(seed)), resolution)


# ---- what is drawn ------------------------------------------------------------------------------


def test_the_papers_architectures() -> None:
    """Section 5.2: cells of 24, 16 and 8 nodes; 7.1: their scales; a fixed number of exits."""
    seen: Counter[tuple[int, int]] = Counter()
    for seed in range(40):
        parts = split(SPACE.sample(Random(seed), 24))
        assert [len(part.nodes) - 2 for part in parts] == [24, 16, 8]
        nodes = [(b, node) for b, part in enumerate(parts) for node in part.nodes[2:]]
        assert sum(node.exit for _, node in nodes) == 10
        assert nodes[-1][1].exit
        assert not any(node.exit for part in parts for node in part.nodes[:2])
        assert all(1 <= len(node.inputs) <= 2 for _, node in nodes)
        seen.update((b, node.scale) for b, node in nodes)
        # section 7.1: a block ingests both of its inputs
        assert all({0, 1} <= {u for n in part.nodes for u in n.inputs} for part in parts)
    expected = {(0, s): 1 / 3 for s in (1, 2, 4)} | {(1, s): 1 / 2 for s in (2, 4)} | {(2, 4): 1}
    assert seen.keys() == expected.keys()
    for (b, scale), share in expected.items():
        assert seen[b, scale] == pytest.approx(40 * (24, 16, 8)[b] * share, rel=0.15)


def test_fewer_nodes_are_drawn_for_training() -> None:
    sizes = [
        [len(part.nodes) - 2 for part in split(SPACE.sample(Random(s), 24, fewer=True))]
        for s in range(300)
    ]
    for b, most in enumerate((24, 16, 8)):
        assert {size[b] for size in sizes} == set(range(1, most + 1))
    exits = [
        sum(node.exit for node in SPACE.sample(Random(s), 24, fewer=True).nodes) for s in range(300)
    ]
    assert exits == [min(10, sum(size)) for size in sizes]


def test_draws_are_all_different_and_follow_from_the_seed() -> None:
    first = list(islice(SPACE.draws(Random(3), 2), 200))
    assert len({block.hash for block in first}) == 200
    assert first == list(islice(SPACE.draws(Random(3), 2), 200))


def test_a_hash_knows_scales_exits_and_blocks() -> None:
    block = drawn(0)
    moved = next(v for v, n in enumerate(block.nodes) if n.inputs and not n.exit)
    exits = {v for v, n in enumerate(block.nodes) if n.exit}
    assert with_exits(block, {*exits, moved}).hash != block.hash
    nodes = list(block.nodes)
    nodes[2] = replace(nodes[2], scale={1: 2, 2: 4, 4: 1}[nodes[2].scale])
    assert Block(tuple(nodes)).hash != block.hash
    parts = split(block)
    assert joined([parts[1], parts[0], parts[2]]).hash == block.hash  # as graphs; never drawn


@pytest.mark.parametrize("seed", SEEDS)
def test_json_brings_it_back(seed: int) -> None:
    block = drawn(seed)
    assert SPACE.read(block.to_json()) == block


def test_what_is_no_architecture_is_said() -> None:
    good = drawn(0).to_json()
    crossing = [*good[:-1], [good[-1][0], [0], 4, True]]
    for bad, said in (
        ([["input_2", [], 1, False], *good[1:]], "the first node must be input_1"),
        (crossing, "their own block only"),
        ([*good[:-1], [*good[-1][:3], False]], "the last has an exit"),
        ([*good[:-1], [*good[-1][:2], 2, True]], "at its scales"),
        ([[*good[0][:2], 2, False], *good[1:]], "at its finest scale"),
        ([*good[:-1], ["stem", *good[-1][1:]]], f"of {OPS[0]}, "),
        (good[: len(split(drawn(0))[0].nodes)], "3 blocks"),
        ([*good[:-1], [*good[-1][:2], "4", True]], "a scale is a whole number"),
    ):
        with pytest.raises(UserError, match=said):
            SPACE.read(bad)


def test_mutants_differ_by_one_thing_and_are_architectures() -> None:
    rng, block = Random(0), drawn(1)
    kinds = Counter[str]()
    for _ in range(300):
        mutant = SPACE.mutate(rng, block)
        assert SPACE.read(mutant.to_json()) == mutant
        assert sum(node.exit for node in mutant.nodes) == 10
        pairs = list(zip(block.nodes, mutant.nodes, strict=True))
        changed = {
            key
            for key in ("op", "inputs", "scale", "exit")
            if any(getattr(a, key) != getattr(b, key) for a, b in pairs)
        }
        assert len(changed) == 1
        kinds.update(changed)
        assert sum(a != b for a, b in pairs) == (2 if changed == {"exit"} else 1)
    assert set(kinds) == {"op", "inputs", "scale", "exit"}


def test_many_mutants_are_like_random_architectures() -> None:
    rng, block = Random(0), drawn(1)
    edges = []
    for step in range(3000):
        block = SPACE.mutate(rng, block)
        if step > 500:
            edges.append(sum(len(node.inputs) for node in block.nodes))
    random = [sum(len(node.inputs) for node in drawn(seed).nodes) for seed in range(200)]
    assert np.mean(edges) == pytest.approx(np.mean(random), rel=0.05)


@pytest.mark.parametrize("max_inputs", [1, 2])
def test_the_smallest_architectures_mutate_too(max_inputs: int) -> None:
    space, rng = replace(SPACE, max_inputs=max_inputs, exits=2), Random(0)
    block = space.sample(rng, 1)
    assert [len(part.nodes) for part in split(block)] == [3, 3, 3]
    assert len({space.mutate(rng, block).hash for _ in range(100)}) > 10


# ---- the networks -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_spent_up_to_each_exit_is_what_pytorch_counts(seed: int) -> None:
    net = network(seed)
    model = Trained(net, torch.Generator().manual_seed(0))
    counted = []
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for _ in run_exits(net, model.weights, torch.zeros(1, 3, 16, 16)):
            counted.append(counter.get_total_flops() / 2)
    assert counted == net.spent
    assert counted == sorted(counted)
    assert len(counted) == 10


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_done_that_no_exit_up_to_there_needs(seed: int) -> None:
    """By hand: ancestors of each exit on the graph of all nodes, its modules' leaves included."""
    net = network(seed)
    leaves = [[(m, v) for v in module.block.leaves] for m, module in enumerate(net.modules)]

    def needed(place: tuple[int, int]) -> set[tuple[int, int]]:
        m, v = place
        if v < 0:
            return {place} | needed((m, ~v))
        node = net.modules[m].block.nodes[v]
        if node.inputs:
            read = [(m, u) for u in node.inputs]
        else:
            read = [] if m == 0 else leaves[(m - 1, max(m - 2, 0))[v]]
        return {place}.union(*(needed(p) for p in read))

    done: set[tuple[int, int]] = set()
    order = iter(net.steps)
    for exit in net.exits:
        done |= (new := needed(exit) - done)
        assert {next(order) for _ in new} == new
    assert next(order, None) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_a_budget_is_never_overspent(seed: int) -> None:
    net = network(seed)
    model = Trained(net, torch.Generator().manual_seed(0))
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exits = list(run_exits(net, model.weights, images))
        for budget in [b for s in net.spent for b in (s, s + 1, s - 1)]:
            reached = [k for k, s in enumerate(net.spent) if s <= budget]
            with FlopCounterMode(display=False) as counter:
                if not reached:
                    with pytest.raises(ValueError, match="less than the"):
                        run_to_budget(net, model.weights, images, budget)
                    continue
                logits = run_to_budget(net, model.weights, images, budget)
            assert counter.get_total_flops() / 2 / len(images) <= budget
            assert torch.equal(logits, exits[reached[-1]])


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 32, 32), (3, 16, 32), (1, 16, 16), (16, 16)])
def test_images_for_which_no_budget_was_counted_are_refused(shape: tuple[int, ...]) -> None:
    net = network(0)
    model = Trained(net, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=f"3×16×16, .* have {'×'.join(map(str, shape))}$"):
        run_to_budget(net, model.weights, torch.zeros(1, *shape), net.spent[-1])


@pytest.mark.parametrize("seed", SEEDS)
def test_without_one_exit_the_others_predict_the_same(seed: int) -> None:
    block = drawn(seed)
    net = Network(SPACE.modules(block), 16)
    model = Trained(net, torch.Generator().manual_seed(0))
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    exits = [v for v, node in enumerate(block.nodes) if node.exit]
    with torch.no_grad():
        mine = dict(zip(net.exits, run_exits(net, model.weights, images), strict=True))
        for lost in exits:
            fewer = Network(SPACE.modules(with_exits(block, set(exits) - {lost})), 16)
            theirs = list(run_exits(fewer, model.weights, images))
            assert len(theirs) == len(mine) - 1
            for place, logits in zip(fewer.exits, theirs, strict=True):
                torch.testing.assert_close(mine[place], logits)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_numbers_of_nodes_do_not_matter(seed: int) -> None:
    block, rng = drawn(seed), Random(seed)
    relabelled = joined(shuffled(part, rng) for part in split(block))
    assert relabelled.hash == block.hash
    assert relabelled != block
    spent = network(seed).spent
    assert Network(SPACE.modules(relabelled), 16).spent == spent
    # the first exit is the cheapest of all by itself
    exits = [v for v, node in enumerate(block.nodes) if node.exit]
    alone = [Network(SPACE.modules(with_exits(block, {v})), 16).spent[0] for v in exits]
    assert spent[0] == min(alone)


def shuffled(block: Block, rng: Random) -> Block:
    """The same graph in another topological order, its inputs first."""
    order = [0, 1]
    while len(order) < len(block.nodes):
        ready = [
            v
            for v, node in enumerate(block.nodes)
            if v not in order and set(node.inputs) <= set(order)
        ]
        order.append(rng.choice(ready))
    return Block(
        tuple(
            replace(block.nodes[v], inputs=tuple(sorted(map(order.index, block.nodes[v].inputs))))
            for v in order
        )
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_every_weight_is_generated_and_has_a_gradient(seed: int) -> None:
    net = network(seed)
    weights = ghn()([net])[0]
    assert {n: tuple(w.shape) for n, w in weights.items()} == {s.name: s.shape for s in net.specs}
    # an exit's classifier among them, for each exit
    places = {s.place for s in net.specs if s.branch == "classifier"}
    assert places == {(m, ~v) for m, v in net.exits}
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    loss = summed_loss(run_exits(net, weights, images), torch.arange(8))
    for gradient in torch.autograd.grad(loss, list(weights.values())):
        assert gradient.abs().max() > 0


def ghn(space: Anytime = SPACE) -> GHN:
    nets = [Network(space.modules(block), 1) for block in space.examples(1)]
    torch.manual_seed(0)
    return GHN(
        space.node_types,
        nets,
        passes=1,
        scheme="forward-backward",
        share_parameters=True,
        pass_embeddings=True,
        size=8,
        message_hidden=8,
        hidden=8,
        scales=space.scales,
        exits=True,
    )


def test_scale_and_exit_are_part_of_a_nodes_embedding() -> None:
    """Of the one-hot vectors, concatenated, times one matrix (section 7.2)."""
    made, net = ghn(), network(0)
    made.passes = 0  # the embeddings before any message
    rows = []
    for node in (node for module in net.modules for node in module.block.nodes):
        one_hot = torch.zeros(len(SPACE.node_types) + 3 + 2)
        one_hot[SPACE.node_types.index(node.op)] = 1
        one_hot[len(SPACE.node_types) + (1, 2, 4).index(node.scale)] = 1
        one_hot[-2 + node.exit] = 1
        rows.append(one_hot)
    matrix = torch.cat([made.embedding.weight, made.scales.weight, made.exits.weight])
    expected = torch.stack(rows) @ matrix
    torch.testing.assert_close(made.embed([net])[0][0], expected)


def test_a_node_is_a_bottleneck_and_its_operation_by_plain_layers() -> None:
    """One node of each operation and scale, reading two others at other scales."""
    for op in SPACE.operations:
        for scale, others in ((1, (2, 4)), (2, (1, 4)), (4, (1, 2))):
            inputs = (Node("input_1"), Node("input_2"))
            read = (Node(OPS[0], (0,), others[0]), Node(OPS[0], (1,), others[1]))
            first = Block((*inputs, *read, Node(op, (2, 3), scale, True)))
            small = SPACE.examples(1)[0]
            block = joined([first, *split(small)[1:]])
            net = Network(SPACE.modules(block), 16)
            model = Trained(net, torch.Generator().manual_seed(0))
            images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
            with torch.no_grad():
                seen = dict(run_steps(net, model.weights, images))
                found = seen[1, 4]
                x = torch.cat([by_hand(seen[1, 2 + i], o, scale) for i, o in enumerate(others)], 1)
                by_edge = [model.weights[f"01/04/{op}/pointwise/01/{v:02d}"] for v in (2, 3)]
                x = norm(F.conv2d(F.relu(x), torch.cat(by_edge, dim=1)))
                if "conv" in op:
                    kernel = model.weights[f"01/04/{op}/conv"]
                    x = norm(F.conv2d(F.relu(x), kernel, padding=kernel.shape[-1] // 2))
                elif "max" in op:
                    x = F.max_pool2d(x, 3, 1, 1)
                else:
                    ones = F.avg_pool2d(torch.ones_like(x), 3, 1, 1)
                    x = F.avg_pool2d(x, 3, 1, 1) / ones
                torch.testing.assert_close(found, x)
                assert found.shape == (4, 4, 16 // scale, 16 // scale)
                name = "01/04/classifier"
                matrix = model.weights[f"{name}/classifier/01/04"]
                logits = F.relu(x).mean((2, 3)) @ matrix.T + model.weights[f"{name}/bias"]
                torch.testing.assert_close(seen[1, ~4], logits)


def by_hand(x: torch.Tensor, old: int, new: int) -> torch.Tensor:
    """Means of squares, or pixels repeated."""
    if old < new:
        k = new // old
        return x.unfold(2, k, k).unfold(3, k, k).mean((4, 5))
    k = old // new
    return x.repeat_interleave(k, dim=2).repeat_interleave(k, dim=3)


def norm(x: torch.Tensor) -> torch.Tensor:
    mean = x.mean((0, 2, 3), keepdim=True)
    return (x - mean) / torch.sqrt(x.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5)


def test_rescaling_changes_nothing_at_the_same_scale() -> None:
    x = torch.randn(1, 2, 8, 8)
    assert rescale(x, 2, 2) is x
    for old, new in ((1, 4), (4, 1), (2, 4)):
        torch.testing.assert_close(rescale(x, old, new), by_hand(x, old, new))


class OneScale(Anytime):
    """The same blocks and channels, each block at its finest scale."""

    scales = (1,)

    def scales_of(self, block: int) -> tuple[int, ...]:
        return (2 ** sum(block + 1 >= reduction for reduction in self.reductions),)


def test_a_ghn_of_three_scales_is_less_than_a_tenth_larger_than_of_one() -> None:
    """Section 5.2: "the GHN is negligibly affected by such a change"."""
    ours, single = (
        sum(p.numel() for p in ghn(space).parameters())
        for space in (SPACE, OneScale(**{f.name: getattr(SPACE, f.name) for f in fields(SPACE)}))
    )
    assert single < ours < 1.1 * single


def test_other_spaces_draw_fewer_nodes_too() -> None:
    blocks = Classification(("identity",), 2, 1, 1, (), 1, 10)
    cells = NasBench201(EDGES, 1, 1, (), 1, 10)
    assert {len(blocks.sample(Random(s), 5, fewer=True).nodes) - 2 for s in range(100)} == {
        *range(2, 6)
    }
    sizes = {len(cells.sample(Random(s), 3, fewer=True).nodes) for s in range(100)}
    assert sizes == {len(cells.sample(Random(0), n).nodes) for n in (1, 2, 3)}
