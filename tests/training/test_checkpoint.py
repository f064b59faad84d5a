"""Checkpoints: whole or not there, of one configuration, and read without executing code."""

import contextlib
import errno
import os
import pickle
import random
import shutil
import signal
import subprocess
import threading
import warnings

import pytest
import torch

from ghn_pipeline.errors import UserError
from ghn_pipeline.training import checkpoint

STATE = {
    "step": 3,
    "model": {"w": torch.arange(30.0).view(5, 6), "half": torch.ones(2, dtype=torch.float16)},
    "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "groups": [{"lr": 1e-3}]},
    "log": {"curve": [(1, 2.5, 1e-3)], "observed": {10: {"accuracy": 0.5}}},
}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "folder" / "c.pt"
    checkpoint.save(path, STATE, "abc")
    return path


def load(path, digest="abc"):
    # torch warns of odd pickles before it refuses them
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return checkpoint.load(path, digest, "ghn train-x")


def test_what_is_saved_is_loaded(saved):
    state = load(saved)
    assert state.pop("digest") == "abc"
    assert torch.equal(state["model"].pop("w"), STATE["model"]["w"])
    assert state["model"].pop("half").dtype == torch.float16
    assert torch.equal(state["optimizer"]["state"][0].pop("exp_avg"), torch.zeros(3))
    assert state["log"] == STATE["log"]  # tuples and whole-number keys included
    assert state["step"] == 3


# ---- files that are not checkpoints --------------------------------------------------------------


def test_truncated_at_any_length_is_refused(saved):
    whole = saved.read_bytes()
    for length in [*range(0, len(whole), 7), *range(len(whole) - 30, len(whole))]:
        saved.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"not a whole checkpoint.*ghn train-x"):
            load(saved)


def test_random_bytes_are_refused(saved):
    rng = random.Random(0)
    for _ in range(2000):
        saved.write_bytes(rng.randbytes(rng.randrange(1, 200)))
        with pytest.raises(UserError, match=r"ghn train-x|another configuration"):
            load(saved)


def test_flipped_bits_are_refused_or_leave_a_whole_state(saved):
    whole, rng = saved.read_bytes(), random.Random(0)
    for _ in range(1000):
        altered = bytearray(whole)
        altered[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        saved.write_bytes(altered)
        # any other error would be a traceback
        with contextlib.suppress(UserError):
            assert load(saved)["digest"] == "abc"


class Evil:
    """Unpickled by the ordinary pickle, it makes a folder."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("write", ["torch", "torch-old", "pickle"])
def test_code_in_a_checkpoint_is_never_executed(write, tmp_path):
    path, mark = tmp_path / "c.pt", tmp_path / "executed"
    state = {"digest": "abc", "model": Evil(mark)}
    if write == "pickle":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=write == "torch")
    with pytest.raises(UserError, match="not a whole checkpoint"):
        load(path)
    assert not mark.exists()
    # the trap is a real one
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists()


def test_another_configuration_is_refused_with_both_digests(saved):
    with pytest.raises(UserError, match=r"another configuration \(digest abc, this one has xyz\)"):
        load(saved, "xyz")


@pytest.mark.parametrize("state", [[1, 2], torch.ones(2), {"model": {}}])
def test_something_else_that_torch_can_read_is_refused(state, tmp_path):
    torch.save(state, tmp_path / "c.pt")
    with pytest.raises(UserError, match="another configuration"):
        load(tmp_path / "c.pt")


def test_missing_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(UserError, match=r"is missing\. It is made by `ghn train-x`"):
        load(tmp_path / "none.pt")


def test_a_folder_in_its_place_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a whole checkpoint"):
        load(tmp_path)


# ---- writing -------------------------------------------------------------------------------------


def assert_untouched(path, before):
    assert path.read_bytes() == before
    assert [f.name for f in path.parent.iterdir()] == [path.name]  # no temporary file


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(call, saved, monkeypatch):
    before = saved.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(UserError, match=r"No space left on device.*before is untouched.*Free"):
        checkpoint.save(saved, {"step": 4}, "abc")
    assert_untouched(saved, before)


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount here")
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(tiny_disk):
    path = tiny_disk / "c.pt"
    checkpoint.save(path, STATE, "abc")
    before = path.read_bytes()
    with pytest.raises(UserError, match="No space left on device"):
        checkpoint.save(path, {"model": torch.zeros(100_000)}, "abc")
    assert_untouched(path, before)
    # and there is room again for what fits
    checkpoint.save(path, {"step": 4}, "abc")
    assert load(path)["step"] == 4


def test_a_folder_that_cannot_be_written(tmp_path):
    # a file where the folder should be stops root as well
    (tmp_path / "folder").write_text("in the way", encoding="utf-8")
    with pytest.raises(UserError, match="cannot write"):
        checkpoint.save(tmp_path / "folder" / "c.pt", STATE, "abc")
    with (
        pytest.raises(UserError, match="cannot write"),
        checkpoint.only_writer(tmp_path / "folder" / "c.pt"),
    ):
        pass
    assert (tmp_path / "folder").read_text(encoding="utf-8") == "in the way"


def _hold(path, ready):
    with checkpoint.only_writer(path):
        ready.send("held")
        signal.pause()


def test_a_writer_in_another_process_is_in_the_way_until_it_dies(
    tmp_path, forkserver, monkeypatch, capfd
):
    monkeypatch.setattr(checkpoint, "PATIENCE", 0.5)
    ready, there = forkserver.Pipe(duplex=False)
    other = forkserver.Process(target=_hold, args=(tmp_path / "c.pt", there))
    other.start()
    assert ready.recv() == "held"
    with (
        pytest.raises(UserError, match="another process"),
        checkpoint.only_writer(tmp_path / "c.pt"),
    ):
        pass
    # another file is free
    with checkpoint.only_writer(tmp_path / "d.pt"):
        pass
    # who waits gets it as soon as the other is dead, whatever it was doing
    monkeypatch.setattr(checkpoint, "PATIENCE", 60)
    threading.Timer(0.5, other.kill).start()
    with checkpoint.only_writer(tmp_path / "c.pt"):
        other.join(10)
        assert other.exitcode == -signal.SIGKILL
    assert "waits for it" in capfd.readouterr().err


def test_a_number_that_was_altered_is_refused(saved):
    whole = saved.read_bytes()
    stored = whole.index(STATE["model"]["w"].numpy().tobytes())
    for offset in range(0, 120, 11):
        altered = bytearray(whole)
        altered[stored + offset] ^= 1
        saved.write_bytes(altered)
        with pytest.raises(UserError, match=r"is damaged"):
            load(saved)
