"""The user's own code: the Python files in the folder `extensions` of the working directory.

Each file is imported once in every process, before the configuration is read. It may add stages,
search spaces, operations, measures and proxies to the registries of the package.
"""

import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from ghn_pipeline.system.errors import UserError

FOLDER = Path("extensions")


@cache
def texts() -> dict[str, str]:
    """Return the text of every file of the folder, by its path."""
    return {path.as_posix(): path.read_text(encoding="utf-8") for path in _files()}


def _files() -> list[Path]:
    return sorted(FOLDER.glob("*.py"))


@cache
def load() -> None:
    """Import every file of the folder in the order of the names.

    Raises:
        UserError: a file cannot be imported.
    """
    package = ModuleType(FOLDER.name)
    package.__path__ = [str(FOLDER.resolve())]
    sys.modules[FOLDER.name] = package
    for path in _files():
        try:
            import_module(f"{FOLDER.name}.{path.stem}")
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise UserError(
                f"{path} cannot be imported ({said}). Mend it, or move it out of the folder."
            ) from error
