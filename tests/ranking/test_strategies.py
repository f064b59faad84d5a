"""Strategies of search against exhaustive lists, a formula, and searches played by a plain loop."""

from dataclasses import replace
from itertools import combinations, product
from random import Random

import numpy as np
import pytest

from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.ranking.scoring import Score, Scored
from ghn_pipeline.ranking.strategies import best_so_far, evolution, random_search
from ghn_pipeline.spaces.classification import INPUTS, Classification
from ghn_pipeline.system.errors import UserError

SPACE = Classification(
    ("a", "b", "c", "d"), 2, blocks=1, channels=1, reductions=(), stem_multiplier=1, classes=2
)


def liked(block):
    """The toy score: the share of nodes whose operation is a."""
    return sum(node.op == "a" for node in block.nodes) / len(block.nodes)


def scored_as(blocks, worth=liked):
    return [Scored(b, Score(b.hash, {"accuracy": worth(b)}, {"accuracy": 1.0})) for b in blocks]


def play(strategy, count):
    """A search by a plain loop; returns what was scored and where its generations begin."""
    scored, begins = [], []
    while len(scored) < count:
        begins.append(len(scored))
        scored += scored_as(strategy(scored)[: count - len(scored)])
    return scored, begins


def evolving(seed=0, nodes=5, **changes):
    settings = {"population": 20, "sample": 5, "generation": 8, **changes}
    return evolution(SPACE, nodes, seed, **settings)


def is_mutant(parent, child):
    """Whether exactly one node has another operation, or one input exchanged for another."""
    pairs = zip(parent.nodes, child.nodes, strict=True)
    differences = [(old, new) for old, new in pairs if old != new]
    if len(differences) != 1:
        return False
    old, new = differences[0]
    exchanged = len(old.inputs) == len(new.inputs) == len({*old.inputs} & {*new.inputs}) + 1
    return old.inputs == new.inputs if old.op != new.op else exchanged


class Watched(Classification):
    """The same space, which says what is mutated."""

    def mutate(self, rng, block):
        self.mutated(block)
        return super().mutate(rng, block)


def two_node_blocks():
    """Every block of two nodes, by brute force; of isomorphic ones the last."""
    reads = {v: [(u,) for u in range(v)] + list(combinations(range(v), 2)) for v in (2, 3)}
    blocks = {}
    for one, two, first, second in product("ab", "ab", reads[2], reads[3]):
        block = Block((*INPUTS, Node(one, first), Node(two, second)))
        if {0, 1} <= {*first, *second}:
            blocks[block.hash] = block
    return blocks


def test_random_search_proposes_distinct_blocks_until_the_space_is_exhausted():
    tiny, everything = replace(SPACE, operations=("a", "b")), two_node_blocks()
    n = len(everything)
    found = random_search(tiny, 2, 0, n)([])
    assert len(found) == n
    assert {b.hash for b in found} == everything.keys()
    with pytest.raises(UserError, match=f"other than the {n} that"):
        random_search(tiny, 2, 0, n + 1)([])


def test_evolution_says_that_the_space_is_exhausted_and_finds_what_is_left():
    tiny, n = replace(SPACE, operations=("a", "b")), len(two_node_blocks())
    strategy = evolution(tiny, 2, 0, population=n - 4, sample=2, generation=2)
    scored, _ = play(strategy, n - 4)
    assert len({s.score.hash for s in scored}) == n - 4
    with pytest.raises(UserError, match=r"lower search\.evaluations, or use more nodes"):
        play(strategy, n + 1)


@pytest.mark.parametrize("nodes", [3, 5])
def test_evolution_proposes_random_ones_then_mutants_of_the_population_all_distinct(nodes):
    scored, begins = play(evolving(nodes=nodes), 110)
    assert begins == [0, *range(20, 110, 8)]
    assert len({s.score.hash for s in scored}) == 110
    blocks = [s.block for s in scored]
    assert blocks[:20] == random_search(SPACE, nodes, 0, 20)([])
    for i in range(20, 110):
        begin = max(b for b in begins if b <= i)
        assert any(is_mutant(parent, blocks[i]) for parent in blocks[begin - 20 : begin])


def test_parents_are_the_best_of_samples_of_the_last_scored():
    population, sample, generation = 5, 4, 600
    space, parents, rng = Watched(**vars(SPACE) | {"operations": "abcdefghij"}), [], Random(3)
    vars(space)["mutated"] = parents.append
    blocks = [space.sample(rng, 20) for _ in range(25)]
    # the best of all are the oldest, and dead
    worth = {b.hash: 1 - i / 100 for i, b in enumerate(blocks[:20])}
    worth |= {b.hash: rng.random() / 2 for b in blocks[20:]}
    scored = scored_as(blocks, lambda block: worth[block.hash])
    strategy = evolution(space, 20, 0, population=population, sample=sample, generation=generation)
    strategy(scored)
    best_first = sorted(blocks[20:], key=lambda b: -worth[b.hash])
    counts = np.array([sum(p == b for p in parents) for b in best_first])
    assert counts.sum() == len(parents) >= generation
    # of `sample` draws with replacement the best has rank r with the chance that none is better,
    # less the chance that all are worse
    left = 1 - np.arange(population + 1) / population
    chance = left[:-1] ** sample - left[1:] ** sample
    deviation = np.sqrt(len(parents) * chance * (1 - chance))
    assert (np.abs(counts - len(parents) * chance) < 4 * deviation + 1).all()


def test_parents_are_the_best_by_the_measure_that_is_named():
    scored, _ = play(evolving(), 20)
    other = [
        replace(s, score=replace(s.score, values={"accuracy": 0.5, "likelihood": liked(s.block)}))
        for s in scored
    ]
    assert evolving(by="likelihood")(other) == evolving()(scored) != evolving()(other)


@pytest.mark.parametrize("make", [lambda seed: random_search(SPACE, 5, seed, 60), evolving])
def test_what_is_proposed_depends_on_the_seed_the_blocks_and_the_accuracies_alone(make):
    scored, _ = play(make(0), 60)
    slower = [
        replace(s, score=replace(s.score, seconds={"accuracy": float(i)}))
        for i, s in enumerate(scored)
    ]
    for n in range(60):
        proposed = make(0)(scored[:n])
        assert make(0)(slower[:n]) == proposed
        assert not {b.hash for b in proposed} & {s.score.hash for s in scored[:n]}
    assert make(1)([]) != make(0)([])


def test_a_search_goes_on_from_every_generation_to_the_same_end():
    scored, begins = play(evolving(), 90)
    for begin in begins:
        again = scored[:begin]
        while len(again) < 90:
            again += scored_as(evolving()(again)[: 90 - len(again)])
        assert again == scored


def test_evolution_beats_random_search_on_a_toy():
    bests = {}
    for name, make in (
        ("random", lambda seed: random_search(SPACE, 12, seed, 200)),
        ("evolution", lambda seed: evolving(seed, nodes=12)),
    ):
        ends = [
            best_so_far([s.score.values["accuracy"] for s in play(make(seed), 200)[0]])[-1]
            for seed in range(5)
        ]
        bests[name] = np.array(ends)
    assert (bests["evolution"] > bests["random"]).all()


def test_best_so_far_is_the_best_of_each_beginning():
    values = np.random.default_rng(0).random(50)
    assert best_so_far(values).tolist() == [max(values[: i + 1]) for i in range(50)]
    assert best_so_far([0.5]).tolist() == [0.5]
    assert best_so_far([]).tolist() == []
