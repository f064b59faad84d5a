"""The commit of the package's own files."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

#: seconds that one question to git may take
PATIENCE = 10


def commit() -> dict[str, Any]:
    """Return the commit of the package's own files, and whether they were changed since.

    Both are None if the package is in no repository, or in one that does not track it.
    """
    return _commit()[0]


@cache
def commit_or_warning() -> dict[str, Any]:
    """Return the same as `commit`; if there is none, warn once per process and say why."""
    found, reason = _commit()
    if reason:
        print(f"warning: the record names no commit: {reason}", file=sys.stderr)
    return found


@cache
def _commit() -> tuple[dict[str, Any], str]:
    """Return the commit, and the reason if there is none."""
    try:
        # no commit of a surrounding repository has the file of a mere copy
        found, _ = _git("rev-parse", "HEAD", "HEAD:./__init__.py").split()
        # untracked files count even if the settings of git hide them
        altered = _git("status", "--porcelain", "--untracked-files=all", "--", ".")
    except (OSError, subprocess.SubprocessError) as error:
        return {"commit": None, "dirty": None}, _reason(error)
    return {"commit": found, "dirty": altered != ""}, ""


def _git(*words: str) -> str:
    # a hook exports the repository that it belongs to: GIT_DIR, GIT_INDEX_FILE and others; a
    # container says by GIT_CONFIG_COUNT and others which folders are safe
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("GIT_") or key.startswith("GIT_CONFIG_")
    }
    done = subprocess.run(
        ["git", "-C", str(Path(__file__).parents[1]), *words],
        env={**environment, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout.strip()


def _reason(error: OSError | subprocess.SubprocessError) -> str:
    if isinstance(error, OSError):
        return f"git cannot be run ({error.strerror})"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"git did not answer within {PATIENCE} seconds"
    assert isinstance(error, subprocess.CalledProcessError)
    said: str = error.stderr.strip()
    return f"git says {said.splitlines()[0]!r}" if said else f"git ended with {error.returncode}"
