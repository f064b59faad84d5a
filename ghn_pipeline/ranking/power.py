"""How much more measuring would decide an effect that is as large as it was estimated."""

import math
from dataclasses import dataclass

from ghn_pipeline.ranking.intervals import Contrast


@dataclass(frozen=True)
class Needed:
    """Numbers with which the interval of an effect would just leave out the null.

    Attributes:
        architectures: number of architectures, rounded up to two digits.
        seeds: number of seeds; more than there are only if they cause most of the width.
    """

    architectures: float
    seeds: float


def needed(effect: Contrast, architectures: int, null: float = 0.0) -> Needed:
    """Return the numbers that decide an effect, measured with `architectures` and its seeds.

    The half width towards the null falls with the root of the numbers, so they grow by its squared
    ratio to the effect. If the effect has been decided, they are smaller than those that there are.
    An effect of zero needs infinitely many; without an interval the numbers are NaN. With these
    numbers a repetition decides in one case of two.
    """
    distance = effect.value - null
    width = effect.value - effect.low if distance > 0 else effect.high - effect.value
    growth = (width / distance) ** 2 if distance else width * math.inf
    seeds = effect.seeds * growth if effect.seed_share > 0.5 else effect.seeds
    return Needed(_two_digits_up(architectures * growth), _two_digits_up(seeds))


def _two_digits_up(number: float) -> float:
    """Return a number rounded up to a whole one of at most two digits that are not 0."""
    if not math.isfinite(number):
        return number
    whole = math.ceil(round(number, 9))  # 30 * 0.1 is a little more than 3
    step: int = 10 ** max(0, len(str(whole)) - 2)
    return -(-whole // step) * step
