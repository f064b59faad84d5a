"""The exported files compute what the trained network does, in PyTorch and without it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from ghn_pipeline.errors import UserError
from ghn_pipeline.export import load, save, write_onnx
from ghn_pipeline.network import Network, Trained
from ghn_pipeline.sections import OPERATIONS_OF
from ghn_pipeline.space.classification import INPUTS, Classification
from ghn_pipeline.space.graph import Block, Node
from ghn_pipeline.space.operations import OPERATIONS

NAMES = tuple(op for op in OPERATIONS if op in OPERATIONS_OF["classification"])
SPACE = Classification(NAMES, 3, 2, 4, (2,), 2, 10)
#: Every operation, on one, two and three inputs.
BLOCK = Block((*INPUTS, *(Node(op, (0, 1, 2)[: 1 + i % 3]) for i, op in enumerate(NAMES, 1))))
MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
SIDE = 8
FILES = {"architecture.json", "model.pt", "model.onnx"}


def pixels(batch: int, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def trained(block: Block, seed: int = 0) -> Trained:
    """With affine parts and running statistics of batch norm that are not those it starts with."""
    generator = torch.Generator().manual_seed(seed)
    model = Trained(Network(SPACE.modules(block), SIDE), generator)
    with torch.no_grad():
        for parameter in (*model.scale.values(), *model.shift.values()):
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
        for step in range(3):
            model((pixels(16, step) - 0.2) / 0.1)
    return model


@pytest.fixture(scope="module")
def model() -> Trained:
    return trained(BLOCK)


@pytest.fixture(scope="module")
def folder(model: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "winner"
    save(folder, SPACE, BLOCK, model, MEAN, STD)
    write_onnx(load(folder), folder / "model.onnx")
    return folder


def expected(model: Trained, images: Tensor) -> Tensor:
    shape = (1, 3, 1, 1)
    with torch.no_grad():
        return model.eval()((images - MEAN.view(shape)) / STD.view(shape))


@pytest.mark.parametrize("batch", [1, 5])
def test_onnx_computes_what_pytorch_does(model: Trained, folder: Path, batch: int):
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    images = pixels(batch, seed=batch)
    (logits,) = session.run(["logits"], {"pixels": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), expected(model, images), atol=1e-4, rtol=0)


def test_load_gives_back_the_very_network(model: Trained, folder: Path):
    images = pixels(5)
    with torch.no_grad():
        assert torch.equal(load(folder)(images), expected(model, images))


def test_onnx_is_one_valid_file_for_any_batch_with_nothing_of_this_machine(folder: Path):
    assert {path.name for path in folder.iterdir()} == FILES
    proto = onnx.load(folder / "model.onnx", load_external_data=False)
    onnx.checker.check_model(proto, full_check=True)
    (given,), (returned,) = proto.graph.input, proto.graph.output
    shapes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (given, returned)
    ]
    assert shapes == [["batch", 3, SIDE, SIDE], ["batch", SPACE.classes]]
    assert b".py" not in (folder / "model.onnx").read_bytes()


def test_equal_networks_give_equal_files_and_nothing_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    space, block = replace(SPACE, blocks=1), Block((*INPUTS, Node("conv_1x1", (0, 1))))
    for name in ("a", "b"):
        model = Trained(Network(space.modules(block), SIDE), torch.Generator().manual_seed(0))
        save(tmp_path / name, space, block, model, MEAN, STD)
        write_onnx(load(tmp_path / name), tmp_path / name / "model.onnx")
    assert capfd.readouterr() == ("", "")
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_weights_are_a_plain_state_dict(model: Trained, folder: Path):
    state = torch.load(folder / "model.pt", weights_only=True)
    assert type(state) is dict
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["architecture.json", "model.pt"])
def test_missing_and_truncated_files_are_named(folder: Path, tmp_path: Path, name: str):
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / name
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=name):
        load(tmp_path / "copy")
    path.unlink()
    with pytest.raises(UserError, match=f"{name}.*ghn export"):
        load(tmp_path / "copy")


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no mean": lambda value: value.pop("mean"),
    "two means": lambda value: value["mean"].pop(),
    "a mean in words": lambda value: value.update(mean="grey"),
    "another block": lambda value: value.update(block=SPACE.sample(Random(0), 5).to_json()),
    "unknown operation": lambda value: value["block"].append(["conv_9x9", [0]]),
    "more channels": lambda value: value["space"].update(channels=8),
    "unknown setting": lambda value: value["space"].update(depth=3),
    "a resolution in words": lambda value: value.update(resolution="small"),
    "no space": lambda value: value.update(space=None),
    "another digest": lambda value: value.update(sha256="0" * 64),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_files_that_do_not_belong_together_are_refused(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object]
):
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy/architecture.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(UserError, match="do not make a network"):
        load(tmp_path / "copy")


def test_something_else_in_place_of_the_architecture_is_refused(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy/architecture.json").write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(UserError, match="do not make a network"):
        load(tmp_path / "copy")
