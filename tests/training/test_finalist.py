"""The recipe of section 7.3: each part against a formula; the same result however shared out."""

import math
from pathlib import Path
from random import Random

import pytest
import torch
import torch.nn.functional as F
from conftest import CELLS
from small_trainings import noise_images, small_config, small_finalist_training, small_space

from ghn_pipeline.data.images import Images, cutout, stream
from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.model.network import Network, Trained, keep_path, run, run_steps
from ghn_pipeline.model.operations import OPERATIONS
from ghn_pipeline.pipeline.build import finalist_recipe
from ghn_pipeline.spaces.classification import INPUTS
from ghn_pipeline.system.compute import precision
from ghn_pipeline.training.auxiliary import AuxiliaryHead, tapped
from ghn_pipeline.training.batches import accuracy, fixed_batches, training_batch
from ghn_pipeline.training.distributed import ALONE
from ghn_pipeline.training.drop_path import drop_path, paths
from ghn_pipeline.training.finalist import Finalist
from ghn_pipeline.training.fit import fit

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
# 32 images: two epochs of four steps, one of them to warm up
SETTINGS = {"workers": 1, "processes": 1, "nodes": 1, "batch": 8, "norm_batch": 8, "epochs": 2}


def small_finalist(team=ALONE, group="best", **changes):
    """An untrained finalist, its images, its recipe and its training."""
    torch.set_num_threads(1)
    config = small_config(ROOT, {"finalists": {**SETTINGS, "warmup_epochs": 1, **changes}})
    recipe = finalist_recipe(config, group)
    splits, space = noise_images(config), small_space(config)
    network = Network(space.modules(space.sample(Random(5), 3)), 8)
    model = Finalist(network, recipe, stream(0, "f"))
    training = small_finalist_training("finalists/best/0", model, splits, config, recipe, team)
    return model, splits, recipe, training


def one_loss(training, step):
    return sum(training.losses(step))


# ---- drop-path ---------------------------------------------------------------------------------


@pytest.fixture
def network():
    """Six blocks of a convolution of two inputs, a pooling, an identity, and a last convolution."""
    block = Block(
        (
            *INPUTS,
            Node("conv_1x1", (0, 1)),
            Node("max_pool_3x3", (2,)),
            Node("identity", (2,)),
            Node("sep_conv_3x3", (3, 4)),
        )
    )
    space = small_space(small_config(ROOT))
    return Network(type(space)(space.operations, 2, 6, 4, (3, 5), 1, 10).modules(block), 8)


def test_inputs_of_all_but_identities_and_bottlenecks_are_dropped_deeper_ones_more(network):
    found = paths(network)
    # the canonical order of equally deep nodes, 3 and 4 here, is no promise
    pooling = [node.op for node in network.modules[1].block.nodes].index("max_pool_3x3")
    expected = {}
    for block in range(1, 7):
        expected |= {(block, 2): (2, block / 6), (block, pooling): (1, block / 6)}
        expected |= {(block, 5): (2, block / 6)}
    assert found == expected


def test_the_mean_of_the_dropped_and_scaled_paths_is_the_path_itself(network):
    draws, images = 5, 40_000  # inputs of the paths of a block, images
    path = drop_path(network, 0.4, torch.rand(6 * draws, images, generator=stream(1)))
    for block in (1, 3, 6):
        x = torch.full((2 * images, 1, 1, 1), 3.0)
        dropped = path((block, 5), x)
        probability = 0.4 * block / 6
        assert (dropped == 0).float().mean() == pytest.approx(probability, abs=0.006)
        left = dropped[dropped != 0]
        assert torch.allclose(left, torch.tensor(3 / (1 - probability)))
        assert dropped.mean() == pytest.approx(3, abs=0.03)
        # both inputs of a node are dropped by themselves
        first, second = (dropped == 0).flatten().chunk(2)
        both = (first & second).float().mean()
        assert both == pytest.approx(probability**2, abs=0.006)


def test_what_is_dropped_is_left_out_of_the_sum(network):
    weights = Trained(network, stream(0)).weights
    images = torch.randn(3, 3, 8, 8, generator=stream(2))
    draws = torch.rand(30, 3, generator=stream(3))
    path = drop_path(network, 0.9, draws)
    seen = {}

    def spied(place, x):
        seen[place] = x, path(place, x)
        return seen[place][1]

    run(network, weights, images, path=spied)
    number = 0
    for place, (inputs, depth) in paths(network).items():
        before, after = seen[place]
        for i in range(inputs):
            for b in range(3):
                row, kept = i * 3 + b, 1 - 0.9 * depth
                scale = 1 / kept if draws[number + i, b] < kept else 0
                assert torch.allclose(after[row], before[row] * scale)
        number += inputs
    assert number == 30
    # and the others pass as they are
    assert all(torch.equal(*seen[place]) for place in seen if place not in paths(network))


def test_drop_path_grows_in_a_line_from_nothing(monkeypatch):
    _, _, _, training = small_finalist(drop_path=0.4)
    asked = []
    monkeypatch.setattr(
        "ghn_pipeline.training.finalist.drop_path",
        lambda network, probability, draws: asked.append(probability) or keep_path,
    )
    for step in range(training.steps):
        one_loss(training, step)
    assert asked == pytest.approx([0.4 * step / 8 for step in range(8)])


# ---- the auxiliary head --------------------------------------------------------------------------


def test_the_head_stands_behind_two_thirds_of_the_network(network):
    space = small_space(small_config(ROOT))
    for blocks, expected in ((18, 13), (14, 10), (20, 14), (6, 5), (2, 2), (1, 1)):
        stacked = type(space)(space.operations, 2, blocks, 4, (), 1, 10)
        assert tapped(Network(stacked.modules(network.modules[1].block), 8)) == expected


@pytest.mark.parametrize("resolution", [4, 8, 16, 32])
def test_the_head_computes_what_plain_layers_do(network, resolution):
    modules = Network(network.modules, resolution)
    head = AuxiliaryHead(modules, (5, 7)).train()
    side = math.ceil(resolution / modules.modules[tapped(modules)].scale)
    x = torch.randn(6, 16, side, side, generator=stream(4))
    h = F.relu(x)
    if side >= 5:
        h = F.avg_pool2d(h, kernel_size=5, stride=3, padding=0)
    a, b = head.convolutions
    h = F.relu(F.batch_norm(F.conv2d(h, a.weight), None, None, training=True))
    h = F.relu(F.batch_norm(F.conv2d(h, b.weight), None, None, training=True))
    assert h.shape[2:] == (1, 1)
    expected = h.mean((2, 3)) @ head.classifier.weight.T + head.classifier.bias
    assert torch.allclose(head(x), expected, atol=1e-5)


def test_the_loss_is_the_networks_and_half_the_heads_by_the_papers_optimizer():
    model, splits, recipe, training = small_finalist(cutout=0, drop_path=0.0)
    images, labels = training_batch(splits, 3, batch=8, padding=1, seed="3/finalists/best/0")
    trained = model.trained
    network = trained.network
    seen = dict(run_steps(network, trained.weights, images, trained.norm_of_batch))
    (logits,) = (seen[exit] for exit in network.exits)
    m = tapped(network)
    leaves = [seen[m, v] for v in network.modules[m].block.leaves]
    head = model.head(torch.cat(leaves, dim=1))
    expected = F.cross_entropy(logits, labels) + 0.5 * F.cross_entropy(head, labels)
    torch.testing.assert_close(one_loss(training, 3), expected)
    assert recipe.auxiliary_weight == 0.5
    assert isinstance(training.optimizer, torch.optim.SGD)
    assert training.optimizer.defaults["momentum"] == 0.9
    assert training.optimizer.defaults["weight_decay"] == 3e-4
    assert training.clip is None


def test_without_a_weight_there_is_no_head():
    model, _, _, training = small_finalist(auxiliary_weight=0.0)
    assert model.head is None
    assert len(model(torch.zeros(2, 3, 8, 8), keep_path, False)) == 1
    one_loss(training, 0).backward()


def test_every_parameter_gets_a_gradient():
    model, _, _, training = small_finalist(drop_path=0.0)
    one_loss(training, 1).backward()
    assert all(p.grad is not None for p in model.parameters())
    kinds = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert kinds == {"trained", "head"}


# ---- CutOut, the rate, label smoothing, precision ------------------------------------------------


def test_only_the_winner_is_trained_with_cutout(monkeypatch):
    seen = []

    def spied(images, centres, side):
        seen.append((centres, side))
        return cutout(images, centres, side)

    monkeypatch.setattr("ghn_pipeline.training.finalist.cutout", spied)
    for group, expected in (("top", []), ("random", []), ("best", [4])):
        _, _, _, training = small_finalist(group=group, cutout=4)
        one_loss(training, 0)
        assert [side for _, side in seen] == expected
    assert seen[0][0].shape == (2, 8)
    assert int(seen[0][0].max()) < 8


def test_more_workers_take_fewer_steps_at_a_higher_rate():
    alone, two = (small_finalist(workers=w)[3] for w in (1, 2))
    assert two.steps == alone.steps / 2 == 4
    # an epoch is two steps; the peak is 2 × 0.025, where the warm-up ends
    assert [two.rate(k) for k in range(4)] == pytest.approx([0.025, 0.0375, 0.05, 0.025])


def test_label_smoothing_is_the_formula():
    _, _, _, training = small_finalist(label_smoothing=0.1, cutout=0, drop_path=0.0)
    model, splits, _, _ = small_finalist()
    images, labels = training_batch(splits, 0, batch=8, padding=1, seed="3/finalists/best/0")

    def smoothed(logits):
        log = logits.log_softmax(1)
        return -(0.9 * log[torch.arange(8), labels] + 0.1 * log.mean(1)).mean()

    logits, extra = model(images, keep_path, False)
    expected = smoothed(logits) + 0.5 * smoothed(extra)
    torch.testing.assert_close(one_loss(training, 0), expected)


def test_half_precision_trains_and_keeps_whole_weights(tmp_path):
    losses = {}
    for asked in ("float32", "bfloat16"):
        config = small_config(ROOT, {"compute": {"precision": asked}, "finalists": SETTINGS})
        assert precision(config.compute.precision, CPU) == getattr(torch, asked)
        recipe, splits = finalist_recipe(config, "top"), noise_images(config)
        space = small_space(config)
        network = Network(space.modules(space.sample(Random(5), 3)), 8)
        model = Finalist(network, recipe, stream(0, "f"))
        training = small_finalist_training("finalists/top/0", model, splits, config, recipe, ALONE)
        log = fit(
            training,
            tmp_path / asked,
            "d",
            made_by="it",
            checkpoint_seconds=9,
            log_seconds=9,
            device=CPU,
        )
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        losses[asked] = [loss for _, loss, _ in log.curve]
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.1)
    assert precision("auto", CPU) == torch.float32


# ---- the same result however it is shared out ----------------------------------------------------


def test_groups_have_statistics_of_their_own_and_the_first_alone_is_tracked():
    model, splits, _, training = small_finalist(norm_batch=4, cutout=0, drop_path=0.0)
    images, labels = training_batch(splits, 0, batch=8, padding=1, seed="3/finalists/best/0")
    expected = [
        sum(
            weight * F.cross_entropy(logits, labels[part])
            for weight, logits in zip((1, 0.5), model(images[part], keep_path, False), strict=True)
        )
        / 2
        for part in (slice(4), slice(4, 8))
    ]
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    found = list(training.losses(0))
    torch.testing.assert_close(found, expected)
    tracked = {n: b.clone() for n, b in model.named_buffers()}
    model.load_state_dict(buffers, strict=False)
    model(images[:4], keep_path, True)
    assert all(torch.allclose(tracked[n], b) for n, b in model.named_buffers())
    assert any(not torch.equal(tracked[n], buffers[n]) for n in buffers)


def test_two_workers_of_one_process_are_one_with_twice_the_batch():
    settings = {"norm_batch": 4, "warmup_epochs": 0, "drop_path": 0.0}
    two = small_finalist(workers=2, batch=4, learning_rate=0.025, **settings)
    one = small_finalist(workers=1, batch=8, learning_rate=0.05, **settings)
    for step in range(20):
        for model, _, _, training in (one, two):
            training.optimizer.zero_grad()
            for group in training.optimizer.param_groups:
                group["lr"] = training.rate(step % training.steps)
            for loss in training.losses(step % training.steps):
                loss.backward()
            training.optimizer.step()
            assert model.training
    for a, b in zip(one[0].state_dict().values(), two[0].state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_the_end_is_measured_with_running_statistics_on_both_splits(tmp_path):
    model, splits, _, training = small_finalist()
    log = fit(
        training, tmp_path / "c", "d", made_by="it", checkpoint_seconds=9, log_seconds=9, device=CPU
    )
    assert training.steps == 8
    measured = log.observed[8]
    model.eval()

    def judged(images: Images) -> float:
        trained = model.trained
        return accuracy(
            trained.network, trained.weights, fixed_batches(images, splits, 7), trained.norm
        )

    assert measured["validation"] == judged(splits.validation)
    assert measured["test"] == judged(splits.test)


def test_what_may_be_dropped_is_every_operation_of_the_spaces_but_identity_and_none():
    summed = {op for op, definition in OPERATIONS.items() if definition.join == "sum"}
    every = {*small_config(ROOT).space.operations, *CELLS["space.operations"]}
    assert summed == every - {"identity", "none"}  # of none is left zero, dropped or not
