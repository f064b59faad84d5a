"""Figures 8 to 10 show all of each block: which nodes have exits, and how large their outputs are,
as the network itself computes them."""

import re
from functools import cache
from pathlib import Path
from random import Random

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.transforms import Affine2D, Bbox

from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.model.network import Network, Trained, run_steps
from ghn_pipeline.report.figure import save
from ghn_pipeline.report.paper.figure7 import arrange
from ghn_pipeline.report.paper.figure8 import RED, figure8
from ghn_pipeline.spaces.anytime import Anytime, split

KINDS = ("conv_1x1", "conv_3x3", "conv_5x5", "max_pool_3x3", "avg_pool_3x3")
SPACE = Anytime(tuple(f"dense_{kind}" for kind in KINDS), 2, 10, 3, 4, (2, 3), 1, 10)
SIDE = 16
WORDS = dict(
    zip(KINDS, ("conv 1×1", "conv 3×3", "conv 5×5", "max pool 3×3", "avg pool 3×3"), strict=True)
)
# in the last of them no exit of the third block depends on the second
CASES = [(seed, number) for seed in (0, 1, 2, 40) for number in (1, 2, 3)]


@cache
def architecture(seed: int) -> Block:
    return SPACE.sample(Random(seed), 24)


def block_of(seed: int, number: int) -> Block:
    return split(architecture(seed))[number - 1]


@cache
def network_of(seed: int) -> Network:
    return Network(SPACE.modules(architecture(seed)), SIDE)


def has_output(seed: int, number: int) -> bool:
    """Whether a later block computes an input that reads this one: the one or two blocks before."""
    return any((number + back, back - 1) in computed(seed) for back in (1, 2))


@cache
def computed(seed: int) -> dict[tuple[int, int], int]:
    """For each (block from 1, node) that running the network computes, the side of its output."""
    network = network_of(seed)
    model = Trained(network, torch.Generator().manual_seed(0))
    images = torch.zeros(2, 3, SIDE, SIDE)
    with torch.no_grad():
        steps = run_steps(network, model.weights, images, model.norm)
        return {place: x.shape[-1] for place, x in steps if place[0] > 0 and place[1] >= 0}


@cache
def drawn(seed: int, number: int) -> Figure:
    note = "quick preset (2,000 training images at 16×16)"
    figure = figure8(network_of(seed), number, scale_note=note)
    figure.draw_without_rendering()
    return figure


def boxes(figure: Figure) -> list[FancyBboxPatch]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]


def labels(figure: Figure) -> list[str]:
    """What is written in the boxes of nodes, without their numbers."""
    return [text.get_text() for text in figure.axes[0].texts[1:] if "×" in text.get_text()]


@pytest.mark.parametrize(("seed", "number"), CASES)
def test_exit_nodes_and_no_others_are_red_thick_and_say_so(seed: int, number: int):
    block, figure = block_of(seed, number), drawn(seed, number)
    exits = {v for v, node in enumerate(block.nodes) if node.exit}
    assert exits or seed  # the first architecture has some in each block
    edges = [to_hex(box.get_edgecolor()) for box in boxes(figure)]
    widths = [box.get_linewidth() for box in boxes(figure)]
    assert {v for v, edge in enumerate(edges) if edge == RED} == exits
    assert {v for v, text in enumerate(labels(figure)) if text.endswith(" · exit")} == exits
    for v, width in enumerate(widths):
        assert width == (3 if v in exits else 1)


@pytest.mark.parametrize(("seed", "number"), CASES)
def test_every_node_has_its_operation_and_the_side_that_it_puts_out(seed: int, number: int):
    block, figure = block_of(seed, number), drawn(seed, number)
    sides, sources = computed(seed), SPACE.modules(architecture(seed))[number].sources
    texts = labels(figure)
    assert len(texts) == len(block.nodes)
    for v, (node, text) in enumerate(zip(block.nodes, texts, strict=True)):
        assert "dense" not in text
        name, size, *_ = text.split(" · ")
        if (number, v) in sides:  # what is not computed has no side to compare with
            assert size == f"{sides[number, v]}×{sides[number, v]}"
        if v < 2:
            read = f"block {sources[v]}" if sources[v] else "stem"
            assert name == f"input {v + 1}: {read}"
        else:
            assert name == WORDS[node.op.removeprefix("dense_")]
    numbers = [text.get_text() for text in figure.axes[0].texts[1 : 2 * len(texts) : 2]]
    assert numbers == [str(v) for v in range(len(texts))]


@pytest.mark.parametrize(("seed", "number"), CASES)
def test_only_blocks_that_others_read_have_an_output(seed: int, number: int):
    block, figure = block_of(seed, number), drawn(seed, number)
    arrows = [p for p in figure.axes[0].patches if isinstance(p, FancyArrowPatch)]
    edges = sum(len(node.inputs) for node in block.nodes)
    written = [text.get_text() for text in figure.axes[0].texts]
    assert number < 3 or not has_output(seed, number)
    if has_output(seed, number):
        assert written[-1] == "concatenate"
        assert len(boxes(figure)) == len(block.nodes) + 1
        assert len(arrows) == edges + len(block.leaves)
    else:
        assert "concatenate" not in written
        assert len(boxes(figure)) == len(block.nodes)
        assert len(arrows) == edges


@pytest.mark.parametrize(("seed", "number"), CASES)
def test_what_the_network_never_computes_is_dashed(seed: int, number: int):
    figure, nodes = drawn(seed, number), len(block_of(seed, number).nodes)
    dashed = {v for v, box in enumerate(boxes(figure)) if box.get_linestyle() == "--"}
    never = {v for v in range(nodes) if (number, v) not in computed(seed)}
    assert dashed == never
    assert ("dashed:" in figure.axes[0].texts[0].get_text()) == bool(never)


@pytest.mark.parametrize(("seed", "number"), CASES)
def test_texts_fit_their_boxes_and_can_be_read(seed: int, number: int):
    figure = drawn(seed, number)
    title, *texts = figure.axes[0].texts
    extents = [box.get_window_extent() for box in boxes(figure)]
    for i, text in enumerate(texts):
        extent, box = text.get_window_extent(), extents[i // 2]
        assert box.x0 < extent.x0 < extent.x1 < box.x1
        assert box.y0 < extent.y0 < extent.y1 < box.y1
        if i % 2:
            assert texts[i - 1].get_window_extent().x1 < extent.x0
    assert min(text.get_fontsize() for text in texts) >= 9
    heading = title.get_window_extent()
    assert 0 <= heading.x0 < heading.x1 <= figure.bbox.width
    assert max(box.y1 for box in extents) < heading.y0 < heading.y1 <= figure.bbox.height
    assert min(box.x0 for box in extents) > 0
    assert max(box.x1 for box in extents) < figure.bbox.width
    assert figure.get_figwidth() < 16.54  # inches: an A3 sheet, across


@pytest.mark.parametrize(("seed", "number"), CASES)
def test_no_line_meets_a_box_that_it_does_not_end_at(seed: int, number: int):
    block = block_of(seed, number)
    drawing = arrange(block, labels(drawn(seed, number)), output=has_output(seed, number))
    large = Affine2D().scale(1000)  # so that curves are not taken for their chords
    rectangles = [  # a little larger than the boxes, at whose edges lines end
        Bbox.from_bounds(box.x - box.width / 2, box.y - box.height / 2, box.width, box.height)
        .padded(0.04)
        .transformed(large)
        for box in drawing.boxes
    ]
    for (u, v), line in drawing.lines.items():
        path = large.transform_path(line)
        for w, rectangle in enumerate(rectangles):
            met = path.intersects_bbox(rectangle, filled=False)
            assert met == (w in (u, v)), (u, v, w)


def test_the_title_says_which_figure_and_what_red_means():
    for number in (1, 2, 3):
        title = drawn(0, number).axes[0].texts[0].get_text()
        assert title.startswith(f"Figure {7 + number}: block {number} of 3 ")
        assert re.search("red, thick, “exit”: an early exit is attached to the output", title)
        assert "quick preset" in title
        assert "not the paper's scale" in title
    full = figure8(network_of(0), 3, scale_note="")
    assert "not the paper's scale" not in full.axes[0].texts[0].get_text()


def test_a_single_block_has_the_stem_for_inputs_and_no_output():
    block = Block((Node("input_1"), Node("input_2"), Node("dense_conv_1x1", (0, 1), exit=True)))
    modules = SPACE.modules(block)
    figure = figure8(Network(modules, 32), 1, scale_note="")
    assert labels(figure) == [
        "input 1: stem · 32×32",
        "input 2: stem · 32×32",
        "conv 1×1 · 32×32 · exit",
    ]


@pytest.mark.parametrize("number", [0, 4])
def test_a_block_that_is_not_there_is_refused(number: int):
    with pytest.raises(ValueError, match=f"no block {number} of 3"):
        figure8(network_of(0), number, scale_note="")


def test_the_same_block_gives_the_same_files(tmp_path: Path):
    for folder in ("a", "b"):
        figure = figure8(network_of(1), 3, scale_note="")
        save(figure, tmp_path / folder / "figure10")
    for name in ("figure10.png", "figure10.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
