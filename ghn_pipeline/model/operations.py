"""The definitions of all operations: their weights, and a pure function of input and weights.

Counting, running, generating and sharing weights all read these definitions, so a new operation is
one entry of OPERATIONS. The order within an operation is ReLU, convolution, batch norm, as in
NASNet, ENAS and DARTS.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ghn_pipeline.system.registry import Registry

#: A batch norm, from its number within the operation and a tensor [B, C, H, W] to the same shape.
Norm = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class Weight:
    """One weight tensor of an operation.

    Attributes:
        branch: name of the hypernetwork's output that the weight is a slice of (section 7.2:
            "smaller sized convolution kernels through the slicing of larger sized kernels").
        shape: function from (channels out, channels in) of the operation to the weight's shape.
        per_input: whether each incoming edge has such a tensor, concatenated along dimension 1.
    """

    branch: str
    shape: Callable[[int, int], tuple[int, ...]]
    per_input: bool = False


@dataclass(frozen=True)
class Operation:
    """The operation of a node.

    Attributes:
        apply: function of (x [B, C_in, H, W], one tensor per weight, norm, stride), which returns
            [B, C_out, H', W'].
        weights: its weights, in the order in which `apply` takes them.
        norms: number of batch norms that it calls.
        join: the treatment of several inputs. "sum": the operation is applied to each with the same
            weights, and the results are summed (Eq. 7). "add": the inputs are summed first, which
            is equal for linear operations and spares copies. "concatenate": they are concatenated.
    """

    apply: Callable[[Tensor, Sequence[Tensor], Norm, int], Tensor]
    weights: tuple[Weight, ...] = ()
    norms: int = 0
    join: Literal["sum", "add", "concatenate"] = "sum"


def _depthwise(x: Tensor, weight: Tensor, dilation: int = 1) -> Tensor:
    height, width = weight.shape[2:]
    padding = (dilation * (height // 2), dilation * (width // 2))
    return F.conv2d(x, weight, padding=padding, dilation=dilation, groups=x.shape[1])


def _kernel(branch: str, height: int, width: int) -> Weight:
    return Weight(branch, lambda out, _: (out, 1, height, width))


_POINTWISE = Weight("pointwise", lambda out, into: (out, into, 1, 1))
_BOTTLENECK = Weight("pointwise", _POINTWISE.shape, per_input=True)


def _separable(first: Weight, second: Weight) -> Operation:
    """Return a depthwise and a pointwise convolution, twice, as in NASNet and DARTS."""

    def apply(x: Tensor, w: Sequence[Tensor], norm: Norm, stride: int) -> Tensor:
        x = norm(0, F.conv2d(_depthwise(F.relu(x), w[0]), w[1]))
        return norm(1, F.conv2d(_depthwise(F.relu(x), w[2]), w[3]))

    return Operation(apply, (first, _POINTWISE, second, _POINTWISE), norms=2)


def _dilated(kernel: Weight) -> Operation:
    """Return a depthwise convolution with dilation 2 and a pointwise one, as in DARTS."""

    def apply(x: Tensor, w: Sequence[Tensor], norm: Norm, stride: int) -> Tensor:
        return norm(0, F.conv2d(_depthwise(F.relu(x), w[0], dilation=2), w[1]))

    return Operation(apply, (kernel, _POINTWISE), norms=1)


def take_every(x: Tensor, stride: int) -> Tensor:
    """Return every `stride`-th pixel of x [B, C, H, W] in both directions.

    A 1×1 convolution of these pixels equals a strided one, whose weight gradient in oneDNN writes
    out of bounds for few input channels in channels_last (uxlfoundation/oneDNN, issue 6035).
    """
    # on a CPU, pooling one-pixel windows is up to twice as fast as a slice, with equal numbers
    return F.avg_pool2d(x, 1, stride) if stride > 1 else x


def _pointwise(x: Tensor, w: Sequence[Tensor], norm: Norm, stride: int) -> Tensor:
    return norm(0, F.conv2d(F.relu(take_every(x, stride)), w[0]))


def _conv_3x3(x: Tensor, w: Sequence[Tensor], norm: Norm, stride: int) -> Tensor:
    return norm(0, F.conv2d(F.relu(x), w[0], stride=stride, padding=1))


def _dense_conv(size: int) -> Operation:
    """Return a bottleneck over concatenated inputs, and a convolution.

    Section 7.1, anytime: "nodes concatenate their inputs rather than sum". Section 7.2: each edge
    has a slice of the bottleneck.
    """

    def apply(x: Tensor, w: Sequence[Tensor], norm: Norm, stride: int) -> Tensor:
        x = F.relu(_pointwise(x, w, norm, stride))
        return norm(1, F.conv2d(x, w[1], padding=size // 2))

    kernel = Weight("conv", lambda out, _: (out, out, size, size))
    return Operation(apply, (_BOTTLENECK, kernel), norms=2, join="concatenate")


def _dense_pool(pool: Callable[[Tensor], Tensor]) -> Operation:
    """Return a bottleneck over concatenated inputs, and pooling."""

    def apply(x: Tensor, w: Sequence[Tensor], norm: Norm, stride: int) -> Tensor:
        return pool(_pointwise(x, w, norm, stride))

    return Operation(apply, (_BOTTLENECK,), norms=1, join="concatenate")


def _max_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 1, padding=1)


def _avg_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)


def _downsample(x: Tensor, w: Sequence[Tensor], norm: Norm, stride: int) -> Tensor:
    return F.conv2d(F.avg_pool2d(x, stride), w[0])


def _stem(x: Tensor, w: Sequence[Tensor], norm: Norm, stride: int) -> Tensor:
    return norm(0, F.conv2d(x, w[0], stride=stride, padding=1))


def _classifier(x: Tensor, w: Sequence[Tensor], norm: Norm, stride: int) -> Tensor:
    return F.linear(F.relu(x).mean((2, 3)), w[0], w[1])


_3x3, _5x5 = _kernel("depthwise", 3, 3), _kernel("depthwise", 5, 5)

#: The operation of input nodes: a 1×1 bottleneck over the concatenated leaves of another module.
_INPUT = Operation(_pointwise, (_BOTTLENECK,), norms=1, join="concatenate")

_FULL_3x3 = Weight("conv_3x3", lambda out, into: (out, into, 3, 3))

OPERATIONS: Registry[Operation] = Registry(
    "operation",
    {
        "none": Operation(lambda x, w, norm, stride: 0 * x, join="add"),
        "identity": Operation(lambda x, w, norm, stride: x, join="add"),
        "conv_1x1": Operation(_pointwise, (_POINTWISE,), norms=1),
        "conv_3x3": Operation(_conv_3x3, (_FULL_3x3,), norms=1),
        "sep_conv_3x3": _separable(_3x3, _3x3),
        "sep_conv_5x5": _separable(_5x5, _5x5),
        "dil_conv_3x3": _dilated(_3x3),
        "dil_conv_5x5": _dilated(_5x5),
        "conv_1x7_7x1": _separable(_kernel("row", 1, 7), _kernel("column", 7, 1)),
        "max_pool_3x3": Operation(lambda x, w, norm, stride: _max_pool(x)),
        "avg_pool_3x3": Operation(lambda x, w, norm, stride: _avg_pool(x)),
        # operations of the anytime space
        "dense_conv_1x1": _dense_conv(1),
        "dense_conv_3x3": _dense_conv(3),
        "dense_conv_5x5": _dense_conv(5),
        "dense_max_pool_3x3": _dense_pool(_max_pool),
        "dense_avg_pool_3x3": _dense_pool(_avg_pool),
        # each input node has a type of its own, for block i-1 and block i-2 (section 7.1)
        "input_1": _INPUT,
        "input_2": _INPUT,
        # around the cells of NAS-Bench-201: blocks of ResNet, and the last batch norm
        "input": Operation(lambda x, w, norm, stride: x, join="concatenate"),
        "reduce_3x3": Operation(
            _conv_3x3,
            (Weight("conv_3x3", _FULL_3x3.shape, per_input=True),),
            norms=1,
            join="concatenate",
        ),
        "downsample": Operation(_downsample, (_BOTTLENECK,), join="concatenate"),
        "norm": Operation(lambda x, w, norm, stride: norm(0, x), norms=1, join="concatenate"),
        "stem": Operation(
            _stem,
            (Weight("stem", lambda out, into: (out, into, 3, 3)),),
            norms=1,
            join="concatenate",
        ),
        "classifier": Operation(
            _classifier,
            (
                Weight("classifier", lambda out, into: (out, into), per_input=True),
                Weight("bias", lambda out, _: (out,)),
            ),
            join="concatenate",
        ),
    },
)
