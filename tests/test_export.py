"""The exported files compute what the trained network does, in PyTorch and without it."""

import hashlib
import json
import math
import pickle
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
from hypothesis import given
from mutations import THOUSAND, Evil, changed_json, damaged, edited_zip
from torch import Tensor

from ghn_pipeline.export import load, save, write_onnx
from ghn_pipeline.model.graph import Block, Node
from ghn_pipeline.model.network import Network, Trained
from ghn_pipeline.spaces.classification import INPUTS, Classification, ClassificationSettings
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import digest

NAMES = tuple(ClassificationSettings.known)
SPACE = Classification(NAMES, 3, 2, 4, (2,), 2, 10)
#: Every operation, on one, two and three inputs; its nodes have the numbers of its weights.
LISTED = Block((*INPUTS, *(Node(op, (0, 1, 2)[: 1 + i % 3]) for i, op in enumerate(NAMES, 1))))
BLOCK = LISTED.canonical
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


def test_the_order_in_which_nodes_are_listed_changes_nothing(model: Trained, tmp_path: Path):
    save(tmp_path, SPACE, LISTED, model, MEAN, STD)
    assert LISTED != BLOCK
    with torch.no_grad():
        assert torch.equal(load(tmp_path)(pixels(5)), expected(model, pixels(5)))


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


def of_space(**changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda value: value["space"].update(changes)


def of_all(**changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda value: value.update(changes)


def lists_in_lists(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


#: Edits of `architecture.json`, and what is said of each.
CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no mean": (lambda value: value.pop("mean"), "mean: Field required"),
    "no digest of model.pt": (lambda value: value.pop("sha256"), "sha256: Field required"),
    "no digest": (lambda value: value.pop("digest"), "digest: Field required"),
    "two means": (lambda value: value["mean"].pop(), "mean: .*at least 3 items"),
    "a mean in words": (of_all(mean="grey"), "mean: .*valid list"),
    "a huge mean": (of_all(mean=[0.5, 1e300, 0.5]), "mean.1: .*less than or equal to 1"),
    "std 0": (of_all(std=[0.2, 0.0, 0.3]), "std.1: .*greater than or equal to"),
    "std that float32 has not": (of_all(std=[1e-300, 0.2, 0.3]), "std.0: .*greater than or equal"),
    "another mean": (of_all(mean=[0.5, 0.25, 0.5]), "architecture.json was changed"),
    "another block": (of_all(block=SPACE.sample(Random(0), 5).to_json()), "was changed"),
    "another edge": (lambda value: value["block"][-1].__setitem__(1, [1]), "was changed"),
    "unknown operation": (
        lambda value: value["block"].append(["conv_1x2", [0]]),
        r"unknown operations conv_1x2 \(did you mean conv_1x1\?\)",
    ),
    "unknown operation of the space": (
        lambda value: value["space"]["operations"].append("max_pool_3"),
        r"unknown operation max_pool_3 \(did you mean max_pool_3x3\?\)",
    ),
    "operation of another space": (
        lambda value: value["space"]["operations"].append("dense_conv_1x1"),
        "unknown operation dense_conv_1x1",
    ),
    "a block of another space": (
        of_all(block=[["input", []], ["conv_1x1", [0]], ["identity", [1]]]),
        "unknown operations input",
    ),
    "a block in words": (of_all(block="a block"), "block: .*valid list"),
    "a block of lists in lists": (of_all(block=lists_in_lists(90)), "not a block"),
    "a large block": (of_all(block=[["input_1", []]] * 10**5), "has 100,000 nodes"),
    "more channels": (of_space(channels=8), "was changed"),
    "no channels": (of_space(channels=0), "channels: .*greater than or equal to 1"),
    "channels in words": (of_space(channels="4"), "channels: .*valid integer"),
    "channels that are true": (of_space(channels=True), "channels: .*valid integer"),
    "100 billion channels": (of_space(channels=10**11), "channels: .*less than or equal to"),
    "a stride of 0": (of_space(stem_stride=0), "stem_stride: .*greater than or equal to 1"),
    "another stride": (of_space(stem_stride=2), "was changed"),
    "-1 classes": (of_space(classes=-1), "classes: .*greater than or equal to 1"),
    "20,000 blocks": (of_space(blocks=20_000), "was changed"),
    "many reductions": (of_space(reductions=[1] * 2000), "reductions: .*at most 16"),
    "unknown setting": (of_space(depth=3), "depth: Extra inputs"),
    "unknown key": (of_all(depth=3), "depth: Extra inputs"),
    "another space": (of_space(name="nasbench201"), "Extra inputs"),
    "unknown space": (
        of_space(name="clasification"),
        r"unknown space 'clasification' \(did you mean classification\?\)",
    ),
    "a space that is a list": (of_space(name=["classification"]), "unknown space"),
    "no space": (of_all(space=None), "space: .*valid dict"),
    "a resolution in words": (of_all(resolution="small"), "resolution: .*valid integer"),
    "a resolution of 0": (of_all(resolution=0), "resolution: .*greater than or equal to 1"),
    "another resolution": (of_all(resolution=16), "was changed"),
    "another digest": (of_all(sha256="0" * 64), "model.pt is damaged or of another network"),
}


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def edit(folder: Path, change: Callable[[dict[str, Any]], object], seal: bool = False) -> None:
    path = folder / "architecture.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    if seal:
        value["sha256"] = hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()
        value["digest"] = digest({key: value[key] for key in value.keys() - {"digest"}})
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
def test_files_that_do_not_belong_together_are_refused(
    copied: Path, change: Callable[[dict[str, Any]], object], reason: str
):
    edit(copied, change)
    with pytest.raises(UserError, match=f"do not make a network .*{reason}") as refused:
        load(copied)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (of_space(blocks=20_000), "nodes, more than 10,000"),
        (of_space(blocks=100_000), "nodes, more than 10,000"),
        (of_space(channels=100_000), "parameters, more than model.pt holds"),
        (of_space(classes=100_000), "parameters, more than model.pt holds"),
        (of_space(channels=3), r"is float32 \[\d+.* and should be"),
        (of_space(reductions=[]), "is float32"),
        (lambda value: value["block"].pop(), "tensors of other models"),
    ],
)
def test_what_was_sealed_anew_is_refused_before_it_takes_memory_or_time(
    copied: Path, change: Callable[[dict[str, Any]], object], reason: str
):
    edit(copied, change, seal=True)
    with pytest.raises(UserError, match=f"do not make a network .*{reason}"):
        load(copied)


def test_what_is_saved_says_what_it_is(folder: Path):
    value = json.loads((folder / "architecture.json").read_text(encoding="utf-8"))
    assert list(value) == ["space", "block", "resolution", "mean", "std", "sha256", "digest"]
    rest = {key: value[key] for key in value if key != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    assert value["digest"] == hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.clear(), "parameters, more than model.pt holds"),
        (lambda state: state.popitem(), "1 of its .* tensors are missing"),
        (lambda state: next(iter(state.values())).fill_(math.nan), "is not finite"),
        (lambda state: next(iter(state.values())).fill_(-math.inf), "is not finite"),
        (lambda state: state.update({next(iter(state)): torch.zeros(1)}), "should be float32"),
        (lambda state: state.update(other=torch.zeros(1)), "1 tensors of other models"),
        (lambda state: state.update({3: "x"}), "1 tensors of other models"),
    ],
)
def test_weights_that_are_none_are_refused(
    copied: Path, change: Callable[[dict[Any, Any]], object], reason: str
):
    state = torch.load(copied / "model.pt", weights_only=True)
    change(state)
    torch.save(state, copied / "model.pt")
    edit(copied, lambda _: None, seal=True)
    with pytest.raises(UserError, match=f"do not make a network .*{reason}"):
        load(copied)


@pytest.mark.parametrize("seal", [True, False])
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pickle_of_code_is_not_run_and_said_to_be_one(copied: Path, protocol: int, seal: bool):
    content = pickle.dumps({"w": Evil(copied / "executed")}, protocol)
    (copied / "model.pt").write_bytes(content)
    edit(copied, lambda _: None, seal)
    with pytest.raises(UserError, match=r"model\.pt holds code, which was not run: .*`ghn export`"):
        load(copied)
    assert not (copied / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"{}", pickle.dumps({"w": 1.0}), b"PK\x03\x04"])
def test_something_else_in_place_of_the_weights_is_refused(copied: Path, content: bytes):
    (copied / "model.pt").write_bytes(content)
    edit(copied, lambda _: None, seal=True)
    with pytest.raises(UserError, match=r"model\.pt is not a whole checkpoint .*`ghn export`"):
        load(copied)


@pytest.mark.parametrize("name", ["architecture.json", "model.pt"])
def test_the_files_of_two_exports_do_not_go_together(copied: Path, name: str):
    # of the same architecture: nothing but the weights is another
    save(copied / "other", SPACE, BLOCK, trained(BLOCK, seed=1), MEAN, STD)
    shutil.copy(copied / "other" / name, copied)
    with pytest.raises(UserError, match=r"model\.pt is damaged or of another network"):
        load(copied)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"mean": NaN}',
        '{"sha256": "a", "sha256": "a"}',
        "\ufeff{}",
    ],
)
def test_json_that_is_none_is_refused(copied: Path, text: str):
    (copied / "architecture.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"architecture\.json is not whole JSON .*`ghn export`"):
        load(copied)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    space = replace(SPACE, blocks=1, reductions=())
    block = Block((*INPUTS, Node("conv_1x1", (0, 1)), Node("max_pool_3x3", (0,))))
    model = Trained(Network(space.modules(block), SIDE), torch.Generator().manual_seed(0))
    save(folder / "whole", space, block, model, MEAN, STD)
    return folder


def is_whole_or_refused(small: Path) -> None:
    try:
        found = load(small / "mutated")
    except UserError as error:
        assert "\n" not in str(error)
        return
    whole = load(small / "whole")
    assert repr(found.model.network.modules) == repr(whole.model.network.modules)
    assert found.model.network.resolution == whole.model.network.resolution
    expected = whole.state_dict()
    assert found.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.state_dict().items())


@pytest.mark.parametrize("name", ["architecture.json", "model.pt"])
def test_a_thousand_mutations_are_refused_or_leave_all_as_it_was(small: Path, name: str):
    shutil.rmtree(small / "mutated", ignore_errors=True)
    shutil.copytree(small / "whole", small / "mutated")
    content = (small / "whole" / name).read_bytes()
    edits = changed_json(json.loads(content)) if name.endswith(".json") else edited_zip(content)

    @THOUSAND
    @given(edits | damaged(content))
    def holds(mutated: bytes) -> None:
        (small / "mutated" / name).write_bytes(mutated)
        is_whole_or_refused(small)

    holds()


def test_something_else_in_place_of_the_architecture_is_refused(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy/architecture.json").write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(UserError, match="do not make a network"):
        load(tmp_path / "copy")
