"""Which package may import which: what computes takes values, and knows no configuration."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

#: They know the whole configuration; what stands below them does not.
ABOVE = ("pipeline", "settings", "stages", "cli.py")
BELOW = sorted(
    path.relative_to(ROOT / "ghn_pipeline")
    for path in (ROOT / "ghn_pipeline").rglob("*.py")
    if path.relative_to(ROOT / "ghn_pipeline").parts[0] not in ABOVE
)


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, for its types alone or inside a function as well."""
    for node in ast.walk(ast.parse((ROOT / "ghn_pipeline" / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("path", BELOW, ids=str)
def test_what_computes_knows_no_configuration_and_no_stage(path: Path) -> None:
    forbidden = ["pipeline", "stages", "settings.config", "cli"]
    if path.parts[0] in ("system", "model"):
        forbidden.append("settings")
    for name in imported(path):
        for package in forbidden:
            assert not f"{name}.".startswith(f"ghn_pipeline.{package}.")
