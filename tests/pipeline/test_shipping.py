"""A GHN that comes with the package: the seed that ranks best, in half precision, with its card."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from scipy import stats
from stage_results import finish

from ghn_pipeline import GHN
from ghn_pipeline.data.images import Images, Splits
from ghn_pipeline.pipeline import shipping
from ghn_pipeline.pipeline.build import untrained
from ghn_pipeline.pipeline.record import result_folder
from ghn_pipeline.pipeline.spaces import space_of
from ghn_pipeline.pipeline.stage import settings
from ghn_pipeline.settings.config import Config
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import digest
from ghn_pipeline.training import checkpoint

HASHES = [digit * 16 for digit in "0123456789ab"]
MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])


def predictions(name: str) -> list[float]:
    rng = Random(name)
    return [rng.random() / 3 + i / 20 for i in range(12)]


@pytest.fixture
def trained(
    configured: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Config:
    """Three seeds, the second of which ranks the selection best; twelve truths."""
    sizes = {"correlation.drawn": 12, "correlation.architectures": 12, "correlation.repeats": 0}
    config = configured({"training.seeds": [0, 1, 2], **sizes})
    monkeypatch.chdir(tmp_path)
    nothing = Images(torch.zeros(0, 3, 8, 8, dtype=torch.uint8), torch.zeros(0).long())
    splits = Splits(nothing, nothing, nothing, MEAN, STD)
    monkeypatch.setattr(shipping, "images_of", lambda *_: splits)
    for i, hash in enumerate(HASHES):
        measured = {30: {"validation": 0.3, "test": i / 20}}
        finish(config, f"sgd/{i}", {"hash": hash, "measured": measured})
    for name, last in zip(config.first_ghns, (0.5, 0.8, 0.6), strict=True):
        stage = f"ghn/{name}"
        weights = {"model": untrained(config, stage).state_dict()}
        path = result_folder(config, stage) / "model.pt"
        checkpoint.save(path, weights, digest(settings(config, stage)))
        measured = {10: {"spearman": 1 - last}, 20: {"spearman": last}}
        kept = {"model.pt": path.read_bytes()}
        folder = finish(config, stage, {"measured": measured}, files=kept)
        of = {"model.pt": hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()}
        values: dict[str, Any] = dict.fromkeys(("accuracy", "likelihood"), predictions(name))
        result = {"values": values, "hashes": HASHES, "mean": dict.fromkeys(values, 0.5)}
        finish(config, f"scores/{stage}", result, inputs=of)
    return config


def test_the_seed_that_ranks_the_selection_best_is_shipped(trained: Config) -> None:
    folder = shipping.ship(trained)
    assert folder == Path("ghn_pipeline/trained/classification")
    ghn, expected = GHN.from_pretrained(folder), untrained(trained, "ghn/default-1")
    assert ghn.space == space_of(trained)
    for name, weight in expected.state_dict().items():
        assert torch.allclose(ghn.model.state_dict()[name], weight, atol=1e-3), name
        assert torch.equal(ghn.model.state_dict()[name], weight.half().float()), name
    assert torch.equal(ghn.mean, MEAN)
    assert torch.equal(ghn.std, STD)


def test_the_card_says_where_it_comes_from_and_how_well_it_ranks(trained: Config) -> None:
    card = GHN.from_pretrained(shipping.ship(trained)).card
    assert card["stage"] == "smoke, ghn/default-1"
    assert card["chosen"].endswith("the best of 3 seeds")
    assert "0.800" in card["chosen"]
    assert card["steps"] == 30
    value, low, high = card["ranks"]["spearman"]
    assert low < value < high
    # of this seed alone, not of the mean over seeds
    expected = stats.spearmanr(predictions("default-1"), range(12)).statistic
    assert value == pytest.approx(expected, abs=1e-4)


def test_a_damaged_ghn_is_not_shipped(trained: Config) -> None:
    (result_folder(trained, "ghn/default-1") / "model.pt").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"ghn/default-1/model\.pt"):
        shipping.ship(trained)
    assert not Path("ghn_pipeline").exists()
