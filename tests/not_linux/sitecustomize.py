"""A Python that finds this folder on PYTHONPATH lacks what Linux has and macOS does not.

`sysctl`, which names the processor, is left to the test to put on PATH.
"""

import ctypes
import os
import platform
import sys
from typing import Any

del os.sched_getaffinity, os.sched_setaffinity
_system = platform.system


def _system_for_us() -> str:
    """Torch looks for libraries by this name, and they are those of the true system."""
    asked_by = str(sys._getframe(1).f_globals.get("__name__"))
    return "Darwin" if asked_by.startswith("ghn_pipeline") else _system()


platform.system = _system_for_us
platform.libc_ver = lambda *_, **__: ("", "")


class _Library(ctypes.CDLL):
    def __getattr__(self, name: str) -> Any:
        if name in ("prctl", "mallopt"):
            raise AttributeError(f"symbol not found: {name}")
        return super().__getattr__(name)


ctypes.CDLL = _Library


def _without_proc(event: str, words: tuple[Any, ...]) -> None:
    if event == "open" and str(words[0]).startswith("/proc"):
        raise FileNotFoundError(2, "No such file or directory", words[0])


sys.addaudithook(_without_proc)
