"""The export of a network as files: for PyTorch, and as ONNX, which does not need this package."""

import hashlib
import io
import json
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import torch
from pydantic import Field, ValidationError, create_model
from torch import Tensor, nn

from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import IMAGE, Network, Trained, run_to_budget
from ghn_pipeline.settings.sections import Section
from ghn_pipeline.spaces.known import SPACES
from ghn_pipeline.spaces.space import Space
from ghn_pipeline.system.errors import UserError, did_you_mean
from ghn_pipeline.system.files import digest, read_bytes, read_json, write_atomically
from ghn_pipeline.training.checkpoint import fill, unpickled

MADE_BY = "ghn export` or `ghn anytime_curves"
#: The most nodes of all blocks in a network that is read. The paper's have at most 342.
MOST_NODES = 10_000

Size = Annotated[int, Field(ge=1, le=100_000)]
_EACH = Field(min_length=IMAGE.channels, max_length=IMAGE.channels)


class Architecture(Section):
    """The content of `architecture.json`.

    Attributes:
        space: name of the search space, and the arguments of its constructor.
        block: the architecture, in the form that its space reads.
        resolution: side of the images in pixels.
        mean: mean of each channel of the training images, from 0 to 1.
        std: standard deviation of each channel of the training images.
        sha256: SHA-256 of `model.pt`.
        digest: digest of the other keys.
    """

    space: dict[str, Any]
    block: list[Any]
    resolution: Annotated[int, Field(ge=1, le=10_000)]
    mean: Annotated[list[Annotated[float, Field(ge=0, le=1)]], _EACH]
    std: Annotated[list[Annotated[float, Field(ge=1e-6, le=1)]], _EACH]
    sha256: str
    digest: str


#: The JSON types of the arguments of a space, by the arguments' own types.
_ARGUMENTS: dict[Any, Any] = {
    int: Size,
    tuple[int, ...]: Annotated[list[Size], Field(max_length=16)],
    tuple[str, ...]: Annotated[list[str], Field(min_length=1, max_length=100)],
}


def _schema(name: str, space: Callable[..., Space]) -> type[Section]:
    arguments: dict[str, Any] = {
        key: (_ARGUMENTS[t], ...) for key, t in get_type_hints(space).items()
    }
    return create_model(name, __base__=Section, **arguments)


_SPACES = {name: _schema(name, space.makes) for name, space in SPACES.items()}


class Exported(nn.Module):
    """A trained network that takes plain pixels, from 0 to 1.

    Args:
        model: the network, which takes normalised images.
        mean: mean of each channel of the training images, [3].
        std: standard deviation of each channel of the training images, [3].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Trained, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean.reshape(IMAGE.channels, 1, 1))
        self.register_buffer("std", std.reshape(IMAGE.channels, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, classes] for pixels [B, 3, R, R], float32 from 0 to 1."""
        logits: Tensor = self.model((pixels - self.mean) / self.std)
        return logits

    def to_budget(self, pixels: Tensor, budget: float) -> Tensor:
        """Return the logits of the last exit within a budget, without further work (section 5.2).

        Args:
            pixels: pixels [B, 3, R, R], float32 from 0 to 1.
            budget: multiply-adds an image; `self.model.network.spent` has those of each exit.

        Raises:
            ValueError: the budget reaches no exit.
        """
        images, model = (pixels - self.mean) / self.std, self.model
        return run_to_budget(model.network, model.weights, images, budget, model.norm)


def save(
    folder: Path, space: Space, block: Block, model: Trained, mean: Tensor, std: Tensor
) -> None:
    """Write `architecture.json` and `model.pt`, which `load` reads.

    Args:
        folder: the folder of the files, made if it is missing.
        space: the search space of the block.
        block: the architecture of the model.
        model: the network with its trained weights, on any device.
        mean: mean of each channel of its training images, [3], with pixels from 0 to 1.
        std: standard deviation of each channel of its training images, [3].

    Raises:
        UserError: a file cannot be written.
    """
    weights = io.BytesIO()
    torch.save({name: tensor.cpu() for name, tensor in model.state_dict().items()}, weights)
    architecture = {
        "space": _arguments(space),
        "block": block.to_json(),
        "resolution": model.network.resolution,
        "mean": mean.tolist(),
        "std": std.tolist(),
        "sha256": hashlib.sha256(weights.getvalue()).hexdigest(),
    }
    architecture["digest"] = digest(architecture)
    write_atomically(folder / "model.pt", weights.getvalue())
    write_atomically(folder / "architecture.json", json.dumps(architecture, indent=1) + "\n")


def _arguments(space: Space) -> dict[str, Any]:
    """Return the name of a space and the arguments of its constructor."""
    (name,) = (name for name, known in SPACES.items() if known.makes is type(space))
    return {"name": name, **{f.name: getattr(space, f.name) for f in fields(space)}}  # type: ignore[arg-type]


def load(folder: Path) -> Exported:
    """Return the network that `save` wrote, on the CPU, in evaluation mode.

    Raises:
        UserError: a file is missing or damaged, or the two do not belong together.
    """
    content = read_json(folder / "architecture.json", MADE_BY)
    weights = read_bytes(folder / "model.pt", MADE_BY)
    state = unpickled(weights, folder / "model.pt", MADE_BY)
    try:
        architecture, space = _checked(content)
        block = space.read(architecture.block)
        if architecture.sha256 != hashlib.sha256(weights).hexdigest():
            raise ValueError("model.pt is damaged or of another network")
        if architecture.digest != digest({k: v for k, v in content.items() if k != "digest"}):
            raise ValueError("architecture.json was changed")
        model = _untrained(space, block, architecture.resolution, len(weights))
        fill(model, state)
    except (ValueError, UserError) as error:
        raise UserError(
            f"architecture.json and model.pt in {folder} do not make a network "
            f"({textwrap.shorten(str(error), 500)}). Take both from one whole copy, or run "
            f"`{MADE_BY}` again."
        ) from error
    mean, std = torch.tensor(architecture.mean), torch.tensor(architecture.std)
    return Exported(model, mean, std).eval()


def _checked(content: Any) -> tuple[Architecture, Space]:
    """Return the content of `architecture.json`, and the space that it names.

    Raises:
        ValueError: the content has faults; the message lists the first ones.
    """
    try:
        architecture = Architecture.model_validate(content)
        arguments = dict(architecture.space)
        if not isinstance(name := arguments.pop("name", None), str) or name not in SPACES:
            raise ValueError(f"unknown space {name!r}{did_you_mean(str(name), SPACES)}")
        given = _SPACES[name].model_validate(arguments).model_dump()
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors()[:3])
        raise ValueError("; ".join(faults)) from error
    known = SPACES[name].known
    if unknown := [op for op in given["operations"] if op not in known]:
        raise ValueError(f"unknown operation {unknown[0]}{did_you_mean(unknown[0], known)}")
    # JSON has lists, and spaces take tuples
    space = SPACES[name].makes(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    )
    return architecture, space


def _untrained(space: Space, block: Block, resolution: int, size: int) -> Trained:
    """Make the network, unless its weights would take more than `size` bytes.

    Raises:
        ValueError: the network is too large.
    """
    modules = space.modules(block)
    if (nodes := sum(len(module.block.nodes) for module in modules)) > MOST_NODES:
        raise ValueError(f"it has {nodes:,} nodes, more than {MOST_NODES:,}")
    network = Network(modules, resolution)
    if network.parameters * torch.float32.itemsize > size:
        raise ValueError(f"it has {network.parameters:,} parameters, more than model.pt holds")
    return Trained(network, torch.Generator())


def write_onnx(model: Exported, path: Path) -> None:
    """Write the network as an ONNX file from `pixels` [B, 3, R, R] to `logits` [B, classes].

    B may have any size. A network of the paper's size takes two minutes.

    Args:
        model: the network in evaluation mode on the CPU; equal networks give equal bytes.
        path: path of the file.

    Raises:
        UserError: the file cannot be written.
    """
    side = model.model.network.resolution
    example = (torch.zeros(2, IMAGE.channels, side, side),)
    any_batch = ({0: torch.export.Dim.DYNAMIC},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns about its own code
        program = torch.export.export(model, example, dynamic_shapes=any_batch)
        program = program.run_decompositions({torch.ops.aten.split.Tensor: _slices})
        written = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch"},),
        )
    assert written is not None  # None occurs only without `dynamo`
    proto = written.model_proto
    graph = proto.graph
    named = (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info)
    for part in (proto, graph, *named):
        part.ClearField("metadata_props")  # lines and folders of this machine's source code
    write_atomically(path, proto.SerializeToString(deterministic=True))


def _slices(x: Tensor, size: int, dim: int = 0) -> list[Tensor]:
    """Split into slices, because onnxscript cannot split a batch of unknown size evenly."""
    return [x.narrow(dim, i * size, size) for i in range(int(x.shape[dim] // size))]
