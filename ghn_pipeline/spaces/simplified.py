"""The graph that the function of a cell needs, by which cells of the same function are recognised.

A sum is represented by how often it counts each result. An edge with "none" adds nothing, an
identity adds all results of its source, average pooling adds the pooled results of its source
(pooling is linear), maximum pooling adds one result for all edges that pool the same sum, and a
convolution adds one new result unless its source is zero: no weights make it anything but zero
where batch norm has no affine part.
"""

from collections import Counter
from collections.abc import Sequence
from math import gcd


class Simplified:
    """Results and named sums, as nodes of a graph.

    Attributes:
        labels: the operation of each node.
        inputs: the nodes that each node reads.
    """

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.inputs: list[tuple[int, ...]] = []
        self._pooled: dict[tuple[str, int], int] = {}
        self._named: dict[frozenset[tuple[int, int]], int] = {}

    def add(self, op: str, reads: Sequence[int] = ()) -> int:
        """Add a result, and return its node."""
        self.labels.append(op)
        self.inputs.append(tuple(reads))
        return len(self.labels) - 1

    def through(self, op: str, source: Counter[int]) -> Counter[int]:
        """Return how often an edge with this operation on a sum counts each result."""
        if op == "none" or not source:
            return Counter()
        if op == "identity":
            return source
        if op == "avg_pool_3x3":
            return Counter({self._pool(op, result): times for result, times in source.items()})
        if op == "max_pool_3x3":  # of twice a sum it is twice that of the sum
            common = gcd(*source.values())
            part = Counter({result: times // common for result, times in source.items()})
            return Counter({self._pool(op, self.name(part)): common})
        return Counter([self.add(op, [self.name(source)])])

    def name(self, counts: Counter[int]) -> int:
        """Return the node that is a sum, one and the same for all its readers."""
        key = frozenset(counts.items())
        if key not in self._named:
            # a node reads an input only once, so a second count gets a node of its own
            again = [self.add("again", [u]) for u in (counts - Counter(set(counts))).elements()]
            alone = counts.total() == 1
            self._named[key] = next(iter(counts)) if alone else self.add("sum", [*counts, *again])
        return self._named[key]

    def _pool(self, op: str, result: int) -> int:
        """Return the pooled result, one and the same for all edges that pool it."""
        if (op, result) not in self._pooled:
            self._pooled[op, result] = self.add(op, [result])
        return self._pooled[op, result]
