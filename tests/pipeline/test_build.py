"""What a configuration describes: spaces, models before training, scorers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CELLS
from stage_results import finish

from ghn_pipeline.data.imagenet import ImageNet
from ghn_pipeline.pipeline import build, spaces
from ghn_pipeline.pipeline.stage import settings
from ghn_pipeline.spaces.nasbench201 import NasBench201
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import digest
from ghn_pipeline.training import checkpoint


def test_the_space_is_the_one_that_is_named(configured: Any) -> None:
    paper, cells = configured(), configured(CELLS)
    found = spaces.space_of(cells)
    assert type(found) is NasBench201
    assert (found.operations, found.reductions) == (tuple(CELLS["space.operations"]), (2,))
    assert spaces.paper_space(paper) == spaces.space_of(paper)
    assert spaces.paper_space(paper).max_inputs == 2  # presets/smoke.yaml, params.yaml


def test_ghns_of_other_seeds_start_from_other_weights(configured: Any) -> None:
    config = configured({"ghns": {"again": {}, "other": {"seeds": [1]}}})
    first, again, other = (
        build.untrained(config, f"ghn/{name}").state_dict()
        for name in ("default", "again", "other")
    )
    for name, weight in first.items():
        assert torch.equal(weight, again[name])
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


def test_one_shot_models_of_other_seeds_start_from_other_weights(configured: Any) -> None:
    config = configured({"oneshot": {"seeds": [0, 1]}})
    first, again, other = (
        build.untrained(config, f"oneshot/{seed}").state_dict() for seed in (0, 0, 1)
    )
    drawn = [name for name, weight in first.items() if weight.unique().numel() > 2]
    assert drawn
    for name, weight in first.items():
        assert torch.equal(weight, again[name])
        assert name not in drawn or not torch.equal(weight, other[name])


def test_the_mobile_space_stacks_the_same_blocks_in_another_way(configured: Any) -> None:
    config = configured()
    space, own = spaces.mobile_space(config, None), spaces.space_of(config)
    assert (space.operations, space.max_inputs) == (own.operations, own.max_inputs)
    # presets/smoke.yaml, and ImageNet's classes
    assert (space.blocks, space.reductions, space.stem_stride) == (4, (1, 2), 2)
    assert (space.classes, own.classes) == (1000, 10)
    images = ImageNet(("cat", "dog", "emu"), (), (), "digest")
    assert spaces.mobile_space(config, images).classes == 3


@pytest.mark.parametrize("stage", ["ghn/default", "oneshot/0"])
def test_weights_that_are_not_finite_score_nothing(
    configured: Any, monkeypatch: pytest.MonkeyPatch, stage: str, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    config = configured()
    monkeypatch.setattr(build, "images_of", lambda *_: None)  # none is looked at
    monkeypatch.setattr(build, "prepare_process", lambda _: None)
    weights = build.untrained(config, stage).state_dict()
    next(iter(weights.values())).fill_(float("nan"))
    path = Path("results", config.scale, stage, "model.pt")
    checkpoint.save(path, {"model": weights}, digest(settings(config, stage)))
    finish(config, stage, files={"model.pt": path.read_bytes()})
    with pytest.raises(UserError, match=r"model\.pt has no weights for this model: .* not finite"):
        build.scorer_of(config, stage, torch.device("cpu"))
