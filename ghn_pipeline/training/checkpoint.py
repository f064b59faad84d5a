"""Checkpoints: written whole or not at all, of one configuration, read without running code."""

import hashlib
import io
import pickle
import pickletools
import reprlib
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import lock, read_bytes, write_atomically

#: seconds that a process waits for another one to release a checkpoint
PATIENCE = 600.0
#: hex digits of the SHA-256 that a checkpoint ends with
SEAL = 64
#: The opcodes of a pickle that name a function or a class.
_NAMING = {"GLOBAL", "STACK_GLOBAL", "INST"}
_KINDS = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
#: The names that tensors need. Other names that torch allows can allocate any amount of memory.
_OF_TENSORS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {kind}Storage" for kind in _KINDS),
}


def save(path: Path, state: dict[str, Any], digest: str) -> None:
    """Write `state` (tensors, numbers, text, lists, dicts) under the configuration's digest.

    The file ends with the SHA-256 of its content, as the comment of a zip archive.

    Raises:
        UserError: the disk is full or the folder cannot be written; an earlier file is untouched.
    """
    # to memory first, because torch's error on a full disk does not name the cause
    buffer = io.BytesIO()
    torch.save({"digest": digest, **state}, buffer)
    buffer.seek(-2, io.SEEK_END)  # the length of the comment, which torch leaves empty
    buffer.write(SEAL.to_bytes(2, "little"))
    buffer.write(hashlib.sha256(buffer.getvalue()).hexdigest().encode())
    write_atomically(path, buffer.getvalue())


def load(path: Path, digest: str, made_by: str) -> dict[str, Any]:
    """Read a checkpoint that `save` wrote, with its tensors on the CPU.

    Raises:
        UserError: the file is missing, damaged, no checkpoint, or from another configuration.
    """
    content = read_bytes(path, made_by)
    found = unpickled(content, path, made_by)
    if hashlib.sha256(memoryview(content)[:-SEAL]).hexdigest().encode() != content[-SEAL:]:
        raise _not_whole(path, "its SHA-256 is missing or does not match its content", made_by)
    state: dict[str, Any] = found if isinstance(found, dict) else {}
    given = state["digest"] if isinstance(state.get("digest"), str) else None
    if given != digest:
        raise UserError(
            f"{path} belongs to another configuration (digest {given}; this one has {digest}). "
            f"Move or delete it to train anew, or restore the settings that made it."
        )
    return state


def load_model(path: Path, digest: str, made_by: str, model: nn.Module) -> None:
    """Load the weights that a finished training saved as "model" into `model`.

    Raises:
        UserError: `load` raises it, or the weights are not finite or belong to another model.
    """
    state = load(path, digest, made_by)
    try:
        fill(model, state.get("model"))
    except ValueError as error:
        raise UserError(
            f"{path} has no weights for this model: {error}. Delete it and run `{made_by}` again."
        ) from error


def fill(model: nn.Module, weights: object) -> None:
    """Load weights, a dict of finite tensors like its `state_dict`, into `model`.

    Raises:
        ValueError: a name, a shape or a type differs, or a number is not finite; the model is
            unchanged.
    """
    expected = model.state_dict()
    if not isinstance(weights, dict):
        raise ValueError(f"a {type(weights).__name__} stands in place of a dict of tensors")
    if missing := expected.keys() - weights.keys():
        raise ValueError(
            f"{len(missing)} of its {len(expected)} tensors are missing: {_few(missing)}"
        )
    if unknown := weights.keys() - expected.keys():
        raise ValueError(f"it has {len(unknown)} tensors of other models: {_few(unknown)}")
    for name, tensor in expected.items():
        if (given := _described(weights[name])) != _described(tensor):
            raise ValueError(f"{name} is {given} and should be {_described(tensor)}")
        if not weights[name].isfinite().all():
            raise ValueError(f"{name} is not finite")
    model.load_state_dict(weights)


def _few(names: set[Any]) -> str:
    return reprlib.repr(sorted(map(str, names)))


def _described(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{value.dtype} {list(value.shape)}".removeprefix("torch.")


def unpickled(content: bytes, path: Path, made_by: str) -> Any:
    """Return the tensors and plain values that `torch.save` wrote, on the CPU.

    No code is run, and no tensor larger than `content` is made.

    Args:
        content: content of the file.
        path: path of the file, for messages.
        made_by: the command that makes the file, for messages.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > len(content):
                raise ValueError("it is compressed, which torch does not do")
            (pickled,) = (m for m in members if m.filename.endswith("/data.pkl"))
            content_of_pickle = archive.read(pickled)
            if not content_of_pickle.startswith(pickle.PROTO):
                raise ValueError("its pickle does not begin as torch writes it")
            code = _holds_code(content_of_pickle)
        if not code:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            if any(t.nbytes > t.untyped_storage().nbytes() for t in tensors(state)):
                raise ValueError("a tensor is larger than its stored data")
            return state
    # zipfile and torch raise all kinds of errors: IndexError, AssertionError, struct.error, ...
    except Exception as error:
        if not _holds_code(content):
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise _not_whole(path, reason, made_by) from error
    raise UserError(
        f"{path} holds code, which was not run: it is not a file of `{made_by}`. Delete it and run "
        f"`{made_by}` again."
    )


def _not_whole(path: Path, reason: str, made_by: str) -> UserError:
    return UserError(
        f"{path} is not a whole checkpoint ({reason}). Delete it and run `{made_by}` again."
    )


def _holds_code(content: bytes) -> bool:
    """Return whether these pickles use any name except those that tensors need."""
    stream = io.BytesIO(content)
    with suppress(Exception):  # at the end of the last pickle, or if the content is no pickle
        while content.startswith(pickle.PROTO):
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in _NAMING and argument not in _OF_TENSORS:
                    return True
    return False


def tensors(state: object) -> Iterator[Tensor]:
    """Yield every tensor in `state`, at any depth of its dicts, lists and tuples."""
    left, seen = [state], set[int]()
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Reserve the checkpoint for this process; another process waits until it is released.

    So a restarted job never writes at the same time as the job that it replaces, which may still be
    saving, or still run on a node that the cluster has lost.

    Raises:
        UserError: another process holds it for longer than `PATIENCE`, or the folder cannot be
            written or locked.
    """
    held = path.with_suffix(".lock")
    try:
        held.parent.mkdir(parents=True, exist_ok=True)
        file = open(held, "w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"cannot write {held}: {error.strerror}. Give write permission.") from error
    with file:
        try:
            lock(file, PATIENCE, lambda: _say_waiting(path))
        except TimeoutError as error:
            raise UserError(
                f"another process is training {path}; wait for it or stop it first."
            ) from error
        except OSError as error:
            raise UserError(
                f"cannot lock {held} ({error.strerror}): its file system has no locks. Mount it "
                "with locks (Lustre: `-o flock`), or use another file system."
            ) from error
        yield


def _say_waiting(path: Path) -> None:
    print(f"another process is training {path}: this one waits for it", file=sys.stderr, flush=True)
