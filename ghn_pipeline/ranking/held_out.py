"""Architectures that training must not see: those reported on, and others for choices."""

from collections.abc import Iterator
from itertools import islice

from ghn_pipeline.model.graph import Block
from ghn_pipeline.system.errors import UserError


def held_out(draws: Iterator[Block], count: int, selection: int) -> tuple[list[Block], list[Block]]:
    """Return the first `count` architectures, and `selection` others by which choices may be made.

    None of the second is isomorphic to one of the first, so that no choice has seen these. It is
    the second that give way: the first stand for the whole space, as they are drawn.

    Raises:
        UserError: there are not so many.
    """
    test = list(islice(draws, count))
    known = {block.hash for block in test}
    chosen_by = list(islice((block for block in draws if block.hash not in known), selection))
    if len(test) < count or len(chosen_by) < selection:
        raise UserError(
            f"of this space {len(test)} architectures and {len(chosen_by)} for choices could be "
            f"drawn, not {count} (correlation.drawn) and {selection} (correlation.selection): ask "
            "for fewer, or use more nodes or operations."
        )
    return test, chosen_by
