"""Checkpoints: whole or not there, of one configuration, and read without executing code."""

import contextlib
import errno
import hashlib
import io
import math
import os
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from mutations import THOUSAND, Evil, damaged, edited_zip

from ghn_pipeline.system.errors import UserError
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


@pytest.mark.parametrize("write", ["torch", "torch-old", "pickle"])
def test_code_in_a_checkpoint_is_never_executed(write, tmp_path):
    path, mark = tmp_path / "c.pt", tmp_path / "executed"
    state = {"digest": "abc", "model": Evil(mark)}
    if write == "pickle":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=write == "torch")
    with pytest.raises(UserError, match="holds code, which was not run") as refused:
        load(path)
    assert "whole" not in str(refused.value)
    assert not mark.exists()
    # the trap is a real one
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists()


def test_another_configuration_is_refused_with_both_digests(saved):
    with pytest.raises(UserError, match=r"another configuration \(digest abc; this one has xyz\)"):
        load(saved, "xyz")


@pytest.mark.parametrize("state", [[1, 2], torch.ones(2), {"model": {}}])
def test_something_else_that_torch_can_read_is_refused(state, tmp_path):
    torch.save(state, tmp_path / "c.pt")
    with pytest.raises(UserError, match=r"not a whole checkpoint \(its SHA-256 is missing"):
        load(tmp_path / "c.pt")


def test_missing_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(
        UserError, match=r"cannot read .*none\.pt.*made by `ghn train-x`: run that first"
    ):
        load(tmp_path / "none.pt")


def test_a_folder_in_its_place_is_refused(tmp_path):
    with pytest.raises(UserError, match="Is a directory"):
        load(tmp_path)


def rebuilt(content, change, method=zipfile.ZIP_STORED):
    """The archive with the pickle in it changed, its checksums right; sealed as `save` does."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(buffer, "w", method) as new,
    ):
        for info in old.infolist():
            held = old.read(info)
            changed = change(held) if info.filename.endswith("data.pkl") else held
            new.writestr(zipfile.ZipInfo(info.filename), changed, method)
    body = buffer.getvalue()[:-2] + b"\x40\0"
    return body + hashlib.sha256(body).hexdigest().encode()


def test_the_seal_is_the_comment_of_a_zip_archive_that_torch_reads(saved):
    with zipfile.ZipFile(saved) as archive:
        body, seal = saved.read_bytes()[:-64], archive.comment
    assert seal == hashlib.sha256(body).hexdigest().encode()
    assert torch.load(saved, weights_only=True)["step"] == 3
    # what the test below makes is as good as what is saved
    saved.write_bytes(rebuilt(saved.read_bytes(), lambda pickled: pickled))
    assert load(saved)["step"] == 3


def test_an_edit_that_is_a_whole_archive_is_refused(saved):
    step = re.compile(rb"(stepq.)K\x03", re.DOTALL)
    edited = rebuilt(saved.read_bytes(), lambda pickled: step.sub(b"\\1K\x04", pickled))
    saved.write_bytes(edited)
    assert load(saved)["step"] == 4  # sealed
    saved.write_bytes(edited[:-64] + hashlib.sha256(b"other").hexdigest().encode())
    with pytest.raises(UserError, match="its SHA-256 is missing or does not match its content"):
        load(saved)


@pytest.mark.parametrize("bytes_claimed", [10**12, 10**15])
def test_what_claims_more_memory_than_the_file_has_bytes_is_refused(bytes_claimed, tmp_path):
    path, gibibyte = tmp_path / "c.pt", 2**30
    checkpoint.save(path, {"model": {"w": torch.ones(1).expand(bytes_claimed // 4)}}, "abc")
    with pytest.raises(UserError, match="a tensor is larger than its stored data"):
        load(path)
    # numbers that are not there: 10 of them are 2**30
    checkpoint.save(path, {"model": {"w": torch.arange(10.0)}}, "abc")
    claimed = b"J" + gibibyte.to_bytes(4, "little")
    path.write_bytes(
        rebuilt(
            path.read_bytes(),
            lambda p: p.replace(b"K\nt", claimed + b"t").replace(b"K\n\x85", claimed + b"\x85"),
        )
    )
    with pytest.raises(UserError, match="not a whole checkpoint"):
        load(path)
    # a pickle may lack its first opcode: pickle still reads it, and torch takes it for safe
    path.write_bytes(
        rebuilt(path.read_bytes(), lambda p: b"cbuiltins\nbytearray\n" + claimed + b"\x85R.")
    )
    with pytest.raises(UserError, match="does not begin as torch writes it"):
        load(path)
    checkpoint.save(path, {"model": {"w": torch.arange(10.0)}}, "abc")
    # torch takes this for safe: it is 2**30 bytes, made of a number
    array = b"cbuiltins\nbytearray\n" + claimed + b"\x85R"
    path.write_bytes(rebuilt(path.read_bytes(), lambda p: p[:-1] + b"0" + array + b"."))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="holds code"):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # KiB


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "c.pt"
    checkpoint.save(path, {"model": {"w": torch.zeros(2**22)}}, "abc")
    bomb = rebuilt(path.read_bytes(), lambda pickled: pickled, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**16
    path.write_bytes(bomb)
    with pytest.raises(UserError, match="it is compressed"):
        load(path)


def same(a, b):
    """Whether two states are equal, types and all."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def saved_bytes():
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(Path(folder) / "c", STATE, "abc")
        return (Path(folder) / "c").read_bytes()


@THOUSAND
@given(damaged(saved_bytes()) | edited_zip(saved_bytes()))
def test_a_thousand_mutations_are_refused_or_leave_all_as_it_was(tmp_path, content):
    (tmp_path / "c.pt").write_bytes(content)
    try:
        state = load(tmp_path / "c.pt")
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert same(state, {"digest": "abc", **STATE})


# ---- models --------------------------------------------------------------------------------------


def net():
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def with_weights(path, changes):
    checkpoint.save(path, {"model": {**net().state_dict(), **changes}}, "abc")
    return checkpoint.load_model(path, "abc", "ghn train-x", net())


def test_a_model_has_the_weights_that_were_saved(tmp_path):
    made, read = net(), net()
    made[1].running_mean += 3
    checkpoint.save(tmp_path / "m", {"model": made.state_dict()}, "abc")
    checkpoint.load_model(tmp_path / "m", "abc", "ghn train-x", read)
    assert same(dict(made.state_dict()), dict(read.state_dict()))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"0.weight": torch.full((2, 3), math.nan)}, "0.weight is not finite"),
        ({"1.running_var": torch.tensor([1.0, math.inf])}, "1.running_var is not finite"),
        ({"0.weight": torch.zeros(3, 2)}, r"0.weight is float32 \[3, 2\] and should be .*2, 3"),
        ({"0.bias": torch.zeros(2).double()}, r"0.bias is float64 \[2\] and should be float32"),
        ({"1.num_batches_tracked": torch.tensor(1.0)}, r"should be int64 \[\]"),
        ({"0.bias": [0.0, 0.0]}, "0.bias is a list"),
        ({"0.bias": None}, "0.bias is a NoneType"),
        ({"2.weight": torch.zeros(1)}, r"1 tensors of other models: \['2.weight'\]"),
        ({5: torch.zeros(1), ("a",): 1}, "2 tensors of other models"),
    ],
)
def test_weights_of_another_model_or_of_no_number_are_refused(changes, reason, tmp_path):
    with pytest.raises(UserError, match=f"m has no weights for this model: .*{reason}") as refused:
        with_weights(tmp_path / "m", changes)
    assert str(refused.value).endswith("Delete it and run `ghn train-x` again.")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({}, "a NoneType stands in place"),
        ({"model": [1, 2]}, "a list stands in place"),
        ({"model": torch.zeros(2)}, "a Tensor stands in place"),
        ({"model": {}}, "7 of its 7 tensors are missing"),
        ({"model": {"0.weight": torch.zeros(2, 3)}}, "6 of its 7 tensors are missing"),
    ],
)
def test_a_checkpoint_without_a_model_is_refused(state, reason, tmp_path):
    checkpoint.save(tmp_path / "m", state, "abc")
    with pytest.raises(UserError, match=reason):
        checkpoint.load_model(tmp_path / "m", "abc", "ghn train-x", net())


def test_a_model_that_is_refused_is_as_it_was():
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = {**net().state_dict(), "1.bias": torch.full((2,), math.nan)}
    with pytest.raises(ValueError, match="not finite"):
        checkpoint.fill(model, weights)
    assert same(before, dict(model.state_dict()))


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


def test_a_file_system_without_locks_is_one_message(tmp_path, monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", flock)
    with (
        pytest.raises(UserError, match=r"cannot lock .*c\.lock .*its file system has no locks"),
        checkpoint.only_writer(tmp_path / "c.pt"),
    ):
        pass


def test_a_number_that_was_altered_is_refused(saved):
    whole = saved.read_bytes()
    stored = whole.index(STATE["model"]["w"].numpy().tobytes())
    for offset in range(0, 120, 11):
        altered = bytearray(whole)
        altered[stored + offset] ^= 1
        saved.write_bytes(altered)
        with pytest.raises(UserError, match=r"not a whole checkpoint.*ghn train-x"):
            load(saved)
