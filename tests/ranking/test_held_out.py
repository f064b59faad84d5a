"""Architectures that training must not see, against loops over what was drawn."""

from collections.abc import Callable, Iterator
from itertools import islice
from random import Random
from typing import Any

import pytest

from ghn_pipeline.model.graph import Block
from ghn_pipeline.pipeline import results
from ghn_pipeline.ranking.held_out import held_out
from ghn_pipeline.settings.config import Config
from ghn_pipeline.spaces.classification import Classification
from ghn_pipeline.spaces.nasbench201 import EDGES, Cell, NasBench201
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.training.ghn import sampler

SPACE = NasBench201(EDGES, 3, 4, (2,), 1, 10)
BLOCKS = Classification(("identity", "conv_1x1"), 2, 2, 4, (2,), 1, 10)


def draws(seed: int = 0, nodes: int = 3) -> Iterator[Block]:
    return SPACE.draws(Random(seed), nodes)


@pytest.mark.parametrize("count, selection", [(60, 30), (30, 60), (20, 1), (20, 0)])
@pytest.mark.parametrize("seed", range(3))
def test_no_test_architecture_is_like_one_by_which_choices_are_made(
    count: int, selection: int, seed: int
) -> None:
    test, chosen_by = held_out(draws(seed), count, selection)
    drawn = list(islice(draws(seed), 2000))
    assert test == drawn[:count]
    expected = []
    for block in drawn[count:]:
        if all(block.hash != other.hash for other in test):
            expected.append(block)
    assert chosen_by == expected[:selection]
    assert len(chosen_by) == selection
    assert not {b.hash for b in test} & {b.hash for b in chosen_by}


def test_what_choices_are_made_by_gives_way_to_what_is_reported() -> None:
    # nothing reaches the last sum of either
    nothing, neither = Cell.of_key("000000"), Cell.of_key("034000")
    assert nothing.hash == neither.hash
    others = [Cell.of_key(key) for key in ("111111", "222222", "333333")]
    drawn = [nothing, others[0], neither, others[1], others[2]]
    assert held_out(iter(drawn), 2, 1) == ([nothing, others[0]], [others[1]])
    # nothing is drawn that is not needed
    left = iter(drawn)
    held_out(left, 2, 1)
    assert list(left) == [others[2]]


def test_without_a_selection_the_first_are_taken_though_they_are_alike() -> None:
    # each has accuracies of its own
    drawn = [Cell.of_key("000000"), Cell.of_key("034000")]
    assert held_out(iter(drawn), 2, 0) == (drawn, [])


@pytest.mark.parametrize("count, selection", [(3, 2), (5, 0)])
def test_the_whole_space_may_be_held_out(count: int, selection: int) -> None:
    # one edge: five cells, no two alike
    test, chosen_by = held_out(draws(nodes=1), count, selection)
    assert {block.hash for block in test + chosen_by} == {Cell.of([op]).hash for op in EDGES}


@pytest.mark.parametrize(
    "count, selection, nodes",
    [
        # of five
        (4, 2, 1),
        (2, 4, 1),
        (6, 0, 1),
        # of 125, of which some are alike
        (65, 60, 2),
    ],
)
def test_too_few_are_said(count: int, selection: int, nodes: int) -> None:
    said = rf"could be drawn, not {count} \(correlation\.drawn\) and {selection} \(correlation\.sel"
    with pytest.raises(UserError, match=said):
        held_out(draws(nodes=nodes), count, selection)


def test_blocks_of_the_papers_space_are_all_different() -> None:
    test, chosen_by = held_out(BLOCKS.draws(Random(0), 3), 40, 20)
    assert len({block.hash for block in test + chosen_by}) == 60
    assert test + chosen_by == list(islice(BLOCKS.draws(Random(0), 3), 60))


# ---- training does not see them -----------------------------------------------------------------


def assert_never_drawn(forbidden: set[str], nodes: int) -> None:
    draw = sampler(SPACE, nodes, 7, forbidden)
    for step in range(500):
        rng = Random(f"7/{step}")
        while (expected := SPACE.sample(rng, nodes)).hash in forbidden:
            pass
        assert draw(step) == expected
        assert draw(step).hash not in forbidden


def test_the_sampler_never_draws_what_is_forbidden() -> None:
    hashes = sorted({block.hash for block in draws()})
    forbidden = set(Random(0).sample(hashes, len(hashes) * 9 // 10))
    assert_never_drawn(forbidden, 3)


def test_the_sampler_never_draws_what_was_held_out(
    sampled_cells: Callable[[dict[str, Any]], Config],
) -> None:
    # more than half of 125 cells, and with them all that are like one of them
    changes = {"space.nodes": 2, "correlation.drawn": 30, "correlation.selection": 40}
    forbidden = results.held_out(sampled_cells(changes))
    assert forbidden < {block.hash for block in draws(nodes=2)}
    assert_never_drawn(forbidden, 2)


def test_a_space_of_which_nothing_is_left_is_said() -> None:
    draw = sampler(SPACE, 1, 0, {Cell.of([op]).hash for op in EDGES})
    with pytest.raises(UserError, match="all test architectures"):
        draw(0)
