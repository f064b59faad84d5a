"""The short form of endurance.py: some kills, and the trials that do not take long."""

import json
import random
import shutil
import sys

import pytest
import trials
import yaml
from conftest import ROOT
from kills import STAGES, WAYS, Ground, Round, difference, take_away

from ghn_pipeline.pipeline import dvc
from ghn_pipeline.settings.config import load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@pytest.fixture(scope="module")
def ground(tmp_path_factory, finished):
    """A folder for rounds whose undisturbed run is the one that all tests share."""
    ground = Ground(tmp_path_factory.mktemp("endurance"), (finished.folder / "data").resolve())
    undisturbed = ground.undisturbed_folder("smoke")
    undisturbed.parent.mkdir()
    undisturbed.symlink_to(finished.folder)
    shutil.copy(finished.folder / "mlflow.db", ground.folder)
    return ground


@pytest.mark.parametrize(
    ("words", "way"),
    [
        # `make endurance` kills every kind of stage in every way; this must end in three minutes
        ("finalists top/0", "a worker"),
        ("scores ghn/default", "the engine"),
    ],
)
def test_after_a_kill_the_same_command_gives_the_same_bytes(words, way, ground):
    stage = trials.stage(words)
    for seed in range(5):  # now and then the work is done before it is hit
        place = ground.copy("smoke", "snakemake")
        take_away(place, stage)
        rng, undisturbed = random.Random(seed), ground.undisturbed_folder("smoke")
        tell = lambda kill, words: None  # noqa: E731
        played = Round(place, undisturbed, "snakemake", "smoke", stage, rng, tell, (way,))
        played.play(1, pace=0.7 * 0.6**seed)
        assert (played.faults, played.notes) == ([], [])
        if played.kills:
            break
    assert [kill.way for kill in played.kills] == [way]


def test_a_full_disk(ground):
    assert "the same bytes" in trials.full_disk(ground)


def test_a_store_that_is_locked_for_a_while(ground):
    assert "the same bytes" in trials.locked_store(ground, seconds=8)


def test_any_difference_is_seen(ground):
    undisturbed = ground.undisturbed_folder("smoke")
    place = ground.copy("smoke", "snakemake")
    results = place.folder / "results/smoke"
    assert difference(place, undisturbed, "smoke") == []
    record = json.loads((results / "sgd/0/run.json").read_text(encoding="utf-8"))
    record |= {"finished": "later", "accelerator_seconds": 7.0, "sha256": "another"}
    (results / "sgd/0/run.json").write_text(json.dumps(record), encoding="utf-8")
    assert difference(place, undisturbed, "smoke") == []
    record["result"]["final_loss"] += 1e-9
    (results / "sgd/0/run.json").write_text(json.dumps(record), encoding="utf-8")
    with open(results / "table4.md", "a", encoding="utf-8") as file:
        file.write(" ")
    (results / "oneshot/0/model.pt").unlink()
    (results / "more").touch()
    found = ["more", "oneshot/0/model.pt", "sgd/0/run.json", "table4.md"]
    assert difference(place, undisturbed, "smoke") == found


def test_every_kind_of_stage_is_there():
    """Every command of the workflows, except for what only gets the images and for benchmarks."""
    named = {}
    for preset in ("smoke", "anytime-smoke"):
        config = load([ROOT / "params.yaml", ROOT / f"presets/{preset}.yaml"])
        stages = yaml.safe_load(dvc.text(config))["stages"]
        named |= {name: one.get("do", one)["cmd"].split()[1] for name, one in stages.items()}
    del named["data"]
    assert {stage.dvc.partition("@")[0]: stage.words.split()[0] for stage in STAGES} == named
    assert sum(WAYS.values()) == 14
