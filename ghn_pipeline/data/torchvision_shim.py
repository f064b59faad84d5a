"""The import of torchvision, which fails unaided with a CPU-only torch."""

import importlib
from types import ModuleType

import torch

_REFUSAL = "operator torchvision::nms does not exist"
_libraries: list[torch.library.Library] = []  # garbage collection would remove the operators


def import_torchvision() -> ModuleType:
    """Import torchvision, and define the two operators that its CUDA build cannot load on a CPU.

    Then `torchvision.ops.nms` has no implementation; datasets, transforms and models work.

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
    # the failed import left only whole submodules in sys.modules, which can stay
    return importlib.import_module("torchvision")
