"""The accuracies of anytime networks by computation (5.2), for Figures 3 and 4 and their tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from ghn_pipeline.ranking.correlation import Floats

#: The names of single networks, in their order. The baselines are those of Huang et al. (2018).
METHODS = {
    "ghn": "GHN Anytime (ours)",
    "msdnet": "MSDNet",
    "resnet_mc": "ResNet^MC",
    "densenet_mc": "DenseNet^MC",
    "resnet_ensemble": "Ensemble of ResNets",
    "densenet_ensemble": "Ensemble of DenseNets",
}
#: The names of groups of networks.
GROUPS = {"top": "GHN Top", "random": "Random"}
MILLION = 1e6


@dataclass(frozen=True)
class Curve:
    """The measurements of one network, exit by exit.

    Attributes:
        spent: multiply-adds for one image up to each exit, never falling.
        accuracies: accuracies of the exits, as fractions.

    Raises:
        ValueError: there is no exit, the numbers of entries differ, an accuracy is no fraction, or
            the multiply-adds fall.
    """

    spent: Sequence[int]
    accuracies: Sequence[float]

    def __post_init__(self) -> None:
        if not 0 < len(self.spent) == len(self.accuracies):
            raise ValueError(f"{len(self.accuracies)} accuracies of {len(self.spent)} exits")
        if sorted(self.spent) != list(self.spent):
            raise ValueError(f"multiply-adds up to later exits are not less: {self.spent}")
        if not all(0 <= accuracy <= 1 for accuracy in self.accuracies):
            raise ValueError(f"accuracies are fractions, not {self.accuracies}")

    def within(self, budgets: Floats) -> Floats:
        """Return the accuracy [n] of the last exit that budgets [n] reach, 0 before the first.

        Args:
            budgets: budgets in multiply-adds.
        """
        of_exits = np.array([0.0, *self.accuracies])
        reached: Floats = of_exits[np.searchsorted(self.spent, budgets, side="right")]
        return reached


def millions(count: int) -> str:
    """Return a count in millions, to three significant digits and without an exponent."""
    return format(Decimal(f"{count / MILLION:.2e}"), "f")


def budget_range(budgets: tuple[float, float]) -> str:
    """Return '1 to 10 million multiply-adds', to four significant digits."""
    low, high = (f"{budget / MILLION:.4g}" for budget in budgets)
    return f"{low} to {high} million multiply-adds"
