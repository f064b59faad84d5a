"""Every layer in float32 against float64: `python tests/layers.py` is what test_soundness.py runs.

A kernel that writes out of bounds ends this process, so it must not be the one of the tests. Each
case is named on stdout before it is run: the last line names the one that ended the process.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ghn_pipeline.baselines.densenet import Dense
from ghn_pipeline.baselines.exits import classifier, convolution
from ghn_pipeline.baselines.msdnet import Column, Layer
from ghn_pipeline.baselines.resnet import Shortcut
from ghn_pipeline.data.torchvision_shim import import_torchvision
from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.model.network import Network
from ghn_pipeline.model.operations import OPERATIONS
from ghn_pipeline.spaces.classification import INPUTS, Classification
from ghn_pipeline.training.auxiliary import AuxiliaryHead

BATCH, SIDE = 2, 8
CHANNELS = range(1, 17)
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
#: Float32 is compared with float64 only where no ReLU and no maximum is decided by rounding.
LEAST_GAP = 1e-5
#: Largest norm of the difference, over one more than the norm of the float64 result: batch norm
#: makes some gradients zero, of which float32 has only rounding.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Case:
    """One layer: a function of (images, weights) and the shapes of both."""

    name: str
    apply: Callable[[Tensor, Sequence[Tensor]], Tensor]
    images: tuple[int, ...]
    weights: list[tuple[int, ...]]


def normalised(_: int, x: Tensor) -> Tensor:
    """Batch norm by the statistics of the batch."""
    return F.batch_norm(x, None, None, training=True)


def operations() -> Iterator[Case]:
    """Every operation, with 1 to 16 channels in, stride 1 and 2."""
    for (op, operation), c, stride in product(OPERATIONS.items(), CHANNELS, (1, 2)):
        depthwise = {"depthwise", "row", "column"} & {w.branch for w in operation.weights}
        out = c if depthwise else 2 * c

        def apply(
            x: Tensor, weights: Sequence[Tensor], op: str = op, stride: int = stride
        ) -> Tensor:
            return OPERATIONS[op].apply(x, weights, normalised, stride)

        shapes = [w.shape(out, c) for w in operation.weights]
        yield Case(f"{op}, {c} channels, stride {stride}", apply, (BATCH, c, SIDE, SIDE), shapes)


def alone(x: Tensor) -> tuple[Tensor]:
    """All that most modules read."""
    return (x,)


def with_finer(x: Tensor) -> tuple[Tensor, Tensor]:
    """What MSDNet's layer of two scales reads: the same at twice the side too."""
    return x, x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def module_case(
    name: str,
    module: nn.Module,
    channels: int,
    read: Callable[[Tensor], tuple[Tensor | None, ...]] = alone,
) -> Case:
    """A module as a function of its weights and of what it reads."""
    names = [n for n, _ in module.named_parameters()]

    def apply(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        same = copy.deepcopy(module).to(x.dtype)
        given = dict(zip(names, weights, strict=True))
        result = torch.func.functional_call(same, given, read(x))
        assert isinstance(result, Tensor)
        return result

    shapes = [tuple(p.shape) for p in module.parameters()]
    return Case(name, apply, (BATCH, channels, SIDE, SIDE), shapes)


def modules() -> Iterator[Case]:
    """Every layer of the baselines of section 5.2 and of the auxiliary head of section 7.3."""
    models = import_torchvision().models
    basic, dense = models.resnet.BasicBlock, models.densenet
    for c, stride in product(CHANNELS, (1, 2)):
        at = f"{c} channels, stride {stride}"
        for kernel in (1, 3):
            if kernel == 3 or stride == 1:  # no baseline asks for a strided 1×1 convolution
                made = convolution(c, 2 * c, kernel, stride)
                yield module_case(f"convolution {kernel}×{kernel}, {at}", made, c)
        around = Shortcut() if stride == 2 else None
        block = basic(c, c * stride, stride=stride, downsample=around)
        yield module_case(f"ResNet's block, {at}", block, c)
    for c in CHANNELS:
        at = f"{c} channels"
        yield module_case(f"classifier, {at}", classifier(c, 8, 1, 5), c)
        layer = Dense(dense._DenseLayer(c, 3, 4, drop_rate=0.0))
        yield module_case(f"DenseNet's layer, {at}", layer, c)
        yield module_case(f"DenseNet's transition, {at}", dense._Transition(c, max(1, c // 2)), c)
        first = Layer(Column(0, 0, c, c + 2), 0, 2, (1, 1), (1, 2))
        yield module_case(f"MSDNet's layer of one scale, {at}", first, c, lambda x: (x, None))
        both = Layer(Column(1, 0, c, c + 2), 1, 2, (1, 1), (1, 2))
        yield module_case(f"MSDNet's layer of two scales, {at}", both, c, with_finer)
        for side in (8, 24):  # without its pooling and with it
            space = Classification(("identity", "conv_1x1"), 2, 3, c, (), 1, 10)
            chain = space.modules(Block((*INPUTS, Node("conv_1x1", (0, 1)))))
            head = AuxiliaryHead(Network(chain, side), (4, 8))
            case = module_case(f"auxiliary head, {at}, side {side}", head, c)
            yield Case(case.name, case.apply, (BATCH, c, side, side), case.weights)


class Gaps(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes, while entered, how near to a tie any ReLU or maximum was."""

    least = float("inf")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at what an operation reads, then run it."""
        name = func.overloadpacket.__name__
        if name in ("relu", "relu_"):
            self._note(args[0].abs())
        if name == "max_pool2d_with_indices":
            x = F.pad(args[0], (1, 1, 1, 1), value=-1e9)
            best = x.unfold(2, 3, 1).unfold(3, 3, 1).flatten(-2).topk(2).values
            self._note(best[..., 0] - best[..., 1])
        return func(*args, **(kwargs or {}))

    def _note(self, gaps: Tensor) -> None:
        self.least = min(self.least, float(gaps.min()))


def drawn(case: Case) -> tuple[Tensor, list[Tensor]]:
    """Draw images and weights in float64 that float32 holds exactly and no rounding decides.

    Raises:
        AssertionError: 100 draws were all too near to a tie.
    """
    for seed in range(100):
        draw = partial(torch.randn, generator=torch.Generator().manual_seed(seed))
        images, weights = draw(case.images).double(), [draw(s).double() for s in case.weights]
        with torch.no_grad(), Gaps() as gaps:
            case.apply(images, weights)
        if gaps.least > LEAST_GAP:
            return images, weights
    raise AssertionError(f"{case.name}: 100 draws are all too near to a tie")


def results(case: Case, images: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Return the output and the gradients of its weighted sum by the images and each weight."""
    leaves = [t.detach().clone().requires_grad_() for t in (images, *weights)]
    out = case.apply(leaves[0], leaves[1:])
    factors = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)
    (out * factors.to(out.dtype)).sum().backward()  # type: ignore[no-untyped-call]
    return [out.detach(), *(torch.zeros_like(t) if t.grad is None else t.grad for t in leaves)]


def check(case: Case) -> None:
    """Compare a layer in both memory formats with float64.

    Raises:
        AssertionError: a result differs.
    """
    images, weights = drawn(case)
    expected = results(case, images, weights)
    for name, memory_format in FORMATS.items():
        print(f"{case.name}, {name}", flush=True)
        single = images.float().contiguous(memory_format=memory_format)
        found = results(case, single, [w.float() for w in weights])
        for ours, true in zip(found, expected, strict=True):
            difference, size = float((ours.double() - true).norm()), float(true.norm())
            assert difference <= TOLERANCE * (1 + size), (difference, size)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in (*operations(), *modules()):
        check(each)
    print("all layers are right")
