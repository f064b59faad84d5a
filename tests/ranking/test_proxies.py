"""Proxies against slow and direct computations, on small random networks of both spaces.

All is in double precision. Steps of finite differences are small against the distance to the
kinks of ReLU, so that what they give is right to some six digits.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.model.network import Network, Trained, run
from ghn_pipeline.ranking.proxies import (
    PROXIES,
    Weights,
    fisher,
    grad_norm,
    grasp,
    initial_weights,
    jacob_cov,
    multiply_adds,
    parameters,
    snip,
    synflow,
    vote,
)
from ghn_pipeline.spaces.classification import INPUTS, Classification
from ghn_pipeline.spaces.nasbench201 import EDGES, NODES, Cell, NasBench201
from ghn_pipeline.spaces.space import Space

SIDE, IMAGES, CLASSES = 8, 6, 5
CLASSIFICATION = Classification(
    operations=(
        "identity",
        "conv_1x1",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
        "conv_1x7_7x1",
        "max_pool_3x3",
        "avg_pool_3x3",
    ),
    max_inputs=2,
    blocks=2,
    channels=4,
    reductions=(2,),
    stem_multiplier=1,
    classes=CLASSES,
)
NASBENCH201 = NasBench201(
    operations=EDGES, blocks=2, channels=4, reductions=(2,), stem_multiplier=1, classes=CLASSES
)
SPACES: list[Classification | NasBench201] = [CLASSIFICATION, NASBENCH201]
#: What a proxy takes: network, weights, images [B, 3, SIDE, SIDE], labels [B].
Case = tuple[Network, Weights, Tensor, Tensor]


def case_of(space: Space, block: Block, seed: int = 0, images: int = IMAGES) -> Case:
    generator = torch.Generator().manual_seed(seed)
    network = Network(space.modules(block), SIDE)
    drawn = initial_weights(network, generator)
    weights = {name: w.detach().double().requires_grad_() for name, w in drawn.items()}
    batch = torch.randn(images, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    return network, weights, batch, torch.arange(images) % CLASSES


def cell_case(key: str, seed: int = 0) -> Case:
    return case_of(NASBENCH201, Cell.of_key(key), seed)


@pytest.fixture(params=product(SPACES, range(4)), ids=lambda p: f"{type(p[0]).__name__}-{p[1]}")
def case(request: pytest.FixtureRequest) -> Case:
    space, seed = request.param
    return case_of(space, space.sample(Random(seed), NODES), seed)


@pytest.fixture(params=product(SPACES, range(2)), ids=lambda p: f"{type(p[0]).__name__}-{p[1]}")
def tiny(request: pytest.FixtureRequest) -> Case:
    """A network so small that one of its numbers after the other can be changed."""
    space, seed = request.param
    space = replace(space, blocks=1, channels=2, reductions=(1,))
    return case_of(space, space.sample(Random(seed), 2), seed, images=4)


def batch_norm(_: str, x: Tensor) -> Tensor:
    deviation = x - x.mean((0, 2, 3), keepdim=True)
    return deviation / (deviation.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()


def loss_of(
    network: Network,
    weights: Weights,
    images: Tensor,
    labels: Tensor,
    norm: Callable[[str, Tensor], Tensor] = batch_norm,
) -> Tensor:
    """Cross-entropy, written out."""
    logits = run(network, weights, images, norm)
    chosen = torch.stack([row[label] for row, label in zip(logits, labels, strict=True)])
    return (logits.exp().sum(1).log() - chosen).mean()


def backward(network: Network, weights: Weights, images: Tensor, labels: Tensor) -> Weights:
    """The loss's gradient of each weight."""
    leaves = {name: w.detach().clone().requires_grad_() for name, w in weights.items()}
    loss_of(network, leaves, images, labels).backward()
    return {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


@torch.no_grad()
def differences(network: Network, weights: Weights, images: Tensor, labels: Tensor) -> Weights:
    """The same by changing one number after the other."""
    changed, step = {name: w.detach().clone() for name, w in weights.items()}, 1e-7
    gradients = {name: torch.zeros_like(w) for name, w in changed.items()}
    for name, w in changed.items():
        numbers, found = w.view(-1), gradients[name].view(-1)
        for i, value in enumerate(numbers.tolist()):
            losses = []
            for numbers[i] in (value + step, value - step):
                losses.append(float(loss_of(network, changed, images, labels)))
            numbers[i] = value
            found[i] = (losses[0] - losses[1]) / (2 * step)
    return gradients


def norms(gradients: Weights) -> float:
    # the classifier's bias is no kernel
    return sum(float(np.linalg.norm(g.numpy())) for g in gradients.values() if g.dim() > 1)


def saliency(weights: Weights, gradients: Weights) -> float:
    products = [w.detach().numpy() * gradients[name].numpy() for name, w in weights.items()]
    return sum(float(np.abs(p).sum()) for p in products)


def test_weights_are_those_that_training_starts_from() -> None:
    network = cell_case("123401")[0]
    drawn = initial_weights(network, torch.Generator().manual_seed(3))
    trained = Trained(network, torch.Generator().manual_seed(3)).weights
    assert drawn.keys() == trained.keys()
    assert all(torch.equal(drawn[name], trained[name]) for name in drawn)
    assert all(w.requires_grad for w in drawn.values())


# --- each proxy -----------------------------------------------------------------------------


def test_parameters_and_multiply_adds_are_the_networks(case: Case) -> None:
    network = case[0]
    trained = Trained(network, torch.Generator()).parameters()
    assert parameters(*case) == network.parameters == sum(p.numel() for p in trained)
    assert multiply_adds(*case) == network.multiply_adds


def test_grad_norm_is_that_of_backward(case: Case) -> None:
    assert grad_norm(*case) == pytest.approx(norms(backward(*case)), rel=1e-9)


def test_snip_is_that_of_backward(case: Case) -> None:
    assert snip(*case) == pytest.approx(saliency(case[1], backward(*case)), rel=1e-9)


def test_grad_norm_and_snip_by_finite_differences(tiny: Case) -> None:
    gradients = differences(*tiny)
    assert grad_norm(*tiny) == pytest.approx(norms(gradients), rel=1e-6)
    assert snip(*tiny) == pytest.approx(saliency(tiny[1], gradients), rel=1e-6)


def test_grasp_by_finite_differences(case: Case) -> None:
    network, weights, *batch = case
    gradients, step = backward(*case), 1e-7
    ahead, behind = (
        backward(
            network, {n: w + s * gradients[n] * (w.dim() > 1) for n, w in weights.items()}, *batch
        )
        for s in (step, -step)
    )
    # Hg is how the gradient changes along the gradient of the kernels, which has no bias
    expected = -sum(
        float((w.detach() * (ahead[n] - behind[n])).sum()) / (2 * step) for n, w in weights.items()
    )
    assert grasp(*case) == pytest.approx(expected, rel=1e-5)


def test_synflow_by_finite_differences(case: Case) -> None:
    network, weights, images, _ = case

    def logits(scale: float) -> float:
        scaled = {name: scale * w.detach().abs() for name, w in weights.items()}
        ones = torch.ones(1, 3, SIDE, SIDE, dtype=torch.float64)
        return float(run(network, scaled, ones, norm=lambda _, x: x).sum())

    # Σ w · ∂R/∂w is how R grows when all weights do
    expected = (logits(1 + 1e-5) - logits(1 - 1e-5)) / 2e-5
    assert synflow(*case) == pytest.approx(math.log10(expected), rel=1e-6)
    # whatever the images
    assert synflow(network, weights, 7 * images, case[3]) == synflow(*case)


def test_synflow_of_a_deep_network_is_finite() -> None:
    """At the paper's depth the sum itself may have more digits than a number can hold."""
    space = replace(CLASSIFICATION, blocks=18, channels=8, reductions=(7, 13))
    for seed in range(3):
        case = case_of(space, space.sample(Random(seed), 17), seed, images=2)
        assert 50 < synflow(*case) < 500


def test_synflow_of_a_chain_is_its_flow_for_each_layer() -> None:
    # 0→1 conv_3x3, 1→2 conv_1x1, 2→3 conv_3x3 and no other edge
    space = replace(NASBENCH201, blocks=1, reductions=())
    case = case_of(space, Cell.of_key("302003"))
    *convolutions, classifier, bias = (w.detach().abs() for w in case[1].values())
    assert [w.shape[-1] for w in convolutions] == [3, 3, 1, 3] and not bias.any()
    x = torch.ones(1, 3, SIDE, SIDE, dtype=torch.float64)
    for w in convolutions:
        x = F.conv2d(x, w, padding=w.shape[-1] // 2)
    flow = float((classifier @ x[0].mean((1, 2))).sum())
    # R is linear in each layer's weights, so that each layer's sum is R
    assert synflow(*case) == pytest.approx(math.log10(5 * flow), rel=1e-12)


def normalised(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, affine=False, track_running_stats=False)


def convolution(
    into: int,
    out: int,
    kernel: tuple[int, int],
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Module:
    padding = tuple(dilation * (k // 2) for k in kernel)
    return nn.Conv2d(into, out, kernel, stride, padding, dilation, groups, bias=False)


def separable(C: int, *kernels: tuple[int, int], dilation: int = 1) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for kernel in kernels:
        layers += [nn.ReLU(), convolution(C, C, kernel, dilation=dilation, groups=C)]
        layers += [convolution(C, C, (1, 1)), normalised(C)]
    return layers


def layers_of(op: str, into: int, out: int, stride: int) -> list[nn.Module]:
    """The operations as lists of PyTorch's own layers."""
    three = nn.ReLU(), convolution(into, out, (3, 3), stride), normalised(out)
    pointwise = nn.AvgPool2d(1, stride), nn.ReLU(), convolution(into, out, (1, 1)), normalised(out)
    head = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(into, out)
    return {
        "conv_1x1": [*pointwise],
        "conv_3x3": [*three],
        "sep_conv_3x3": separable(out, (3, 3), (3, 3)),
        "sep_conv_5x5": separable(out, (5, 5), (5, 5)),
        "dil_conv_3x3": separable(out, (3, 3), dilation=2),
        "dil_conv_5x5": separable(out, (5, 5), dilation=2),
        "conv_1x7_7x1": separable(out, (1, 7), (7, 1)),
        "max_pool_3x3": [nn.MaxPool2d(3, 1, 1)],
        "avg_pool_3x3": [nn.AvgPool2d(3, 1, 1, count_include_pad=False)],
        "input_1": [*pointwise],
        "input_2": [*pointwise],
        "reduce_3x3": [*three],
        "downsample": [nn.AvgPool2d(stride), convolution(into, out, (1, 1))],
        "norm": [normalised(into)],
        "stem": [*three[1:]],
        "classifier": [*head],
    }.get(op, [])


class Ordinary(nn.Module):
    """A network of PyTorch's own layers, with given weights.

    Attributes:
        outputs: each layer with weights, and its output in the last run.
    """

    def __init__(self, network: Network, weights: Weights) -> None:
        super().__init__()
        self.network, self.nodes = network, nn.ModuleDict()
        self.outputs: list[tuple[nn.Module, Tensor]] = []
        for m, module in enumerate(network.modules):
            for v, node in enumerate(module.block.nodes):
                own: dict[str, list[Tensor]] = {}
                for name, w in weights.items():
                    if name.startswith(f"{m:02d}/{v:02d}/"):
                        own.setdefault(name.split("/")[3], []).append(w.detach())
                tensors = [
                    torch.cat(parts, 1) if len(parts) > 1 else parts[0] for parts in own.values()
                ]
                into = (
                    3 if node.op == "stem" else tensors[0].shape[1] if tensors else module.channels
                )
                before = 1 if node.inputs or m == 0 else network.modules[self.source(m, v)].scale
                stride = 1 if node.inputs else module.scale // before
                layers = nn.Sequential(*layers_of(node.op, into, module.channels, stride)).double()
                parameters = list(layers.parameters())
                for parameter, w in zip(parameters, tensors, strict=True):
                    assert parameter.shape == w.shape
                    parameter.data = w
                for layer in layers:
                    if isinstance(layer, nn.Conv2d | nn.Linear):
                        layer.register_forward_hook(self.keep)
                self.nodes[f"{m}/{v}"] = layers

    def source(self, m: int, v: int) -> int:
        """The module that an input node reads."""
        nodes = self.network.modules[m].block.nodes
        return self.network.modules[m].sources[sum(not n.inputs for n in nodes[:v])]

    def keep(self, layer: nn.Module, _: object, output: Tensor) -> None:
        output.retain_grad()
        self.outputs.append((layer, output))

    def forward(self, images: Tensor) -> Tensor:
        self.outputs.clear()
        results: dict[tuple[int, int], Tensor] = {}
        for m, module in enumerate(self.network.modules):
            for v, node in enumerate(module.block.nodes):
                read = [results[m, u] for u in node.inputs]
                if not read and m > 0:
                    source = self.source(m, v)
                    leaves = self.network.modules[source].block.leaves
                    read = [torch.cat([results[source, u] for u in leaves], 1)]
                # a layer that reads several inputs normalises all of them together
                x = torch.cat(read) if read else images
                x = self.nodes[f"{m}/{v}"](0 * x if node.op == "none" else x)
                results[m, v] = sum(x.chunk(max(1, len(read))))  # type: ignore[assignment]
        return results[len(self.network.modules) - 1, 0]


def of_hooks(network: Network, weights: Weights, images: Tensor, labels: Tensor) -> float:
    """Fisher as the reference counts it, filter by filter."""
    ordinary = Ordinary(network, weights)
    logits = ordinary(images)
    torch.testing.assert_close(logits, run(network, weights, images), rtol=1e-9, atol=1e-12)
    F.cross_entropy(logits, labels).backward()
    total = 0.0
    for layer, output in ordinary.outputs:
        assert output.grad is not None
        for channel in range(output.shape[1]):
            # the inputs of a layer, one after the other, each with all images
            for part, gradient in zip(
                output.detach()[:, channel].split(len(images)),
                output.grad[:, channel].split(len(images)),
                strict=True,
            ):
                sums = [float((a * g).sum()) for a, g in zip(part, gradient, strict=True)]
                value = sum(s**2 for s in sums) / len(sums) / 2
                total += value * layer.weight[channel].numel()
    return total


def test_fisher_is_that_of_hooks_in_an_ordinary_network(case: Case) -> None:
    assert fisher(*case) == pytest.approx(of_hooks(*case), rel=1e-8)
    assert fisher(*case) > 0


@pytest.mark.parametrize("op", CLASSIFICATION.operations)
def test_fisher_counts_every_convolution_of_an_operation(op: str) -> None:
    block = Block((*INPUTS, Node(op, (0, 1)), Node(op, (2,)), Node("conv_1x1", (0, 2))))
    case = case_of(CLASSIFICATION, block)
    assert fisher(*case) == pytest.approx(of_hooks(*case), rel=1e-8)


def test_fisher_counts_the_downsample_and_the_classifier() -> None:
    case = cell_case("123401")
    ordinary = Ordinary(*case[:2])
    ordinary(case[2])
    kinds = [type(layer) for layer, _ in ordinary.outputs]
    # the stem, 2 cells with 2 convolutions each, 3 of the reduction; and the classifier
    assert kinds == [nn.Conv2d] * (1 + 2 * 2 + 3) + [nn.Linear]
    assert fisher(*case) == pytest.approx(of_hooks(*case), rel=1e-8)


def least(images: int) -> float:
    """The score of `images` that are not told apart: all of the variance is along one direction."""
    eigenvalues = [images + 1e-5] + [1e-5] * (images - 1)
    return -sum(math.log(x) + 1 / x for x in eigenvalues)


def test_jacob_cov_image_by_image(case: Case) -> None:
    network, weights, images, _ = case
    leaves = [image.clone().requires_grad_() for image in images]
    run(network, weights, torch.stack(leaves), batch_norm).sum().backward()
    rows = [leaf.grad.flatten().numpy() for leaf in leaves if leaf.grad is not None]
    assert len(rows) == IMAGES and all(row.any() for row in rows)
    correlation = np.array([[np.corrcoef(a, b)[0, 1] for b in rows] for a in rows])
    eigenvalues = np.linalg.eigvalsh(correlation)
    expected = -sum(math.log(x + 1e-5) + 1 / (x + 1e-5) for x in eigenvalues)
    assert jacob_cov(*case) == pytest.approx(expected, rel=1e-7)
    assert jacob_cov(*case) > least(IMAGES)


def test_jacob_cov_of_images_that_are_all_alike_is_the_least(case: Case) -> None:
    network, weights, images, labels = case
    alike = images[:1].repeat(IMAGES, 1, 1, 1)
    assert jacob_cov(network, weights, alike, labels) == pytest.approx(least(IMAGES), rel=1e-6)


# --- all of them ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
def test_every_network_has_a_finite_score_that_stays(space: Space, name: str) -> None:
    sampled = [space.sample(Random(seed), NODES) for seed in range(5)]
    for seed, block in enumerate(space.examples(2) + sampled):
        network, weights, images, labels = case_of(space, block, seed)
        single = {n: w.detach().float().requires_grad_() for n, w in weights.items()}
        before = {n: w.detach().clone() for n, w in single.items()}
        batch = images.float()
        score = PROXIES[name].of(network, single, batch, labels)
        assert type(score) is float and math.isfinite(score)
        assert PROXIES[name].of(network, single, batch, labels) == score
        # nothing of what it was given has changed
        assert all(torch.equal(before[n], w) and w.grad is None for n, w in single.items())
        assert torch.equal(batch, images.float()) and not batch.requires_grad


@pytest.mark.parametrize("key", ["000000", "333000", "000022", "040030"])
def test_cells_that_put_out_nothing(key: str) -> None:
    network, weights, images, _ = case = cell_case(key)
    assert torch.equal(run(network, weights, images), run(network, weights, 2 - images))
    assert jacob_cov(*case) == pytest.approx(least(IMAGES), rel=1e-6)
    assert snip(*case) == grasp(*case) == fisher(*case) == 0
    assert synflow(*case) < -100
    # all logits are zero: only the bias, which is not counted, has a gradient
    assert grad_norm(*case) == 0


# --- vote -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [2, 4, 1000])
def test_vote_pair_by_pair(levels: int, seed: int) -> None:
    rng = Random(seed)
    # with few levels there are many ties; who has no vote is not asked
    scores = {name: [rng.randrange(levels) / 7 for _ in range(12)] for name in PROXIES}
    expected, voters = [0] * 12, ("synflow", "jacob_cov", "snip")
    for i, j in product(range(12), repeat=2):
        above = sum(scores[voter][i] > scores[voter][j] for voter in voters)
        below = sum(scores[voter][i] < scores[voter][j] for voter in voters)
        expected[i] += (above > below) - (above < below)
    assert vote(scores).tolist() == expected


def test_vote_by_hand() -> None:
    voters = sorted(name for name, proxy in PROXIES.items() if proxy.votes)
    assert voters == ["jacob_cov", "snip", "synflow"]
    # two of three hold the first for the best, and the three are split on the other two
    scores = {"synflow": [3, 1, 2], "jacob_cov": [3, 2, 1], "snip": [1, 2, 2]}
    assert vote(scores).tolist() == [2, -1, -1]
    # each wins once and loses once
    assert not vote({"synflow": [1, 2, 3], "jacob_cov": [2, 3, 1], "snip": [3, 1, 2]}).any()
