"""Text is UTF-8 wherever it is read or written, whatever the locale says."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    file
    for folder in ("ghn_pipeline", "tests", "benchmarks")
    for file in (ROOT / folder).rglob("*.py")
)
RULES = [ROOT / "Snakefile", *sorted((ROOT / "workflow").rglob("*.smk"))]
#: Of which `open` opens no text.
OTHERS = {"Image", "os", "tarfile"}


def takes_the_locale(call: ast.Call) -> bool:
    """Whether a call reads or writes text in an encoding that it does not name."""
    words = {word.arg: word.value for word in call.keywords}
    if "encoding" in words or None in words:
        return False
    if not isinstance(call.func, ast.Name | ast.Attribute):
        return False
    of = call.func.value if isinstance(call.func, ast.Attribute) else None
    name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id
    if name in ("read_text", "write_text", "TextIOWrapper"):
        return True
    if name in ("open", "fdopen"):
        # of a path the mode is the first argument, of the function the second
        place = 0 if of is not None and name == "open" else 1
        mode = words.get("mode", call.args[place] if len(call.args) > place else None)
        text = not (isinstance(mode, ast.Constant) and "b" in str(mode.value))
        return text and not (name == "open" and isinstance(of, ast.Name) and of.id in OTHERS)
    # of a child process
    return "text" in words or "universal_newlines" in words


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_text_names_its_encoding(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [f"line {call.lineno}" for call in calls if takes_the_locale(call)] == []


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.name)
def test_every_text_of_a_rule_names_its_encoding(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    found = re.findall(r"(?:\b(?:read_text|write_text|open)\((?![^\n]*encoding=)).*", text)
    assert found == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("(a / b).read_text()", True),
        ("path.write_text(text, encoding='utf-8')", False),
        ("open(path)", True),
        ("open(path, 'rb')", False),
        ("path.open('wb')", False),
        ("path.open()", True),
        ("Image.open(path)", False),
        ("subprocess.run(words, text=True)", True),
        ("subprocess.run(words, text=True, encoding='utf-8')", False),
        ("subprocess.run(words, capture_output=True)", False),
    ],
)
def test_what_is_found(code: str, found: bool) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert takes_the_locale(call) == found
