"""The canonical form of labelled acyclic graphs, equal for isomorphic graphs and no others.

Colour refinement alone (Weisfeiler and Leman) confuses some different graphs. A set of nodes that
it cannot distinguish is therefore split by individualising each member in turn and refining again
(McKay 1981). The smallest description found in this way is independent of the nodes' numbers.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

Colours = tuple[int, ...]


class Form(NamedTuple):
    """The canonical form of a graph.

    Attributes:
        hash: 16 hex digits, equal for isomorphic graphs and no others.
        numbers: for each node its number in the form. Nodes of equal number correspond in
            isomorphic graphs. Numbers rise with the label, in the order of text.
    """

    hash: str
    numbers: Colours


def canonical_form(labels: Sequence[str], inputs: Sequence[Iterable[int]]) -> Form:
    """Return the form of the graph with these node `labels` and `inputs` of each node."""
    graph = _Graph(labels, inputs)
    description, numbers = graph.smallest(graph.start)
    return Form(hashlib.sha256(repr(description).encode()).hexdigest()[:16], numbers)


def _ranks(keys: Sequence[object]) -> Colours:
    order = {key: rank for rank, key in enumerate(sorted(set(keys)))}  # type: ignore[type-var]
    return tuple(order[key] for key in keys)


class _Graph:
    def __init__(self, labels: Sequence[str], inputs: Sequence[Iterable[int]]) -> None:
        self.labels = labels
        self.parents = [tuple(parents) for parents in inputs]
        self.children: list[list[int]] = [[] for _ in labels]
        for v, parents in enumerate(self.parents):
            for u in parents:
                self.children[u].append(v)
        self.start = self.refine(_ranks(labels))

    def refine(self, colours: Colours) -> Colours:
        """Split colours by the colours of parents and children until no colour splits."""
        while True:
            finer = _ranks(
                [
                    (colours[v], self._seen(colours, self.parents[v]), self._seen(colours, ws))
                    for v, ws in enumerate(self.children)
                ]
            )
            if max(finer) == max(colours):
                return finer
            colours = finer

    @staticmethod
    def _seen(colours: Colours, nodes: Iterable[int]) -> Colours:
        return tuple(sorted(colours[u] for u in nodes))

    def branches(self, colours: Colours) -> Iterator[Colours]:
        """Individualise the members of the first colour that several nodes share.

        One of several twins, which have the same inputs and readers, stands for all.
        """
        shared = next((c for c in sorted(colours) if colours.count(c) > 1), None)
        if shared is None:
            return
        cell = [v for v, colour in enumerate(colours) if colour == shared]
        kinds = {(*sorted(self.parents[v]), -1, *self.children[v]): v for v in reversed(cell)}
        for v in sorted(kinds.values()):
            yield self.refine(
                tuple(2 * c + (c == shared and w != v) for w, c in enumerate(colours))
            )

    def description(self, colours: Colours) -> tuple[object, ...]:
        """Return the graph with its nodes renumbered by their colours, which all differ."""
        order = sorted(range(len(colours)), key=colours.__getitem__)
        return tuple((self.labels[v], self._seen(colours, self.parents[v])) for v in order)

    def first_leaf(self, colours: Colours) -> tuple[object, ...]:
        while (branch := next(self.branches(colours), None)) is not None:
            colours = branch
        return self.description(colours)

    def smallest(self, colours: Colours) -> tuple[tuple[object, ...], Colours]:
        """Return the smallest description below `colours`, and the colours of one of its leaves.

        An automorphism maps two branches with the same first leaf onto each other, so one of them
        is enough; without this, k equal twins would cost k! descriptions. It also maps any two
        leaves with the same description onto each other, so any of them will do.
        """
        distinct = {self.first_leaf(branch): branch for branch in self.branches(colours)}
        leaf = self.description(colours), colours
        return min(map(self.smallest, distinct.values()), default=leaf)
