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

from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.model.network import Network, Trained, batch_statistics, run
from ghn_pipeline.model.oneshot import OneShot
from ghn_pipeline.model.operations import OPERATIONS
from ghn_pipeline.spaces.classification import INPUTS, Classification, ClassificationSettings
from ghn_pipeline.training.ghn import examples

NAMES = tuple(ClassificationSettings.known)
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
                into, stride = c, 1
                if v < 2:
                    before = max(i - 1 - v, 0)
                    into, stride = widths[before], 2 ** (halvings[i] - halvings[before])
                self.layers[f"{i:02d}/{v:02d}"] = reference_layer(node.op, into, c, stride)
            widths.append(c * len(self.outputs))
        self.last = f"{space.blocks + 1:02d}/00"
        self.layers[self.last] = reference_layer("classifier", widths[-1], space.classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        done = [self.layers["00/00"](x)]
        for i in range(1, self.space.blocks + 1):
            values = [self.layers[f"{i:02d}/{v:02d}"](done[max(i - 1 - v, 0)]) for v in range(2)]
            for v, node in enumerate(self.block.nodes[2:], start=2):
                stacked = torch.cat([values[u] for u in node.inputs])
                parts = self.layers[f"{i:02d}/{v:02d}"](stacked).split(len(x))
                values.append(sum(parts, torch.zeros(())))
            done.append(torch.cat([values[v] for v in self.outputs], dim=1))
        return self.layers[self.last](done[-1])

    @torch.no_grad()
    def copy(self, model: Trained) -> None:
        """Take the weights over; those per incoming edge stand side by side."""
        values: dict[str, list[Tensor]] = {place: [] for place in self.layers}
        for _, group in groupby(model.network.specs, lambda s: (s.place, s.branch)):
            specs = list(group)
            tensors = [model.weights[s.name] for s in specs]
            whole = torch.cat(tensors, dim=1) if specs[0].reads else tensors[0]
            values[f"{specs[0].place[0]:02d}/{specs[0].place[1]:02d}"].append(whole)
        for place, layer in self.layers.items():
            norms = [n for n in layer.modules() if isinstance(n, nn.BatchNorm2d)]
            inside = {id(p) for n in norms for p in n.parameters()}
            own = [p for p in layer.parameters() if id(p) not in inside]
            for parameter, value in zip(own, values[place], strict=True):
                assert parameter.shape == value.shape
                parameter.copy_(value)
            names = [n for n in model.network.norms if n.startswith(place)]
            for norm, name in zip(norms, names, strict=True):
                norm.weight.copy_(model.scale[name])
                norm.bias.copy_(model.shift[name])


def assert_equals_reference(block: Block, space: Classification = SPACE) -> None:
    model = trained(Network(space.modules(block), RESOLUTION))
    reference = Reference(block.canonical, space)
    reference.copy(model)
    assert sum(p.numel() for p in reference.parameters()) == model.network.parameters
    for step in range(2):  # in training, and the running statistics that it leaves
        x = images(seed=step)
        torch.testing.assert_close(model(x), reference(x), rtol=1e-4, atol=1e-4)
    model.eval()
    reference.eval()
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


def one_node(op: str) -> tuple[Network, dict[str, Tensor]]:
    """The only node of the only block of a network, which reads both input nodes."""
    network = network_of(Node(op, (0, 1)), space=replace(SPACE, blocks=1, reductions=()))
    return network, Trained(network, torch.Generator().manual_seed(2)).weights


def own_weights(network: Network, weights: dict[str, Tensor], m: int, v: int) -> list[Tensor]:
    return [weights[s.name] for s in network.specs if s.place == (m, v)]


def given_inputs() -> dict[str, Tensor]:
    """What input nodes shall put out, by the name of the batch norm that is their last step."""
    one, other = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    return {"01/00/input_1/norm0": one, "01/01/input_2/norm0": 2 * other + 1}


def classify(network: Network, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    return F.linear(F.relu(x).mean((2, 3)), *own_weights(network, weights, 2, 0))


@pytest.mark.parametrize("op", NAMES)
def test_eq_7_sums_the_operation_over_the_inputs(op: str) -> None:
    (network, weights), given = one_node(op), given_inputs()
    own = own_weights(network, weights, 1, 2)
    summed = sum(OPERATIONS[op].apply(x, own, lambda i, y: y, 1) for x in given.values())
    # no batch norm: each input goes through the operation as if the other were not there
    logits = run(network, weights, images(3), lambda name, y: given.get(name, y))
    expected = classify(network, weights, summed)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_inputs_of_a_node_share_batch_statistics() -> None:
    (network, weights), given = one_node("conv_1x1"), given_inputs()
    ((w,),) = (own_weights(network, weights, 1, 2),)
    convolved = torch.stack([F.conv2d(F.relu(x), w) for x in given.values()])
    axes = (0, 1, 3, 4)  # inputs, images, positions: one mean for each channel
    mean = convolved.mean(axes, keepdim=True)
    variance = ((convolved - mean) ** 2).mean(axes, keepdim=True)
    summed = ((convolved - mean) / (variance + 1e-5).sqrt()).sum(0)
    logits = run(
        network, weights, images(3), lambda name, y: given.get(name, batch_statistics(name, y))
    )
    expected = classify(network, weights, summed)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


# --- counting -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_parameters_are_those_that_sgd_trains(seed: int) -> None:
    rng = Random(seed)
    space = replace(SPACE, max_inputs=3, reductions=rng.choice(((), (1,), (2, 4), (3,))))
    network = random_network(seed, rng.randint(2, 17), space)
    model = Trained(network, torch.Generator())
    assert network.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("side", [4, 7, 8, 16, 32])
@pytest.mark.parametrize("seed", range(6))
def test_multiply_adds_are_those_that_torch_counts(seed: int, side: int) -> None:
    block = SPACE.sample(Random(seed), 9)
    network = Network(SPACE.modules(block), side)
    model = Trained(network, torch.Generator())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        # a batch norm is no multiply-add here, and one image of one pixel has no variance
        run(network, model.weights, images(1, side=side), unchanged)
    assert 2 * network.multiply_adds == counter.get_total_flops()


# --- what is left out -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ignored", "modules"),
    # reading two blocks back only, every other block is idle: 5 reads 4, 4 reads 2, 2 the stem
    [(0, {0, 2, 4, 5}), (1, {0, 1, 2, 3, 4, 5})],
)
@pytest.mark.parametrize("op", ["conv_1x1", "sep_conv_3x3", "max_pool_3x3"])
def test_nothing_is_counted_that_the_output_does_not_depend_on(
    ignored: int, modules: set[int], op: str
) -> None:
    network = network_of(Node(op, (1 - ignored,)), Node("conv_1x1", (1 - ignored, 2)))
    assert {s.place[0] for s in network.specs} == modules
    assert all(s.place[1] != ignored for s in network.specs if s.place[0] in {1, 2, 3, 4})
    model = trained(network)
    F.cross_entropy(model(images()), torch.arange(5)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    assert network.parameters == sum(p.numel() for p in model.parameters())


# --- trained networks -----------------------------------------------------------------------


def test_evaluation_uses_running_statistics() -> None:
    model = trained(random_network(0))
    model(images(16))
    model.eval()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    together = model(images(16, seed=1))
    alone = torch.cat([model(x[None]) for x in images(16, seed=1)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())


def test_running_statistics_are_those_of_batch_norm() -> None:
    model = trained(random_network(0))
    x = images(16)
    model(x)
    stem = F.conv2d(x, model.weights["00/00/stem/stem"], padding=1).transpose(0, 1).flatten(1)
    name = "00/00/stem/norm0"
    torch.testing.assert_close(model.get_buffer(f"mean/{name}"), 0.1 * stem.mean(1))
    torch.testing.assert_close(model.get_buffer(f"variance/{name}"), 0.9 + 0.1 * stem.var(1))


def test_norm_of_batch_leaves_running_statistics_alone() -> None:
    model = trained(random_network(0))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.eval()
    logits = run(model.network, model.weights, images(16), model.norm_of_batch)
    assert before and all(torch.equal(before[n], buffer) for n, buffer in model.named_buffers())
    # and gives what training gives
    torch.testing.assert_close(logits, model.train()(images(16)))


def test_initial_weights_follow_from_the_generator() -> None:
    network = random_network(0)
    first, again, other = (
        Trained(network, torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[s], other[s]) for s in first if s.endswith("pointwise"))


def test_initial_weights_have_variance_2_over_fan_in() -> None:
    network = random_network(0, nodes=12, space=replace(SPACE, channels=32, max_inputs=1))
    weights = Trained(network, torch.Generator().manual_seed(0)).weights
    checked = set()
    for _, group in groupby(network.specs, lambda s: (s.place, s.branch)):
        specs = list(group)
        if len(specs[0].shape) == 1:
            assert not weights[specs[0].name].any()  # a bias
            continue
        # slices side by side are one weight, whose fan-in is that of all of them
        whole = torch.cat([weights[s.name] for s in specs], dim=1)
        values = whole.flatten() / math.sqrt(2 / nn.init._calculate_correct_fan(whole, "fan_in"))
        # five standard deviations of a mean, and of a variance, of normal numbers
        assert abs(values.mean()) < 5 / len(values) ** 0.5
        assert abs(values.var() - 1) < 5 * (2 / len(values)) ** 0.5
        checked.add(specs[0].branch)
    assert {"stem", "pointwise", "depthwise", "classifier"} <= checked


# --- shared weights -------------------------------------------------------------------------


def test_one_shot_holds_every_weight_that_is_asked_for() -> None:
    model = OneShot(examples(SPACE, 6), torch.Generator().manual_seed(0))
    asked = set()
    for seed in range(200):
        network = random_network(seed)
        (weights,) = model([network])
        assert [tuple(w.shape) for w in weights.values()] == [s.shape for s in network.specs]
        assert all(weight is model.weights[name] for name, weight in weights.items())
        asked |= weights.keys()
    # all but rare ones have been asked for, so little is held in vain
    assert len(asked) > 0.9 * len(model.weights)


@pytest.mark.parametrize("seed", range(5))
def test_one_shot_trains_exactly_the_path(seed: int) -> None:
    model = OneShot(examples(SPACE, 6), torch.Generator().manual_seed(0))
    network = random_network(seed)
    (weights,) = model([network])
    F.cross_entropy(run(network, weights, images()), torch.arange(5)).backward()
    reached = {n for n, p in model.weights.items() if p.grad is not None and p.grad.any()}
    assert reached == {spec.name for spec in network.specs}
    assert all(p.grad is None for n, p in model.weights.items() if n not in reached)


# --- isomorphic blocks ----------------------------------------------------------------------


def reordered(block: Block, rng: Random) -> tuple[Block, list[int]]:
    """The block in another topological order, inputs first, and the new number of each node."""
    order = [0, 1]
    while len(order) < len(block.nodes):
        free = [v for v in range(len(block.nodes)) if v not in order]
        order.append(rng.choice([v for v in free if set(block.nodes[v].inputs) <= set(order)]))
    new = [order.index(v) for v in range(len(order))]
    nodes = [replace(n, inputs=tuple(new[u] for u in n.inputs)) for n in block.nodes]
    return Block(tuple(nodes[v] for v in order)), new


def as_listed(block: Block) -> Network:
    """The network with the nodes of its block in the given order, not in the canonical one."""
    chain = SPACE.modules(block)
    return Network([replace(m, block=block) if m.number else m for m in chain], RESOLUTION)


@pytest.mark.parametrize("seed", range(20))
def test_isomorphic_blocks_are_the_same_function(seed: int) -> None:
    block = SPACE.sample(Random(seed), 9)
    other, new = reordered(block, Random(seed))
    assert other != block and other.hash == block.hash
    assert SPACE.modules(other) == SPACE.modules(block)
    network, twin = as_listed(block), as_listed(other)
    weights = Trained(network, torch.Generator().manual_seed(seed)).double().weights

    def renumbered(place: tuple[int, int] | None) -> tuple[int, int] | None:
        inside = place and 1 <= place[0] <= SPACE.blocks
        return (place[0], new[place[1]]) if place and inside else place

    carried = {(renumbered(s.place), s.branch, renumbered(s.reads)): s for s in network.specs}
    theirs = {s.name: weights[carried[s.place, s.branch, s.reads].name] for s in twin.specs}
    x = images().double()
    ours = run(network, weights, x)
    torch.testing.assert_close(run(twin, theirs, x), ours, rtol=1e-9, atol=1e-9)
    assert (network.parameters, network.multiply_adds) == (twin.parameters, twin.multiply_adds)
