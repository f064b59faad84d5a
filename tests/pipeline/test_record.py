"""The record of a run: what is written is read back, and nothing that was damaged or edited."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import deep_update
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stage_results import EXAMPLES, HASH, finish, reseal

from ghn_pipeline.pipeline import record
from ghn_pipeline.pipeline.stage import kinds
from ghn_pipeline.settings.config import Config
from ghn_pipeline.system.errors import UserError

STAGES = {
    **{kind: kind for kind in ("architectures", "winner", "mobile", "memory", "export")},
    "ghn": "ghn/default",
    "oneshot": "oneshot/0",
    "sgd": "sgd/3",
    "repeat": "repeat/0",
    "short": "short/0",
    "scores": "scores/ghn/default",
    "search": "search/random/0",
    "finalists": "finalists/top/0",
    "anytime": "anytime/top/0",
}
FILES = {"model.pt": b"weights", "curve.csv": b"step,loss\n1,2\n"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)


def test_every_kind_of_stage_has_a_schema_and_an_example() -> None:
    with_records = {kind for kind, (one, *_) in kinds().items() if one.result != "AnyResult"}
    assert set(EXAMPLES) == set(STAGES) == with_records


@pytest.mark.parametrize("kind", STAGES)
def test_a_record_is_read_back(kind: str, configured: Any) -> None:
    config, stage = configured(), STAGES[kind]
    folder = finish(config, stage, files=FILES, inputs={"model.pt": "0" * 64})
    found = record.read(config, stage)
    assert found["result"] == json.loads(json.dumps(EXAMPLES[kind]))
    assert found["outputs"] == {
        name: hashlib.sha256(
            content if isinstance(content, bytes) else content.encode()
        ).hexdigest()
        for name, content in FILES.items()
    }
    assert record.load(folder / "run.json") == found
    assert record.output(config, stage, "model.pt").read_bytes() == b"weights"


@pytest.mark.parametrize("damage", [b"", b"weightz", b"weights+"])
def test_an_output_that_is_not_what_was_written_is_refused(damage: bytes, configured: Any) -> None:
    config = configured()
    folder = finish(config, "oneshot/0", files=FILES)
    (folder / "model.pt").write_bytes(damage)
    said = r"oneshot/0/model\.pt is not the file that was written.*`ghn oneshot 0` again"
    with pytest.raises(UserError, match=said):
        record.output(config, "oneshot/0", "model.pt")
    (folder / "model.pt").unlink()
    with pytest.raises(UserError, match=r"cannot read .*`ghn oneshot 0`: run that first"):
        record.output(config, "oneshot/0", "model.pt")
    with pytest.raises(UserError, match=r"oneshot/0 has no other\.pt"):
        record.output(config, "oneshot/0", "other.pt")


#: {kind: changes of its result, each of them impossible}
IMPOSSIBLE: dict[str, list[dict[str, Any]]] = {
    "sgd": [
        {"measured": {"30": {"validation": 0.5, "test": 9.9}}},
        {"measured": {"30": {"validation": -3, "test": 0.5}}},
        {"measured": {"30": {"validation": 0.5}}},  # no test
        {"measured": {"30": {"test": 0.5}}},
        {"measured": {"10": {"validation": 0.5, "test": 0.5}}},  # on the way
        {"measured": {"40": {"validation": 0.5, "test": 0.5}}},  # after the last step
        {"measured": {"x": {"validation": 0.5, "test": 0.5}}},
        {"measured": []},
        {"hash": "no hash"},
        {"steps": "30"},
        {"steps": True},
        {"final_loss": None},
        {"more": 1},
    ],
    "scores": [
        {"values": {"accuracy": [0.1]}},
        {"values": {"accuracy": [0.1, 1.5]}},
        {"values": {"accuracy": [0.1, "0.2"]}},
        {"values": {"likelihood": [0.1, 0.2]}},
        {"values": {}, "mean": {}},
        {"mean": {"accuracy": -3}},
        {"hashes": []},
        {"seconds_each": {"accuracy": -1}},
        {"block_difference": -0.1},
    ],
    "finalists": [{"measured": {"20": {"validation": 0.4}}}, {"parameters": 0}],
    "anytime": [{"spent": [1, 2]}, {"spent": []}],
    "winner": [{"rank": -1}, {"of": {"0": 1.1}}, {"block": {}}],
    "mobile": [{"images": {}}, {"channels": 0}],
    "memory": [{"ghn": {"parameters": 1}}],
    "export": [{"test": 95.7}],
}
CASES = [(kind, changes) for kind, several in IMPOSSIBLE.items() for changes in several]


@pytest.mark.parametrize(("kind", "changes"), CASES)
def test_an_impossible_result_is_refused_though_its_digest_is_right(
    kind: str, changes: dict[str, Any], configured: Any
) -> None:
    config, stage = configured(), STAGES[kind]
    path = finish(config, stage) / "run.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["result"] |= changes
    reseal(path, content)
    with pytest.raises(UserError, match=r"run\.json is no whole record.* again"):
        record.read(config, stage)
    # nor is it written in the first place
    with pytest.raises(UserError, match="cannot be right"):
        finish(config, stage, changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_not_written(value: float, configured: Any) -> None:
    with pytest.raises(UserError, match=r"sgd/3 ended with a result that cannot be right"):
        finish(configured(), "sgd/3", {"final_loss": value})
    assert not Path("results/smoke/sgd/3/run.json").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"result.measured.30.test": 0.21},  # possible, and not what was measured
        {"accelerator_seconds": 1.0},
        {"settings.split": 7},
        {"commit": "another"},
        {"finished": "2026-11-28"},
        {"inputs": {"model": "short"}},
        {"sha256": "0" * 64},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_edited_record_is_refused(changes: dict[str, Any], configured: Any) -> None:
    config = configured()
    path = finish(config, "sgd/3") / "run.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(deep_update(content, changes)), encoding="utf-8")
    for read in (lambda: record.read(config, "sgd/3"), lambda: record.load(path)):
        with pytest.raises(UserError, match=r"was damaged or edited.*`ghn sgd 3` again"):
            read()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"0123", b"x" * 32])
def test_a_damaged_name_of_the_run_is_refused(content: bytes, configured: Any) -> None:
    config = configured()
    finish(config, "sgd/3")
    (named,) = Path("checkpoints").rglob("*.run")
    named.write_bytes(content)
    with pytest.raises(UserError, match=r"\.run is damaged.*`ghn sgd 3` again"):
        record.provenance(config, "sgd/3")


def test_without_a_result_it_is_no_record(configured: Any) -> None:
    config = configured()
    path = finish(config, "winner") / "run.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["result"]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"no whole record.*result: Field required"):
        record.read(config, "winner")
    for other in ("[]", "1", "null", '"text"', "{}"):
        path.write_text(other, encoding="utf-8")
        with pytest.raises(UserError, match="no whole record"):
            record.read(config, "winner")


def test_a_record_in_the_place_of_another_is_refused(configured: Any) -> None:
    """The settings of both are the same; the architectures are not."""
    config = configured()
    for stage in ("sgd/0", "sgd/1"):
        finish(config, stage)
    shutil.copy("results/smoke/sgd/0/run.json", "results/smoke/sgd/1")
    with pytest.raises(UserError, match=r"sgd/1/run\.json is the record of sgd/0"):
        record.read(config, "sgd/1")


# ---- mutations ---------------------------------------------------------------------------------

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.just([]),
    st.just({}),
    st.just(HASH),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a JSON value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    found = [(*path, key) for key in keys]
    inner = [place for key in keys if isinstance(value[key], dict | list) and value[key]
             for place in places(value[key], (*path, key))]  # fmt: skip
    return found + inner


@st.composite
def mutated(draw: Any, original: bytes) -> bytes:
    """Bytes flipped, cut or inserted; or a value changed, removed or put elsewhere."""
    if draw(st.booleans()):
        at = draw(st.integers(0, len(original) - 1))
        until = draw(st.integers(at, min(len(original), at + 20)))
        return original[:at] + draw(st.binary(max_size=4)) + original[until:]
    content = json.loads(original)
    *outer, key = draw(st.sampled_from(places(content)))
    place = content
    for step in outer:
        place = place[step]
    if draw(st.booleans()):
        place[key] = draw(VALUES)
    else:
        del place[key]
    return json.dumps(content, indent=1).encode() + b"\n"


@pytest.mark.parametrize("kind", ["sgd", "scores"])
def test_no_mutation_is_a_success_with_a_false_value(kind: str, configured: Any) -> None:
    config, stage = configured(), STAGES[kind]
    path = finish(config, stage, files=FILES) / "run.json"
    original, true = path.read_bytes(), record.read(config, stage)
    refused = 0

    @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
    @given(mutated(original))
    def mutate(content: bytes) -> None:
        nonlocal refused
        path.write_bytes(content)
        try:
            assert record.read(config, stage) == true
        except UserError:
            refused += 1

    mutate()
    assert refused > 400


def test_the_example_settings_are_those_in_force(configured: Any) -> None:
    config: Config = configured()
    finish(config, "ghn/default")
    with pytest.raises(UserError, match="is stale"):
        record.read(configured({"ghn.clip": 1.0}), "ghn/default")
