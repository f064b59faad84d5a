"""The paper's own numbers, Tables 1 to 5, to print beside ours."""

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
    """Return a table of the paper, 'table1' to 'table5'; do not change it.

    It has its `place` in the paper, `caption`, the `units` of its columns, and `rows` by stable
    ids, in the paper's order. A value that the paper does not give is None.

    Raises:
        KeyError: the paper has no such table of results.
    """
    found: dict[str, Any] = _tables()[name]
    return found
