"""Files that are either whole or not there, and digests of settings."""

import errno
import hashlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import THOUSAND, changed_json, damaged

from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import digest, read_bytes, read_json, write_atomically


@pytest.mark.parametrize("content", ["text: é\n", b"\x00bytes", "", b""])
def test_what_is_written_is_there(content, tmp_path):
    path = tmp_path / "new" / "folders" / "file"
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    write_atomically(path, "other")
    assert path.read_text(encoding="utf-8") == "other"
    assert [f.name for f in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_failed_write_leaves_the_old_file(call, number, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old", encoding="utf-8")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(UserError, match=rf"{os.strerror(number)}.*before is untouched"):
        write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_of_a_new_file_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match=r"cannot write .*file: No space left on device\. Free"):
        write_atomically(tmp_path / "file", "new")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old", encoding="utf-8")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    # a power cut between the two must not leave a name without content
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *a: (calls.append("fsync"), fsync(*a)))
    monkeypatch.setattr(os, "replace", lambda *a: (calls.append("replace"), replace(*a)))
    write_atomically(tmp_path / "file", "new")
    assert calls[:2] == ["fsync", "replace"]


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "folder").write_text("in the way", encoding="utf-8")
    with pytest.raises(UserError, match="cannot write"):
        write_atomically(tmp_path / "folder" / "file", "new")
    assert (tmp_path / "folder").read_text(encoding="utf-8") == "in the way"


def test_a_folder_in_place_of_the_file(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        write_atomically(tmp_path / "file", "new")
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_a_missing_artifact_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*none.*made by `ghn sgd 0`: run that first"):
        read_bytes(tmp_path / "none", "ghn sgd 0")
    with pytest.raises(UserError, match=r"made by `ghn sgd 0`"):
        read_json(tmp_path / "none", "ghn sgd 0")


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe", b"{} {}"])
def test_json_that_is_not_whole(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=r"not whole JSON .*Delete it and run `ghn sgd 0` again"):
        read_json(tmp_path / "file", "ghn sgd 0")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b"[" * 150 + b"]" * 150, "nested too deeply"),
        (b'{"a": ' * 2000 + b"1" + b"}" * 2000, "nested too deeply"),
        (b'{"accuracy": NaN}', "'NaN' is not a finite number"),
        (b"[-Infinity]", "'-Infinity' is not a finite number"),
        (b"[1e999]", "'1e999' is not a finite number"),
        (b"1" + b"0" * 400, "is not a finite number"),
        (b"1" + b"0" * 5000, "is not a finite number"),
        (b'{"a": 1, "b": {"c": 2, "c": 3}}', "the key 'c' is given twice"),
        (b'{"a": "\xff"}', "can't decode byte 0xff"),
        ('{"a": "\u00e9"}'.encode("latin-1"), "can't decode byte 0xe9"),
        (b"\xef\xbb\xbf{}", "BOM"),
        ('{"a": 1}'.encode("utf-16"), "can't decode"),
        (rb'{"a": "\ud800"}', "surrogates not allowed"),
        (rb'{"\udfff": 1}', "surrogates not allowed"),
    ],
)
def test_json_that_no_command_writes_is_one_message(content, reason, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError) as refused:
        read_json(tmp_path / "file", "ghn sgd 0")
    said = str(refused.value)
    assert reason in said
    assert said.startswith(str(tmp_path / "file"))
    assert said.endswith("Delete it and run `ghn sgd 0` again.")
    assert len(said) < 400 and "\n" not in said


def test_a_file_that_is_there_and_cannot_be_read_is_not_said_to_be_missing(tmp_path):
    with pytest.raises(
        UserError, match=r"Is a directory. Make it readable, or delete it"
    ) as refused:
        read_bytes(tmp_path, "ghn sgd 0")
    assert "run that first" not in str(refused.value)
    with pytest.raises(UserError, match="null byte"):
        read_bytes(tmp_path / "a\0b", "ghn sgd 0")


def test_a_file_that_was_not_there_is_not_said_to_be_untouched(tmp_path):
    (tmp_path / "in-the-way").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "in-the-way/file", tmp_path / "folder", tmp_path / "a\0b"):
        with pytest.raises(UserError, match="cannot write") as refused:
            write_atomically(path, "new")
        assert "untouched" not in str(refused.value)
    with pytest.raises(UserError, match="cannot write"):
        write_atomically(
            tmp_path / ("long" * 100), "new"
        )  # nor can it be asked whether it is there


PLAIN = {"run": "abc", "result": {"accuracy": [0.5, 0.25], "hash": "é"}, "none": [None, True, {}]}


@THOUSAND
@given(changed_json(PLAIN) | damaged(json.dumps(PLAIN, indent=1).encode()))
def test_a_thousand_mutations_of_json(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    try:
        value = read_json(tmp_path / "file", "ghn sgd 0")
    except UserError:
        return
    # strict: nothing that another parser would understand otherwise
    assert json.loads(json.dumps(value, allow_nan=False).encode()) == value == json.loads(content)


def test_the_digest_of_a_known_value():
    # the text spelt out: keys sorted, no spaces
    expected = hashlib.sha256(b'{"a":[1,2.5,null],"b":{"c":true}}').hexdigest()[:16]
    assert digest({"b": {"c": True}, "a": [1, 2.5, None]}) == expected


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(values, values)
def test_digests_agree_exactly_where_the_json_does(a, b):
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (digest(a) == digest(b)) == same
