"""Figure 7 (appendix 7.5.1): a block drawn as a graph, in rows from its inputs to its output.

The output of a node is one line, which runs down the rows to its last reader. It has a place of its
own in each row, as a box has, so that no line crosses a box.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from random import Random

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from scipy.optimize import linprog

from ghn_pipeline.model.graph import Block
from ghn_pipeline.report.figure import blank, titled

#: Names that do not follow from the key; "sep_conv_3x3" becomes "sep conv 3×3" by itself.
NAMES = {
    "input_1": "input 1: block i−1",
    "input_2": "input 2: block i−2",
    "conv_1x7_7x1": "conv 1×7, 7×1",
}
#: Colours by the operation's key without sizes; the colour-blind can distinguish them.
COLOURS = {
    "input": "#d9d9d9",
    "conv": "#7fbfe8",
    "sep_conv": "#f5b95a",
    "dil_conv": "#5fc4a0",
    "max_pool": "#f7ef8a",
    "avg_pool": "#e3a8cb",
}
OTHER, LINE = "#ffffff", "#444444"
OUTPUT = "concatenate"

FONT, SMALL, TITLE = 10, 9, 11  # points
HEIGHT, PADDING, NUMBER = 0.34, 0.1, 0.26  # inches: height, padding and number field of a box
MARGIN, GAP, PORTS = 0.2, 0.2, 0.18  # inches: around the drawing, between boxes, and arrowheads
SHORTEST, STEEPNESS = 0.32, 0.12  # gap between rows: least inches, and share of the widest slant
WIDEST = 5  # boxes in a row
STARTS, SWEEPS = 20, 8  # restarts and sweeps of the search for few crossings
PASSING, WHOLE = 4, 8  # costs of a passing line's slant and of the width; a last slant costs 1

#: (row, node): the place of a node's box, or of its passing output.
Place = tuple[int, int]


@dataclass(frozen=True)
class Box:
    """A rectangle: its middle, width and height in inches."""

    x: float
    y: float
    width: float
    height: float = HEIGHT


@dataclass(frozen=True)
class Look:
    """The look of a node's box.

    Attributes:
        name: text after the node's number.
        colour: fill colour.
        edge: colour of the outline.
        points: width of the outline in points.
        dash: dash of the outline.
    """

    name: str
    colour: str
    edge: str = LINE
    points: float = 1.0
    dash: str = "-"


@dataclass(frozen=True)
class Drawing:
    """All positions in inches; y runs downwards from the upper edge of the first row.

    Attributes:
        boxes: the boxes of the nodes, then that of the output, if it is drawn.
        lines: the lines by the numbers of node and reader; the output's number is the last.
        left: x of the left edge.
        right: x of the right edge.
        bottom: y of the lower edge.
    """

    boxes: list[Box]
    lines: dict[tuple[int, int], Path]
    left: float
    right: float
    bottom: float


def figure7(block: Block, *, title_lines: list[str], scale_note: str) -> Figure:
    """Return a drawing of a block of any search space: nodes, edges, the output of the leaves.

    Args:
        block: the block; each node shows its number, from 0, and the name of its operation.
        title_lines: the lines of the title.
        scale_note: the scale in words, for the title; '' at the paper's own scale.
    """
    looks = [Look(name_of(node.op), colour_of(node.op)) for node in block.nodes]
    return block_figure(block, looks, title=titled(title_lines, scale_note))


def block_figure(block: Block, looks: Sequence[Look], *, title: str, output: bool = True) -> Figure:
    """Return a drawing of a block.

    Args:
        block: the block; each node shows its number, from 0.
        looks: the looks of its nodes.
        title: the title.
        output: whether to draw a box for the output of the leaves.
    """
    drawing = arrange(block, [look.name for look in looks], output=output)
    lines = title.split("\n")
    width = max([drawing.right - drawing.left, *(text_width(line, TITLE) for line in lines)])
    width += 2 * MARGIN
    above = 2 * MARGIN + len(lines) * 1.4 * TITLE / 72
    below = drawing.bottom + MARGIN
    figure = blank(width, above + below)
    figure.set_layout_engine("none")  # an inch of the drawing is an inch of the figure
    axes = figure.add_axes((0, 0, 1, 1))
    middle = (drawing.left + drawing.right) / 2
    axes.set(xlim=(middle - width / 2, middle + width / 2), ylim=(below, -above))
    axes.set_axis_off()
    axes.text(middle, MARGIN - above, title, ha="center", va="top", fontsize=TITLE)
    for path in drawing.lines.values():
        axes.add_patch(FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=9, color=LINE))
    for v, look in enumerate(looks):
        _draw(axes, drawing.boxes[v], look, str(v))
    if output:
        _draw(axes, drawing.boxes[-1], Look(OUTPUT, COLOURS["input"]))
    return figure


def _draw(axes: Axes, box: Box, look: Look, number: str = "") -> None:
    corner = box.x - box.width / 2, box.y - box.height / 2
    style = "round,pad=0,rounding_size=0.08"
    patch = FancyBboxPatch(corner, box.width, box.height, style, facecolor=look.colour)
    patch.set(edgecolor=look.edge, linewidth=look.points, linestyle=look.dash)
    axes.add_patch(patch)
    if number:
        place = corner[0] + PADDING, box.y
        axes.text(*place, number, va="center_baseline", fontsize=SMALL, color=LINE)
    middle = box.x + NUMBER / 2 if number else box.x
    axes.text(middle, box.y, look.name, ha="center", va="center_baseline", fontsize=FONT)


def name_of(op: str) -> str:
    """Return the readable name of an operation."""
    return NAMES.get(op) or re.sub(r"(?<=\d)x(?=\d)", "×", op).replace("_", " ")


def colour_of(op: str) -> str:
    """Return the colour of an operation's kind."""
    return COLOURS.get(re.sub(r"_\d.*", "", op), OTHER)


def text_width(text: str, points: float) -> float:
    """Return the width of a line of text in inches."""
    return float(TextPath((0, 0), text, size=points).get_extents().width) / 72 if text else 0.0


class _Grid:
    """The content of the rows, and the links between them.

    Attributes:
        at: for each node, the row of its box.
        rows: for each row, from left to right, the nodes with a box or a passing output there; if
            the block's output is drawn, the leaves pass down to its row, the last one.
        links: between each row and the next, (node above, node below).
        widths: widths of the nodes' boxes.
    """

    def __init__(self, block: Block, names: Sequence[str], output: bool) -> None:
        self.at = _rows_of_boxes(block)
        last = max(self.at) + output
        ends = [max((self.at[w] - 1 for w in readers), default=0) for readers in block.children]
        for v in block.leaves if output else ():
            ends[v] = last
        self.rows = [
            [v for v, row in enumerate(self.at) if row == r or row < r <= ends[v]]
            for r in range(last + 1)
        ]
        self.links = [
            [(u, v) for v in row for u in (block.nodes[v].inputs if self.at[v] == r else (v,))]
            for r, row in enumerate(self.rows[1:], 1)
        ]
        self.widths = [text_width(name, FONT) + NUMBER + 2 * PADDING for name in names]

    def width(self, r: int, v: int) -> float:
        """Return the width of node `v` in row `r`: that of its box, or 0 for a passing output."""
        return self.widths[v] if self.at[v] == r else 0.0


def _rows_of_boxes(block: Block) -> list[int]:
    """Put nodes below their inputs, few in a row, and first those with the longest way down."""
    ways = [0] * len(block.nodes)
    for v in reversed(range(len(ways))):
        ways[v] = max((1 + ways[w] for w in block.children[v]), default=0)
    at: dict[int, int] = {}
    row = 0
    while len(at) < len(ways):
        waiting = [v for v in range(len(ways)) if v not in at]
        ready = [v for v in waiting if all(at.get(u, row) < row for u in block.nodes[v].inputs)]
        at |= dict.fromkeys(sorted(ready, key=lambda v: -ways[v])[:WIDEST], row)
        row += 1
    return [at[v] for v in range(len(ways))]


def arrange(block: Block, names: Sequence[str] | None = None, *, output: bool = True) -> Drawing:
    """Give every node a place and every edge a way.

    Args:
        block: the block.
        names: the names in the boxes of its nodes; None for those of their operations.
        output: whether to draw a box for the output of the leaves.
    """
    grid = _Grid(block, names or [name_of(node.op) for node in block.nodes], output)
    grid.rows = _uncrossed(grid)
    across = _across(grid)
    tops = _tops(grid, across)
    last = len(tops) - 1
    middles = [top + HEIGHT / 2 for top in tops]

    def line(u: int, row: int, port: float) -> Path:
        return _line([*(across[r, u] for r in range(grid.at[u], row)), port], tops[grid.at[u] :])

    boxes = [Box(across[r, v], middles[r], grid.widths[v]) for v, r in enumerate(grid.at)]
    lines = {}
    for v, node in enumerate(block.nodes):
        row = grid.at[v]
        inputs = sorted(node.inputs, key=lambda u: across[row - 1, u])
        apart = min(PORTS, grid.widths[v] / (len(inputs) + 1))
        for i, u in enumerate(inputs):
            lines[u, v] = line(u, row, across[row, v] + apart * (i - (len(inputs) - 1) / 2))
    if output:
        for u in block.leaves:
            lines[u, len(boxes)] = line(u, last, across[last, u])
        ports = [across[last, u] for u in grid.rows[last]]
        width = max(ports[-1] - ports[0], text_width(OUTPUT, FONT)) + 4 * PADDING
        boxes.append(Box((ports[0] + ports[-1]) / 2, middles[last], width))
    left = min(*across.values(), *(box.x - box.width / 2 for box in boxes))
    right = max(*across.values(), *(box.x + box.width / 2 for box in boxes))
    return Drawing(boxes, lines, left, right, tops[last] + HEIGHT)


def _uncrossed(grid: _Grid) -> list[list[int]]:
    """Sort each row by the mean position of its links, downwards and upwards; keep the best."""
    best, least = grid.rows, _badness(grid, grid.rows)
    rng = Random(0)
    for _ in range(STARTS):
        rows = [rng.sample(row, len(row)) for row in grid.rows]
        for sweep in range(SWEEPS):
            for r in range(1, len(rows)):
                if sweep % 2:
                    _order(rows[r], rows[r - 1], [(v, u) for u, v in grid.links[r - 1]])
                else:
                    _order(rows[-r - 1], rows[-r], grid.links[-r])
            badness = _badness(grid, rows)
            if badness < least:
                best, least = [list(row) for row in rows], badness
    mirrored = best[0][0] > best[0][-1]  # the first input stands on the left
    return [row[::-1] if mirrored else row for row in best]


def _order(row: list[int], other: list[int], links: list[tuple[int, int]]) -> None:
    """Sort `row` by the mean position of its nodes' links, (node, node of `other`)."""
    middle = {v: float(i) for i, v in enumerate(row)}
    for v in row:
        joined = [other.index(u) for w, u in links if w == v]
        if joined:
            middle[v] = sum(joined) / len(joined)
    row.sort(key=middle.__getitem__)


def _badness(grid: _Grid, rows: list[list[int]]) -> tuple[int, float]:
    """Return the crossings, and the slants of lines if each row is centred on a common axis."""
    packed = []
    for r, row in enumerate(rows):
        ends = np.cumsum([grid.width(r, v) + GAP for v in row])
        packed.append({v: ends[i] - grid.width(r, v) / 2 - ends[-1] / 2 for i, v in enumerate(row)})
    crossings, far = 0, 0.0
    for r, links in enumerate(grid.links):
        ways = [(packed[r][u], packed[r + 1][v]) for u, v in links]
        crossings += sum((a - c) * (b - d) < 0 for (a, b), (c, d) in combinations(ways, 2))
        far += sum(abs(a - b) for a, b in ways)
    return crossings, far


def _across(grid: _Grid) -> dict[Place, float]:
    """Choose the x of every place so that lines are straight and the drawing is narrow.

    A linear programme minimises the sum of the horizontal distances between linked places, of the
    largest of them between each two rows, and of the total width. Its variables are the x of the
    places, and then these terms.
    """
    places = [(r, v) for r, row in enumerate(grid.rows) for v in row]
    index = {place: i for i, place in enumerate(places)}
    half = [grid.width(*place) / 2 for place in places]
    links = [(r, u, v) for r, between in enumerate(grid.links) for u, v in between]
    greatest = len(places) + len(links)
    whole = greatest + len(grid.links)
    cost = np.ones(whole + 1)
    cost[: len(places)], cost[whole] = 0, WHOLE
    at_most: list[tuple[dict[int, float], float]] = [
        ({i: 1, whole: -1}, -half[i]) for i in range(len(places))
    ]
    for distance, (r, u, v) in enumerate(links, len(places)):
        above, below = index[r, u], index[r + 1, v]
        cost[distance] = PASSING if u == v else 1
        at_most += [
            ({above: 1, below: -1, distance: -1}, 0),
            ({below: 1, above: -1, distance: -1}, 0),
        ]
        at_most += [({distance: 1, greatest + r: -1}, 0)]
    for r, row in enumerate(grid.rows):
        for i, j in pairwise(index[r, v] for v in row):
            at_most += [({i: 1, j: -1}, -half[i] - GAP - half[j])]
    factors = np.zeros((len(at_most), len(cost)))
    for condition, (terms, _) in enumerate(at_most):
        factors[condition, list(terms)] = list(terms.values())
    bounds = [(least, None) for least in half + [0.0] * (len(cost) - len(half))]
    found = linprog(cost, factors, [limit for _, limit in at_most], bounds=bounds)
    return {place: float(x) for place, x in zip(places, found.x, strict=False)}


def _tops(grid: _Grid, across: dict[Place, float]) -> list[float]:
    """Choose the y of each row's upper edge, with more room for lines with a wide slant."""
    tops = [0.0]
    for r, links in enumerate(grid.links):
        farthest = max(abs(across[r, u] - across[r + 1, v]) for u, v in links)
        tops.append(tops[-1] + HEIGHT + max(SHORTEST, STEEPNESS * farthest))
    return tops


def _line(xs: list[float], tops: list[float]) -> Path:
    """Return a smooth line from the lower edge of the first row to the upper edge of the last."""
    points = [(xs[0], tops[0] + HEIGHT)]
    for x, top in zip(xs[1:-1], tops[1:], strict=False):
        points += [(x, top), (x, top + HEIGHT)]  # straight down through a row
    points.append((xs[-1], tops[len(xs) - 1]))
    vertices = points[:1]
    for (x, y), (next_x, next_y) in pairwise(points):
        vertices += [(x, (y + next_y) / 2), (next_x, (y + next_y) / 2), (next_x, next_y)]
    return Path(vertices, [Path.MOVETO] + [Path.CURVE4] * (len(vertices) - 1))
