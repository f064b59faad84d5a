"""Baselines of the anytime networks, against published counts, torchvision and slow loops.

Published are, in kalviny/MSDNet-PyTorch, to which the authors' own gaohuang/MSDNet points:
`check_msdnet/log.txt` at commit 0b0c543: all layers of the CIFAR-10 anytime MSDNet and its number
of parameters; `msdnet_plot/early_exit_plot_c10.py` at commit d1d943a: what single ResNets and
DenseNets cost on CIFAR-10, and the average costs of networks that may exit early. No list of
MSDNet's cost per exit was found for CIFAR-10: it is derived here from the published layers.
"""

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ghn_pipeline.baselines import multiply_adds
from ghn_pipeline.baselines.densenet import densenet
from ghn_pipeline.baselines.ensemble import Ensemble
from ghn_pipeline.baselines.exits import Chain, MultiExit
from ghn_pipeline.baselines.msdnet import MSDNet
from ghn_pipeline.baselines.resnet import resnet
from ghn_pipeline.data.torchvision_shim import import_torchvision

#: CIFAR-10, anytime: gaohuang/MSDNet, README.md, and the arguments printed in log.txt.
CIFAR10 = {"blocks": 10, "base": 4, "step": 2, "channels": 16, "growth": 6, "classes": 10}


def published_densenet(pairs: int, exits: tuple[int, ...] = ()) -> Chain:
    """DenseNet-BC, growth 12 (Huang et al., 2017)."""
    return densenet(pairs, 24, 12, 10, bottleneck=4, reduction=0.5, exits=exits)


SMALL: dict[str, Callable[[], MultiExit]] = {
    "msdnet": lambda: MSDNet(4, 3, 2, channels=4, growth=2, classes=5),
    "resnet": lambda: resnet(3, 4, 5, exits=(1, 2)),
    "densenet": lambda: densenet(3, 6, 2, classes=5, bottleneck=4, reduction=0.5, exits=(1, 2)),
    "ensemble": lambda: Ensemble([resnet(n, 4, 5) for n in (1, 2, 3)]),
}
EXITS = {"msdnet": 4, "resnet": 7, "densenet": 7, "ensemble": 3}


def made(name: str) -> tuple[MultiExit, Tensor]:
    """A small baseline, with running statistics that are not those of the start, and images."""
    torch.manual_seed(0)
    network, images = SMALL[name](), torch.randn(6, 3, 16, 16)
    for _ in range(3):
        network(images)
    return network.eval(), images


# ---- what all of them do ------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_exits_and_the_last_one(name: str) -> None:
    network, images = made(name)
    with torch.no_grad():
        exits = list(network.exits(images))
        assert [tuple(logits.shape) for logits in exits] == [(6, 5)] * EXITS[name]
        assert torch.equal(network(images), exits[-1])
    assert all(not torch.allclose(a, b) for a, b in pairwise(exits))


@pytest.mark.parametrize("name", SMALL)
def test_nothing_runs_that_no_exit_up_to_there_needs(name: str) -> None:
    """What an exit needs is what has a gradient, says autograd."""
    network, images = made(name)
    ran = Counter[str]()
    weights = {}
    for key, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weights[key] = module.weight
            module.register_forward_hook(lambda *_, key=key: ran.update([key]))
    total = torch.zeros(())
    for logits in network.exits(images):
        total = total + logits.square().sum()
        found = torch.autograd.grad(
            total, list(weights.values()), retain_graph=True, allow_unused=True
        )
        needed = {key for key, g in zip(weights, found, strict=True) if g is not None}
        assert ran == dict.fromkeys(needed, 1)
    assert ran.keys() == weights.keys()


@pytest.mark.parametrize("name", SMALL)
def test_counting(name: str) -> None:
    network, _ = made(name)
    for side in (16, 32):
        counts = multiply_adds(network, side)
        assert counts == sorted(set(counts))
        assert len(counts) == EXITS[name]
        assert multiply_adds(network.train(), side) == counts
        assert network.training


@pytest.mark.parametrize("name", SMALL)
def test_initial_weights(name: str) -> None:
    """Normal with variance 2 / (kernel area × output channels), from the global generator."""
    torch.manual_seed(1)
    network, again = SMALL[name](), SMALL[name]()
    torch.manual_seed(1)
    same = SMALL[name]()
    for a, b in zip(network.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    scaled = []
    for module, other in zip(network.modules(), again.modules(), strict=True):
        if isinstance(module, nn.Conv2d):
            assert not torch.equal(module.weight, other.weight)
            assert module.bias is None
            scaled.append(module.weight.flatten() * math.sqrt(module.weight[:, 0].numel() / 2))
        if isinstance(module, nn.Linear):
            assert not module.bias.any()
    numbers = torch.cat(scaled)
    assert numbers.std().item() == pytest.approx(1, abs=5 / math.sqrt(2 * len(numbers)))
    # of the normal distribution a third is further than one deviation from 0
    assert (numbers.abs() > 1).float().mean().item() == pytest.approx(0.3173, abs=0.03)


# ---- MSDNet -------------------------------------------------------------------------------------

#: log.txt: channels that each of the 22 layers reads at the coarsest scale, and the last one's.
READ = [64, 88, 112, 136, 160, 184, 208, 232, 256]
READ += [140, 164, 188, 212, 236, 260, 284, 308, 164, 188, 212, 236, 260, 284]
PARAMETERS = 4_839_544  # log.txt; as many in pytorchcv, msdnet22_cifar10


def by_hand(lazy: bool, all_operations: bool) -> list[int]:
    """Add up the CIFAR-10 MSDNet, one convolution after another, up to each exit.

    Args:
        lazy: leave out what no exit up to there needs.
        all_operations: as the public op_counter.py counts: one operation more for each number
            that goes into a ReLU (there is one after every convolution), into the pooling, or out
            of a bias. Batch norm counts nothing there either.
    """

    def conv(inputs: int, outputs: int, kernel: int, side: int) -> int:
        return (inputs * kernel**2 + all_operations) * outputs * side**2

    side = (32, 16, 8)
    costs = {(0, s): conv((3, 16, 32)[s], 16 << s, 3, side[s]) for s in range(3)}
    heads = {}
    for layer, (read, after) in enumerate(pairwise(READ), 1):
        # log.txt: three scales in the first 8 layers, two in the next 8, one in the last 6
        finest, finest_read = (layer - 1) // 8, max(layer - 2, 0) // 8
        for s in range(finest, 3):
            sources = [t for t in (s - 1, s) if t >= finest_read]
            cost, outputs = 0, (6 << s) // len(sources)
            for t in sources:
                inner = min(read // 4 << t, outputs << t)
                cost += conv(read // 4 << t, inner, 1, side[t]) + conv(inner, outputs, 3, side[s])
            if finest > finest_read:
                cost += conv((read // 4 + 6) << s, after // 4 << s, 1, side[s])
            costs[layer, s] = cost
        ends = (128 * 2 * 2 + 10) * all_operations + 128 * 10
        heads[layer] = conv(after, 128, 3, 4) + conv(128, 128, 3, 2) + ends
    exits = range(4, 23, 2)
    return [
        sum(heads[layer] for layer in exits if layer <= exit)
        # an exit needs the scale next to the coarsest up to a layer earlier, and so on
        + sum(c for (m, s), c in costs.items() if m <= exit - (2 - s if lazy else 0))
        for exit in exits
    ]


def test_msdnet_has_the_published_layers_and_parameters() -> None:
    network = MSDNet(**CIFAR10)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS
    coarsest = [layer.paths[-1][0][0].in_channels for layer in network.layers[2]]
    assert coarsest == READ[:-1]
    assert [len(scale) for scale in network.layers] == [8, 16, 22]
    heads = [head[0][0].in_channels for head in network.classifiers.values()]
    assert heads == READ[4::2]


def test_msdnet_costs_what_its_published_layers_do() -> None:
    """To the last multiply-add; and how that differs from the public implementation's count.

    Its op_counter.py says (derived): 15.13, 25.48, 37.75, 52.02, 62.12, 74.00, 87.65, 99.95,
    110.02 and 121.56 million. It runs every scale of a layer ("without lazy prediction pruning"),
    which makes up 2 to 12% up to the 7th exit, and counts ReLU, pooling and biases, 0.5 to 1.2%.
    """
    counts = multiply_adds(MSDNet(**CIFAR10), 32)
    assert counts == by_hand(lazy=True, all_operations=False)
    public = by_hand(lazy=False, all_operations=True)
    told = [15.13, 25.48, 37.75, 52.02, 62.12, 74.00, 87.65, 99.95, 110.02, 121.56]
    assert [round(count / 1e6, 2) for count in public] == told
    pruned = by_hand(lazy=True, all_operations=True)
    assert counts[-3:] == by_hand(lazy=False, all_operations=False)[-3:]
    assert counts[-3:] == pytest.approx(public[-3:], rel=0.01)
    assert counts == pytest.approx(pruned, rel=0.012)
    assert counts[1:] == pytest.approx(pruned[1:], rel=0.01)


def test_lazy_evaluation_predicts_as_evaluating_every_scale() -> None:
    network, images = made("msdnet")
    with torch.no_grad():
        features = [images]
        for stem in network.stem:
            features.append(stem(features[-1]))
        features = features[1:]
        found = iter(network.exits(images))
        for layer in range(1, 10):
            kept = [len(network.layers[s]) >= layer for s in range(3)]
            features = [
                network.layers[s][layer - 1](x, features[s - 1] if s else None) if keep else None
                for s, (x, keep) in enumerate(zip(features, kept, strict=True))
            ]
            if layer in (3, 5, 7, 9):
                expected = network.classifiers[str(layer)](features[2])
                torch.testing.assert_close(next(found), expected)
        assert next(found, None) is None


def test_after_the_last_exit_nothing_is_done() -> None:
    """Not even what the last layer has at a finer scale, which this one was too short to drop."""
    network = MSDNet(1, 2, 1, channels=4, growth=2, classes=5).eval()
    assert [len(scale) for scale in network.layers] == [1, 2, 2]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    assert multiply_adds(network, 32) == [counter.get_total_flops() // 2]


def test_a_layer_by_plain_functions() -> None:
    """One of the published layers: two paths, halves of the growth, a transition (layer 9)."""
    torch.manual_seed(0)
    layer = MSDNet(**CIFAR10).layers[1][8].eval()
    x, finer = torch.randn(2, 128, 4, 4), torch.randn(2, 64, 8, 8)
    first, second = (
        [m.weight for m in path.modules() if isinstance(m, nn.Conv2d)] for path in layer.paths
    )
    conv = partial(F.conv2d, padding=1)
    # batch norm does nothing yet but divide by √(1 + ε)
    shrink = 1 / math.sqrt(1 + 1e-5)
    down = F.relu(conv(F.relu(F.conv2d(finer, first[0]) * shrink), first[1], stride=2) * shrink)
    same = F.relu(conv(F.relu(F.conv2d(x, second[0]) * shrink), second[1]) * shrink)
    assert down.shape == same.shape == (2, 6, 4, 4)
    out = F.conv2d(torch.cat([x, down, same], 1), layer.transition[0].weight) * shrink
    torch.testing.assert_close(layer(x, finer), F.relu(out))


# ---- ResNets and DenseNets ----------------------------------------------------------------------

#: early_exit_plot_c10.py: multiplications and additions of ResNets of 8, 14, 20, ... layers ...
RESNETS = [24700170, 53183754, 81667338, 110150922, 138634506, 167118090, 195601674, 224085258]
#: ... and of DenseNets of 16, 28, 40, ..., 88 layers.
DENSENETS = [40421092, 88546228, 146411140, 214015828, 291360292, 378444532, 475268548]


def read_and_written(network: MultiExit) -> tuple[int, int]:
    """How many numbers the convolutions of a network read and put out for a CIFAR-10 image."""
    counts = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda _, inputs, out: counts.append((inputs[0].numel(), out.numel()))
            )
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 32, 32))
    read, written = map(sum, zip(*counts, strict=True))
    return read, written


def test_resnets_cost_what_is_published() -> None:
    """Within 1%; the rest is 3 operations for each number after a convolution, and 10 biases."""
    for blocks, published in enumerate(RESNETS, 1):
        network = resnet(blocks, 16, 10)
        (count,) = multiply_adds(network, 32)
        assert 2 * count == pytest.approx(published, rel=0.01)
        _, written = read_and_written(network)
        assert 2 * count + 3 * written + 10 == published


def test_densenets_cost_what_is_published() -> None:
    """Within 1.4%; nearly all of the rest is 1 for each number into and out of a convolution."""
    for pairs, published in enumerate(DENSENETS, 1):
        network = published_densenet(2 * pairs)
        (count,) = multiply_adds(network, 32)
        assert 2 * count == pytest.approx(published, rel=0.014)
        read, written = read_and_written(network)
        assert 2 * count + read + written == pytest.approx(published, rel=0.0012)


@pytest.mark.parametrize(
    ("network", "least", "most"),
    [
        (lambda: MSDNet(**{**CIFAR10, "base": 1}), 12_156_921, None),
        (lambda: resnet(10, 16, 10, exits=(4, 8)), 42_874_710, 261_686_124),
        (lambda: published_densenet(8, exits=(3, 6)), 71_786_052, 278_066_207),
    ],
    ids=["MSDNet", "ResNet^MC", "DenseNet^MC"],
)
def test_early_exits_can_cost_as_little_and_as_much_as_published(
    network: Callable[[], MultiExit], least: int, most: int | None
) -> None:
    """No average over images is less than the first exit, or more than the last.

    Published (early_exit_plot_c10.py) are averages of networks that let easy images exit early,
    at many thresholds; `least` and `most` are their ends, near to which nearly all images leave
    at the same exit. That MSDNet's first exit is after one layer (README.md of gaohuang/MSDNet:
    -base 1), and without lazy evaluation would cost more than `least`. Of the others the script
    says that they are a ResNet and a DenseNet; we take them for those of several classifiers.
    """
    counts = multiply_adds(network(), 32)
    assert 0.9 * least < 2 * counts[0] < least
    assert most is None or 2 * counts[-1] > most


def averaged(network: Chain) -> list[int]:
    """The side over which each classifier takes the mean for images of 32×32."""
    sides = []
    for head in network.classifiers.values():
        pool = next(m for m in head.modules() if isinstance(m, nn.AdaptiveAvgPool2d))
        pool.register_forward_hook(lambda _, x, out: sides.append(x[0].shape[-1]))
    network.eval()(torch.zeros(1, 3, 32, 32))
    return sides


def test_layers_of_the_networks_with_several_classifiers() -> None:
    """Huang et al., 2018: ResNet^MC has 62 layers, DenseNet^MC 52, both six classifiers more."""
    for network, depth in (
        (resnet(10, 16, 10, exits=(4, 8)), 62),
        (published_densenet(8, exits=(3, 6)), 52),
    ):
        convolutions = [m for m in network.steps.modules() if isinstance(m, nn.Conv2d)]
        assert len(convolutions) + 1 == depth
        assert len(multiply_adds(network, 32)) == 7
        assert averaged(network) == [2] * 6 + [8]


def test_a_resnet_is_torchvisions() -> None:
    """But for the stem, three resolutions, and shortcuts: here a matrix of ones and zeros."""
    models = import_torchvision().models
    theirs = models.resnet.ResNet(models.resnet.BasicBlock, [2, 2, 2, 1], num_classes=7)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    theirs.layer4, theirs.fc = nn.Identity(), nn.Linear(256, 7)
    for stage, width in ((theirs.layer2, 64), (theirs.layer3, 128)):
        copy = nn.Conv2d(width, 2 * width, 1, stride=2, bias=False)
        copy.weight = nn.Parameter(torch.eye(2 * width, width)[:, :, None, None])
        stage[0].downsample = copy
    torch.manual_seed(0)
    ours = resnet(2, 64, 7, exits=(1,))
    images = torch.randn(4, 3, 16, 16)
    ours(images)  # running statistics
    state = {k: v for k, v in ours.state_dict().items() if k.startswith(("steps", "classifiers.7"))}
    copied = [key for key in theirs.state_dict() if "downsample" not in key]
    renamed = dict(zip(copied, state.values(), strict=True))
    theirs.load_state_dict(renamed, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


def test_a_densenet_is_torchvisions() -> None:
    """But for the stem; torchvision's transitions halve the channels."""
    theirs = import_torchvision().models.DenseNet(12, (3, 3, 3), 24, bn_size=4, num_classes=7)
    theirs.features.conv0 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
    for name in ("norm0", "relu0", "pool0"):
        setattr(theirs.features, name, nn.Identity())
    torch.manual_seed(0)
    ours = densenet(3, 24, 12, 7, bottleneck=4, reduction=0.5, exits=(2,))
    images = torch.randn(4, 3, 16, 16)
    ours(images)  # running statistics
    last = f"classifiers.{len(ours.steps)}"
    state = {k: v for k, v in ours.state_dict().items() if k.startswith(("steps", last))}
    theirs.load_state_dict(dict(zip(theirs.state_dict(), state.values(), strict=True)))
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


# ---- ensembles ----------------------------------------------------------------------------------


def test_an_ensemble_is_the_mean_of_probabilities() -> None:
    network, images = made("ensemble")
    with torch.no_grad():
        alone = [member(images).softmax(1) for member in network.members]
        for count, logits in enumerate(network.exits(images), 1):
            mean = sum(alone[:count]) / count
            torch.testing.assert_close(logits.softmax(1), mean)
            torch.testing.assert_close(logits.exp(), mean)  # so they are log-probabilities


def test_an_ensemble_costs_the_sum_of_its_members() -> None:
    network, _ = made("ensemble")
    alone = [multiply_adds(member, 32)[0] for member in network.members]
    assert multiply_adds(network, 32) == [sum(alone[: k + 1]) for k in range(3)]


def test_a_mean_of_tiny_probabilities_is_not_lost() -> None:
    """float32 has no number as small as e^-300."""
    members = [nn.Linear(1, 2), nn.Linear(1, 2)]
    for member, lead in zip(members, (300.0, 310.0), strict=True):
        member.weight = nn.Parameter(torch.tensor([[lead], [0.0]]))
        nn.init.zeros_(member.bias)
    *_, logits = Ensemble(members).eval().exits(torch.ones(1, 1))
    expected = torch.tensor([math.exp(-300.0) / 2 + math.exp(-310.0) / 2], dtype=torch.float64)
    torch.testing.assert_close(logits[:, 1].double(), expected.log(), rtol=1e-6, atol=0)


def test_members_train_as_if_alone() -> None:
    network, images = made("ensemble")
    network.train()
    labels = torch.arange(6) % 5
    loss = sum(F.cross_entropy(logits, labels) for logits in network.exits(images))
    together = torch.autograd.grad(loss, list(network.parameters()))
    alone = [
        gradient
        for member in network.members
        for gradient in torch.autograd.grad(
            F.cross_entropy(member(images), labels), list(member.parameters())
        )
    ]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b)
