"""Propagation as one operator of PyTorch, computed by compiled code.

A pass over a network makes hundreds of updates of a few vectors of 32 numbers. If each update were
made by tensor operations, most of the time would go into starting them. `propagation.c` is compiled
when this package is installed. For a GPU, `propagation_triton.py` is compiled by Triton, which
comes with PyTorch for CUDA. Where neither is available, the definition in `propagation.py` does the
work.

Shapes: B architectures, W nodes of all their modules, P propagation networks, D numbers of an
embedding, S hidden units of the message MLP.
"""

import ctypes
import shutil
import sysconfig
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ghn_pipeline.model import propagation
from ghn_pipeline.model.propagation import Graphs, Propagation


def _library(name: str) -> ctypes.CDLL | None:
    """Load the compiled library for a type of number, if there is one."""
    file = Path(__file__).with_name(f"propagation_{name}{sysconfig.get_config_var('EXT_SUFFIX')}")
    return ctypes.CDLL(str(file)) if file.exists() else None


#: The compiled library for each type of number.
LIBRARIES = {
    dtype: library
    for dtype in (torch.float32, torch.float64)
    if (library := _library(str(dtype).removeprefix("torch.")))
}

#: Whether Triton can work: it needs one of these compilers for a part of itself.
TRITON = bool(find_spec("triton") and (shutil.which("gcc") or shutil.which("clang")))


def engine(device: torch.device, dtype: torch.dtype) -> str:
    """Return the engine that propagates: "compiled", "triton", or "torch" for the definition.

    Args:
        device: the device of the embeddings.
        dtype: their type of number.
    """
    if device.type == "cuda" and TRITON and dtype in (torch.float32, torch.float64):
        return "triton"
    return "compiled" if device.type in ("cpu", "meta") and dtype in LIBRARIES else "torch"


def propagate(
    network: Propagation,
    h: Tensor,
    graphs: Graphs,
    numbers: Tensor,
    passes: int,
    synchronous: bool,
    pass_embeddings: bool,
) -> Tensor:
    """Propagate as `propagation.propagate` does, by the operator where there is one.

    The arguments are those of that function, and `numbers`, which is `graphs.numbers` on the device
    of `h`.

    Returns:
        Embeddings [B, W, D].
    """
    how = passes, synchronous, pass_embeddings
    if engine(h.device, h.dtype) == "torch":
        return propagation.propagate(network, h, graphs, *how)
    # the second layer of M and the input matrix of U are both linear, so their product takes the
    # sum of the hidden layers of M straight to the gates of U; its shape is [P, S + 1, 3D], and its
    # last row, the bias, counts once for each message
    gates = torch.bmm(network.second, network.inputs[:, :-1])
    matrices = network.state, gates, network.inputs
    out: Tensor = torch.ops.ghn_pipeline.propagate(h, *matrices, numbers, max(graphs.sizes), *how)
    return out


class Sizes(ctypes.Structure):
    """The C structure `Sizes` of propagation.c."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("B", "W", "D", "S", "P", "most", "T", "synchronous", "passing")
    )


class Weights(ctypes.Structure):
    """The C structure `Weights` of propagation.c: the addresses of three matrices."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("state", "gates", "inputs"))


def _call(
    name: str,
    h: Tensor,
    weights: Sequence[Tensor],
    numbers: Tensor,
    how: Sequence[int],
    *rest: Tensor | Sequence[Tensor],
) -> None:
    """Call a function of the library with the addresses of tensors.

    Args:
        name: name of the function.
        h: initial embeddings [B, W, D].
        weights: the matrices `state`, `gates` and `inputs`.
        numbers: see `propagate`.
        how: the last four entries of `Sizes`.
        rest: further tensors, or lists of three matrices, in the order of the C function.
    """
    sizes = Sizes(*h.shape, weights[1].shape[1] - 1, len(weights[0]), *how)
    pointers = [
        ctypes.c_void_p(one.data_ptr())
        if isinstance(one, Tensor)
        else ctypes.byref(Weights(*(tensor.data_ptr() for tensor in one)))
        for one in (numbers, weights, *rest)
    ]
    if getattr(LIBRARIES[h.dtype], name)(ctypes.byref(sizes), *pointers):
        raise MemoryError("no memory for the propagation of embeddings")


def _forward(
    h: Tensor, state: Tensor, gates: Tensor, inputs: Tensor, numbers: Tensor, *how: Any
) -> Tensor:
    out = h.clone(memory_format=torch.contiguous_format)
    weights = [t.contiguous() for t in (state, gates, inputs)]
    _call("propagate", h, weights, numbers, how, out)
    return out


def _backward(
    grad: Tensor,
    out: Tensor,
    h: Tensor,
    state: Tensor,
    gates: Tensor,
    inputs: Tensor,
    numbers: Tensor,
    *how: Any,
) -> tuple[Tensor, ...]:
    grad = grad.clone(memory_format=torch.contiguous_format)
    weights = [t.contiguous() for t in (state, gates, inputs)]
    sums = [torch.zeros_like(t) for t in weights]
    _call("propagate_backward", h, weights, numbers, how, h.contiguous(), out, grad, sums)
    return (grad, *sums)


def _forward_triton(*args: Any) -> Tensor:
    from ghn_pipeline.model import propagation_triton  # not every machine has Triton

    return propagation_triton.forward(*args)


def _backward_triton(*args: Any) -> tuple[Tensor, ...]:
    from ghn_pipeline.model import propagation_triton

    return propagation_triton.backward(*args)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(output, *inputs[:5])
    ctx.how = inputs[5:]


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    found = torch.ops.ghn_pipeline.propagate_backward(grad, *ctx.saved_tensors, *ctx.how)
    return (*found, None, None, None, None, None)


# `most` is the number of nodes of the largest block
_ARGUMENTS = (
    "Tensor h, Tensor state, Tensor gates, Tensor inputs, Tensor numbers, int most, int passes, "
    "bool synchronous, bool pass_embeddings"
)
# `torch.library.custom_op` would load PyTorch's compiler at its first call, which takes a second
torch.library.define("ghn_pipeline::propagate", f"({_ARGUMENTS}) -> Tensor")
torch.library.define(
    "ghn_pipeline::propagate_backward",
    f"(Tensor grad, Tensor out, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.impl("ghn_pipeline::propagate", "cpu", _forward)
torch.library.impl("ghn_pipeline::propagate_backward", "cpu", _backward)
torch.library.impl("ghn_pipeline::propagate", "cuda", _forward_triton)
torch.library.impl("ghn_pipeline::propagate_backward", "cuda", _backward_triton)
torch.library.register_fake("ghn_pipeline::propagate", lambda h, *_: h.new_empty(h.shape))
torch.library.register_fake(
    "ghn_pipeline::propagate_backward",
    lambda grad, out, *rest: tuple(t.new_empty(t.shape) for t in rest[:4]),
)
torch.library.register_autograd("ghn_pipeline::propagate", _differentiate, setup_context=_keep)
