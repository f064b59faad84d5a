"""The predictions of every method and the truth, as records that are written by hand have them."""

import hashlib
from collections.abc import Sequence
from typing import Any

import pytest
from stage_results import finish

from ghn_pipeline.pipeline.rankings import Rankings
from ghn_pipeline.ranking.proxies import PROXIES
from ghn_pipeline.settings.config import Config
from ghn_pipeline.stages.correlation import table4_rows
from ghn_pipeline.system.errors import UserError

HASHES = [letter * 16 for letter in "abcde"]
MORE = ["f" * 16, "0" * 16]  # scored, and not trained
WEIGHTS = {"model.pt": hashlib.sha256(b"weights").hexdigest()}


@pytest.fixture(autouse=True)
def folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)


def finish_truth(config: Config) -> None:
    """Write the ground truth: 0, 0.2, ... on test images, others on validation images."""
    for i, name in enumerate(HASHES):
        measured = {30: {"validation": 0.9 - 0.1 * i, "test": 0.2 * i, "seconds": 3.0}}
        finish(config, f"sgd/{i}", {"hash": name, "measured": measured})


def finish_scores(
    config: Config, model: str, values: dict[str, Sequence[float]], **changes: Any
) -> None:
    """Write the scores of a model, each measure in the order of `HASHES`."""
    hashes = changes.pop("hashes", HASHES)
    result = {
        "hashes": [*hashes, *MORE],
        "mean": dict.fromkeys(values, 0.5),
        "values": {name: [*of, 0.0, 0.0] for name, of in values.items()},
        "seconds_each": dict.fromkeys(values, 1.5),
        **changes,
    }
    finish(config, f"scores/{model}", result, inputs=WEIGHTS if "/" in model else None)


def finish_model(
    config: Config,
    model: str,
    accuracies: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9),
    seconds: float = 2.0,
    **more: Any,
) -> None:
    """Write a trained model and its scores, by accuracy and by likelihood."""
    finish(config, model, files={"model.pt": b"weights"}, seconds=seconds)
    values = {"accuracy": accuracies, "likelihood": accuracies[::-1]}
    finish_scores(config, model, values, **more)


def finish_untrained(config: Config, **more: Any) -> None:
    """Write the scores of the proxies, the i-th from 10 i on, and of early SGD."""
    values = {name: [10.0 * i + j for j in range(5)] for i, name in enumerate(PROXIES)}
    finish_scores(config, "proxies", values, **more)
    early = {f"sgd-{k}": [k / 100 + i / 10 for i in range(5)] for k in config.correlation.steps}
    finish_scores(config, "sgd", early)


@pytest.fixture
def complete(configured: Any) -> Any:
    """Write everything that Table 4 is made of; return the configuration."""

    def write(changes: dict[str, Any] | None = None) -> Config:
        config = configured(changes)
        finish_truth(config)
        for name in config.first_ghns:
            finish_model(config, f"ghn/{name}")
        for seed in config.oneshots:
            finish_model(config, f"oneshot/{seed}")
        finish_untrained(config)
        return config

    return write


def test_the_truth_is_the_accuracy_on_test_images(complete: Any) -> None:
    ranked = Rankings(complete())
    assert list(ranked.truth) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    assert ranked.hashes == HASHES
    assert ranked.truth_in_words == "5 architectures after 30 steps of SGD, test images"


def test_table_4_has_every_method_over_the_architectures_that_are_trained(complete: Any) -> None:
    ranked = Rankings(complete())
    rows = table4_rows(ranked)
    models = ("oneshot", "oneshot/likelihood", "ghn", "ghn/likelihood")
    assert list(rows) == ["sgd-10", *models, *PROXIES]
    assert all(len(values) == 5 for row in rows.values() for values in row.predictions)
    (predicted,) = rows["ghn"].predictions
    assert list(predicted) == [0.5, 0.6, 0.7, 0.8, 0.9]
    (predicted,) = rows["ghn/likelihood"].predictions
    assert list(predicted) == [0.9, 0.8, 0.7, 0.6, 0.5]
    (predicted,) = rows["sgd-10"].predictions
    assert list(predicted) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert (rows["ghn"].initial_seconds, rows["ghn"].each_seconds) == (2.0, 1.5)
    # nothing is trained for a proxy; grasp is the fifth
    (predicted,) = rows["grasp"].predictions
    assert list(predicted) == [40.0, 41.0, 42.0, 43.0, 44.0]
    assert (rows["grasp"].initial_seconds, rows["grasp"].each_seconds) == (None, 1.5)
    # five truths, two models, four scorings
    assert len(ranked.made_of) == 5 + 2 + 4


def test_each_seed_predicts_and_the_costs_are_those_of_one(configured: Any) -> None:
    config = configured({"training.seeds": [0, 4]})
    finish_truth(config)
    finish_model(config, "ghn/default", seconds=2.0)
    finish_model(config, "ghn/default-4", [0.9, 0.8, 0.7, 0.6, 0.5], seconds=4.0)
    found = Rankings(config).ghns("default")["accuracy"]
    assert [list(of) for of in found.predictions] == [
        [0.5, 0.6, 0.7, 0.8, 0.9],
        [0.9, 0.8, 0.7, 0.6, 0.5],
    ]
    assert found.initial_seconds == 3.0
    assert Rankings(config).each_seconds() == [1.5, 1.5]
    # a training of 2 and 4 s, and 1.5 s for each of ten more
    for seed in (0, 4):
        finish_model(config, f"oneshot/{seed}", seconds=6.0)
    costs = Rankings(config).costs(10)
    assert costs == {7: ([2.0, 4.0], [6.0, 6.0]), 15: ([17.0, 19.0], [21.0, 21.0])}


# ---- what each was given ------------------------------------------------------------------------


def given(config: Config) -> dict[str, str]:
    rows = table4_rows(Rankings(config))
    return {name: rows[name].given for name in ("ghn", "oneshot", "sgd-10", "synflow")}


def test_models_that_are_trained_alike_are_said_to_be(complete: Any) -> None:
    config = complete()
    said = given(config)
    steps = 12 * (640 // config.training.batch)  # presets/smoke.yaml
    assert said["ghn"] == (
        f"{steps} steps of {config.training.batch} images, rate 0.001 halved at [4, 8]"
    )
    assert said["oneshot"] == "as the GHN"
    assert said["sgd-10"] == f"10 steps of {config.sgd.batch} images, a seed of its own"
    assert said["synflow"] == f"initial weights, {config.proxies.batch} images"


def test_aids_are_named_and_only_those_that_there_are(complete: Any) -> None:
    aids = {"operation_weights": {"identity": 2}, "warmup": 7, "average": 0.998, "halve_at": []}
    config = complete({"training": aids})
    said = given(config)
    assert said["ghn"].endswith(
        "images, rate 0.001, operations weighted, warm-up of 7 steps, running mean 0.998"
    )
    assert said["oneshot"] == "as the GHN"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": 0.005}, "as the GHN, except learning_rate 0.005"),
        ({"epochs": 9, "halve_at": [3]}, "as the GHN, except epochs 9, halve_at [3]"),
        ({"warmup": 5, "average": 0.5}, "as the GHN, except warmup 5, average 0.5"),
        ({"operation_weights": {"identity": 3}}, "as the GHN, except operation_weights"),
        ({"seeds": [1, 2]}, "as the GHN, except seeds [1, 2]"),
    ],
)
def test_a_row_says_what_differs(complete: Any, changes: dict[str, Any], said: str) -> None:
    assert given(complete({"oneshot": changes}))["oneshot"].startswith(said)


def test_a_ghn_is_held_against_the_first_one(configured: Any) -> None:
    changes = {"ghns.longer": {"epochs": 20}, "correlation.ghns": ["stacked", "longer"]}
    shown = {f"ablations.{part}": [] for part in ("figure5a", "figure5b", "table5")}
    config = configured({**changes, **shown})
    finish_truth(config)
    for name in ("stacked", "longer"):
        finish_model(config, f"ghn/{name}")
    ranked = Rankings(config)
    assert ranked.ghns("stacked")["accuracy"].given.endswith("rate 0.001 halved at [4, 8]")
    assert ranked.ghns("longer")["accuracy"].given == "as the GHN, except epochs 20"


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["ghn/default", "oneshot/0"])
def test_scores_of_other_architectures_are_refused(complete: Any, model: str) -> None:
    config = complete()
    finish_model(config, model, hashes=HASHES[::-1])
    said = rf"scores/{model} is of other architectures .*`ghn scores {model}`"
    with pytest.raises(UserError, match=said):
        table4_rows(Rankings(config))


def test_proxies_of_other_architectures_are_refused(complete: Any) -> None:
    config = complete()
    finish_untrained(config, hashes=[*HASHES[:4], "9" * 16])
    with pytest.raises(UserError, match=r"scores/proxies is of other architectures"):
        table4_rows(Rankings(config))


def test_scores_of_weights_that_are_no_more_are_refused(complete: Any) -> None:
    config = complete()
    finish(config, "ghn/default", files={"model.pt": b"trained once more"})
    with pytest.raises(UserError, match=r"scores/ghn/default was made with .* replaced"):
        Rankings(config).ghns("default")


def test_a_truth_that_is_missing_is_named(complete: Any, configured: Any) -> None:
    complete()
    more = {"correlation.architectures": 6}
    with pytest.raises(UserError, match=r"`ghn sgd 5`: run that first"):
        Rankings(configured(more))


# ---- how much the weights of blocks differ -------------------------------------------------------


def test_the_difference_of_blocks_is_the_mean_over_seeds(configured: Any) -> None:
    config = configured({"training.seeds": [0, 4]})
    finish_truth(config)
    finish_model(config, "ghn/default", block_difference=0.1)
    finish_model(config, "ghn/default-4", block_difference=0.3)
    assert Rankings(config).block_difference("default") == pytest.approx(0.2)
    finish_model(config, "ghn/default-4", block_difference=None)
    assert Rankings(config).block_difference("default") is None
