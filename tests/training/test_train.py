"""A stage that trains: what its checkpoint is of."""

import json
from pathlib import Path
from random import Random

import pytest
from small_trainings import noise_images, small_config, small_space

from ghn_pipeline.chapters.train import train
from ghn_pipeline.data.images import stream
from ghn_pipeline.network import Network, Trained
from ghn_pipeline.space.graph import Block
from ghn_pipeline.training.sgd import sgd_training

ROOT = Path(__file__).parents[2]


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Train an architecture as `short/0`, in an empty folder without a tracking server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ghn_pipeline.tracking.send", lambda folder: None)
    config = small_config(ROOT)
    space, splits = small_space(config), noise_images(config)

    def run(block: Block):
        model = Trained(Network(space.modules(block), 8), stream(0))
        training = sgd_training("short/0", model, splits, config, measured_at=())
        device = next(model.parameters()).device
        train(config, training, device, of=block.hash, hash=block.hash)
        return json.loads(Path("results/smoke/short/0/run.json").read_text())["result"]

    first = space.sample(Random(5), 3)
    return run, space, first


def test_another_architecture_of_the_same_weights_is_trained_from_its_own_start(
    stage, capsys, recwarn
):
    run, space, first = stage
    names = {s.name: s.shape for s in Network(space.modules(first), 8).specs}
    rng = Random(0)
    mutants = (space.mutate(rng, first) for _ in range(10_000))
    other = next(
        m
        for m in mutants
        if m.hash != first.hash
        and {s.name: s.shape for s in Network(space.modules(m), 8).specs} == names
    )
    results = [run(block) for block in (first, other, first)]
    assert [r["hash"] for r in results] == [first.hash, other.hash, first.hash]
    assert results[0]["final_loss"] != results[1]["final_loss"]
    assert results[0] == results[2]  # gone on with, not trained again
    assert "goes on from step 12" in "".join(capsys.readouterr())
