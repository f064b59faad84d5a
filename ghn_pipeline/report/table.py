"""A table of results, written as CSV to compute with, Markdown and HTML to read, LaTeX to print."""

import csv
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ghn_pipeline.system.files import write_atomically

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "[": "{[}",  # at the start of a row, \\ would read it as its own argument
        "\N{MULTIPLICATION SIGN}": r"$\times$",
        "\N{PLUS-MINUS SIGN}": r"$\pm$",
        "\N{EN DASH}": "--",
        "\N{EM DASH}": "---",
        **{character: "\\" + character for character in "{}$&#%_"},
    }
)


@dataclass(frozen=True)
class Table:
    """A table; `columns` are (group, heading), with the group '' for none."""

    title: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, ...], ...]
    footnotes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError unless every row has a cell for each column."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(row)} cells for {len(self.columns)} columns: {row}")


def to_csv(table: Table) -> str:
    """Return a line of headings ('group: heading') and the rows, without title and footnotes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_headings(table), *table.rows])
    return text.getvalue()


def to_markdown(table: Table) -> str:
    """Return the title, a pipe table with headings 'group: heading', and the footnotes."""
    lines = [_headings(table), ["---"] * len(table.columns), *table.rows]
    body = "".join("| " + " | ".join(map(_markdown, line)) + " |\n" for line in lines)
    return f"**{table.title}**\n\n{body}" + "".join(f"\n{note}\n" for note in table.footnotes)


def to_latex(table: Table) -> str:
    """Return a float for the packages booktabs and graphicx, no wider than the text."""
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(table.title)}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{'l' + 'c' * (len(table.columns) - 1)}}}",
            r"\toprule",
            *_latex_groups(table),
            _latex_row([heading for _, heading in table.columns]),
            r"\midrule",
            *(_latex_row(row) for row in table.rows),
            r"\bottomrule",
            r"\end{tabular}}",
            *(rf"\par\smallskip\footnotesize {_latex(note)}" for note in table.footnotes),
            r"\end{table}",
            "",
        ]
    )


def to_html(table: Table) -> str:
    """Return a page that needs no other file."""
    style = (
        "body{font:15px/1.4 sans-serif;margin:2em}table{border-collapse:collapse}"
        "th,td{border-bottom:1px solid #bbb;padding:.3em .7em;text-align:left}"
    )
    groups = "".join(
        f'<th colspan="{width}">{html.escape(group)}</th>' for group, width in _spans(table)
    )
    rows = [_html_row("td", row) for row in table.rows]
    return "\n".join(
        [
            f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><style>{style}</style>',
            f"<title>{html.escape(table.title)}</title>\n<p><b>{html.escape(table.title)}</b></p>",
            f"<table>\n<tr>{groups}</tr>",
            _html_row("th", [heading for _, heading in table.columns]),
            *[*rows, "</table>"],
            *(f"<p>{html.escape(note)}</p>" for note in table.footnotes),
            "</html>\n",
        ]
    )


def write(table: Table, stem: Path) -> None:
    """Write `stem`.csv, .md, .html and .tex; equal tables give equal bytes.

    Raises:
        UserError: a file cannot be written.
    """
    forms = {".csv": to_csv, ".md": to_markdown, ".html": to_html, ".tex": to_latex}
    for suffix, render in forms.items():
        write_atomically(stem.with_name(stem.name + suffix), render(table))


def _html_row(cell: str, texts: Sequence[str]) -> str:
    cells = "".join(f"<{cell}>{html.escape(text)}</{cell}>" for text in texts)
    return f"<tr>{cells}</tr>"


def _spans(table: Table) -> list[tuple[str, int]]:
    """Return each group heading and the number of columns below it."""
    return [(group, len(list(run))) for group, run in groupby(group for group, _ in table.columns)]


def _headings(table: Table) -> list[str]:
    return [f"{group}: {heading}" if group else heading for group, heading in table.columns]


def _markdown(cell: str) -> str:
    return cell.replace("|", "\\|")


def _latex(text: str) -> str:
    # a minus sign before a number, unlike the hyphen in Random-100
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", text.translate(_LATEX))


def _latex_row(cells: list[str] | tuple[str, ...]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"


def _latex_groups(table: Table) -> list[str]:
    """Return the line of group headings and the rules under them, [] without groups."""
    spans = _spans(table)
    if not any(group for group, _ in spans):
        return []
    cells, rules, start = [], [], 1
    for group, width in spans:
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{_latex(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return [" & ".join(cells) + r" \\", "".join(rules)]
