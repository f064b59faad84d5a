"""Measures that judge generated and shared weights (sections 4.5, 5.2).

A measure is a subclass of `Measure`, the section `evaluation` of the configuration: its fields are
the settings of the measure, and its method `values` computes it.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from ghn_pipeline.settings.sections import Budget, Evaluation
from ghn_pipeline.system.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from ghn_pipeline.model.network import Network


class Measure(Evaluation):
    """The section `evaluation`, and all other properties of a measure.

    Attributes:
        of_exits: whether the measure is for networks with several exits.
        in_percent: whether tables show it in percent.
        why_zero: the likely reason if it is 0 for every architecture.
    """

    of_exits: ClassVar[bool] = False
    in_percent: ClassVar[bool] = True
    why_zero: ClassVar[str] = ""

    @property
    def shown(self) -> str:
        """The measure in words."""
        return self.measure

    @property
    def range(self) -> tuple[float, float] | None:
        """The budgets in multiply-adds; None for a measure without budgets."""
        return None

    def values(
        self,
        network: "Network",
        weights: "Mapping[str, Tensor]",
        batches: "Iterable[tuple[Tensor, Tensor]]",
    ) -> dict[str, float]:
        """Return this measure and related ones by name; higher is better.

        Args:
            network: the network.
            weights: its weights by name.
            batches: images [B, 3, R, R] and labels [B].
        """
        from ghn_pipeline.training.batches import judge  # PyTorch, which settings do without

        return judge(network, weights, batches, budgets=self.range)


class Accuracy(Measure):
    """The fraction of correctly classified images (section 4.5)."""

    measure: Literal["accuracy"]
    flow: None = None
    budgets: None = None


class Likelihood(Measure):
    """The geometric mean of the probability of the correct class: exp(-cross-entropy)."""

    measure: Literal["likelihood"]
    flow: None = None
    budgets: None = None


class Flow(Measure):
    """Likelihood times a power of the synflow of the same weights.

    Likelihood alone ranks networks with many paths too low, and synflow grows with the paths.
    """

    in_percent = False

    measure: Literal["flow"]
    # synflow has up to some 500 digits, and a larger power would overflow
    flow: Annotated[float, Field(gt=0, le=0.5)]
    budgets: None = None

    @property
    def shown(self) -> str:
        """The measure in words."""
        return f"likelihood × (synflow of the same weights)^{self.flow:g}"

    def values(
        self,
        network: "Network",
        weights: "Mapping[str, Tensor]",
        batches: "Iterable[tuple[Tensor, Tensor]]",
    ) -> dict[str, float]:
        """Return "flow", and its likelihood and accuracy."""
        from ghn_pipeline.ranking.proxies import synflow  # PyTorch, which settings do without

        batches = list(batches)
        values = super().values(network, weights, batches)
        power = self.flow * synflow(network, dict(weights), *batches[0])
        return values | {"flow": values["likelihood"] * 10**power}


class Area(Measure):
    """The area below the curve of accuracy over budgets of multiply-adds (section 5.2)."""

    of_exits = True
    why_zero = "no exit is within evaluation.budgets"

    measure: Literal["area"]
    flow: None = None
    budgets: Annotated[list[Budget], Field(min_length=2, max_length=2)]

    @property
    def range(self) -> tuple[float, float]:
        """The budgets, in multiply-adds."""
        return 1e6 * self.budgets[0], 1e6 * self.budgets[1]

    def faults(self) -> list[str]:
        """Return a fault if the ends of the range are in the wrong order."""
        rises = self.budgets[0] < self.budgets[1]
        return [] if rises else ["budgets: must be a range, its lower end first"]


#: The measures by the value of `evaluation.measure`; a file in `extensions` may add its own.
MEASURES: Registry[type[Measure]] = Registry(
    "measure",
    {
        "accuracy": Accuracy,
        "likelihood": Likelihood,
        "flow": Flow,
        "area": Area,
    },
)
