"""Figure 7 shows every node and edge of a block once, and nothing lies on anything else."""

from functools import cache
from itertools import combinations
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Line

from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.report.figure import save
from ghn_pipeline.report.paper.figure7 import Box, Drawing, arrange, figure7, name_of
from ghn_pipeline.spaces.classification import INPUTS, Classification

NAMES = ("identity", "conv_1x7_7x1", "sep_conv_3x3", "max_pool_3x3", "something_new_9x9")
SPACE = Classification(NAMES, 3, 4, 4, (2, 4), 1, 10)

CHAIN = Block((*INPUTS, Node(NAMES[0], (0, 1)), *(Node(NAMES[2], (v,)) for v in range(2, 18))))
FAN = SPACE.examples(17)[1]
BLOCKS = {
    **{f"random {i}": SPACE.sample(Random(i), 1 + i % 17) for i in range(4, 30)},
    "chain": CHAIN,
    "fan": FAN,
    "dead input": Block((*INPUTS, Node(NAMES[1], (1,)))),
    "stem": Block((Node("stem"),)),
    "many inputs": Block(
        (*(Node(f"input_{i}") for i in range(9)), Node(NAMES[0], tuple(range(9))))
    ),
}


@cache
def arranged(name: str) -> Drawing:
    return arrange(BLOCKS[name])


def points(line: Line) -> npt.NDArray[np.float64]:
    """Of the cubic Bézier curves of a line, 50 on each, by Bernstein's polynomials."""
    t = np.linspace(0, 1, 50)[:, None]
    weights = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    corners = np.asarray(line.vertices)
    assert list(line.codes) == [Line.MOVETO] + [Line.CURVE4] * (len(corners) - 1)
    return np.concatenate([weights @ corners[i : i + 4] for i in range(0, len(corners) - 1, 3)])


def inside(box: Box, where: npt.NDArray[np.float64], beyond: float) -> bool:
    """Whether a point is in the box, made larger by `beyond` on each side."""
    across = np.abs(where[:, 0] - box.x) < box.width / 2 + beyond
    return bool((across & (np.abs(where[:, 1] - box.y) < box.height / 2 + beyond)).any())


def draw(block: Block) -> Figure:
    lines = ["Figure 7: best block found for classification", "validation accuracy 91.2%"]
    return figure7(block, title_lines=lines, scale_note="quick preset (16 by 16 images)")


@pytest.mark.parametrize("name", BLOCKS)
def test_every_edge_once_from_box_to_box_and_past_all_others(name: str):
    block, drawing = BLOCKS[name], arranged(name)
    output = len(block.nodes)
    edges = {(u, v) for v, node in enumerate(block.nodes) for u in node.inputs}
    assert drawing.lines.keys() == edges | {(u, output) for u in block.leaves}
    assert len(drawing.boxes) == output + 1
    for (u, v), line in drawing.lines.items():
        way, start, end = points(line), drawing.boxes[u], drawing.boxes[v]
        assert way[0] == pytest.approx([start.x, start.y + start.height / 2])
        assert way[-1][1] == pytest.approx(end.y - end.height / 2)
        assert abs(way[-1][0] - end.x) < end.width / 2
        assert way[:, 0].min() >= drawing.left - 1e-9
        assert way[:, 0].max() <= drawing.right + 1e-9
        for w, box in enumerate(drawing.boxes):
            assert not inside(box, way, beyond=-1e-6 if w in (u, v) else 0.05), (u, v, w)


@pytest.mark.parametrize("name", BLOCKS)
def test_no_two_boxes_touch_and_none_leaves_the_drawing(name: str):
    drawing = arranged(name)
    for a, b in combinations(drawing.boxes, 2):
        apart = abs(a.x - b.x) - (a.width + b.width) / 2, abs(a.y - b.y) - (a.height + b.height) / 2
        assert max(apart) > 0.1
    for box in drawing.boxes:
        assert drawing.left <= box.x - box.width / 2 + 1e-9
        assert box.x + box.width / 2 <= drawing.right + 1e-9
        assert box.y - box.height / 2 >= -1e-9
        assert box.y + box.height / 2 <= drawing.bottom + 1e-9


@pytest.mark.parametrize("name", ["random 16", "chain", "dead input", "stem"])
def test_the_figure_has_all_of_it_and_its_text_can_be_read(name: str):
    block = BLOCKS[name]
    figure = draw(block)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    arrows = [p for p in axes.patches if isinstance(p, FancyArrowPatch)]
    assert len(arrows) == sum(len(node.inputs) for node in block.nodes) + len(block.leaves)
    title, *texts = axes.texts
    labels = [s for v, n in enumerate(block.nodes) for s in (str(v), name_of(n.op))]
    assert [text.get_text() for text in texts] == [*labels, "concatenate"]
    boxes = [p.get_window_extent() for p in axes.patches if isinstance(p, FancyBboxPatch)]
    for i, text in enumerate(texts):
        extent, box = text.get_window_extent(), boxes[i // 2]
        assert box.x0 < extent.x0 < extent.x1 < box.x1
        assert box.y0 < extent.y0 < extent.y1 < box.y1
    for number, label in zip(texts[:-1:2], texts[1::2], strict=True):
        assert number.get_window_extent().x1 < label.get_window_extent().x0
    assert min(text.get_fontsize() for text in axes.texts) >= 9
    heading = title.get_window_extent()
    assert 0 <= heading.x0 < heading.x1 <= figure.bbox.width
    assert max(box.y1 for box in boxes) < heading.y0 < heading.y1 <= figure.bbox.height
    assert "not the paper's scale" in title.get_text()


def test_an_inch_of_the_drawing_is_an_inch_of_the_figure_whatever_its_size():
    for block in (CHAIN, FAN):
        figure = draw(block)
        (axes,) = figure.axes
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert tuple(figure.get_size_inches()) == pytest.approx((right - left, bottom - top))
    assert draw(CHAIN).get_figheight() > 2 * draw(FAN).get_figheight()
    assert draw(FAN).get_figwidth() < 12  # many nodes that could stand in one row do not


def test_a_block_without_a_crossing_is_drawn_without_one():
    """Two trees of the two inputs, the nodes of which come in turn."""
    tree = [Node("identity", (v,)) for v in (0, 1, 0, 1, 2, 3, 2, 3)]
    ways = [points(line) for line in arrange(Block((*INPUTS, *tree))).lines.values()]
    assert max(way[:, 0].max() for way in ways[::2]) < min(way[:, 0].min() for way in ways[1::2])


def test_names():
    assert name_of("sep_conv_3x3") == "sep conv 3×3"
    assert name_of("something_new_9x9") == "something new 9×9"
    assert [name_of(node.op) for node in INPUTS] == ["input 1: block i−1", "input 2: block i−2"]


def test_the_same_block_gives_the_same_files(tmp_path: Path):
    for folder in ("a", "b"):
        save(draw(BLOCKS["random 16"]), tmp_path / folder / "figure7")
    for name in ("figure7.png", "figure7.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
