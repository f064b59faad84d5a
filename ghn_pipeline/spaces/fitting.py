"""The choice of the most channels within a limit on multiply-adds (sections 5.1.2 and 7.3)."""

from bisect import bisect_right
from dataclasses import replace
from typing import TypeVar

from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network
from ghn_pipeline.spaces.anytime import Anytime
from ghn_pipeline.spaces.classification import Classification
from ghn_pipeline.system.errors import UserError

S = TypeVar("S", Classification, Anytime)


def fitted(space: S, block: Block, resolution: int, limit: int, of: str) -> S:
    """Return `space` with the most channels whose network of `block` stays within `limit`.

    "The total number of flops is constrained by choosing the initial number of channels"
    (section 5.1.2); of anytime networks "such that the number of FLOPS is comparable" (7.3).

    Args:
        space: the search space; its own number of channels does not matter.
        block: the block of the network.
        resolution: side of the images in pixels.
        limit: the limit on the multiply-adds for one image.
        of: the name of the limit in the message.

    Raises:
        UserError: a network with one channel exceeds the limit.
    """

    def stacked(channels: int) -> S:
        return replace(space, channels=channels)

    def multiply_adds(channels: int) -> int:
        return Network(stacked(channels).modules(block), resolution).multiply_adds

    least = multiply_adds(1)
    # each weight grows with the channels on one side or both, so F channels take at least F times
    # the multiply-adds of one channel
    channels = bisect_right(range(1, limit // least + 1), limit, key=multiply_adds)
    if channels == 0:
        raise UserError(
            f"the network takes {least:,} multiply-adds for an image of {resolution}×{resolution} "
            f"pixels even with 1 channel, and {of} is {limit:,}: raise it, or choose smaller "
            "images or fewer blocks."
        )
    return stacked(channels)
