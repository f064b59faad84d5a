"""The architectures that training must not see: the test architectures and the selection."""

from collections.abc import Iterator
from itertools import islice

from ghn_pipeline.model.graph import Block
from ghn_pipeline.system.errors import UserError


def held_out(
    draws: Iterator[Block],
    count: int,
    selection: int,
    hint: str = ", or use more nodes or operations",
) -> tuple[list[Block], list[Block]]:
    """Return the first `count` architectures for tests, and `selection` others for choices.

    No architecture of the selection is isomorphic to a test architecture, so that no choice depends
    on these. Only the selection skips such architectures; the test ones stay a random sample.

    Args:
        draws: architectures in random order.
        count: number of test architectures.
        selection: number of other architectures.
        hint: how many there are, or how to have more, for the message.

    Raises:
        UserError: the space has fewer architectures.
    """
    test = list(islice(draws, count))
    known = {block.hash for block in test}
    chosen_by = list(islice((block for block in draws if block.hash not in known), selection))
    if len(test) < count or len(chosen_by) < selection:
        raise UserError(
            f"{len(test)} test architectures and {len(chosen_by)} for the selection could be "
            f"drawn, not {count} (correlation.drawn) and {selection} (correlation.selection): ask "
            f"for fewer{hint}."
        )
    return test, chosen_by
