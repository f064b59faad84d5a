"""What each space reads: its own blocks, and nothing else."""

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import THOUSAND, changed_json

from ghn_pipeline.spaces.anytime import Anytime
from ghn_pipeline.spaces.classification import Classification
from ghn_pipeline.spaces.darts import OPERATIONS, Darts
from ghn_pipeline.spaces.nasbench201 import EDGES, Cell, NasBench201
from ghn_pipeline.spaces.space import Space
from ghn_pipeline.system.errors import UserError

CLASSIFICATION = Classification(("identity", "conv_1x1"), 2, 3, 4, (2,), 1, 10)
CELLS = NasBench201(EDGES, 3, 4, (2,), 1, 10)
ANYTIME = Anytime(("dense_conv_1x1", "dense_max_pool_3x3"), 2, 3, 3, 4, (2, 3), 1, 10)
DARTS = Darts(tuple(OPERATIONS.values()), 3, 4, (2,), 1, 10)
SPACES: dict[str, Space] = {
    "classification": CLASSIFICATION,
    "nasbench201": CELLS,
    "darts": DARTS,
    "anytime": ANYTIME,
}


def written(space: Space, nodes: int = 3) -> list[list[Any]]:
    return json.loads(json.dumps(space.sample(Random(0), nodes).to_json()))


@pytest.mark.parametrize("name", SPACES)
def test_each_reads_its_own_and_none_of_the_others(name: str) -> None:
    space = SPACES[name]
    for seed in range(100):
        block = space.sample(Random(seed), 3)
        assert space.read(json.loads(json.dumps(block.to_json()))) == block
    for other in SPACES.keys() - {name}:
        with pytest.raises(UserError):
            space.read(written(SPACES[other]))


#: Of a block of the classification space, the last of its nodes.
CHANGES: dict[str, Callable[[list[Any]], object]] = {
    "reads too many": lambda node: node.__setitem__(1, [0, 1, 2]),
    "reads none": lambda node: node.__setitem__(1, []),
    "an input that reads": lambda node: node.__setitem__(0, "input_1"),
    "a stem in a block": lambda node: node.__setitem__(0, "stem"),
    "a classifier in a block": lambda node: node.__setitem__(0, "classifier"),
    "a scale": lambda node: node.extend([2, False]),
    "an exit": lambda node: node.extend([1, True]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_near_misses_of_a_block_are_refused(change: Callable[[list[Any]], object]) -> None:
    block = written(CLASSIFICATION)
    change(block[-1])
    with pytest.raises(UserError, match=r"is one of identity, conv_1x1 and reads 1 to 2: not \[\["):
        CLASSIFICATION.read(block)


def test_near_misses_of_an_architecture_with_exits_are_refused() -> None:
    good = written(ANYTIME)
    exits = [v for v, node in enumerate(good) if node[3]]
    assert ANYTIME.read(good) and len(exits) == 3
    fewer = [[*node[:3], node[3] and v != exits[0]] for v, node in enumerate(good)]
    more = [[*node[:3], node[3] or bool(node[1])] for node in good]
    for bad in (fewer, more):
        with pytest.raises(UserError, match="3 have exits"):
            ANYTIME.read(bad)
    wide = replace(ANYTIME, max_inputs=1)
    with pytest.raises(UserError, match="others that read 1 to 1 of"):
        wide.read(good)


def test_a_cell_of_many_sums_is_refused() -> None:
    # its hash would count a result 2^40 times
    for sums in (4, 18):
        with pytest.raises(UserError, match="for each of 1 to 3 sums"):
            CELLS.read(Cell.of(["identity"] * (sums * (sums + 1) // 2)).to_json())
    with pytest.raises(UserError, match="more than 200"):
        CELLS.read(Cell.of(["identity"] * (43 * 44 // 2)).to_json())


@pytest.mark.parametrize("name", SPACES)
def test_a_thousand_mutations_of_lists_of_blocks(name: str) -> None:
    space = SPACES[name]
    entries = [{"block": space.sample(Random(i), 3).to_json()} for i in range(3)]

    @THOUSAND
    @given(changed_json(entries), st.integers(0, 2))
    def holds(content: bytes, i: int) -> None:
        try:
            block = json.loads(content)[i]["block"]
        except (RecursionError, LookupError, TypeError):
            return  # not the reading of a block
        try:
            read = space.read(block)
        except UserError as error:
            assert len(str(error)) < 1000
            return
        # it is the very block that stands there, and one that the space could have drawn
        assert [[n.op, list(n.inputs), n.scale, n.exit] for n in read.nodes] == [
            [*node, 1, False][:4] for node in block
        ]
        assert space.read(json.loads(json.dumps(read.to_json()))) == read
        assert read.hash and space.modules(read)

    holds()
