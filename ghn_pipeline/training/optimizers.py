"""The optimizers that the paper names: Adam (section 7.2), SGD with momentum (section 7.3)."""

import inspect
from collections.abc import Iterable

import torch
from torch import nn

from ghn_pipeline.settings.sections import Anytime, Recipe, Sgd


def _uncompiled(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """Return an optimizer class without its calls to the compiler, which is not used here.

    These calls only exclude methods from compilation, and loading the compiler for them takes a
    second and a half.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    plain = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    plain["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), plain)


_Adam, _SGD = _uncompiled(torch.optim.Adam), _uncompiled(torch.optim.SGD)


def adam(parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """Return Adam with PyTorch's defaults except for the rate (section 7.2)."""
    return _Adam(parameters, lr=rate, fused=True)  # type: ignore[call-arg]


def momentum_sgd(
    model: nn.Module, settings: Sgd | Recipe | Anytime, *, nesterov: bool = False
) -> torch.optim.Optimizer:
    """Return SGD with momentum and weight decay over the parameters of `model` (section 7.3)."""
    return _SGD(  # type: ignore[call-arg]
        model.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=nesterov,
        fused=True,
    )
