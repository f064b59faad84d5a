"""The page of the paper's claims: a table in several formats, the figure, and remarks."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from ghn_pipeline.report import figure, table
from ghn_pipeline.report.paper.claims import Finding, claims, claims_table, to_json
from ghn_pipeline.report.paper.forest import forest
from ghn_pipeline.system.files import write_atomically


def write(
    findings: Sequence[Finding],
    stem: Path,
    older: Mapping[str, str] | None = None,
    remarks: Mapping[int, str] | None = None,
) -> None:
    """Write `stem`.csv, .md, .html, .tex and .json, and the figure as .svg and .png.

    Args:
        findings: the findings of one or more scales.
        stem: the path without an ending.
        older: for scales whose evidence is of older code, a remark on it.
        remarks: paragraphs about claims, below the table.

    Raises:
        UserError: a file cannot be written.
    """
    made = claims_table(findings, older or {})
    said = [f"Claim {n} ({claims()[n].claim}): {text}" for n, text in (remarks or {}).items()]
    write_atomically(stem.with_suffix(".csv"), table.to_csv(made))
    write_atomically(stem.with_suffix(".tex"), table.to_latex(made))
    image = f"![Each claim's effect with its interval]({stem.name}.png)\n\n"
    text = image + table.to_markdown(made) + "".join(f"\n{line}\n" for line in said)
    write_atomically(stem.with_suffix(".md"), text)
    page = table.to_html(made).removesuffix("</html>\n\n").removesuffix("</html>\n")
    body = "".join(f"<p>{escape(line)}</p>\n" for line in said)
    image = f'<p><img src="{stem.name}.svg" alt="Each claim\'s effect with its interval"></p>\n'
    write_atomically(stem.with_suffix(".html"), f"{page}{body}{image}</html>\n")
    write_atomically(stem.with_suffix(".json"), json.dumps(to_json(findings), indent=1) + "\n")
    figure.save(forest(findings), stem)
