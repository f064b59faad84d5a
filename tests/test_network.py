"""Running, counting and weighing networks, against torch.nn modules and explicit formulas."""

import math
from dataclasses import replace
from itertools import groupby
from random import Random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ghn_pipeline.network import Network, Trained, batch_statistics, run
from ghn_pipeline.space.classification import INPUTS, Classification
from ghn_pipeline.space.graph import Block, Node
from ghn_pipeline.space.operations import OPERATIONS
from ghn_pipeline.training.oneshot import OneShot

NAMES = tuple(op for op in OPERATIONS if op not in {"input_1", "input_2", "stem", "classifier"})
SPACE = Classification(NAMES, 2, 4, 4, (2, 4), 2, 10)
RESOLUTION = 8


def network_of(*nodes: Node, space: Classification = SPACE) -> Network:
    return Network(space.modules(Block((*INPUTS, *nodes))), RESOLUTION)


def random_network(seed: int, nodes: int = 6, space: Classification = SPACE) -> Network:
    return Network(space.modules(space.sample(Random(seed), nodes)), RESOLUTION)


def images(batch: int = 5, seed: int = 0, side: int = RESOLUTION) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


def trained(network: Network, seed: int = 0) -> Trained:
    """With affine parts and biases that differ from one and zero, so that they matter."""
    generator = torch.Generator().manual_seed(seed)
    model = Trained(network, generator)
    with torch.no_grad():
        for parameter in [*model.scale.values(), *model.shift.values(), *model.tensors.values()]:
            if parameter.dim() == 1:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def unchanged(_: str, x: Tensor) -> Tensor:
    """In place of a batch norm."""
    return x


# --- an independent implementation, of torch.nn modules -------------------------------------


def depthwise(c: int, kernel: tuple[int, int], dilation: int = 1) -> nn.Conv2d:
    same = (dilation * (kernel[0] - 1) // 2, dilation * (kernel[1] - 1) // 2)
    return nn.Conv2d(c, c, kernel, padding=same, dilation=dilation, groups=c, bias=False)


def separable(c: int, kernel: tuple[int, int], dilation: int = 1) -> list[nn.Module]:
    pointwise = nn.Conv2d(c, c, 1, bias=False)
    return [nn.ReLU(), depthwise(c, kernel, dilation), pointwise, nn.BatchNorm2d(c)]


def reference_layer(op: str, into: int, c: int, stride: int) -> nn.Module:
    """What section 7.1 and the order ReLU, convolution, batch norm make of an operation."""
    pools: dict[str, nn.Module] = {
        "identity": nn.Identity(),
        "max_pool_3x3": nn.MaxPool2d(3, 1, 1),
        "avg_pool_3x3": nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    }
    separables = {
        "sep_conv_3x3": [*separable(c, (3, 3)), *separable(c, (3, 3))],
        "sep_conv_5x5": [*separable(c, (5, 5)), *separable(c, (5, 5))],
        "dil_conv_3x3": separable(c, (3, 3), dilation=2),
        "dil_conv_5x5": separable(c, (5, 5), dilation=2),
        "conv_1x7_7x1": [*separable(c, (1, 7)), *separable(c, (7, 1))],
    }
    if op in pools:
        return pools[op]
    if op in separables:
        return nn.Sequential(*separables[op])
    if op in {"conv_1x1", "input_1", "input_2"}:
        return nn.Sequential(
            nn.ReLU(), nn.Conv2d(into, c, 1, stride, bias=False), nn.BatchNorm2d(c)
        )
    if op == "stem":
        return nn.Sequential(nn.Conv2d(into, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))
    assert op == "classifier"
    return nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(into, c))


class Reference(nn.Module):
    """A network of torch.nn modules, stacked by hand as sections 5.1.1 and 7.1 say."""

    def __init__(self, block: Block, space: Classification) -> None:
        super().__init__()
        self.block, self.space = block, space
        stem = space.channels * space.stem_multiplier
        self.layers = nn.ModuleDict({"00/00": reference_layer("stem", 3, stem, 1)})
        read = {v for node in block.nodes for v in node.inputs}
        self.outputs = [v for v in range(2, len(block.nodes)) if v not in read]
        widths, halvings = [stem], [0]
        for i in range(1, space.blocks + 1):
            halvings.append(sum(i >= r for r in space.reductions))
            c = space.channels * 2 ** halvings[i]
            for v, node in enumerate(block.nodes):
                before = max(i - 1 - v, 0) if v < 2 else i
                into, stride = (widths[before], 2 ** (halvings[i] - halvings[before])) if v < 2 else (c, 1)
                self.layers[f"{i:02d}/{v:02d}"] = reference_layer(node.op, into, c, stride)
            widths.append(c * len(self.outputs))
        self.last = f"{space.blocks + 1:02d}/00"
        self.layers[self.last] = reference_layer("classifier", widths[-1], space.classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        done = [self.layers["00/00"](x)]
        for i in range(1, self.space.blocks + 1):
            values = [
                self.layers[f"{i:02d}/{v:02d}"](done[max(i - 1 - v, 0)]) for v in range(2)
            ]
            for v, node in enumerate(self.block.nodes[2:], start=2):
                stacked = torch.cat([values[u] for u in node.inputs])
                parts = self.layers[f"{i:02d}/{v:02d}"](stacked).split(len(x))
                values.append(sum(parts, torch.zeros(())))
            done.append(torch.cat([values[v] for v in self.outputs], dim=1))
        return self.layers[self.last](done[-1])

    @torch.no_grad()
    def copy(self, model: Trained) -> None:
        """Take the weights over; those per incoming edge stand side by side."""
        groups = groupby(model.network.specs, lambda s: (f"{s.place[0]:02d}/{s.place[1]:02d}", s.branch))
        values: dict[str, list[Tensor]] = {}
        for (place, _), specs in groups:
            tensors = [model.weights[s.name] for s in specs]
            values.setdefault(place, []).append(torch.cat(tensors, 1) if len(tensors) > 1 else tensors[0])
        for place, layer in self.layers.items():
            norms = [n for n in layer.modules() if isinstance(n, nn.BatchNorm2d)]
            inside = {id(p) for n in norms for p in n.parameters()}
            own = [p for p in layer.parameters() if id(p) not in inside]
            for parameter, value in zip(own, values.get(place, []), strict=True):
                assert parameter.shape == value.shape
                parameter.copy_(value)
            names = [n for n in model.network.norms if n.startswith(place)]
            for norm, name in zip(norms, names, strict=True):
                norm.weight.copy_(model.scale[name])
                norm.bias.copy_(model.shift[name])


def assert_equals_reference(block: Block, space: Classification = SPACE) -> None:
    model = trained(Network(space.modules(block), RESOLUTION))
    reference = Reference(block, space)
    reference.copy(model)
    assert sum(p.numel() for p in reference.parameters()) == model.network.parameters
    for step in range(2):  # in training, and the running statistics that it leaves
        x = images(seed=step)
        torch.testing.assert_close(model(x), reference(x), rtol=1e-4, atol=1e-4)
    model.eval(), reference.eval()
    torch.testing.assert_close(model(images()), reference(images()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("op", NAMES)
def test_each_operation_in_a_network_equals_torch_modules(op: str) -> None:
    assert_equals_reference(Block((*INPUTS, Node(op, (0, 1)), Node(op, (0,)), Node(op, (1, 2)))))


@pytest.mark.parametrize("seed", range(10))
def test_random_networks_equal_torch_modules(seed: int) -> None:
    assert_equals_reference(SPACE.sample(Random(seed), 7), replace(SPACE, max_inputs=3))


# --- one operation at a time ----------------------------------------------------------------


@pytest.mark.parametrize("op", [*NAMES, "input_1", "input_2", "stem", "classifier"])
def test_operation_equals_torch_modules(op: str) -> None:
    into = {"stem": 3, "classifier": 12, "input_1": 12, "input_2": 12}.get(op, 6)
    stride = 2 if op.startswith("input") else 1
    layer = reference_layer(op, into, 6, stride)
    weights = [p for p in layer.parameters() if p.dim() > 1 or op == "classifier"]
    x = images(4)[:, :1] + torch.randn(4, into, 1, 1)
    ours = OPERATIONS[op].apply(x, weights, lambda i, y: batch_statistics("", y), stride)
    torch.testing.assert_close(ours, layer(x), rtol=1e-4, atol=1e-5)
    assert ours.shape == ((4, 6) if op == "classifier" else (4, 6, 8 // stride, 8 // stride))


@pytest.mark.parametrize("op", NAMES)
def test_every_weight_gets_a_gradient(op: str) -> None:
    model = trained(network_of(Node(op, (0, 1)), Node(op, (2,)), Node(op, (1, 2))))
    logits = model(images())
    assert logits.shape == (5, 10)
    F.cross_entropy(logits, torch.arange(5)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def outputs_of_node(op: str, inputs: tuple[int, ...], x: Tensor, normed: bool) -> Tensor:
    """Output of one node over two input nodes that differ, in the only block of a network."""
    space = replace(SPACE, blocks=1, reductions=())
    network = network_of(Node(op, inputs), space=space)
    weights = Trained(network_of(Node(op, (0, 1)), space=space), torch.Generator().manual_seed(2))
    found: list[Tensor] = []
    norm = batch_statistics if normed else unchanged

    def spy(name: str, y: Tensor) -> Tensor:
        found.append(norm(name, y))
        return found[-1]

    # the classifier sums channels of the node, so its logits are linear in its mean
    run(network, weights.weights, x, spy)
    return found[-1]


@pytest.mark.parametrize("op", NAMES)
def test_eq_7_sums_the_operation_over_the_inputs(op: str) -> None:
    operation, (one, other) = OPERATIONS[op], images(2).repeat(2, 2, 1, 1).split(2)
    other = other.flip(3) * 2
    space = replace(SPACE, blocks=1, channels=6, reductions=())
    network = network_of(Node(op, (0, 1)), space=space)
    weights = Trained(network, torch.Generator().manual_seed(2)).weights
    own = [weights[s.name] for s in network.specs if s.place == (1, 2)]
    summed = sum(operation.apply(x, own, lambda i, y: y, 1) for x in (one, other))

    seen: list[Tensor] = []
    given = {"01/00/input_1/norm0": one, "01/01/input_2/norm0": other}

    def norm(name: str, y: Tensor) -> Tensor:
        return given.get(name, y)  # the input nodes put out what we want them to

    def classify(x: Tensor) -> Tensor:
        classifier = [weights[s.name] for s in network.specs if s.place == (2, 0)]
        return F.linear(F.relu(x).mean((2, 3)), *classifier)

    logits = run(network, weights, images(2), norm)
    torch.testing.assert_close(logits, classify(summed), rtol=1e-4, atol=1e-5)
    assert not seen
