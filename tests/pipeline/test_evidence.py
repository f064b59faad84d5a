"""Evidence: kept without weights, and its tables and the page of claims made from it again."""

import contextlib
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from stage_results import finish, listed, reseal

from ghn_pipeline.pipeline import evidence, spaces
from ghn_pipeline.pipeline.stage import Job, find
from ghn_pipeline.ranking.proxies import PROXIES
from ghn_pipeline.settings.config import Config
from ghn_pipeline.system.errors import UserError

HASHES = [letter * 16 for letter in "abcde"]
#: the tables that `made` makes
TABLES = [f"table4{end}" for end in (".csv", ".md", ".tex", ".html", ".json", ".findings.json")]
TABLES += ["figure6.svg", "figure6.png"]


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, configured: Callable[..., Config]
) -> tuple[Config, Path]:
    """Write the results that Table 4 and Figure 6 are made of, make these, and a long search."""
    config, folder = configured(), tmp_path_factory.mktemp("made")
    with contextlib.chdir(folder):
        for kind, count in (("sgd", 5), ("repeat", 3)):
            for i in range(count):
                measured = {30: {"validation": 0.3, "test": [0.1, 0.4, 0.2, 0.5, 0.3][i]}}
                result = {"hash": HASHES[i], "measured": measured}
                finish(config, f"{kind}/{i}", result, files={"curve.csv": "step,loss\n"})
        trained = {"model.pt": b"weights", "curve.csv": "step,loss\n"}
        weights = {}
        for model in ("ghn/default", "oneshot/0"):
            path = finish(config, model, files=trained) / "run.json"
            record = json.loads(path.read_text(encoding="utf-8"))
            weights = {"model.pt": record["outputs"]["model.pt"]}
            _scores(config, model, ["accuracy", "likelihood"], weights)
        _scores(config, "sgd", ["sgd-10"])
        _scores(config, "proxies", list(PROXIES))
        blocks = [spaces.space_of(config).sample(Random(i), 3) for i in range(700)]
        values = [i / 700 for i in range(700)]
        found = {"architectures.json": listed(blocks, accuracy=values), "curve.csv": "step\n"}
        finish(config, "search/random/0", files=found, inputs=weights)
        find(config, "table4")[0].work(Job(config, "table4", []))
    return config, folder


def _scores(
    config: Config, model: str, names: list[str], inputs: dict[str, str] | None = None
) -> None:
    rng = Random(model)
    values = {name: [rng.random() for _ in HASHES] for name in names}
    result = {
        "hashes": HASHES,
        "mean": dict.fromkeys(names, 0.5),
        "values": values,
        "seconds_each": dict.fromkeys(names, 1.5),
    }
    finish(config, f"scores/{model}", result, files={"scores.csv": "index\n"}, inputs=inputs)


@pytest.fixture
def config(made: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Work in a copy of these results."""
    config, folder = made
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return config


def held(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


# ---- kept --------------------------------------------------------------------------------------


def test_records_and_tables_are_kept_and_no_weights(config: Config) -> None:
    folder = evidence.keep(config)
    assert folder == Path("evidence/smoke")
    found, results = held(folder), held(Path("results/smoke"))
    assert {"settings.yaml", "ghn/default/run.json", "scores/sgd/scores.csv", *TABLES} <= set(found)
    assert not [name for name in found if name.endswith((".pt", ".bin", "provenance.json"))]
    # what is there is what was made; only weights and what tells of runs are missing
    (packed,) = (name for name in found if name.endswith(".gz"))
    assert packed == "search/random/0/architectures.json.gz"
    assert gzip.decompress(found[packed]) == results[packed.removesuffix(".gz")]
    plain = {name: text for name, text in found.items() if name not in (packed, "settings.yaml")}
    assert plain == {name: results[name] for name in plain}
    left = {name for name in results if name not in found and f"{name}.gz" not in found}
    assert left == {"ghn/default/model.pt", "oneshot/0/model.pt", "table4.provenance.json"}


def test_what_is_kept_twice_is_the_same_bytes(config: Config) -> None:
    first = held(evidence.keep(config))
    assert held(evidence.keep(config)) == first


def test_older_evidence_is_replaced_and_its_remarks_stay(config: Config) -> None:
    folder = evidence.keep(config)
    (folder / "remarks.yaml").write_text("1: on a small scale\n", encoding="utf-8")
    (folder / "sgd/9").mkdir()
    (folder / "sgd/9/run.json").write_text("{}", encoding="utf-8")
    shutil.rmtree("results/smoke/search")
    evidence.keep(config)
    found = held(folder)
    assert found["remarks.yaml"] == b"1: on a small scale\n"
    assert not [name for name in found if name.startswith(("sgd/9", "search"))]
    assert [path.name for path in Path("evidence").iterdir()] == ["smoke"]


def test_a_stage_that_has_not_finished_is_not_kept(config: Config) -> None:
    Path("results/smoke/repeat/1/run.json").unlink()
    found = held(evidence.keep(config))
    assert "repeat/0/curve.csv" in found
    assert "repeat/1/curve.csv" not in found


def test_nothing_finished_is_no_evidence(config: Config) -> None:
    before = held(evidence.keep(config))
    shutil.rmtree("results")
    with pytest.raises(UserError, match=r"results/smoke holds no finished stage"):
        evidence.keep(config)
    assert held(Path("evidence/smoke")) == before


def test_damaged_or_stale_records_are_no_evidence(config: Config) -> None:
    before = held(evidence.keep(config))
    path = Path("results/smoke/sgd/1/run.json")
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace('"test": 0.4', '"test": 0.9'), encoding="utf-8")
    with pytest.raises(UserError, match=r"sgd/1/run\.json is no whole record"):
        evidence.keep(config)
    path.write_text(whole, encoding="utf-8")
    reseal(path, {"digest": "f" * 16})
    with pytest.raises(UserError, match=r"sgd/1/run\.json is stale"):
        evidence.keep(config)
    assert held(Path("evidence/smoke")) == before


# ---- made again --------------------------------------------------------------------------------


@pytest.fixture
def kept(config: Config) -> Path:
    """Keep the results, and nothing else: no weights, no checkpoints."""
    folder = evidence.keep(config)
    shutil.rmtree("results")
    shutil.rmtree("checkpoints")
    return folder


def test_tables_are_made_again_to_the_same_bytes(kept: Path) -> None:
    before = held(kept)
    # what is made again does not hang on what it replaces
    for name in TABLES:
        (kept / name).write_bytes(b"another")
    found = evidence.remake()
    assert held(kept) == before
    assert {one.scale for one in found} == {"smoke"}
    assert {one.claim for one in found} == {1, 2, 3, 4, 5}  # of the smoke preset, without costs
    # the page of claims is beside the scales, and nothing else is left
    ends = (".md", ".html", ".tex", ".csv", ".json", ".svg", ".png")
    there = {path.name for path in Path("evidence").iterdir()}
    assert there == {"smoke", *(f"claims{end}" for end in ends)}
    assert [path.name for path in Path().iterdir()] == ["evidence"]


def test_the_page_has_every_finding_and_the_remarks(kept: Path) -> None:
    (kept / "remarks.yaml").write_text("1: on a small scale\n", encoding="utf-8")
    found = evidence.remake()
    page = Path("evidence/claims.md").read_text(encoding="utf-8")
    assert "smoke: on a small scale" in page
    assert "older code" not in page
    written = json.loads(Path("evidence/claims.json").read_text(encoding="utf-8"))
    assert [one["claim"] for one in written] == [one.claim for one in found]


def test_evidence_of_other_settings_stays_as_it_is_and_the_page_says_so(kept: Path) -> None:
    reseal(kept / "ghn/default/run.json", {"digest": "f" * 16})
    (kept / "table4.md").write_bytes(b"as it was")
    before = held(kept)
    found = evidence.remake()
    assert held(kept) == before
    assert found  # its findings are shown all the same
    page = Path("evidence/claims.md").read_text(encoding="utf-8")
    assert "smoke (older code, tables as they were)" in page


def test_settings_that_are_no_longer_read_are_of_older_code(kept: Path) -> None:
    text = (kept / "settings.yaml").read_text(encoding="utf-8")
    (kept / "settings.yaml").write_text(text.replace("method: 5", "method: 4"), encoding="utf-8")
    before = held(kept)
    evidence.remake()
    assert held(kept) == before
    page = Path("evidence/claims.md").read_text(encoding="utf-8")
    assert "smoke (older code, other settings)" in page


def damage(path: str, content: bytes) -> Callable[[Path], Any]:
    return lambda kept: (kept / path).write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (damage("sgd/1/run.json", b"{"), r"sgd/1/run\.json is not whole JSON"),
        (damage("search/random/0/architectures.json.gz", b"\x1f\x8b\x08"), r"json\.gz is damaged"),
        (damage("benchmark.findings.json", b'[{"claims": 1}]'), "holds no findings"),
        (damage("remarks.yaml", b"- 1"), r"remarks\.yaml must be a mapping"),
        (damage("remarks.yaml", b"99: none"), r"remarks\.yaml must be a mapping"),
        (shutil.rmtree, r"there is no evidence/SCALE. `ghn keep` makes it"),
    ],
    ids=["record", "packed", "findings", "remarks", "number", "none"],
)
def test_damaged_evidence_is_one_message(
    kept: Path, spoil: Callable[[Path], Any], said: str
) -> None:
    spoil(kept)
    with pytest.raises(UserError, match=said):
        evidence.remake()
