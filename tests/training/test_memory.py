"""What training takes: an account of tensors that is checked by hand, and the claim's formulas."""

import gc
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from ghn_pipeline.model.network import Network, run
from ghn_pipeline.spaces.classification import Classification, ClassificationSettings
from ghn_pipeline.training.ghn import build
from ghn_pipeline.training.memory import Footprint, LiveBytes, footprint, sweep

CPU = torch.device("cpu")
F32 = 4  # bytes of a number


SPACE = Classification(ClassificationSettings.known, 2, 2, 4, (2,), 1, classes=10)


def first(K: int) -> Classification:
    return replace(SPACE, operations=SPACE.operations[:K])


@pytest.fixture(scope="module")
def measure(configured):
    """Measure a model, each once: measure(model, operations, nodes, batch)."""
    config = configured()

    @cache
    def found(model: str, K: int, N: int, batch: int = 4) -> Footprint:
        settings = config.ghn.model_copy(update={"batch": batch})
        return footprint(model, first(K), N, settings, config.sgd, 8, CPU)

    return found


def test_tensors_are_counted_until_they_are_freed():
    with LiveBytes(CPU) as account:
        a = torch.zeros(1000)
        assert account.live == 1000 * F32
        view = a.view(10, 100)[2:].T
        a += 1
        assert account.live == 1000 * F32
        b = view.contiguous() + torch.ones(100, 1, dtype=torch.float64)
        assert account.live == 1000 * F32 + 800 * 8
        assert account.peak == 1000 * F32 + 800 * F32 + 100 * 8 + 800 * 8
        del a, b
        assert account.live == 1000 * F32  # the view still holds it
        del view
        assert account.live == 0


def test_a_step_of_a_linear_layer_by_hand():
    B, I, O = 32, 7, 5  # noqa: E741
    weight, bias, x, y = O * I * F32, O * F32, B * I * F32, B * O * F32
    with LiveBytes(CPU) as account:
        layer = torch.nn.Linear(I, O)
        adam = torch.optim.Adam(layer.parameters(), fused=True)
        layer(torch.randn(B, I)).relu().sum().backward()
        # x and relu(y) are saved; with them the gradient of y, the loss and its gradient
        assert account.peak == weight + bias + x + 2 * y + 2 * F32
        assert account.live == 2 * (weight + bias)
        adam.step()
        # parameters, gradients, two moments, and a number of steps for each parameter
        assert account.live == 4 * (weight + bias) + 2 * F32
        adam.zero_grad()
        assert account.live == 3 * (weight + bias) + 2 * F32
        del layer, adam
        gc.collect()
        assert account.live == 0


def test_the_account_agrees_with_the_allocators(configured):
    config = configured()
    network = Network(SPACE.modules(SPACE.examples(3)[2]), 8)

    model = build(SPACE, config.ghn, 0)

    def step() -> None:
        model = build(SPACE, config.ghn, 0)
        images = torch.randn(16, 3, 8, 8).contiguous(memory_format=torch.channels_last)
        run(network, model([network])[0], images).sum().backward()

    with LiveBytes(CPU) as account:
        step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    events = profiled.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    live = torch.tensor([size for _, size in changes]).cumsum(0)
    # the indices that a GHN sends to its device are not the allocator's until they are there
    graphs = model.graphs([network])
    (wanted,) = model.wanted([network], graphs)
    indices = [*model.one_hots(graphs), graphs.numbers, *wanted.numbers]
    # a kernel may ask the allocator for scratch memory: 96 bytes here, a little more elsewhere
    assert account.peak - 8 * sum(map(len, indices)) <= live.max() <= 1.05 * account.peak


def one_shot_parameters(space: Classification, N: int) -> int:
    """Weights of every operation at every node, from the definitions of section 7.1."""

    def of_operation(op: str, C: int) -> int:
        if op == "conv_1x1":
            return C * C
        if op == "conv_1x7_7x1":
            return 2 * (C * C + 7 * C)
        times = {"sep_conv": 2, "dil_conv": 1}.get(op[:8], 0)
        return times * (C * C + int(op[-1]) ** 2 * C) if times else 0

    F = space.channels
    scales = [2 ** sum(i >= r for r in space.reductions) for i in range(1, space.blocks + 1)]
    outputs = [F] + [F * scale * N for scale in scales]  # of the stem and of each block
    total = 3 * 3 * 3 * F + space.classes * (outputs[-1] + 1)
    for i, scale in enumerate(scales):
        C = F * scale
        total += N * sum(of_operation(op, C) for op in space.operations)
        total += C * (outputs[i] + outputs[max(i - 1, 0)])  # the two bottlenecks
    return total


@pytest.mark.parametrize(("K", "N"), [(2, 3), (9, 2), (9, 4)])
def test_a_one_shot_model_holds_every_operation_at_every_node(measure, K, N):
    assert measure("oneshot", K, N).parameters == one_shot_parameters(first(K), N)


def test_a_ghn_grows_with_operations_alone(measure, configured):
    ghn = configured().ghn
    assert measure("ghn", 6, 4).parameters == measure("ghn", 6, 2).parameters
    parameters = [measure("ghn", K, 2).parameters for K in (6, 7, 8)]
    # 1 by 7 and 7 by 1 are branches that none had, for the 8 channels of the widest block
    branches = 2 * (8 * 7) * (ghn.hypernetwork_hidden + 1)
    assert parameters[1] - parameters[0] == ghn.embedding + branches
    assert parameters[2] - parameters[1] == ghn.embedding  # pooling has no weights


@pytest.mark.parametrize("model", ["ghn", "oneshot", "network"])
def test_the_peak_is_the_models_state_and_what_grows_with_the_batch(measure, model):
    peaks = [measure(model, 3, 3, batch).peak_bytes for batch in (32, 48, 64)]
    growth = peaks[1] - peaks[0]
    assert peaks[2] - peaks[1] == growth > 0
    moments = 1 if model == "network" else 2
    state = F32 * (1 + moments) * measure(model, 3, 3).parameters
    # and, once each whatever the batch, gradients, generated weights, statistics of norms
    assert state <= peaks[0] - 2 * growth <= 2 * state


def test_a_sweep_has_every_model_at_every_point_the_same_to_the_byte(configured):
    config = configured({"ghn.batch": 4})
    space = replace(SPACE, operations=("conv_1x1", "sep_conv_3x3", "identity"))
    rows = sweep(
        space,
        config.ghn,
        config.sgd,
        nodes=3,
        node_counts=[3],
        resolution=8,
        device=CPU,
        log_seconds=60,
    )
    points = rows[["axis", "operations", "nodes"]][::3].to_numpy().tolist()
    assert points == [["operations", 2, 3], ["operations", 3, 3], ["nodes", 3, 3]]
    assert rows["model"].tolist() == ["ghn", "oneshot", "network"] * 3
    # with all operations the two axes meet
    twice = rows[rows["operations"] == 3].drop(columns="axis")
    assert (twice[:3].to_numpy() == twice[3:].to_numpy()).all()
