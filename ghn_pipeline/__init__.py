"""Graph HyperNetworks for Neural Architecture Search (Zhang, Ren, Urtasun, ICLR 2019)."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ghn_pipeline.export import load
    from ghn_pipeline.library.ghn import GHN
    from ghn_pipeline.library.spaces import count, space
    from ghn_pipeline.system.errors import UserError

__all__ = ["GHN", "UserError", "count", "load", "space"]
__version__ = "0.1.0"

_MODULES = {
    "GHN": "library.ghn",
    "UserError": "system.errors",
    "count": "library.spaces",
    "load": "export",
    "space": "library.spaces",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that commands load PyTorch only if needed."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
