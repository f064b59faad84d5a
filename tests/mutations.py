"""Damage to files and edits of them, as Hypothesis draws them."""

import copy
import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

#: A thousand, the same in every run.
THOUSAND = settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
#: Stands in a text for lists in lists, so many that a parser that calls itself would give up.
DEEP = "lists in lists"

STRANGE = st.one_of(
    st.sampled_from([None, True, False, 0, 1, 2, -1, -3, 9.9, 0.5, 1e308, 10**30, 10**400]),
    st.sampled_from(["", "x", "\0", "\ud800", "input_1", "conv_1x1", DEEP, [], {}, [[]], [0, 1]]),
    st.floats(),
    st.integers(),
    st.text(max_size=5),
    st.lists(st.integers(-2, 30), max_size=4),
).map(copy.deepcopy)  # else one value could be put into itself


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes changed, cut out, put in or put twice; or the end is missing."""
    altered = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(altered) - 1)))
        end = at + draw(st.integers(1, 40))
        how = draw(st.sampled_from(["flip", "flip", "set", "cut", "insert", "twice", "end"]))
        if how == "flip" and altered:
            altered[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "set" and altered:
            altered[at] = draw(st.integers(0, 255))
        elif how == "cut":
            del altered[at:end]
        elif how == "insert":
            altered[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif how == "twice":
            altered[at:at] = altered[at:end]
        elif how == "end":
            del altered[at:]
    return bytes(altered)


@st.composite
def changed_json(draw: st.DrawFn, value: Any) -> bytes:
    """The JSON of `value`, in which something is removed, replaced, added or swapped."""
    box = [copy.deepcopy(value)]
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(box))
        outer, key = places[draw(st.integers(0, len(places) - 1))]
        how = draw(st.sampled_from(["replace", "replace", "remove", "swap", "add", "shift"]))
        if how == "remove" and outer is not box:
            del outer[key]
        elif how == "swap":
            other, there = places[draw(st.integers(0, len(places) - 1))]
            outer[key], other[there] = copy.deepcopy((other[there], outer[key]))
        elif how == "add" and isinstance(outer, dict):
            outer[draw(st.text(max_size=5))] = draw(STRANGE)
        elif how == "add":
            outer.insert(key, draw(STRANGE))
            del box[1:]
        elif how == "shift" and isinstance(outer[key], int | float):
            outer[key] += draw(st.sampled_from([-1, 1, 0.25]))
        else:
            outer[key] = draw(STRANGE)
    text = json.dumps(box[0])
    depth = draw(st.sampled_from([150, 100_000]))
    return text.replace(json.dumps(DEEP), "[" * depth + "]" * depth).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


@st.composite
def edited_zip(draw: st.DrawFn, content: bytes) -> bytes:
    """The archive written anew, its checksums right, with one member changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = draw(st.integers(0, len(members) - 1))
    name, held = members[at]
    how = draw(st.sampled_from(["damage", "damage", "damage", "remove", "rename", "swap", "pack"]))
    if how == "damage":
        members[at] = name, draw(damaged(held))
    elif how == "remove":
        del members[at]
    elif how == "rename":
        members[at] = draw(st.text("ab/.0", min_size=1, max_size=8)), held
    elif how == "swap":
        other = draw(st.integers(0, len(members) - 1))
        members[at], members[other] = (name, members[other][1]), (members[other][0], held)
    buffer = io.BytesIO()
    packed = zipfile.ZIP_DEFLATED if how == "pack" else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", packed) as archive:
        for name, held in members:
            archive.writestr(zipfile.ZipInfo(name), held, packed)
    return buffer.getvalue()


class Evil:
    """Unpickled by the ordinary pickle, it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)
