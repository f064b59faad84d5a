"""ImageNet-mobile from end to end, on a small folder tree in the place of ImageNet."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from small_imagenet import CLASSES, TRAIN, VALIDATION, grow

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(finished, tmp_path_factory):
    """A copy of a finished run, and a tree of images beside it."""
    place = finished.copy_to(tmp_path_factory.mktemp("mobile") / "place")
    place.tree = grow(place.folder / "imagenet")
    return place


@pytest.fixture(scope="module")
def trained(place):
    """The winner, trained on the tree by two processes, and Table 3 made of it."""
    changes = {"mobile": {"folder": "imagenet", "processes": 2}}
    for verb in ("mobile", "table3"):
        done = place.ghn(verb, changes=changes)
        assert done.returncode == 0, done.stderr
    return place


def result(place):
    return json.loads((place.folder / "results/smoke/mobile/run.json").read_text(encoding="utf-8"))[
        "result"
    ]


def test_without_images_it_is_counted_and_the_table_says_so(finished):
    counted = result(finished)
    assert counted["images"] is None
    assert 0 < counted["multiply_adds"] <= 1_000_000
    table = (
        (finished.folder / "results/smoke/table3.csv").read_text(encoding="utf-8").splitlines()[-1]
    )
    assert table.startswith('"GHN Top-Best, 1K"')
    assert table.count("ImageNet not given") == 2
    assert f"{counted['multiply_adds'] / 1e6:.3f}"[:5] in table


def test_with_images_it_is_trained_and_measured(trained):
    found = result(trained)
    assert found["steps"] == 2 * (CLASSES * TRAIN // 16)
    (measured,) = found["measured"].values()
    assert 0 <= measured["top1"] <= measured["top5"] <= 1
    assert measured["top5"] * CLASSES * VALIDATION == pytest.approx(
        round(measured["top5"] * CLASSES * VALIDATION)
    )
    images = found["images"]
    assert (images["classes"], images["training"]) == (CLASSES, CLASSES * TRAIN)
    state = torch.load(trained.folder / "results/smoke/mobile/model.pt", weights_only=True)
    assert any(name.startswith("head.") for name in state["model"])


def test_the_table_does_not_take_them_for_imagenet(trained):
    (measured,) = result(trained)["measured"].values()
    text = (trained.folder / "results/smoke/table3.md").read_text(encoding="utf-8")
    assert f"{100 * measured['top1']:.2f} (6 classes" in text
    assert "not ImageNet" in text


def test_the_images_are_the_counted_networks_and_have_their_digest(trained, finished):
    # fewer classes than ImageNet has: a smaller classifier, so perhaps more channels
    assert result(trained)["multiply_adds"] <= 1_000_000
    assert result(trained)["hash"] == result(finished)["hash"]
    assert len(result(trained)["images"]["digest"]) == 16


def test_one_process_trains_the_same(trained, tmp_path):
    curve = pd.read_csv(trained.folder / "results/smoke/mobile/curve.csv")
    shutil.rmtree(trained.folder / "checkpoints/smoke")
    shutil.move(trained.folder / "results/smoke/mobile", tmp_path)
    done = trained.ghn("mobile", changes={"mobile": {"folder": "imagenet", "processes": 1}})
    assert done.returncode == 0, done.stderr
    alone = pd.read_csv(trained.folder / "results/smoke/mobile/curve.csv")
    assert np.allclose(alone, curve, atol=1e-4)


def test_other_images_of_the_same_names_are_trained_on_anew(trained):
    before = result(trained)
    for path in (trained.folder / "imagenet").rglob("*.JPEG"):
        Image.new("RGB", (40, 40), (label := int(path.parent.name[1:]), 40 * label, 9)).save(path)
    done = trained.ghn("mobile", changes={"mobile": {"folder": "imagenet", "processes": 1}})
    assert done.returncode == 0, done.stderr
    assert "goes on from" not in done.stdout
    after = result(trained)
    assert after["images"]["digest"] != before["images"]["digest"]
    assert after["final_loss"] != before["final_loss"]


def test_a_folder_that_is_not_imagenet_is_refused(place):
    (place.folder / "empty").mkdir()
    done = place.ghn("mobile", changes={"mobile": {"folder": "empty"}})
    assert done.returncode == 1
    assert "empty/train" in done.stderr and "empty/val" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_image_ends_it_with_its_name(place):
    tree = grow(place.folder / "broken")
    (tree / "train/n0000/0.JPEG").write_bytes(b"no image")
    changes = {"mobile": {"folder": "broken", "epochs": 9}}
    done = place.ghn("mobile", changes=changes)
    assert done.returncode == 1
    assert "broken/train/n0000/0.JPEG" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_table_refuses_what_was_counted_without_the_images(place):
    changes = {"mobile": {"folder": "imagenet", "epochs": 7}}
    done = place.ghn("table3", changes=changes)
    assert done.returncode == 1
    assert "results/smoke/mobile/run.json is stale" in done.stderr
