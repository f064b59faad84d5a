"""The strategies of searches: random search (section 5.1.1), and evolution.

Neither strategy proposes an architecture that its search has already scored, so that equal numbers
of scores are equal numbers of distinct architectures. Random numbers depend on the seed and on the
number of scores, so that a resumed search proposes the same architectures.
"""

from collections.abc import Callable, Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from ghn_pipeline.model.graph import Block
from ghn_pipeline.ranking.scoring import Scored, Strategy
from ghn_pipeline.spaces.space import Space
from ghn_pipeline.system.errors import UserError


def random_search(space: Space, nodes: int, seed: int | str, count: int) -> Strategy:
    """Propose `count` random architectures of `nodes` nodes at once.

    Raises:
        UserError: raised by the strategy if the space has fewer architectures.
    """

    def propose(scored: Sequence[Scored]) -> list[Block]:
        rng = _stream(seed, scored)
        return _distinct(lambda: space.sample(rng, nodes), count - len(scored), scored)

    return propose


def listed_search(blocks: Sequence[Block], seed: int | str, count: int) -> Strategy:
    """Propose `count` of these architectures at once, in random order.

    Raises:
        UserError: raised by the strategy if there are fewer.
    """

    def propose(scored: Sequence[Scored]) -> list[Block]:
        if count > len(blocks):
            raise UserError(
                f"search.evaluations is {count:,}, and the table (benchmark.table) has "
                f"{len(blocks):,} cells: lower it."
            )
        return Random(f"search/{seed}").sample(list(blocks), count)[len(scored) :]

    return propose


def evolution(
    space: Space,
    nodes: int,
    seed: int | str,
    *,
    population: int,
    sample: int,
    generation: int,
    by: str = "accuracy",
) -> Strategy:
    """Propose children of good architectures, by regularised evolution.

    The oldest architecture dies, however good it is: only the last `population` scored ones are
    alive. The first `population` architectures are those of `random_search` with this seed.

    Args:
        space: the search space.
        nodes: number of nodes of each architecture.
        seed: seed of the random numbers.
        population: number of architectures that are alive.
        sample: number of them that are drawn, with replacement; the best one becomes a parent.
        generation: number of children proposed at once, so that all devices have work; the paper's
            workers were asynchronous instead.
        by: the measure that ranks architectures.

    Raises:
        UserError: raised by the strategy if the space has almost no new architectures left.

    Source: Real et al. 2018, "Regularized evolution for image classifier architecture search",
    algorithm 1.
    """

    def propose(scored: Sequence[Scored]) -> list[Block]:
        rng = _stream(seed, scored)
        if len(scored) < population:
            missing = population - len(scored)
            return _distinct(lambda: space.sample(rng, nodes), missing, scored)
        alive = scored[-population:]

        def child() -> Block:
            parent = max(rng.choices(alive, k=sample), key=lambda s: s.score.values[by])
            return space.mutate(rng, parent.block)

        return _distinct(child, generation, scored)

    return propose


def best_so_far(accuracies: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the best of the first 1, 2, ..., n of `accuracies` [n], [n]."""
    best: NDArray[np.float64] = np.maximum.accumulate(np.asarray(accuracies, dtype=np.float64))
    return best


def _stream(seed: int | str, scored: Sequence[Scored]) -> Random:
    return Random(f"search/{seed}/{len(scored)}")


def _distinct(draw: Callable[[], Block], count: int, scored: Sequence[Scored]) -> list[Block]:
    """Draw `count` blocks, no two isomorphic and none isomorphic to a scored one."""
    seen = {s.score.hash for s in scored}
    return [_unseen(draw, seen) for _ in range(count)]


def _unseen(draw: Callable[[], Block], seen: set[str]) -> Block:
    """Draw a block whose hash is not in `seen`, and put it there."""
    for _ in range(1000):
        if (block := draw()).hash not in seen:
            seen.add(block.hash)
            return block
    raise UserError(
        f"1000 draws gave no architecture other than the {len(seen)} that the search already has: "
        "lower search.evaluations, or use more nodes or operations."
    )
