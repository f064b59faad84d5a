"""A measure: the mean probability of the right class."""

from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor

from ghn_pipeline.model.network import Network, run
from ghn_pipeline.ranking.measures import MEASURES, Measure


class Probability(Measure):
    """The arithmetic mean of the probability of the right class."""

    measure: Literal["probability"]
    flow: None = None
    budgets: None = None

    def values(
        self,
        network: Network,
        weights: Mapping[str, Tensor],
        batches: Iterable[tuple[Tensor, Tensor]],
    ) -> dict[str, float]:
        """Return the measure, from 0 to 1."""
        found = [
            run(network, weights, images).softmax(1).gather(1, labels[:, None]).mean()
            for images, labels in batches
        ]
        return {"probability": float(sum(found)) / len(found)}


MEASURES["probability"] = Probability
