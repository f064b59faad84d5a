"""Architectures that training must not see: those reported on, and others for choices."""

from collections.abc import Iterator
from itertools import chain, islice

from ghn_pipeline.errors import UserError
from ghn_pipeline.space.graph import Block


def held_out(draws: Iterator[Block], count: int, selection: int) -> tuple[list[Block], list[Block]]:
    """Return `count` test architectures, and `selection` others by which choices may be made.

    None of the first is isomorphic to one of the second, so that no choice has seen them. The
    second are drawn after the first `count`; test architectures that are like one of them give way
    to later draws.

    Raises:
        UserError: there are not so many.
    """
    drawn = list(islice(draws, count + selection))
    chosen_by = drawn[count:]
    known = {block.hash for block in chosen_by}
    unlike = (block for block in chain(drawn[:count], draws) if block.hash not in known)
    test = list(islice(unlike, count))
    if len(test) < count or len(chosen_by) < selection:
        raise UserError(
            f"of this space {len(test)} architectures and {len(chosen_by)} for choices could be "
            f"drawn, not {count} (correlation.drawn) and {selection} (correlation.selection): ask "
            "for fewer, or use more nodes or operations."
        )
    return test, chosen_by
