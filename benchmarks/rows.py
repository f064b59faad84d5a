"""Rows of the table of speed: two pieces of work timed in turn in one process."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch

from ghn_pipeline.system.compute import synchronize

FILE = Path(__file__).with_name("speed.json")
#: The page that shows the table.
PAGE = Path(__file__).parent.parent / "docs/reference/costs.md"
#: The lines of the page before and after the table.
BEGIN, END = "<!-- speed -->\n", "<!-- /speed -->"

#: Milliseconds that one measurement takes, so that other work on the machine weighs less.
LEAST = 300.0

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """A comparison.

    Attributes:
        what: the two sides, "first / second".
        first: median of the first side, in milliseconds or operations.
        second: median of the second side.
        ratio: median of the ratios of all pairs.
        least: the smallest ratio.
        most: the largest ratio.
        pairs: number of pairs.
        limit: the largest ratio, or the smallest one if `at_least`; None for a row without a limit.
        at_least: whether a larger ratio is better.
    """

    what: str
    first: float
    second: float
    ratio: float
    least: float
    most: float
    pairs: int
    limit: float | None = None
    at_least: bool = False

    @property
    def target(self) -> str:
        """The limit in words."""
        if self.limit is None:
            return "–"
        return f"at {'least' if self.at_least else 'most'} {self.limit:g}"


def row(
    what: str, pairs: Sequence[tuple[float, float]], limit: float | None, at_least: bool = False
) -> Row:
    """Make a row from the measurements of all pairs, and print it."""
    ratios = sorted(a / b for a, b in pairs)
    first, second = (median(pair[side] for pair in pairs) for side in (0, 1))
    ends = ratios[0], ratios[-1]
    made = Row(what, first, second, median(ratios), *ends, len(pairs), limit, at_least)
    print(line(made), flush=True)
    return made


def compare(
    what: str,
    limit: float | None,
    pairs: Iterable[tuple[Work, Work]],
    device: torch.device,
    *,
    at_least: bool = False,
) -> Row:
    """Time the two sides of each pair in turn, each for `LEAST` milliseconds or once.

    A side runs once if one call takes more than half of that time. The first pair also runs once
    before, to warm up. In every second pair the second side comes first.

    Args:
        what: the two sides, "first / second".
        limit: see `Row`.
        pairs: the two pieces of work of each pair.
        device: the device that they run on.
        at_least: see `Row`.
    """
    timed: list[tuple[float, float]] = []
    for i, pair in enumerate(pairs):
        if i == 0:
            pair[0](), pair[1]()
            once = [milliseconds(side, device) for side in pair]
            repeats = [max(1, int(LEAST / took)) for took in once]
        order = ((0, 1), (1, 0))[i % 2]
        took = {side: milliseconds(pair[side], device, repeats[side]) for side in order}
        timed.append((took[0], took[1]))
    return row(what, timed, limit, at_least)


def milliseconds(work: Work, device: torch.device, repeats: int = 1) -> float:
    """Return the wall time of one call, the mean of `repeats`."""
    synchronize(device)
    begun = time.perf_counter()
    for _ in range(repeats):
        work()
    synchronize(device)
    return 1e3 * (time.perf_counter() - begun) / repeats


def line(row: Row) -> str:
    """Return a row of a Markdown table."""
    spread = f"{row.least:.2f} to {row.most:.2f}, {row.pairs} pairs" if row.pairs > 1 else "counted"
    cells = row.what, number(row.first), number(row.second), f"{row.ratio:.2f} ({spread})"
    return f"| {' | '.join(cells)} | {row.target} |"


def number(value: float) -> str:
    """Return a number with three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(rows: Sequence[Row]) -> str:
    """Return all rows as a Markdown table."""
    head = "| first / second | first | second | ratio | target |", "| --- | --- | --- | --- | --- |"
    return "\n".join([*head, *map(line, rows)])


def keep(rows: Sequence[Row], machine: dict[str, object]) -> None:
    """Write the rows and the machine to `speed.json`, and the table into the page."""
    content = {"machine": machine, "rows": [asdict(row) for row in rows]}
    FILE.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table(rows)}\n\n{END}{after}", encoding="utf-8")


def kept() -> list[Row]:
    """Return the rows of `speed.json`."""
    return [Row(**row) for row in json.loads(FILE.read_text(encoding="utf-8"))["rows"]]
