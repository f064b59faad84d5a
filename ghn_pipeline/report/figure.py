"""Parts that all figures share: a canvas without a screen, a title with the scale, two files."""

import io
from pathlib import Path
from textwrap import wrap

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ghn_pipeline.system.files import write_atomically


def blank(width: float, height: float) -> Figure:
    """Return an empty figure; width and height are in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def ruled(axes: Axes, labels: int = 11) -> None:
    """Draw a faint grid behind the content of the axes; `labels` is a font size in points."""
    axes.tick_params(labelsize=labels)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)


def titled(lines: list[str], scale_note: str, width: int = 78) -> str:
    """Return a title of `lines`, with a note below them if the scale is not the paper's.

    Args:
        lines: the lines of the title itself.
        scale_note: the scale in words; '' at the paper's own scale.
        width: characters in a line of the note.
    """
    note = f"{scale_note}, not the paper's scale" if scale_note else ""
    return "\n".join([*lines, *wrap(note, width=width)])


def save(figure: Figure, stem: Path) -> None:
    """Write `stem`.png (150 dots an inch) and `stem`.svg; equal figures give equal bytes.

    Raises:
        UserError: a file cannot be written.
    """
    with matplotlib.rc_context({"svg.hashsalt": stem.name}):  # otherwise its ids are random
        for kind, metadata in (("png", {}), ("svg", {"Date": None})):
            data = io.BytesIO()
            figure.savefig(data, format=kind, dpi=150, metadata=metadata)
            write_atomically(stem.with_name(f"{stem.name}.{kind}"), data.getvalue())
