"""The winner as files that others can use: for PyTorch, and as ONNX without this package."""

import hashlib
import io
import json
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ghn_pipeline.errors import UserError
from ghn_pipeline.files import read_bytes, read_json, write_atomically
from ghn_pipeline.network import IMAGE, Network, Trained, run_to_budget
from ghn_pipeline.space.graph import Block
from ghn_pipeline.space.space import Space
from ghn_pipeline.space.spaces import SPACES

MADE_BY = "ghn export` or `ghn anytime-curves"


class Exported(nn.Module):
    """A trained network that takes pixels as they are in a picture, from 0 to 1.

    Args:
        model: the network, which takes normalised images.
        mean: of each channel of the training images, [3].
        std: likewise.
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
        """Return the logits of the last exit that `budget` multiply-adds an image reach.

        Nothing is computed that takes more (section 5.2).

        Args:
            pixels: as `forward` takes them.
            budget: `self.model.network.spent` is what each exit takes.

        Raises:
            ValueError: it reaches none.
        """
        images, model = (pixels - self.mean) / self.std, self.model
        return run_to_budget(model.network, model.weights, images, budget, model.norm)


def save(
    folder: Path, space: Space, block: Block, model: Trained, mean: Tensor, std: Tensor
) -> None:
    """Write `architecture.json` and `model.pt`, which `load` reads.

    Args:
        folder: made if it is not there.
        space: that the block is of.
        block: the architecture of the model.
        model: the network with its trained weights, on any device.
        mean: that its images were normalised with, [3], of pixels from 0 to 1.
        std: likewise.

    Raises:
        UserError: a file cannot be written.
    """
    weights = io.BytesIO()
    torch.save({name: tensor.cpu() for name, tensor in model.state_dict().items()}, weights)
    architecture = {
        "space": _described(space),
        "block": block.to_json(),
        "resolution": model.network.resolution,
        "mean": mean.tolist(),
        "std": std.tolist(),
        "sha256": hashlib.sha256(weights.getvalue()).hexdigest(),
    }
    write_atomically(folder / "model.pt", weights.getvalue())
    write_atomically(folder / "architecture.json", json.dumps(architecture, indent=1) + "\n")


def _described(space: Space) -> dict[str, Any]:
    """The name of a space and the arguments that make it."""
    (name,) = (name for name, made in SPACES.items() if made is type(space))
    return {"name": name, **{f.name: getattr(space, f.name) for f in fields(space)}}  # type: ignore[arg-type]


def load(folder: Path) -> Exported:
    """Return the network that `save` wrote, on the CPU, in evaluation mode.

    Raises:
        UserError: a file is missing or damaged, or the two do not belong together.
    """
    architecture = read_json(folder / "architecture.json", MADE_BY)
    weights = read_bytes(folder / "model.pt", MADE_BY)
    try:
        if architecture["sha256"] != hashlib.sha256(weights).hexdigest():
            raise ValueError("model.pt is damaged or of another network")
        model = _untrained(architecture)
        model.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
        mean, std = torch.tensor(architecture["mean"]), torch.tensor(architecture["std"])
        return Exported(model, mean, std).eval()
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, UserError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"architecture.json and model.pt in {folder} do not make a network "
            f"({type(error).__name__}: {reason}). Take both from one whole copy, or run "
            f"`{MADE_BY}` again."
        ) from error


def _untrained(architecture: dict[str, Any]) -> Trained:
    # JSON has lists only
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in architecture["space"].items()}
    space = SPACES[str(given.pop("name"))](**given)
    modules = space.modules(space.read(architecture["block"]))
    return Trained(Network(modules, architecture["resolution"]), torch.Generator())


def write_onnx(model: Exported, path: Path) -> None:
    """Write the network as one ONNX file: `pixels` [B, 3, R, R] to `logits` [B, classes], any B.

    It takes two minutes for a network of the paper's size.

    Args:
        model: in evaluation mode, on the CPU; equal models give equal bytes.
        path: of the file.

    Raises:
        UserError: the file cannot be written.
    """
    side = model.model.network.resolution
    example = (torch.zeros(2, IMAGE.channels, side, side),)
    any_batch = ({0: torch.export.Dim.DYNAMIC},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own parts
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
    assert written is not None  # it is only without `dynamo`
    proto = written.model_proto
    graph = proto.graph
    named = (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info)
    for part in (proto, graph, *named):
        part.ClearField("metadata_props")  # lines and folders of this machine's source code
    write_atomically(path, proto.SerializeToString(deterministic=True))


def _slices(x: Tensor, size: int, dim: int = 0) -> list[Tensor]:
    """Split into slices: onnxscript has nothing for equal parts of an unknown batch."""
    return [x.narrow(dim, i * size, size) for i in range(int(x.shape[dim] // size))]
