"""Methods that rank architectures, with their costs, and their comparison."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from ghn_pipeline.ranking.correlation import Estimate, Floats
from ghn_pipeline.ranking.intervals import Agreement

Key = TypeVar("Key", bound=Hashable)
Other = TypeVar("Other", bound=Hashable)
#: The coefficients by name, over 'all' architectures and over the 'better_half' by truth.
Correlations = Mapping[str, Mapping[str, Estimate]]
#: Whether only the better half is correlated.
OVER = {"all": False, "better_half": True}


@dataclass(frozen=True)
class Method:
    """A method's predictions for n architectures, its costs, and its training.

    Attributes:
        predictions: predictions [n] for each seed; higher counts as better.
        initial_seconds: seconds of training for one seed; None if there is nothing to train.
        each_seconds: seconds to score one architecture by one seed; None if not timed separately.
        given: its training in words.
        labels: architectures whose accuracies chose its settings.
    """

    predictions: Sequence[Floats]
    initial_seconds: float | None
    each_seconds: float | None
    given: str = ""
    labels: int = 0


class Comparison(Generic[Key]):
    """Methods that are held against the same truth, over the same architectures.

    Args:
        methods: the methods.
        truth: true accuracies [n] of the architectures.
        confidence: level of the intervals.
        groups: groups [n] of architectures that compute the same function, drawn together.

    Raises:
        UserError: `Agreement` raises it.
    """

    def __init__(
        self,
        methods: Mapping[Key, Method],
        truth: Floats,
        confidence: float,
        groups: Sequence[str] | None = None,
    ) -> None:
        self.methods, self.truth, self.confidence = methods, truth, confidence
        self._places = {key: str(i) for i, key in enumerate(methods)}
        predictions = {self._places[key]: method.predictions for key, method in methods.items()}
        self._agreements = {
            over: Agreement(predictions, truth, groups=groups, better_half=half)
            for over, half in OVER.items()
        }

    def of(self, key: Key) -> Correlations:
        """Return the correlations of a method, in the mean over its seeds."""
        return self.contrast({key: 1})

    def contrast(self, weights: Mapping[Key, float]) -> Correlations:
        """Return the weighted sum of the correlations of methods, such as a difference."""
        placed = {self._places[key]: weight for key, weight in weights.items()}
        return {
            over: agreement.contrast(placed, self.confidence)
            for over, agreement in self._agreements.items()
        }

    def renamed(self, name: Callable[[Key], Other]) -> "Comparison[Other]":
        """Return the same comparison with the methods under other keys."""
        other: Any = copy(self)
        other.methods = {name(key): method for key, method in self.methods.items()}
        other._places = {name(key): place for key, place in self._places.items()}
        return cast("Comparison[Other]", other)
