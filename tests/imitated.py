"""An accelerator that is none: tensors that say they are elsewhere, with their numbers here.

As a real one it refuses to mix its tensors with the processor's, and, as MPS, it has no float64.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

#: The one kind of device that autograd takes without its hardware.
DEVICE = torch.device("meta")
#: What takes tensors of two devices: copies, and indices, which may be the processor's.
ELSEWHERE = {
    torch.ops.aten.copy_,
    torch.ops.aten._to_copy,
    torch.ops.aten.index,
    torch.ops.aten.index_put,
    torch.ops.aten.index_put_,
    torch.ops.aten._index_put_impl_,
}
#: What gives a number to Python, or asks for the places of numbers.
READERS = {torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.equal}
#: The operations that have read a number of the device, for which a real one is waited for.
READS: list[str] = []


class There(Tensor):
    """A tensor on the imitated device."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "There":
        if here.dtype == torch.float64:
            raise TypeError("the imitated device has no float64")
        made = Tensor._make_wrapper_subclass(
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
        )
        made.here = here
        return made

    def __getitem__(self, index: Any) -> Tensor:
        # torch would lose the numbers of a list on their way to the device
        return super().__getitem__(torch.tensor(index) if isinstance(index, list) else index)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return imitate(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return imitate(func, args, kwargs or {})


@contextmanager
def imitated() -> Iterator[None]:
    """Let there be the imitated device within this."""
    make = torch.tensor  # which asks no mode

    def tensor(*args: Any, device: Any = "cpu", **options: Any) -> Tensor:
        return make(*args, **options).to(device)

    with pytest.MonkeyPatch.context() as patch, _Operations():
        patch.setattr(torch, "tensor", tensor)
        yield


def imitate(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the numbers that are here."""
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    assert all(isinstance(x, There) or x.device.type == "cpu" for x in tensors), func
    there = [x for x in tensors if isinstance(x, There)]
    if there and func.overloadpacket not in ELSEWHERE:
        strangers = [x for x in tensors if not isinstance(x, There) and x.dim() > 0]
        if strangers:
            raise RuntimeError(f"{func} is asked to work on tensors of two devices")
    target = kwargs.get("device")
    if there and (func.overloadpacket in READERS or (target and target.type == "cpu")):
        READS.append(str(func))
    sends = tensors and not there and target and target.type == DEVICE.type
    if sends and not kwargs.get("non_blocking"):
        READS.append(f"{func} that waits")
    goes_there = bool(there) if target is None else target.type == DEVICE.type
    if target is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    unwrapped = tree_map(lambda x: x.here if isinstance(x, There) else x, (args, kwargs))
    out = func(*unwrapped[0], **unwrapped[1])
    if goes_there:
        out = tree_map(lambda x: There(x) if type(x) is Tensor else x, out)
        return return_and_correct_aliasing(func, args, kwargs, out)
    return out
