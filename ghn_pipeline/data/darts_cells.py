"""A table of DARTS cells and the accuracies that they reach after training, in a file of the user.

The table accompanies "Sample-Wise Activation Patterns for Ultra-Fast NAS" (Peng et al., ICLR 2024).
Each line has a cell in the notation of DARTS (Liu et al., ICLR 2019) and its accuracy in percent on
validation images of CIFAR-10 after 200 epochs. How wide and deep the trained networks were is not
said.
"""

import csv
import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from ghn_pipeline.system.errors import UserError, did_you_mean
from ghn_pipeline.system.files import read_given

#: Number of sums of a cell, and of rows of the whole table.
SUMS, ROWS = 4, 1000
#: SHA-256 of the whole table.
SHA256 = "d28d263aa7dd4103b6a1da1775b1b03ae16ffd2516409ca3bd493c8784abe6b0"
#: Where a user gets it.
SOURCE = (
    "The table is the file datasets/DARTS_archs_CIFAR10.csv of the public repository pym1024/SWAP "
    "on GitHub: copy it here, and name its path in benchmark.table."
)
#: The operations of an edge.
OPERATIONS = (
    "none",
    "skip_connect",
    "max_pool_3x3",
    "avg_pool_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
#: The most faults of a file that a message lists.
SHOWN = 20

#: An operation, and the number of the node that it reads: 0 is the output of the cell before the
#: previous one, 1 that of the previous one, and 2 and up are the cell's own sums.
Edge = tuple[str, int]

_PAIR = re.compile(r"\('(\w+)', ([0-9]{1,3})\)")
_EDGES = r"\[\('\w+', [0-9]{1,3}\)(?:, \('\w+', [0-9]{1,3}\))*\]"
_NUMBERS = r"\[[0-9]+(?:, [0-9]+)*\]"
_GENOTYPE = re.compile(
    rf"Genotype\(normal=({_EDGES}), normal_concat=({_NUMBERS}), "
    rf"reduce=({_EDGES}), reduce_concat=({_NUMBERS})\)"
)


@dataclass(frozen=True)
class Row:
    """A row of the table: the two edges of each sum in order, and the accuracy from 0 to 1."""

    edges: tuple[Edge, ...]
    accuracy: float


@dataclass(frozen=True)
class Table:
    """A table in a file.

    Attributes:
        rows: the rows in their order.
        sha256: SHA-256 of the file.
    """

    rows: tuple[Row, ...]
    sha256: str

    @property
    def whole(self) -> bool:
        """Whether it is the whole published table."""
        return self.sha256 == SHA256

    @property
    def size(self) -> str:
        """The number of rows in words: "500 rows, not the whole published table of 1,000"."""
        other = "" if self.whole else f", not the whole published table of {ROWS:,}"
        return f"{len(self.rows):,} rows{other}"


def read(path: str) -> Table:
    """Read a table.

    Raises:
        UserError: the file cannot be read, or rows are malformed or listed twice; the message lists
            them.
    """
    return _parsed(path, read_given(path, "benchmark.table", SOURCE))


@lru_cache(maxsize=1)
def _parsed(path: str, content: bytes) -> Table:
    faults: list[str] = []
    rows: list[Row] = []
    first: dict[tuple[Edge, ...], int] = {}
    for line, cells in _lines(content, faults):
        try:
            row = _row(cells)
        except ValueError as error:
            faults.append(f"line {line}: {error}")
            continue
        if row.edges in first:
            faults.append(f"line {line}: the cell of line {first[row.edges]} again")
        first.setdefault(row.edges, line)
        rows.append(row)
    if not rows and not faults:
        faults.append("it has no rows")
    if faults:
        more = [f"and {len(faults) - SHOWN:,} more"] if len(faults) > SHOWN else []
        listed = "\n  ".join([*faults[:SHOWN], *more])
        count = "1 fault" if len(faults) == 1 else f"{len(faults):,} faults"
        raise UserError(f"{count} in the table {path} (benchmark.table):\n  {listed}\n{SOURCE}")
    return Table(tuple(rows), hashlib.sha256(content).hexdigest())


def _lines(content: bytes, faults: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield each row of a CSV file with the number of its line; add a fault where it ends early."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        faults.append(f"line {line}: not UTF-8")
        return
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        faults.append(f"line {reader.line_num}: {error}")


def _row(cells: Sequence[str]) -> Row:
    if len(cells) != 2:
        raise ValueError(f"{len(cells)} values, not a genotype and an accuracy")
    edges = parsed(cells[0])
    if len(edges) != 2 * SUMS:
        raise ValueError(f"a cell of {len(edges) // 2} sums, not {SUMS}")
    return Row(edges, _accuracy(cells[1]) / 100)


def _accuracy(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found <= 100:
        raise ValueError(f"the accuracy must be from 0 to 100 percent, not {text[:40]!r}")
    return found


def parsed(genotype: str) -> tuple[Edge, ...]:
    """Return the two edges of each sum of a cell in the notation of DARTS.

    The notation is `Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[2, ...], reduce=...,
    reduce_concat=...)`.

    Raises:
        ValueError: the text is no such notation, the reduction cell differs from the normal cell,
            or the cell is none of this space.
    """
    match = _GENOTYPE.fullmatch(genotype)
    if not match:
        raise ValueError(
            "not a genotype, Genotype(normal=[('OPERATION', NODE), ...], normal_concat=[2, ...], "
            f"reduce=[...], reduce_concat=[...]): {genotype[:80]!r}"
        )
    normal, concat, reduce, reduce_concat = match.groups()
    if (normal, concat) != (reduce, reduce_concat):
        raise ValueError("its reduction cell is not its normal cell; here one cell is all blocks")
    edges = tuple((op, int(node)) for op, node in _PAIR.findall(normal))
    check(edges)
    outputs = list(range(2, 2 + len(edges) // 2))
    if concat != str(outputs):
        raise ValueError(f"normal_concat must list all sums, {outputs}, not {concat[:40]}")
    return edges


def check(edges: Sequence[Edge]) -> None:
    """Check the edges of a cell.

    Raises:
        ValueError: a sum lacks an edge, an operation is unknown, a node is not an earlier one, or
            there are no sums or more than `SUMS`.
    """
    if len(edges) % 2 or not 0 < len(edges) <= 2 * SUMS:
        raise ValueError(f"a cell has two edges for each of 1 to {SUMS} sums, not {len(edges)}")
    for i, (op, node) in enumerate(edges):
        if op not in OPERATIONS:
            raise ValueError(f"there is no operation {op[:40]!r}{did_you_mean(op, OPERATIONS)}")
        if not 0 <= node < 2 + i // 2:
            raise ValueError(f"node {2 + i // 2} cannot read node {node}, which is not before it")


def written(edges: Sequence[Edge]) -> str:
    """Return a cell in the notation of DARTS, as `parsed` reads it."""
    cell, outputs = list(edges), list(range(2, 2 + len(edges) // 2))
    return (
        f"Genotype(normal={cell}, normal_concat={outputs}, reduce={cell}, reduce_concat={outputs})"
    )


def short(edges: Sequence[Edge]) -> str:
    """Return a cell in one line: "sep_conv_3x3 0 + none 1; ...", one part for each sum."""
    pairs = [f"{op} {node}" for op, node in edges]
    return "; ".join(f"{one} + {other}" for one, other in list(pairwise(pairs))[::2])
