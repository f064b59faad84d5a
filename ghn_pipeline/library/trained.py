"""The files of a trained GHN, which describe themselves: `ghn.json`, and weights in `model.pt`."""

import hashlib
import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, ValidationError
from torch import nn

from ghn_pipeline.settings.sections import Design, Section
from ghn_pipeline.spaces.described import described, made
from ghn_pipeline.spaces.space import Space
from ghn_pipeline.system.errors import UserError, did_you_mean
from ghn_pipeline.system.files import digest, read_bytes, read_json, write_atomically
from ghn_pipeline.system.schema import faults
from ghn_pipeline.training import checkpoint

MADE_BY = "ghn ghn"
DESCRIPTION, WEIGHTS = "ghn.json", "model.pt"

_Channel = Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1, max_length=16)]


class Content(Section):
    """The content of `ghn.json`.

    Attributes:
        space: name of the search space, and the arguments of its constructor.
        design: the design of the hypernetwork.
        resolution: side of the images that it was trained on, in pixels.
        mean: mean of each channel of these images, with pixels from 0 to 1.
        std: standard deviation of each channel of these images.
        card: facts about its training, for people.
        sha256: SHA-256 of `model.pt`.
        digest: digest of the other keys.
    """

    space: dict[str, Any]
    design: Design
    resolution: Annotated[int, Field(ge=1, le=10_000)]
    mean: _Channel
    std: _Channel
    card: dict[str, Any]
    sha256: str
    digest: str


def _shipped() -> Path:
    return Path(str(files("ghn_pipeline") / "trained"))


def names() -> list[str]:
    """Return the names of the trained GHNs that come with the package."""
    return sorted(path.parent.name for path in _shipped().glob(f"*/{DESCRIPTION}"))


def folder(name: str | Path) -> Path:
    """Return the folder of a trained GHN, by its name in the package or by its path.

    Raises:
        UserError: there is neither.
    """
    if isinstance(name, str) and name in names():
        return _shipped() / name
    if (Path(name) / DESCRIPTION).is_file():
        return Path(name)
    raise UserError(
        f"there is no trained GHN {str(name)!r}{did_you_mean(str(name), names())}: name a folder "
        f"with {DESCRIPTION}, or one that comes with the package ({', '.join(names())})"
    )


def like(space: Space) -> Content | None:
    """Return the description of the trained GHN for a space of this name, if there is one."""
    name = described(space)["name"]
    return description(_shipped() / name) if name in names() else None


def description(folder: Path) -> Content:
    """Return the content of `ghn.json`.

    Raises:
        UserError: the file is missing or damaged.
    """
    content = read_json(folder / DESCRIPTION, MADE_BY)
    try:
        found = Content.model_validate(content)
    except ValidationError as error:
        raise _not_whole(folder, faults(error)) from error
    if found.digest != digest({k: v for k, v in content.items() if k != "digest"}):
        raise _not_whole(folder, f"{DESCRIPTION} was changed")
    return found


def read(folder: Path) -> tuple[Content, Space, Any]:
    """Return the description of a GHN, its space, and its weights by name.

    Raises:
        UserError: a file is missing or damaged, or the two do not belong together.
    """
    content, weights = description(folder), read_bytes(folder / WEIGHTS, MADE_BY)
    if content.sha256 != hashlib.sha256(weights).hexdigest():
        raise _not_whole(folder, f"{WEIGHTS} is damaged or of another GHN")
    found = checkpoint.unpickled(weights, folder / WEIGHTS, MADE_BY)
    try:
        return content, made(content.space), found.get("model", {})
    except (AttributeError, ValueError) as error:
        raise _not_whole(folder, str(error)) from error


def fill(model: nn.Module, state: dict[str, Any], folder: Path) -> None:
    """Load weights, in any precision, into `model`.

    Raises:
        UserError: they are those of another model, or not finite.
    """
    try:
        checkpoint.fill(model, {name: tensor.float() for name, tensor in state.items()})
    except (AttributeError, ValueError) as error:
        raise _not_whole(folder, str(error)) from error


def write(folder: Path, model: nn.Module, *, half: bool, **content: Any) -> None:
    """Write the files of a GHN; `content` is that of `describe`.

    Raises:
        UserError: a file cannot be written.
    """
    buffer = io.BytesIO()
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    torch.save({"model": {k: v.half() if half else v for k, v in state.items()}}, buffer)
    write_atomically(folder / WEIGHTS, buffer.getvalue())
    describe(folder, **content)


def describe(folder: Path, *, space: Space, design: Design, **others: Any) -> None:
    """Write `ghn.json` beside the weights that are there; `others` are further keys of `Content`.

    Raises:
        UserError: the weights cannot be read, or the file cannot be written.
    """
    content = {
        "space": described(space),
        "design": design.model_dump(include=set(Design.model_fields)),
        **others,
        "sha256": hashlib.sha256(read_bytes(folder / WEIGHTS, MADE_BY)).hexdigest(),
    }
    content = json.loads(json.dumps(content))  # as it is read back
    content["digest"] = digest(content)
    write_atomically(folder / DESCRIPTION, json.dumps(content, indent=1) + "\n")


def _not_whole(folder: Path, why: str) -> UserError:
    return UserError(
        f"{DESCRIPTION} and {WEIGHTS} in {folder} do not make a GHN ({why}). Take both from one "
        "whole copy, or train it again."
    )
