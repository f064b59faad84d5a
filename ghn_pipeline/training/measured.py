"""Measurements by name, and the range that each of them has."""

from typing import Annotated

from pydantic import AfterValidator

#: Zero-cost proxies, which have no common range; the other measures lie between 0 and 1.
UNBOUNDED = {
    *("parameters", "multiply_adds", "grad_norm", "snip", "grasp", "fisher", "synflow"),
    *("jacob_cov", "flow"),
}
COEFFICIENTS = {"pearson", "spearman", "kendall"}


def in_range(name: str, value: float) -> bool:
    """Whether a measurement of this name can have this value."""
    if name in UNBOUNDED:
        return True
    if name == "seconds":
        return value >= 0
    return (-1 if name in COEFFICIENTS else 0) <= value <= 1


def checked(measured: dict[str, float]) -> dict[str, float]:
    """Return measurements as they are.

    Raises:
        ValueError: one is out of its range.
    """
    if wrong := [f"{k} {v}" for k, v in measured.items() if not in_range(k, v)]:
        raise ValueError(f"out of range: {', '.join(wrong)}")
    return measured


#: Measurements by name.
Measured = Annotated[dict[str, float], AfterValidator(checked)]
