"""What a space tells of the accuracies that others published for its architectures."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from ghn_pipeline.model.graph import Block


class PublishedAccuracies(ABC):
    """The entry of a space whose architectures others have trained.

    Attributes:
        title: name in titles.
        datasets: names of the data sets in titles, by key; GHNs are trained on the first.
        needs: the space and the preset that have such architectures, for a message.
        selection: the selection in words, for the figure.
        key_note: a footnote on keys and accuracies.
        count: number of architectures.
        cells: the architectures, if the space has others too; () if they are all of the space. If
            there are any, test architectures are drawn from them, searches are among them, and
            training sees none of them.
        note: a footnote on the source of the accuracies, "" for none.
    """

    title: ClassVar[str]
    datasets: ClassVar[Mapping[str, str]]
    needs: ClassVar[str]
    selection: ClassVar[str]
    key_note: ClassVar[str]
    count: int
    cells: Sequence[Block] = ()
    note: str = ""

    @property
    def first(self) -> str:
        """The key of the data set that GHNs are trained on."""
        return next(iter(self.datasets))

    @abstractmethod
    def key(self, block: Block) -> str:
        """Return the name of an architecture in the tables and in `accuracies`, "" for none."""

    @abstractmethod
    def accuracies(self, dataset: str) -> Mapping[str, float]:
        """Return the accuracies on a data set by key, 0 to 1.

        Raises:
            UserError: the published tables are not there, or are not the published ones.
        """
