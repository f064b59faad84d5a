"""A thousand mutations of params.yaml and presets: a sound configuration or one clear message."""

import copy
import math
import re
import shutil
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import load_yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ghn_pipeline.settings import plain_yaml
from ghn_pipeline.settings.config import adopt, load
from ghn_pipeline.system.errors import UserError

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params.yaml"
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
#: What is in each, by DVC's own reader.
SHIPPED = {file: load_yaml(str(file)) for file in (PARAMS, *PRESETS)}
EXTREMES = [
    *(0, -1, 1, 2, 3, 16, 2**31, 2**63, 10**11, 10**30, 0.0, 0.5, 1.0, -0.5, 1e308, 5e-324),
    *(
        math.inf,
        math.nan,
        True,
        False,
        None,
        "",
        "-v",
        "a\0b",
        "../x",
        "é",
        "\ud7ff",
        "1e-3",
        "yes",
    ),
    *([], {}, [0], [1, 1], [[]], {"a": 1}, "x" * 3000, [1] * 1500, "default", "identity"),
]
SNIPPETS = [
    *(b"\x00", b"\xff", b"\t", b"\r", b"\xef\xbb\xbf", b"\xc2\x85", b"\xe2\x80\xa8", b"\x1b[2J"),
    *(b"&a ", b"*a", b"!!int ", b"<<: ", b"? ", b"- ", b": ", b"[", b"]", b"{", b"}", b"'", b'"'),
    *(b"|\n", b">\n", b"%YAML 1.1\n---\n", b"---\n", b"...\n", b"#", b"\n", b" ", b"  ", b","),
    *(b"[" * 3000, b"{a: " * 3000, b"9" * 5000, b"1e999", b"-", b"~", b"0", b"\\", b"@", b"`"),
]
FAST = settings(
    max_examples=500,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def places(content, path=()):
    """The path of everything in nested mappings and lists."""
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in entries:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def mutate_settings(content, draw):
    """Change the content of a file: a key or value dropped, renamed, replaced or wrapped."""
    *path, key = draw(st.sampled_from(list(places(content))))
    place = content
    for step in path:
        place = place[step]
    kind = draw(st.sampled_from(["drop", "rename", "replace", "scale", "wrap", "bury"]))
    if kind == "drop":
        del place[key]
    elif kind == "rename" and isinstance(place, dict):
        place[draw(st.sampled_from([f"{key}s", str(key)[:-1], "-x", "", 1, None]))] = place.pop(key)
    elif kind == "scale" and type(place[key]) in (int, float):
        place[key] = type(place[key])(place[key] * draw(st.sampled_from([-1, 0, 2, 10, 10**6])))
    elif kind == "wrap":
        place[key] = draw(st.sampled_from([[place[key]], {str(key): place[key]}]))
    elif kind == "bury":
        for _ in range(draw(st.sampled_from([3, 30]))):
            place[key] = [place[key]]
    else:
        place[key] = copy.deepcopy(draw(st.sampled_from(EXTREMES)))


def mutate_text(text, draw):
    """Change the bytes of a file: some put in, taken out or doubled, or the end cut off."""
    at = draw(st.integers(0, len(text)))
    kind = draw(st.sampled_from(["insert", "remove", "truncate", "double", "line"]))
    if kind == "insert":
        return text[:at] + draw(st.sampled_from(SNIPPETS)) + text[at:]
    if kind == "remove":
        return text[:at] + text[at + draw(st.integers(1, 20)) :]
    if kind == "truncate":
        return text[:at]
    if kind == "double":
        return text[:at] + text[at : at + 40] + text[at:]
    lines = text.splitlines(keepends=True)
    line = draw(st.sampled_from(lines))
    lines.insert(draw(st.integers(0, len(lines))), line)
    return b"".join(lines)


def values(content):
    """All single values of nested mappings and lists."""
    if isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            yield from values(value)
    else:
        yield content


def assert_sound(config, files):
    """What was accepted is what DVC reads in the files, and is within any bounds there are."""
    said, found = {}, config.model_dump()
    for file in files:
        said = merge(said, SHIPPED.get(file) or load_yaml(str(file)))
    for name in ("ghn", "oneshot"):
        said = {**said, name: said["training"] | stated(said[name])}
    ghns = {name: said["ghn"] | stated(own) for name, own in said["ghns"].items()}
    assert found == {**said, "ghns": ghns}
    for value in values(found):
        if isinstance(value, int | float):
            assert math.isfinite(value) and 0 <= value < 2**32
        elif isinstance(value, str):
            assert len(value) <= 1000 and value.isprintable()
    for name in (config.scale, *config.ghns):
        assert re.fullmatch(r"\w[\w-]*", name)
    modules, train = config.network.blocks * config.space.nodes, config.images.train
    assert modules <= 20_000 and config.network.channels <= 10_000
    assert 2 <= config.sgd.batch <= train <= 45_000
    assert config.evaluation.batch * config.evaluation.batches <= config.images.validation <= 5000
    assert set(config.correlation.ghns) <= set(config.ghns)
    assert len(set(config.space.operations)) == len(config.space.operations) >= 2
    assert config.compute.stop_seconds < 60 * config.compute.minutes


def stated(section):
    """What a section says itself: null is nothing said."""
    return {key: value for key, value in section.items() if value is not None}


def merge(old, new):
    """`old` with `new` on top, section by section."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return {**old, **{key: merge(old.get(key), value) for key, value in new.items()}}


def check(files, outcomes):
    try:
        config = load(files)
    except UserError as error:
        said = str(error)
        assert said and len(said) < 40_000
        assert all(line.isprintable() for line in said.splitlines())
        outcomes["refused"] += 1
    else:
        assert_sound(config, files)
        outcomes["sound"] += 1


@FAST
@given(st.data())
def mutants_of_settings(tmp_path, outcomes, data):
    mutated = data.draw(st.sampled_from([PARAMS, *PRESETS]))
    preset = data.draw(st.sampled_from([None, *PRESETS])) if mutated == PARAMS else mutated
    content = copy.deepcopy(SHIPPED[mutated])
    for _ in range(data.draw(st.integers(1, 2))):
        if content:
            mutate_settings(content, data.draw)
    file = tmp_path / mutated.name
    text = yaml.dump(content, Dumper=yaml.SafeDumper, allow_unicode=True, sort_keys=False)
    file.write_text(text, encoding="utf-8")
    check([file if f == mutated else f for f in (PARAMS, preset) if f], outcomes)


@FAST
@given(st.data())
def mutants_of_text(tmp_path, outcomes, data):
    mutated = data.draw(st.sampled_from([PARAMS, *PRESETS]))
    preset = data.draw(st.sampled_from([None, *PRESETS])) if mutated == PARAMS else mutated
    text = mutated.read_bytes()
    for _ in range(data.draw(st.integers(1, 2))):
        text = mutate_text(text, data.draw) if text else text
    file = tmp_path / mutated.name
    file.write_bytes(text)
    check([file if f == mutated else f for f in (PARAMS, preset) if f], outcomes)


@pytest.mark.parametrize("mutants", [mutants_of_settings, mutants_of_text])
def test_five_hundred_mutants_are_sound_or_one_message(mutants, tmp_path, monkeypatch):
    read, outcomes = plain_yaml.read, {"sound": 0, "refused": 0}
    # a file that is as it was shipped is not read again
    monkeypatch.setattr(plain_yaml, "read", lambda file: SHIPPED.get(file) or read(file))
    mutants(tmp_path, outcomes)
    assert outcomes["sound"] >= 25 and outcomes["refused"] >= 100, outcomes


@settings(FAST, max_examples=20)
@given(st.data())
def adopted(tmp_path, outcomes, data):
    content = copy.deepcopy(SHIPPED[data.draw(st.sampled_from(PRESETS))])
    mutate_settings(content, data.draw)
    shutil.copy(PARAMS, tmp_path / "params.yaml")
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    try:
        config = adopt(tmp_path / "params.yaml", [tmp_path / "preset.yaml"])
    except UserError:
        assert (tmp_path / "params.yaml").read_bytes() == PARAMS.read_bytes()
    else:
        assert config == load([tmp_path / "params.yaml"])
        outcomes["sound"] += 1


def test_a_mutant_is_adopted_whole_or_not_at_all(tmp_path):
    outcomes = {"sound": 0}
    adopted(tmp_path, outcomes)
    assert outcomes["sound"] >= 3
