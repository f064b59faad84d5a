"""The numbers the paper itself reports, Tables 1 to 5, to print beside ours."""

from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml


@lru_cache(maxsize=1)
def _tables() -> dict[str, Any]:
    text = (files("ghn_pipeline") / "report/paper/numbers.yaml").read_text(encoding="utf-8")
    tables: dict[str, Any] = yaml.safe_load(text)
    return tables


def table(name: str) -> dict[str, Any]:
    """Return one table of the paper, 'table1' to 'table5', to be read and not changed.

    It has its `place` in the paper, `caption`, the `units` of its columns, and `rows`: from a
    stable id to the values, in the paper's order. None is a value the paper does not give.

    Raises:
        KeyError: the paper has no such table of results.
    """
    found: dict[str, Any] = _tables()[name]
    return found
