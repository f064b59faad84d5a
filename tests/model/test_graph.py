"""Block graphs against slow definitions, their hash against isomorphism by brute force."""

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations, permutations, product
from random import Random

import pytest

from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.system.errors import UserError

KNOWN = ("input_1", "input_2", "a", "b", "c")


def random_block(rng: Random, nodes: int, operations: str = "ab") -> Block:
    drawn = [Node("input_1"), Node("input_2")]
    for v in range(2, nodes):
        inputs = rng.sample(range(v), rng.randint(1, min(3, v)))
        drawn.append(Node(rng.choice(operations), tuple(inputs)))
    return Block(tuple(drawn))


def relabelled(rng: Random, block: Block) -> Block:
    """The same graph with its nodes in another topological order."""
    waiting, new = set(range(len(block.nodes))), dict[int, int]()
    order: list[Node] = []
    while waiting:
        ready = sorted(v for v in waiting if new.keys() >= set(block.nodes[v].inputs))
        v = rng.choice(ready)
        waiting.remove(v)
        new[v] = len(order)
        order.append(block.nodes[v])
    return Block(tuple(Node(n.op, tuple(new[u] for u in shuffled(rng, n.inputs))) for n in order))


def shuffled(rng: Random, values: tuple[int, ...]) -> list[int]:
    return rng.sample(values, len(values))


def every_block(nodes: int, operations: str) -> Iterator[Block]:
    """All labelled acyclic graphs in topological order."""
    edges = list(combinations(range(nodes), 2))
    for labels in product(operations, repeat=nodes):
        for present in product((False, True), repeat=len(edges)):
            chosen = [edge for edge, there in zip(edges, present, strict=True) if there]
            inputs = [tuple(u for u, w in chosen if w == v) for v in range(nodes)]
            yield Block(tuple(map(Node, labels, inputs)))


def smallest_renumbering(block: Block) -> tuple[object, ...]:
    """Equal for isomorphic graphs and no others: the least of all n! ways to write it down."""
    edges = [(u, v) for v, node in enumerate(block.nodes) for u in node.inputs]
    ways = []
    for new in permutations(range(len(block.nodes))):
        labels = tuple(op for _, op in sorted((new[v], n.op) for v, n in enumerate(block.nodes)))
        ways.append((labels, tuple(sorted((new[u], new[v]) for u, v in edges))))
    return min(ways)


def refined_colours(block: Block) -> list[int]:
    """Plain colour refinement (Weisfeiler and Leman): the colours of all nodes, sorted."""
    nodes = range(len(block.nodes))
    colours = [KNOWN.index(node.op) for node in block.nodes]
    for _ in nodes:
        seen = []
        for v in nodes:
            above = sorted(colours[u] for u in block.nodes[v].inputs)
            below = sorted(colours[w] for w in nodes if v in block.nodes[w].inputs)
            seen.append((colours[v], above, below))
        colours = [sum(other < mine for other in seen) for mine in seen]
    return sorted(colours)


@pytest.mark.parametrize("seed", range(300))
def test_hash_does_not_depend_on_the_order_of_nodes(seed: int) -> None:
    rng = Random(seed)
    block = random_block(rng, rng.randint(3, 19), rng.choice(("a", "ab", "abc")))
    assert {relabelled(rng, block).hash for _ in range(3)} == {block.hash}


@pytest.mark.parametrize(
    ("nodes", "operations"), [(1, "ab"), (2, "ab"), (3, "abc"), (4, "ab"), (5, "a")]
)
def test_hash_is_isomorphism_on_all_small_graphs(nodes: int, operations: str) -> None:
    hashes, classes = defaultdict(set), defaultdict(set)
    for block in every_block(nodes, operations):
        form = smallest_renumbering(block)
        hashes[form].add(block.hash)
        classes[block.hash].add(form)
    assert all(len(found) == 1 for found in hashes.values()), "isomorphic, other hash"
    assert all(len(found) == 1 for found in classes.values()), "one hash, not isomorphic"


def test_number_of_small_graphs_is_the_published_one() -> None:
    # acyclic digraphs on n unlabelled nodes: https://oeis.org/A003087
    counts = [len({block.hash for block in every_block(n, "a")}) for n in range(1, 6)]
    assert counts == [1, 2, 6, 31, 302]


def rings(*lengths: int) -> Block:
    """Rings of edges between two layers: each lower node reads two neighbouring upper nodes."""
    uppers = [Node("a")] * sum(lengths)
    lowers, first = [], 0
    for n in lengths:
        lowers += [Node("b", (first + i, first + (i + 1) % n)) for i in range(n)]
        first += n
    return Block((*uppers, *lowers))


@pytest.mark.parametrize(("one", "other"), [((6,), (3, 3)), ((8,), (4, 4)), ((8,), (3, 5))])
def test_hash_tells_apart_what_colour_refinement_cannot(
    one: tuple[int, ...], other: tuple[int, ...]
) -> None:
    assert refined_colours(rings(*one)) == refined_colours(rings(*other))
    assert rings(*one).hash != rings(*other).hash
    rng = Random(0)
    for block in (rings(*one), rings(*other)):
        assert {relabelled(rng, block).hash for _ in range(5)} == {block.hash}


def test_twins_do_not_cost_a_factorial() -> None:
    # 17! descriptions would never end
    twins = (Node("a", (0, 1)),) * 17
    block = Block((Node("input_1"), Node("input_2"), *twins))
    other = Block((*block.nodes[:-1], Node("a", (0,))))
    assert relabelled(Random(0), block).hash == block.hash != other.hash


# ---- canonical order -----------------------------------------------------------------------------


def every_listing(block: Block) -> Iterator[Block]:
    """The graph in every topological order of its nodes, the two inputs first."""
    for order in permutations(range(2, len(block.nodes))):
        new = {v: i for i, v in enumerate((0, 1, *order))}
        try:
            yield Block(
                tuple(
                    Node(block.nodes[v].op, tuple(new[u] for u in block.nodes[v].inputs))
                    for v in new
                )
            )
        except ValueError:  # this order is not topological
            continue


@pytest.mark.parametrize("seed", range(40))
def test_every_listing_of_a_small_block_has_one_canonical_order(seed: int) -> None:
    rng = Random(seed)
    block = random_block(rng, rng.randint(3, 8), rng.choice(("a", "ab")))
    listings = list(every_listing(block))
    assert block in listings
    assert len({listing.canonical.nodes for listing in listings}) == 1


@pytest.mark.parametrize("seed", range(100))
def test_random_listings_of_17_nodes_have_one_canonical_order(seed: int) -> None:
    rng = Random(seed)
    block = random_block(rng, 2 + 17, rng.choice(("a", "ab", "abc")))
    orders = {relabelled(rng, block).canonical.nodes for _ in range(5)}
    assert orders == {block.canonical.nodes}


@pytest.mark.parametrize(
    ("nodes", "operations"), [(1, "ab"), (2, "ab"), (3, "abc"), (4, "ab"), (5, "a")]
)
def test_canonical_order_is_isomorphism_on_all_small_graphs(nodes: int, operations: str) -> None:
    canonical, classes = defaultdict(set), defaultdict(set)
    for block in every_block(nodes, operations):
        form = smallest_renumbering(block)
        assert smallest_renumbering(block.canonical) == form, "it is another graph"
        canonical[form].add(block.canonical.nodes)
        classes[block.canonical.nodes].add(form)
    assert all(len(found) == 1 for found in canonical.values())
    assert all(len(found) == 1 for found in classes.values())


@pytest.mark.parametrize("lengths", [(6,), (3, 3), (8,), (4, 4), (3, 5)])
def test_canonical_order_of_what_colour_refinement_cannot_tell_apart(
    lengths: tuple[int, ...],
) -> None:
    rng, block = Random(0), rings(*lengths)
    orders = {relabelled(rng, block).canonical.nodes for _ in range(20)}
    assert orders == {block.canonical.nodes}


def test_canonical_order_of_twins_and_of_equal_chains() -> None:
    inputs = (Node("input_1"), Node("input_2"))
    twins = Block((*inputs, *(Node("a", (0, 1)),) * 4, Node("b", (2, 3)), Node("b", (4, 5))))
    chains = Block(
        (*inputs, *(Node("a", (v - 1,) if v % 3 != 2 else (0, 1)) for v in range(2, 14)))
    )
    rng = Random(0)
    for block in (twins, chains):
        listings = [relabelled(rng, block) for _ in range(20)]
        assert len({listing.nodes for listing in listings}) > 10
        assert {listing.canonical.nodes for listing in listings} == {block.canonical.nodes}


@pytest.mark.parametrize("seed", range(30))
def test_canonical_order_sorts_by_depth_with_the_inputs_first(seed: int) -> None:
    rng = Random(seed)
    block = random_block(rng, rng.randint(3, 19))
    canonical = relabelled(rng, block).canonical
    assert [node.op for node in canonical.nodes[:2]] == ["input_1", "input_2"]
    assert list(canonical.depths) == sorted(block.depths)
    assert all(node.inputs == tuple(sorted(node.inputs)) for node in canonical.nodes)
    assert canonical.hash == block.hash
    assert canonical.canonical == canonical
    assert block.canonical is block.canonical


def test_canonical_order_keeps_scales_and_exits() -> None:
    nodes = (Node("input_1"), Node("a", (0,), 2), Node("a", (0,), 1, True), Node("b", (1, 2), 4))
    canonical = Block(nodes).canonical
    assert sorted(n.label for n in canonical.nodes) == sorted(n.label for n in nodes)
    swapped = Block((nodes[0], nodes[2], nodes[1], Node("b", (2, 1), 4)))
    assert swapped.canonical == canonical


# ---- blocks --------------------------------------------------------------------------------------


def test_hash_is_16_hex_digits_and_the_same_in_every_process() -> None:
    # results are filed under it; Python's own hashes of text differ between processes
    code = (
        "from ghn_pipeline.model.graph import Block, Node;"
        "print(Block((Node('a'), Node('b'), Node('c', (0, 1)), Node('b', (0,)))).hash)"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
            encoding="utf-8",
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1
    assert re.fullmatch("[0-9a-f]{16}\n", hashes.pop())


@pytest.mark.parametrize("seed", range(50))
def test_children_leaves_and_depths_by_definition(seed: int) -> None:
    rng = Random(seed)
    block = random_block(rng, rng.randint(3, 12))
    nodes = range(len(block.nodes))
    edges = {(u, v) for v in nodes for u in block.nodes[v].inputs}
    for v in nodes:
        assert block.children[v] == tuple(w for w in nodes if (v, w) in edges)
        paths = [  # every path that ends in v, found as a chain among the nodes before it
            len(chain)
            for k in range(v + 1)
            for chain in combinations(range(v), k)
            if all(edge in edges for edge in zip(chain, (*chain, v)[1:], strict=True))
        ]
        assert block.depths[v] == max(paths)
    unread = tuple(v for v in nodes if v >= 2 and not any((v, w) in edges for w in nodes))
    assert block.leaves == unread


def test_inputs_are_leaves_only_when_nothing_is_computed() -> None:
    assert Block((Node("stem"),)).leaves == (0,)
    assert Block((Node("input_1"), Node("input_2"))).leaves == (0, 1)
    assert Block((Node("input_1"), Node("input_2"), Node("a", (0,)))).leaves == (2,)


@pytest.mark.parametrize("inputs", [(2,), (3,), (-1,), (0, 0), (0, 1, 0)])
def test_nodes_read_distinct_earlier_nodes(inputs: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"node 2 \(a\) must read distinct earlier nodes"):
        Block((Node("input_1"), Node("input_2"), Node("a", inputs)))


@pytest.mark.parametrize("seed", range(20))
def test_json_round_trip(seed: int) -> None:
    block = random_block(Random(seed), 12)
    assert Block.from_json(json.loads(json.dumps(block.to_json())), KNOWN) == block


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "3",
        '"ab"',
        '{"a": []}',
        "[1]",
        "[[]]",
        '[["a"]]',
        '[["a", []], ["a", 0]]',
        '[["a", null]]',
        '[["a", [], []]]',
        '[["a", ["x"]]]',
        '[["a", [[0]]]]',
        '[["a", [0]]]',
        '[["a", []], ["b", [0, 0]]]',
        '[["a", []], ["b", [-1]]]',
        '[["a", []], ["b", [NaN]]]',
        '[["unheard_of", []]]',
        '[[["a"], []]]',
        "[[null, []]]",
    ],
)
def test_rubbish_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        Block.from_json(json.loads(text), KNOWN)


@pytest.mark.parametrize(
    "text",
    [
        '[["a", []], ["b", [Infinity]]]',
        '[["a", []], ["b", [0.5]]]',
        '[["a", []], ["b", "0"]]',
        '[["a", []], ["b", [false]]]',
        "[]",
    ],
)
def test_near_misses_are_refused(text: str) -> None:
    # none of these is a block that `to_json` could have written
    with pytest.raises(UserError):
        Block.from_json(json.loads(text), KNOWN)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([["a", []]] * 201, "it has 201 nodes, more than 200"),
        ([["a", [], 1]], r"a node is \[operation, \[inputs\]\]"),
        ([["a", [], 1, False, 0]], r"a node is \[operation, \[inputs\]\]"),
        ([["a", [], 0, False]], "a scale is a whole number"),
        ([["a", [], True, False]], "a scale is a whole number"),
        ([["a", [], 1, 0]], "an exit true or false"),
        ([["a", []], ["b", [1]]], "must read distinct earlier nodes"),
        ([["a", [1]], ["b", [0]]], "must read distinct earlier nodes"),
        ([["a", []], ["b", [0, 0]]], "must read distinct earlier nodes"),
        ([["a", []], ["b", [10**400]]], "must read distinct earlier nodes"),
        ([["a", list(range(1000))]], "must read distinct earlier nodes"),
        ([["a" * 10**6, []]], "unknown operations"),
        ([["\ud800", []]], "unknown operations"),
        ((), "not a block"),
        ({"a": []}, "not a block"),
    ],
)
def test_what_is_no_block_is_a_short_message(value: object, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as refused:
        Block.from_json(value, KNOWN)
    assert len(str(refused.value)) < 1000


def test_lists_in_lists_are_a_short_message() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, [deep], [["a", deep]], [["a", [deep]]], [["a", [], deep, True]]):
        with pytest.raises(UserError, match="not a block") as refused:
            Block.from_json(value, KNOWN)
        assert len(str(refused.value)) < 1000


def test_the_nearest_known_operation_is_offered() -> None:
    with pytest.raises(UserError, match=r"unknown operations inptu_1 \(did you mean input_1\?\)"):
        Block.from_json([["inptu_1", []]], KNOWN)


@pytest.mark.parametrize("length", [1, 2])
def test_equal_chains_do_not_cost_hours(length: int) -> None:
    # 36 nodes, in chains of which each could stand for any other
    nodes = [Node("a", (v - 1,) if v % length else (0, 1)) for v in range(2, 38)]
    block = Block((Node("input_1"), Node("input_2"), *nodes))
    assert relabelled(Random(0), block).hash == block.hash


def test_unknown_operations_are_named() -> None:
    with pytest.raises(UserError, match=r"unknown operations x, y in .*this space has input_1"):
        Block.from_json([["y", []], ["x", [0]], ["a", [0]]], KNOWN)
