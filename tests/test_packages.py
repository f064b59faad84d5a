"""The layers of the package, and imports inside functions, each of which has a reason."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "ghn_pipeline"
FILES = sorted(path.relative_to(ROOT) for path in PACKAGE.rglob("*.py"))
#: A command that does not use them is spared the time that they take to import, 0.1 s or more each.
SLOW = {"matplotlib", "mlflow", "numpy", "pandas", "pydantic", "scipy", "torch", "yaml"}


def test_a_module_imports_what_stands_below_it():
    """The layers are those of pyproject.toml."""
    words = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout


def test_few_modules_lie_loose():
    assert len(list(PACKAGE.glob("*.py"))) <= 6


def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def names(node: ast.AST) -> list[str]:
    """Return the modules that a statement imports, or that they are imported from."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        of = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if path_of(name) else str(node.module) for name in of]
    return []


def path_of(module: str) -> Path | None:
    """Return the file of a module of the package."""
    path = Path(*module.split("."))
    found = [p for p in (path.with_suffix(".py"), path / "__init__.py") if (ROOT / p).is_file()]
    return found[0] if found else None


@cache
def is_slow(module: str) -> bool:
    """Whether to import a module is to import one of `SLOW`."""
    path = path_of(module)
    if path is None:
        return module.partition(".")[0] in SLOW
    return any(is_slow(name) for node in at_once(parsed(path)) for name in names(node))


def at_once(module: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements that run as a module is imported, except for those for types alone."""
    for node in module.body:
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node


def inside(path: Path) -> Iterator[ast.stmt]:
    """Yield the imports inside the functions of a file."""
    for function in ast.walk(parsed(path)):
        if isinstance(function, ast.FunctionDef):
            yield from (n for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_an_import_inside_a_function_is_slow_or_says_why_it_stands_there(path: Path):
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    for node in inside(path):
        said = "#" in lines[node.lineno - 2] + lines[node.lineno - 1]
        assert said or any(map(is_slow, names(node))), f"{path}:{node.lineno}"
