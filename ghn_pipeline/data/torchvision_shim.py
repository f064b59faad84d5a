"""The one way to torchvision, which a CPU-only torch refuses to import as it is."""

import importlib
from types import ModuleType

import torch

_REFUSAL = "operator torchvision::nms does not exist"
_libraries: list[torch.library.Library] = []  # a library that is collected takes its operators away


def import_torchvision() -> ModuleType:
    """Return torchvision, defining the two operators that its CUDA build cannot load on a CPU.

    `torchvision.ops.nms` has no implementation then; datasets, transforms and models work.

    Raises:
        ImportError, RuntimeError: torchvision is missing or broken in another way.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if str(error) != _REFUSAL:
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        signature = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(signature)  # type: ignore[no-untyped-call]
    _libraries.append(library)
    # what the failed import left in sys.modules are whole submodules: they can stay
    return importlib.import_module("torchvision")
