"""The formats carry the same cells, whatever characters are in them."""

import io
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from ghn_pipeline.report.table import Table, to_csv, to_html, to_latex, to_markdown, write
from ghn_pipeline.system.errors import UserError

TABLE = Table(
    title="Cost & gain",
    columns=(("", "Method"), ("R", "ours, 95%"), ("R", "paper")),
    rows=(("SGD-10", "-0.05 [-0.4, 0.3]", "0.26"), ('a|b "c"', "{x_1}", "\N{EN DASH}")),
    footnotes=("100% of 5 runs",),
)


def test_csv_reads_back():
    frame = pd.read_csv(io.StringIO(to_csv(TABLE)), dtype=str)
    assert frame.columns.tolist() == ["Method", "R: ours, 95%", "R: paper"]
    assert [tuple(row) for row in frame.itertuples(index=False)] == list(TABLE.rows)


def test_markdown_reads_back():
    lines = to_markdown(TABLE).splitlines()
    assert lines[0] == "**Cost & gain**"
    assert lines[2] == "| Method | R: ours, 95% | R: paper |"
    assert lines[3] == "| --- | --- | --- |"
    assert lines[4] == "| SGD-10 | -0.05 [-0.4, 0.3] | 0.26 |"
    assert lines[5] == '| a\\|b "c" | {x_1} | \N{EN DASH} |'
    assert lines[-1] == "100% of 5 runs"


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        ("50% & #1", r"50\% \& \#1"),
        ("a_b^c~d", r"a\_b\textasciicircum{}c\textasciitilde{}d"),
        (r"{\x}$", r"\{\textbackslash{}x\}\$"),
        ("<|>", r"\textless{}\textbar{}\textgreater{}"),
        ("[1]", "{[}1]"),
        ("16\N{MULTIPLICATION SIGN}16 \N{PLUS-MINUS SIGN} 1", r"16$\times$16 $\pm$ 1"),
        ("x \N{EM DASH} \N{EN DASH}", "x --- --"),
        ("-0.05", "$-$0.05"),
        ("[-0.05, -1]", "{[}$-$0.05, $-$1]"),
        ("Random-100 on 2-3", "Random-100 on 2-3"),
    ],
)
def test_latex_escapes(plain, escaped):
    table = Table(plain, (("", plain),), ((plain,),), (plain,))
    lines = to_latex(table).splitlines()
    assert rf"\caption{{{escaped}}}" in lines
    assert lines.count(rf"{escaped} \\") == 2  # the heading and the row
    assert rf"\par\smallskip\footnotesize {escaped}" in lines


def test_latex_groups_span_their_columns():
    lines = to_latex(TABLE).splitlines()
    assert r"\multicolumn{1}{c}{} & \multicolumn{2}{c}{R} \\" in lines
    assert r"\cmidrule(lr){2-3}" in lines
    assert r"\begin{tabular}{lcc}" in lines
    assert sum(line.count(" & ") == 2 for line in lines) == 3


def test_latex_without_groups_has_no_line_for_them():
    text = to_latex(Table("t", (("", "a"), ("", "b")), (("1", "2"),)))
    assert "multicolumn" not in text
    assert "cmidrule" not in text


def test_braces_and_environments_are_balanced():
    text = to_latex(TABLE).replace(r"\{", "").replace(r"\}", "")
    assert text.count("{") == text.count("}")
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1


def test_write_makes_the_files_with_the_same_bytes_each_time(tmp_path: Path):
    for folder in ("a", "b"):
        write(TABLE, tmp_path / folder / "table4.quick")
    written = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert written == [f"table4.quick.{suffix}" for suffix in ("csv", "html", "md", "tex")]
    for name in written:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a/table4.quick.md").read_text(encoding="utf-8") == to_markdown(TABLE)


def test_write_says_where_it_could_not(tmp_path: Path):
    (tmp_path / "table4.md").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        write(TABLE, tmp_path / "table4")


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 cells for 1 columns"):
        Table("t", (("", "a"),), (("1", "2"),))


def test_html_holds_every_cell_and_nothing_that_a_browser_would_fetch():
    rows = (("a & b", "<1"), ("c", '"2"'))
    page = to_html(Table("the <title>", (("", "m"), ("group", "x")), rows, ("a note",)))
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            assert not {"src", "href"} & {name for name, _ in attributes}

        def handle_data(self, data):
            found.append(data.strip())

    Reader().feed(page)
    texts = [text for text in found if text]
    assert texts[-7:] == ["m", "x", "a & b", "<1", "c", '"2"', "a note"]
    assert texts.count("the <title>") == 2
    assert "group" in texts
