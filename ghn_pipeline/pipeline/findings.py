"""The findings about the paper's claims, which tables and figures leave for the page of claims."""

import json
from collections.abc import Sequence
from pathlib import Path

from ghn_pipeline.report.paper.claims import Finding, from_json, to_json
from ghn_pipeline.settings.config import Config
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import read_json, write_atomically

SUFFIX = ".findings.json"


def write(config: Config, table: str, findings: Sequence[Finding]) -> None:
    """Write the findings of a table or figure beside it.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path("results", config.scale, f"{table}{SUFFIX}")
    write_atomically(path, json.dumps(to_json(findings), indent=1) + "\n")


def read(folder: Path) -> list[Finding]:
    """Return all findings in the folder of a scale, in the order of the claims.

    Raises:
        UserError: a file is damaged.
    """
    files = sorted(folder.rglob(f"*{SUFFIX}"))
    return sorted((one for file in files for one in _of(file)), key=lambda one: one.claim)


def _of(file: Path) -> list[Finding]:
    try:
        return from_json(read_json(file, "ghn claims"))
    except (AttributeError, TypeError) as error:
        raise UserError(
            f"{file} holds no findings ({error}). Make the table or figure beside it again."
        ) from error
