"""Sampling, mutation and stacking against sections 5.1.1 and 7.1 and Table 1."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from statistics import mean, stdev

import pytest

from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.model.network import Network
from ghn_pipeline.model.operations import OPERATIONS
from ghn_pipeline.settings.config import load
from ghn_pipeline.spaces.classification import Classification
from ghn_pipeline.spaces.known import SPACES
from ghn_pipeline.spaces.nasbench201 import EDGES

CONFIG = load([Path(__file__).parents[2] / "params.yaml"])
PAPER = Classification(
    operations=tuple(CONFIG.space.operations),
    max_inputs=CONFIG.space.max_inputs,
    blocks=CONFIG.network.blocks,
    channels=CONFIG.network.channels,
    reductions=tuple(CONFIG.network.reductions),
    stem_multiplier=CONFIG.network.stem_multiplier,
    classes=10,
)
NODES = CONFIG.space.nodes


def sampled(count: int, nodes: int = NODES, space: Classification = PAPER) -> list[Block]:
    rng = Random(0)
    return [space.sample(rng, nodes) for _ in range(count)]


def test_params_are_those_of_the_paper() -> None:
    # section 5.1.1 and Table 1: 17 nodes, 18 blocks, halved after blocks 6 and 12, F = 32
    assert (NODES, PAPER.blocks, PAPER.reductions, PAPER.channels) == (17, 18, (7, 13), 32)


def test_operations_that_may_be_configured_are_those_that_exist() -> None:
    fixed = {"input_1", "input_2", "stem", "classifier"}
    between_cells = {"input", "reduce_3x3", "downsample", "norm"}  # of NAS-Bench-201
    # each is of a space, and params.yaml uses all of its own
    known = {op for space in SPACES.values() for op in space.known}
    assert known == OPERATIONS.keys() - fixed - between_cells
    assert set(PAPER.node_types) == set(SPACES["classification"].known) | fixed
    assert len(set(PAPER.node_types)) == len(PAPER.node_types)


def test_the_seed_determines_the_sample() -> None:
    assert sampled(20) == sampled(20)
    assert len({block.hash for block in sampled(200)}) == 200
    assert PAPER.sample(Random(1), NODES) != PAPER.sample(Random(2), NODES)


def test_operations_of_nasbench201_are_its_edges() -> None:
    assert set(SPACES["nasbench201"].known) == set(EDGES)


def test_draws_are_the_samples_without_those_isomorphic_to_earlier_ones() -> None:
    few, known = replace(PAPER, operations=("identity", "conv_1x1", "sep_conv_3x3")), {}
    for block in sampled(2000, 2, few):
        known.setdefault(block.hash, block)
    assert len(known) < 100  # so each is drawn again and again
    assert list(islice(few.draws(Random(0), 2), len(known))) == list(known.values())


def test_draws_end_where_nothing_new_is_found() -> None:
    # two nodes that read one input each must read both inputs: 2 ways, with 4 pairs of operations;
    # the other way about each of these 8 is the same but for the order of its nodes
    tiny = replace(PAPER, operations=("identity", "conv_1x1"), max_inputs=1)
    blocks = list(tiny.draws(Random(0), 2))
    assert len(blocks) == len({block.hash for block in blocks}) == 4


@pytest.mark.parametrize("nodes", [2, 3, 7, 17])
@pytest.mark.parametrize("max_inputs", [1, 2, 4])
def test_sampled_blocks_are_valid(nodes: int, max_inputs: int) -> None:
    for block in sampled(100, nodes, replace(PAPER, max_inputs=max_inputs)):
        assert len(block.nodes) == 2 + nodes
        assert block.nodes[:2] == (Node("input_1"), Node("input_2"))
        for v, node in enumerate(block.nodes[2:], start=2):
            assert node.op in PAPER.operations
            assert 1 <= len(node.inputs) <= min(max_inputs, v)
            assert set(node.inputs) <= set(range(v))
        # section 7.1: "2 input nodes which ingest the output of block i-1 and block i-2"
        assert {0, 1} <= {u for node in block.nodes for u in node.inputs}


def test_operations_and_in_degrees_are_uniform() -> None:
    nodes = [node for block in sampled(1500) for node in block.nodes[2:]]
    operations = Counter(node.op for node in nodes)
    # 25,500 draws: a share has a standard deviation of 0.2% or 0.3%, and redrawing the blocks
    # that ignore an input favours two inputs a little
    for op in PAPER.operations:
        assert operations[op] / len(nodes) == pytest.approx(1 / 9, abs=0.01)
    degrees = Counter(len(node.inputs) for node in nodes)
    assert degrees[1] / len(nodes) == pytest.approx(1 / 2, abs=0.02)
    assert degrees[1] + degrees[2] == len(nodes)


def test_earlier_nodes_are_read_uniformly() -> None:
    read = Counter(u for block in sampled(1500) for u in block.nodes[-1].inputs)
    expected = sum(read.values()) / 18
    # about 125 each: five standard deviations; the two inputs are favoured by the redrawing
    assert all(abs(read[u] - expected) < 5 * expected**0.5 for u in range(2, 18))
    assert sum(read[u] for u in (0, 1)) < 1.5 * 2 * expected


def changes(before: Block, after: Block) -> list[str]:
    """What differs, each difference named."""
    found = []
    for old, new in zip(before.nodes, after.nodes, strict=True):
        found += ["op"] * (old.op != new.op)
        gone, come = set(old.inputs) - set(new.inputs), set(new.inputs) - set(old.inputs)
        assert len(gone) == len(come), "the number of inputs never changes"
        found += ["input"] * len(come)
    return found


@pytest.mark.parametrize("nodes", [2, 5, 17])
def test_mutation_changes_one_thing(nodes: int) -> None:
    rng = Random(3)
    block = PAPER.sample(rng, nodes)
    seen: Counter[str] = Counter()
    for _ in range(400):
        mutant = PAPER.mutate(rng, block)
        (change,) = changes(block, mutant)
        seen[change] += 1
        assert mutant.nodes[:2] == block.nodes[:2]
        assert all(node.op in PAPER.operations for node in mutant.nodes[2:])
        assert mutant.children[0] and mutant.children[1]
        block = mutant
    assert seen["op"] > 100 and seen["input"] > 30
    assert PAPER.mutate(Random(7), block) == PAPER.mutate(Random(7), block)


def test_calibration_on_table_1() -> None:
    # "Random (F=32)": 4.6 ± 0.6 million parameters over ten architectures
    millions = [
        Network(PAPER.modules(block), CONFIG.images.resolution).parameters / 1e6
        for block in sampled(300)
    ]
    assert mean(millions) == pytest.approx(4.6, abs=0.6)
    assert 0.4 <= stdev(millions) <= 0.8


def test_modules_of_the_paper() -> None:
    block = sampled(1)[0]
    stem, *blocks, classifier = PAPER.modules(block)
    assert stem.block.nodes == (Node("stem"),)
    assert (stem.channels, stem.scale, stem.sources) == (32, 1, (-1,))
    assert len(blocks) == 18 and all(module.block is block.canonical for module in blocks)
    # section 5.1.1: "the spatial size is halved and the number of channels is doubled after
    # blocks 6 and 12"
    assert [module.scale for module in blocks] == [1] * 6 + [2] * 6 + [4] * 6
    assert [module.channels for module in blocks] == [32] * 6 + [64] * 6 + [128] * 6
    # blocks i-1 and i-2; before the first there is the stem alone (module 0)
    sources = [(0, 0), (1, 0), *((i - 1, i - 2) for i in range(3, 19))]
    assert [module.sources for module in blocks] == sources
    assert (classifier.block.nodes, classifier.channels) == ((Node("classifier"),), 10)
    assert classifier.sources == (18,)


def test_input_nodes_reduce_by_stride() -> None:
    network = Network(PAPER.modules(sampled(1)[0]), CONFIG.images.resolution)
    strides = strides_of_inputs(network)[1:-1]
    # section 7.1: "can reduce the spatial size by using stride 2"; one block later the input
    # from two blocks before is still too large
    late = {7: (2, 2), 8: (1, 2), 13: (2, 2), 14: (1, 2)}
    assert strides == [late.get(i, (1, 1)) for i in range(1, 19)]
    assert {step.stride for (_, v), step in network.steps.items() if v >= 2} == {1}


def strides_of_inputs(network: Network) -> list[tuple[int, ...]]:
    """Of the first two nodes of each module."""
    return [
        tuple(network.steps[m, v].stride for v in (0, 1) if (m, v) in network.steps)
        for m in range(len(network.modules))
    ]


def test_settings_of_the_chain() -> None:
    space = replace(PAPER, blocks=3, reductions=(1, 3), channels=8, stem_multiplier=3, classes=7)
    chain = space.modules(sampled(1)[0])
    assert [(m.channels, m.scale) for m in chain[:-1]] == [(24, 1), (16, 2), (16, 2), (32, 4)]
    assert chain[-1].channels == 7


def test_a_strided_stem_adds_to_every_scale_and_to_no_width() -> None:
    space = replace(PAPER, blocks=4, reductions=(1, 2, 4), stem_stride=2)
    chain = space.modules(sampled(1)[0])
    assert [m.scale for m in chain] == [2, 4, 8, 8, 16, 16]
    assert [m.channels for m in chain[:-1]] == [32, 64, 128, 128, 256]
    network = Network(chain, 64)
    strides = strides_of_inputs(network)[:-1]
    # block 2 reads the stem, of two scales before it, with stride 4
    assert strides == [(2,), (2, 2), (2, 4), (1, 2), (2, 2)]


def test_examples_make_every_node_a_leaf_of_every_operation() -> None:
    blocks = PAPER.examples(5)
    assert all(block.leaves == (2, 3, 4, 5, 6) for block in blocks)
    assert [{n.op for n in block.nodes[2:]} for block in blocks] == [
        {op} for op in PAPER.operations
    ]
