"""Figures 8 to 10 (appendix 7.5.2): the blocks of an anytime network, drawn as in Figure 7."""

from collections.abc import Iterator

from matplotlib.figure import Figure

from ghn_pipeline.model.graph import Node
from ghn_pipeline.model.network import Network
from ghn_pipeline.report.figure import titled
from ghn_pipeline.report.paper.figure7 import Look, block_figure, colour_of, name_of
from ghn_pipeline.spaces.classification import INPUTS

FIRST = 8  # number of the first block's figure
RED, THICK = "#d62728", 3.0  # colour and width in points of the outline of a node with an exit
UNUSED = "--"
INPUT_NAMES = [node.op for node in INPUTS]


def figure8(network: Network, number: int, *, scale_note: str) -> Figure:
    """Return a drawing of one block.

    A thick red outline and the word "exit" mark nodes with an early exit. Nodes that lead to no
    exit of the network, and are therefore never computed, are dashed. The output of the leaves is
    drawn if a later block reads it.

    Args:
        network: a network with exits, a chain of a stem and blocks.
        number: number of the block, from 1.
        scale_note: the scale in words, for the title; '' at the paper's own scale.

    Raises:
        ValueError: the network has no such block.
    """
    of = len(network.modules) - 1  # without the stem
    if not 1 <= number <= of:
        raise ValueError(f"there is no block {number} of {of}")
    block, sources = network.modules[number].block, iter(network.modules[number].sources)
    used = [(number, v) in network.steps for v in range(len(block.nodes))]
    looks = [
        _look(node, _name(node, sources), network.resolution, used[v])
        for v, node in enumerate(block.nodes)
    ]
    lines = [
        f"Figure {FIRST + number - 1}: block {number} of {of} of the best anytime network found",
        "red, thick, “exit”: an early exit is attached to the output of the node",
        *["dashed: leads to no exit, so it is never computed"] * (not all(used)),
        "after each name: width × height of the node's output",
    ]
    title = titled(lines, scale_note)
    return block_figure(block, looks, title=title, output=_is_read(network, number))


def _is_read(network: Network, number: int) -> bool:
    """Return whether a later module reads the block's output."""
    return any(
        read.place[0] == number < place[0]
        for place, step in network.steps.items()
        for read in step.reads
    )


def _name(node: Node, sources: Iterator[int]) -> str:
    """Return the name of a node, such as 'input 2: block 1' for an input."""
    if node.op not in INPUT_NAMES:
        return name_of(node.op.removeprefix("dense_"))
    source = next(sources)
    return f"input {1 + INPUT_NAMES.index(node.op)}: " + (f"block {source}" if source else "stem")


def _look(node: Node, name: str, resolution: int, used: bool) -> Look:
    side = resolution // node.scale
    text, colour = f"{name} · {side}×{side}", colour_of(node.op.removeprefix("dense_"))
    if node.exit:
        return Look(f"{text} · exit", colour, RED, THICK)
    return Look(text, colour) if used else Look(text, colour, dash=UNUSED)
