"""The documentation: its links lead somewhere, and what it tells a reader to type exists."""

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ghn_pipeline.cli import verbs
from ghn_pipeline.pipeline.stage import declared
from ghn_pipeline.spaces.known import SPACES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
#: A reader sees in two minutes what the project is; the rest stands in docs/.
MOST_LINES = 150

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

#: Stages that extend.md shows how to add.
EXAMPLES = [
    name
    for path in (ROOT / "tests/extensions").glob("*.py")
    for name in re.findall(r'@stage\(\s*"(\w+)"', path.read_text(encoding="utf-8"))
]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def text_of(page: Path) -> str:
    """Return a page as it is written."""
    return page.read_text(encoding="utf-8")


def prose_of(page: Path) -> str:
    """Return a page without its blocks of code."""
    return FENCE.sub("", text_of(page))


def blocks_of(page: Path, language: str) -> list[str]:
    """Return the blocks of code of one language."""
    return [code for found, code in FENCE.findall(text_of(page)) if found == language]


def test_the_table_of_speed_is_the_one_that_was_kept(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    rows = importlib.import_module("rows")
    shown = rows.PAGE.read_text(encoding="utf-8").split(rows.BEGIN)[1].split(rows.END)[0]
    assert shown.strip() == rows.table(rows.kept())


def commands_of(page: Path) -> str:
    """Return what a reader may type, a line each: lines of shell blocks, and code in the prose."""
    lines = [line for block in blocks_of(page, "bash") for line in block.splitlines()]
    typed = [re.sub(r"(^|\s)#.*", "", line) for line in lines]
    return "\n".join([*typed, *(" ".join(span.split()) for span in SPAN.findall(prose_of(page)))])


def anchor(heading: str) -> str:
    """Return the anchor of a heading, as MkDocs makes it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def links_of(page: Path) -> list[str]:
    """Return the targets of links and images within the project."""
    return [link for link in LINK.findall(prose_of(page)) if not re.match(r"\w+:", link)]


def listed(nav: Any) -> Iterator[str]:
    """Yield the pages of the navigation, which is nested."""
    if isinstance(nav, str):
        yield nav
    for below in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from listed(below)


def first_words(page: Path, command: str) -> list[str]:
    """Return what follows a command, without options and placeholders such as VERB."""
    found = re.findall(rf"(?<![\w./-]){command} +([^\s;`]+)", commands_of(page))
    return [word for word in found if not word.startswith("-") and not word.isupper()]


def test_the_readme_is_short() -> None:
    assert len(text_of(README).splitlines()) < MOST_LINES


@each_page
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in links_of(page):
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        if heading:
            assert heading in map(anchor, HEADING.findall(prose_of(target))), link
        # MkDocs knows of nothing outside docs/
        assert page == README or target.is_relative_to(DOCS), link


def test_the_navigation_has_every_page() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = [str(page.relative_to(DOCS).as_posix()) for page in PAGES if page != README]
    assert sorted(listed(settings["nav"])) == sorted(pages)


@each_page
def test_verbs_exist(page: Path) -> None:
    assert set(first_words(page, "ghn")) <= {*verbs(), *EXAMPLES}


@each_page
def test_targets_of_make_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([\w./-]+):", makefile, re.MULTILINE)
    assert set(first_words(page, "make")) <= set(targets)


@each_page
def test_targets_of_snakemake_exist(page: Path) -> None:
    chapters = (space.chapters for space in SPACES.values())
    rules = {"all", *EXAMPLES, *(one.kind for one in declared())}.union(*chapters)
    # a target with a slash is a file
    asked = {word for word in first_words(page, "snakemake") if "/" not in word}
    assert asked <= rules


@each_page
def test_presets_exist(page: Path) -> None:
    for preset in re.findall(r"presets/[\w-]+\.yaml", text_of(page)):
        assert (ROOT / preset).is_file(), preset


@each_page
def test_code_names_its_language_and_python_compiles(page: Path) -> None:
    languages = {language for language, _ in FENCE.findall(text_of(page))}
    assert languages <= {"bash", "python", "text", "yaml"}
    # of blocks that are indented MkDocs makes no code
    assert len(re.findall(r"^ *```", text_of(page), re.MULTILINE)) == 2 * len(
        FENCE.findall(text_of(page))
    )
    for code in blocks_of(page, "python"):
        compile(code, str(page), "exec")


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("Test set and selection", "test-set-and-selection"),
        ("NAS-Bench-201", "nas-bench-201"),
        ("Stop, resume", "stop-resume"),
    ],
)
def test_anchors(heading: str, expected: str) -> None:
    assert anchor(heading) == expected


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    words = ["mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / "site/howto/extend/index.html").exists()
