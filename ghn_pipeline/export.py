"""The export of a network as files: for PyTorch, and as ONNX, which does not need this package."""

import hashlib
import io
import json
import textwrap
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import IMAGE, Network, Trained, run_to_budget
from ghn_pipeline.settings.sections import Section
from ghn_pipeline.spaces.described import described, made
from ghn_pipeline.spaces.space import Space
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import digest, read_bytes, read_json, write_atomically
from ghn_pipeline.system.schema import faults
from ghn_pipeline.training.checkpoint import fill, unpickled

MADE_BY = "ghn export` or `ghn anytime_curves"
#: The most nodes of all blocks in a network that is read. The paper's have at most 342.
MOST_NODES = 10_000

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


class Generated(Exported):
    """A network that starts from generated weights.

    A GHN learns for batch norms that normalise by the batch, so there are no running statistics to
    begin with: `recalibrate` measures them, and training in `train()` follows them.

    Args:
        model: the network, which takes normalised images.
        mean: mean of each channel of the images that the GHN was trained on, [3].
        std: standard deviation of each channel of these images, [3].
        space: the search space of the block.
        block: the block that the network stacks.
    """

    def __init__(
        self, model: Trained, mean: Tensor, std: Tensor, space: Space, block: Block
    ) -> None:
        super().__init__(model, mean, std)
        self.space, self.block, self.measured = space, block, False

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, classes] for pixels [B, 3, R, R], float32 from 0 to 1.

        Raises:
            UserError: in evaluation, without running statistics.
        """
        if not (self.training or self.measured):
            raise UserError(
                "the batch norms of generated weights have no running statistics yet: call "
                "recalibrate(batches of pixels), or train the network first."
            )
        self.measured = True
        return super().forward(pixels)

    def recalibrate(self, batches: Iterable[Tensor]) -> Self:
        """Measure the running statistics that batch norms use in `eval()`.

        Args:
            batches: pixels [B, 3, R, R], float32 from 0 to 1.

        Returns:
            The network itself.

        Raises:
            UserError: there is no batch.
        """
        try:
            self.model.recalibrate((pixels - self.mean) / self.std for pixels in batches)
        except ValueError as error:
            raise UserError(str(error)) from error
        self.measured = True
        return self

    def save(self, folder: str | Path) -> None:
        """Write the files that `load` reads.

        Raises:
            UserError: a file cannot be written.
        """
        save(Path(folder), self.space, self.block, self.model, self.mean, self.std)

    def get_extra_state(self) -> bool:
        """Return whether there are running statistics, which belongs to the `state_dict`."""
        return self.measured

    def set_extra_state(self, state: bool) -> None:
        """Set whether there are running statistics."""
        self.measured = state


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
        "space": described(space),
        "block": block.to_json(),
        "resolution": model.network.resolution,
        "mean": mean.flatten().tolist(),
        "std": std.flatten().tolist(),
        "sha256": hashlib.sha256(weights.getvalue()).hexdigest(),
    }
    architecture["digest"] = digest(architecture)
    write_atomically(folder / "model.pt", weights.getvalue())
    write_atomically(folder / "architecture.json", json.dumps(architecture, indent=1) + "\n")


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
    except ValidationError as error:
        raise ValueError(faults(error)) from error
    return architecture, made(architecture.space)


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
