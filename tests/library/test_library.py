"""The public interface: weights as a module, ranking, and files that describe themselves."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ghn_pipeline
from ghn_pipeline import GHN, UserError, count, load, space
from ghn_pipeline.library import trained
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import run

STACK = {"blocks": 2, "channels": 4, "reductions": (2,), "stem_multiplier": 2, "classes": 5}
ARGUMENTS = {
    **STACK,
    "max_inputs": 2,
    "stem_stride": 1,
    "operations": ("conv_1x1", "sep_conv_3x3", "max_pool_3x3"),
}
SPACE = space("classification", **ARGUMENTS)
DESIGN = {
    "passes": 1,
    "scheme": "forward-backward",
    "share_parameters": True,
    "pass_embeddings": True,
    "embedding": 6,
    "message_hidden": 5,
    "hypernetwork_hidden": 7,
    "positions": False,
}
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SIDE = 8
BLOCKS = [SPACE.sample(Random(seed), 3) for seed in range(12)]
BLOCK = BLOCKS[0]


@pytest.fixture(scope="module")
def ghn() -> GHN:
    return GHN.of(SPACE, resolution=SIDE, mean=MEAN, std=STD, seed=1, **DESIGN)


def pixels(count: int = 20, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def labels(count: int = 20) -> Tensor:
    return torch.arange(count) % 5


def logits(ghn: GHN, block: Block, images: Tensor) -> Tensor:
    """The logits as training and scoring compute them: batch norms normalise by the batch."""
    mean, std = (torch.tensor(of).reshape(3, 1, 1) for of in (MEAN, STD))
    with torch.no_grad():
        return run(ghn.network(block), ghn.weights(block), (images - mean) / std)


# ---- weights and modules -----------------------------------------------------------------------


def test_weights_are_those_that_the_hypernetwork_generates(ghn: GHN) -> None:
    network = ghn.network(BLOCK)
    (expected,) = ghn.model([network])
    found = ghn.weights(BLOCK)
    assert found.keys() == {spec.name for spec in network.specs} == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not any(weight.requires_grad for weight in found.values())
    assert all(weight.requires_grad for weight in ghn([BLOCK])[0].values())


def test_a_module_has_the_weights_as_parameters_and_computes_the_same(ghn: GHN) -> None:
    module, weights = ghn.module(BLOCK), ghn.weights(BLOCK)
    assert isinstance(module, nn.Module)
    assert sum(p.numel() for p in module.parameters()) == count(SPACE, BLOCK).parameters
    assert all(torch.equal(module.model.weights[name], weights[name]) for name in weights)
    found = module.train()(pixels())
    assert torch.allclose(found, logits(ghn, BLOCK, pixels()), atol=1e-6)
    F.cross_entropy(found, labels()).backward()
    assert all(p.grad is not None for p in module.parameters())


def test_an_evaluation_without_statistics_is_refused(ghn: GHN) -> None:
    module = ghn.module(BLOCK).eval()
    with pytest.raises(UserError, match="recalibrate"):
        module(pixels())
    with pytest.raises(UserError, match="no images"):
        module.recalibrate([])
    trained_once = ghn.module(BLOCK).train()
    trained_once(pixels())
    assert trained_once.eval()(pixels()).shape == (20, 5)


def test_after_recalibration_evaluation_gives_what_training_gives(ghn: GHN) -> None:
    module = ghn.module(BLOCK).recalibrate([pixels()]).eval()
    assert torch.allclose(module(pixels()), logits(ghn, BLOCK, pixels()), atol=1e-5)
    # one image alone, which batch statistics could not tell
    assert torch.allclose(module(pixels()[:1]), module(pixels())[:1], atol=1e-5)


def test_the_statistics_are_those_of_all_batches_together(ghn: GHN) -> None:
    module = ghn.module(BLOCK).recalibrate([pixels(7, 1), pixels(13, 2)])
    name, channels = next(iter(ghn.network(BLOCK).norms.items()))
    stem = module.model.weights[next(n for n in module.model.weights if "/stem/" in n)]
    mean, std = (torch.tensor(of).reshape(3, 1, 1) for of in (MEAN, STD))
    images = (torch.cat([pixels(7, 1), pixels(13, 2)]) - mean) / std
    convolved = F.conv2d(images, stem, padding=1).transpose(0, 1).reshape(channels, -1)
    assert torch.allclose(module.model.get_buffer(f"mean/{name}"), convolved.mean(1), atol=1e-5)
    variance = module.model.get_buffer(f"variance/{name}")
    assert torch.allclose(variance, convolved.var(1, correction=0), rtol=1e-4)


def test_a_modules_state_and_files_keep_its_statistics(ghn: GHN, tmp_path: Path) -> None:
    module = ghn.module(BLOCK).recalibrate([pixels()]).eval()
    again = ghn.module(BLOCK)
    again.load_state_dict(module.state_dict())
    assert torch.equal(again.eval()(pixels()), module(pixels()))
    module.save(tmp_path)
    assert torch.allclose(load(tmp_path)(pixels()), module(pixels()), atol=1e-6)


@pytest.mark.parametrize(
    "other", [nn.Linear(2, 2), [["conv_1x1", [0]]], "resnet18"], ids=["torch", "list", "name"]
)
def test_a_network_that_is_no_block_is_refused_in_one_sentence(ghn: GHN, other: Any) -> None:
    with pytest.raises(UserError, match=rf"no {type(other).__name__}: .*space\.read") as raised:
        ghn.weights(other)
    assert "\n" not in str(raised.value)


def test_a_block_of_another_space_is_refused(ghn: GHN) -> None:
    foreign = Block.from_json(
        [["input_1", []], ["input_2", []], ["conv_1x1", [0, 1]]], ["conv_1x1", "input_1", "input_2"]
    )
    assert ghn.weights(foreign)
    for nodes in (
        [["input", []], ["conv_1x1", [0]]],
        [["input_1", []], ["input_2", []], ["dil_conv_5x5", [0, 1]]],
    ):
        block = Block.from_json(nodes, ["input", "input_1", "input_2", "conv_1x1", "dil_conv_5x5"])
        with pytest.raises(UserError):
            ghn.module(block)


# ---- ranking -----------------------------------------------------------------------------------


def judged(ghn: GHN, block: Block, batch: int) -> tuple[float, float]:
    """Accuracy and likelihood, an image at a time."""
    rows = torch.cat([logits(ghn, block, part) for part in pixels(40).split(batch)])
    right = sum(int(row.argmax() == label) for row, label in zip(rows, labels(40), strict=True))
    logs = [float(row.log_softmax(0)[label]) for row, label in zip(rows, labels(40), strict=True)]
    return right / 40, math.exp(sum(logs) / 40)


@pytest.mark.parametrize("measure", ["likelihood", "accuracy"])
def test_rank_sorts_blocks_by_the_measure(ghn: GHN, measure: str) -> None:
    found = ghn.rank(BLOCKS, pixels(40), labels(40), measure=measure, batch=10, workers=1)
    assert list(found.index) == list(range(1, len(BLOCKS) + 1))
    assert found.index.name == "rank"
    assert set(found["block"]) == set(BLOCKS)
    assert found[measure].is_monotonic_decreasing
    for row in found.itertuples():
        assert (row.accuracy, row.likelihood) == pytest.approx(judged(ghn, row.block, 10), rel=1e-5)
        assert row.hash == row.block.hash
        assert (row.parameters, row.multiply_adds) == count(SPACE, row.block, SIDE)


def test_threads_change_no_bit_of_a_ranking(ghn: GHN) -> None:
    one, two, cores = (
        ghn.rank(BLOCKS, pixels(), labels(), workers=workers) for workers in (1, 2, 0)
    )
    assert one.equals(two)
    assert one.equals(cores)


def test_bytes_and_numbers_are_the_same_images(ghn: GHN) -> None:
    whole = (255 * pixels()).round().to(torch.uint8)
    found = ghn.rank(BLOCKS, whole.numpy(), labels().numpy(), workers=1)
    again = ghn.rank(BLOCKS, whole.double() / 255, labels().int(), workers=1)
    assert np.allclose(found["likelihood"], again["likelihood"], rtol=1e-5)


def test_a_last_image_is_never_alone_in_its_batch(ghn: GHN) -> None:
    found = ghn.rank(BLOCKS[:1], pixels(21), torch.arange(21) % 5, batch=10, workers=1)
    assert 0 < found["likelihood"][1] < 1


def test_blocks_that_compute_the_same_are_equal(ghn: GHN) -> None:
    twin = Block(BLOCK.canonical.nodes)
    found = ghn.rank([BLOCK, twin], pixels(), labels(), workers=1)
    assert len(found) == 2
    assert found["likelihood"].nunique() == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": torch.rand(20, 1, SIDE, SIDE)}, r"shape \[N, 3, R, R\], not \[20, 1, 8, 8\]"),
        ({"images": torch.rand(20, 3, 8, 9)}, "shape"),
        ({"images": torch.rand(20, 3 * 64)}, "shape"),
        ({"images": 2 * torch.rand(20, 3, 8, 8)}, "from 0 to 1"),
        ({"images": torch.randn(20, 3, 8, 8)}, "from 0 to 1"),
        ({"labels": torch.arange(19)}, "20 whole numbers"),
        ({"labels": torch.rand(20)}, "20 whole numbers"),
        ({"labels": torch.arange(20)}, "5 classes"),
        ({"labels": labels() - 1}, "5 classes"),
        ({"measure": "likelyhood"}, "did you mean likelihood"),
        ({"measure": "flow"}, "flow"),
        ({"flow": 0.1}, "flow"),
        ({"blocks": []}, "no blocks"),
        ({"batch": 1}, "batch"),
    ],
)
def test_wrong_input_is_one_message(ghn: GHN, change: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"blocks": BLOCKS[:2], "images": pixels(), "labels": labels()}
    with pytest.raises(UserError, match=said):
        ghn.rank(**given | change)


# ---- files -------------------------------------------------------------------------------------


@pytest.fixture
def saved(ghn: GHN, tmp_path: Path) -> Path:
    ghn.card = {"trained on": "nothing"}
    ghn.save(tmp_path / "ghn")
    return tmp_path / "ghn"


def test_files_describe_themselves(ghn: GHN, saved: Path) -> None:
    found = GHN.from_pretrained(saved)
    assert found.space == SPACE
    assert (found.resolution, found.design, found.card) == (SIDE, ghn.design, ghn.card)
    for block in BLOCKS[:3]:
        expected, weights = ghn.weights(block), found.weights(block)
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
    both = [g.rank(BLOCKS, pixels(), labels(), workers=1) for g in (ghn, found)]
    assert both[0].equals(both[1])
    assert not found.training


def test_half_precision_takes_half_the_space(ghn: GHN, saved: Path, tmp_path: Path) -> None:
    ghn.save(tmp_path / "half", half=True)
    whole, half = (path.stat().st_size for path in (saved / "model.pt", tmp_path / "half/model.pt"))
    assert half < 0.75 * whole
    found = GHN.from_pretrained(tmp_path / "half")
    expected = ghn.weights(BLOCK)
    assert all(
        torch.allclose(weight, expected[name], atol=1e-2)
        for name, weight in found.weights(BLOCK).items()
    )
    assert next(found.parameters()).dtype == torch.float32


def changed(key: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / "ghn.json").read_text(encoding="utf-8"))
        (folder / "ghn.json").write_text(json.dumps({**content, key: value}), encoding="utf-8")

    return change


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-20]) and None


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (changed("resolution", 16), "was changed"),
        (changed("design", {"passes": 1}), "Field required"),
        (changed("more", 1), "more"),
        (cut("ghn.json"), "not whole JSON"),
        (cut("model.pt"), "damaged or of another GHN"),
        (lambda folder: (folder / "model.pt").unlink(), r"model\.pt"),
        (lambda folder: shutil.rmtree(folder), "no trained GHN"),
    ],
    ids=["value", "design", "key", "json", "weights", "missing", "none"],
)
def test_damaged_files_are_one_message(
    saved: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(saved)
    with pytest.raises(UserError, match=said):
        GHN.from_pretrained(saved)


def test_weights_of_another_design_are_refused(ghn: GHN, saved: Path) -> None:
    other = GHN.of(SPACE, resolution=SIDE, **DESIGN | {"embedding": 5})
    content = trained.description(saved)
    trained.describe(
        saved,
        space=SPACE,
        design=other.design,
        **content.model_dump(exclude={"space", "design", "sha256", "digest"}),
    )
    with pytest.raises(UserError, match="do not make a GHN"):
        GHN.from_pretrained(saved)


# ---- the package -------------------------------------------------------------------------------


def test_every_public_name_is_there_and_no_other() -> None:
    assert sorted(ghn_pipeline.__all__) == ["GHN", "UserError", "count", "load", "space"]
    for name in ghn_pipeline.__all__:
        assert getattr(ghn_pipeline, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'GNH'"):
        ghn_pipeline.GNH  # noqa: B018


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("clasification", {}, "unknown space 'clasification'.*classification"),
        ("classification", ARGUMENTS | {"blocks": 0}, "blocks"),
        ("classification", ARGUMENTS | {"chanels": 3}, "chanels"),
        ("classification", ARGUMENTS | {"operations": ("conv_9x9",)}, "unknown operation conv_9x9"),
    ],
)
def test_a_wrong_space_is_one_message(name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        space(name, **settings)


def test_a_wrong_design_is_one_message() -> None:
    with pytest.raises(UserError, match="passes"):
        GHN.of(SPACE, **DESIGN | {"passes": 0})
    with pytest.raises(UserError, match="pases"):
        GHN.of(SPACE, **DESIGN | {"pases": 1})


def test_a_block_draws_itself() -> None:
    drawn = BLOCK.draw()
    words = " ".join(text.get_text() for axes in drawn.axes for text in axes.texts)
    assert all(f"{op}"[:4] in words for op in ("conv", "input"))
