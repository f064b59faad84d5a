"""Measurements by name, and their ranges."""

import math
import re
from typing import Annotated

from pydantic import AfterValidator

#: The lowest and highest values by pattern of names; other names, such as proxies, have no range.
RANGES = {
    r"accuracy|likelihood|area|final|validation|test|top\d+|sgd-\d+|(\w+/)?exit-\d+": (0, 1),
    r"pearson|spearman|kendall": (-1, 1),
    r"seconds": (0, math.inf),
}


def in_range(name: str, value: float) -> bool:
    """Return whether a measurement of this name can have this value."""
    low, high = next((r for p, r in RANGES.items() if re.fullmatch(p, name)), (-math.inf, math.inf))
    return low <= value <= high


def checked(measured: dict[str, float]) -> dict[str, float]:
    """Return the measurements unchanged, after a check.

    Raises:
        ValueError: one is out of its range.
    """
    if wrong := [f"{k} {v}" for k, v in measured.items() if not in_range(k, v)]:
        raise ValueError(f"out of range: {', '.join(wrong)}")
    return measured


#: Measurements by name.
Measured = Annotated[dict[str, float], AfterValidator(checked)]
