"""Learning rates as functions of the step."""

import math
from collections.abc import Callable, Sequence


def halved(start: float, halve_at: Sequence[int], steps_per_epoch: int) -> Callable[[int], float]:
    """Divide the rate by 2 at each epoch of `halve_at` (section 7.2)."""
    return lambda step: start * 0.5 ** sum(step // steps_per_epoch >= e for e in halve_at)


def divided(start: float, divide_at: Sequence[int], steps_per_epoch: int) -> Callable[[int], float]:
    """Divide the rate by 10 at each epoch of `divide_at` (section 7.3, anytime)."""
    return lambda step: start * 0.1 ** sum(step // steps_per_epoch >= e for e in divide_at)


def rising(rate: Callable[[int], float], steps: int) -> Callable[[int], float]:
    """Rise linearly to `rate` within the first `steps`; with 0 steps `rate` is unchanged."""
    return lambda step: rate(step) * min(1.0, (step + 1) / max(1, steps))


def cosine(start: float, steps: int) -> Callable[[int], float]:
    """Fall from `start` to 0 in one half period over `steps` (section 7.3)."""
    return lambda step: start * 0.5 * (1 + math.cos(math.pi * step / steps))


def decayed(start: float, factor: float, steps_per_epoch: int) -> Callable[[int], float]:
    """Multiply the rate by `factor` every epoch (section 7.3, ImageNet-mobile)."""
    return lambda step: float(start * factor ** (step // steps_per_epoch))


def warmed(
    start: float, workers: int, warmup: int, after: Callable[[int], float]
) -> Callable[[int], float]:
    """Rise linearly from `start` to `workers` times `start`, then follow `after` (section 7.3).

    The rise takes `warmup` steps (Goyal et al. 2017, section 2.2); `after` counts its steps from
    there (He et al. 2019, "Bag of tricks", section 5.1).
    """
    return lambda step: (
        start * (1 + (workers - 1) * step / warmup) if step < warmup else after(step - warmup)
    )
