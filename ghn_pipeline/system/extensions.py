"""Code of the user's own: the Python files of the folder `extensions` of the working directory.

Each is imported once in every process, before the configuration is read. It adds to the registries
of the package: a stage, a search space, an operation, a measure, a proxy.
"""

import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from ghn_pipeline.system.errors import UserError

FOLDER = Path("extensions")


@cache
def load() -> None:
    """Import every file of the folder, in the order of their names.

    Raises:
        UserError: a file cannot be imported.
    """
    package = ModuleType(FOLDER.name)
    package.__path__ = [str(FOLDER.resolve())]
    sys.modules[FOLDER.name] = package
    for path in sorted(FOLDER.glob("*.py")):
        try:
            import_module(f"{FOLDER.name}.{path.stem}")
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise UserError(
                f"{path} cannot be imported ({said}). Mend it, or move it away."
            ) from error
