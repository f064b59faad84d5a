"""ImageNet's folder tree and batches against Pillow and torchvision called by hand."""

import multiprocessing
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from imitated import DEVICE, imitated
from PIL import Image

from ghn_pipeline.data import imagenet
from ghn_pipeline.data.imagenet import find, training_batches, validation_batches
from ghn_pipeline.data.images import stream
from ghn_pipeline.data.torchvision_shim import import_torchvision
from ghn_pipeline.system.errors import UserError

# of ImageNet, as every framework has them
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
KINDS = [("a.JPEG", "RGB"), ("b.jpg", "L"), ("c.PNG", "RGBA"), ("d.jpeg", "CMYK"), ("e.png", "P")]


def write_noise(path: Path, seed: int, mode: str = "RGB") -> None:
    """Write an image of a size of its own that resembles no other."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 70, 2)
    pixels = rng.integers(256, size=(height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Three classes of five training images, of every kind, and of two or three to validate."""
    root = tmp_path_factory.mktemp("imagenet")
    for c, name in enumerate(("n02", "n01", "n10")):
        for i, (file, mode) in enumerate(KINDS):
            write_noise(root / "train" / name / file, 10 * c + i, mode)
        for i in range(2 + c % 2):
            write_noise(root / "val" / name / f"{i}.JPEG", 100 + 10 * c + i)
    # none of these is an image to read
    (root / "train/n01/notes.txt").write_text("words", encoding="utf-8")
    (root / "train/n01/._a.JPEG").write_text("what macOS leaves", encoding="utf-8")
    (root / "train/.hidden").mkdir()
    (root / "train/list.txt").write_text("words", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def singles(tmp_path_factory) -> Path:
    """Ten classes of one image: a label is an image."""
    root = tmp_path_factory.mktemp("singles")
    for c in range(10):
        for part in ("train", "val"):
            write_noise(root / part / f"class{c}" / "only.png", c)
    return root


def normalised(image: Image.Image) -> torch.Tensor:
    pixels = (np.asarray(image) / 255 - MEAN) / STD
    return torch.tensor(pixels.transpose(2, 0, 1), dtype=torch.float32)


def rgb(path: Path | str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def batches(root: Path, steps=range(10), **changes):
    options = {"batch": 3, "resolution": 12, "seed": 5, "processes": 0}
    return training_batches(find(root), steps, **{**options, **changes})


def assert_equal(ours, theirs) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert all(map(torch.equal, one, other))


# --- the tree -------------------------------------------------------------------------------


def test_every_image_is_found_in_the_order_of_the_names(tree):
    found = find(tree)
    assert found.classes == ("n01", "n02", "n10")
    for images, part, count in ((found.train, "train", 15), (found.validation, "val", 7)):
        by_hand = [str(p) for p in sorted((tree / part).glob("n*/[!.]*")) if p.suffix != ".txt"]
        assert [path for path, _ in images] == by_hand and len(by_hand) == count
        assert all(found.classes[label] == Path(path).parent.name for path, label in images)


def test_the_digest_is_of_names_and_sizes(tree, tmp_path):
    copy = shutil.copytree(tree, tmp_path / "copy")
    digests = [find(copy).digest]
    assert digests == [find(tree).digest]
    (copy / "val/n01/0.JPEG").rename(copy / "val/n01/7.JPEG")
    digests.append(find(copy).digest)
    with open(copy / "val/n01/7.JPEG", "ab") as file:
        file.write(b"\0")
    digests.append(find(copy).digest)
    (copy / "train/n02/a.JPEG").unlink()
    digests.append(find(copy).digest)
    assert len(set(digests)) == 4


def test_all_faults_of_a_tree_are_told_at_once(tree, tmp_path):
    copy = shutil.copytree(tree, tmp_path / "copy")
    shutil.rmtree(copy / "val/n01")
    (copy / "val/n02/0.JPEG").rename(copy / "val/n02/0.txt")
    (copy / "val/n02/1.JPEG").unlink()
    for c in range(7):
        write_noise(copy / "val" / f"x{c}" / "0.png", c)
    with pytest.raises(UserError) as caught:
        find(copy)
    told = str(caught.value)
    assert f"only {copy}/train has the classes n01\n" in told
    assert f"only {copy}/val has the classes x0, x1, x2, x3, x4 and 2 more\n" in told
    assert f"{copy}/val has no images of n02\n" in told
    assert "train/CLASS/*.JPEG" in told


@pytest.mark.parametrize(
    "taken, message",
    [
        ("", "there is no folder .*copy\n"),
        ("train", "there is no folder .*copy/train\n"),
        ("val", "there is no folder .*copy/val\n"),
        ("train/*", "copy/train holds no folders of classes\n"),
        ("val/n*/*", "copy/val has no images of n01, n02, n10\n"),
    ],
)
def test_what_a_tree_lacks_is_told(tree, tmp_path, taken, message):
    copy = shutil.copytree(tree, tmp_path / "copy")
    for path in copy.glob(taken) if taken else [copy]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match=message) as caught:
        find(copy)
    assert str(caught.value).count("\n  ") == 1  # and no fault besides


def test_a_link_to_nowhere_is_told(tree, tmp_path):
    copy = shutil.copytree(tree, tmp_path / "copy")
    (copy / "val/n02/x.jpg").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"cannot read .*val/n02/x.jpg: No such file"):
        find(copy)


# --- what is read ---------------------------------------------------------------------------


def test_crops_are_those_of_torchvision_with_the_stream_of_each_image(tree):
    random_resized_crop = import_torchvision().transforms.RandomResizedCrop
    found, shown, flips = find(tree), [], 0
    for step, (images, labels) in enumerate(batches(tree, range(10))):
        for position, (ours, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            seed = stream(5, "imagenet", step, position).initial_seed()
            matches = []
            for path, its_label in found.train:
                image = rgb(path)
                torch.manual_seed(seed)
                top, left, height, width = random_resized_crop.get_params(
                    image, scale=(0.08, 1), ratio=(3 / 4, 4 / 3)
                )
                box = (left, top, left + width, top + height)
                crop = normalised(image.crop(box).resize((12, 12), Image.Resampling.BILINEAR))
                flipped = bool(torch.rand(()) < 0.5)
                if torch.allclose(ours, crop.flip(-1) if flipped else crop, atol=1e-6):
                    matches.append((path, its_label, flipped))
            ((path, its_label, flipped),) = matches
            assert label == its_label
            shown.append(path)
            flips += flipped
    # two epochs of five steps of three images
    assert len(set(shown[:15])) == len(set(shown[15:])) == 15 and shown[:15] != shown[15:]
    assert 5 <= flips <= 25


@pytest.mark.parametrize("resolution, shorter", [(28, 32), (12, 14), (32, 37)])
def test_validation_crops_are_central(tree, resolution, shorter):
    found = find(tree)
    given = list(validation_batches(found, batch=3, resolution=resolution, processes=0))
    assert [len(labels) for _, labels in given] == [3, 3, 1]
    images, labels = (torch.cat(parts) for parts in zip(*given, strict=True))
    assert labels.tolist() == [label for _, label in found.validation]
    for ours, (path, _) in zip(images, found.validation, strict=True):
        image = rgb(path)
        short = min(image.size)
        width, height = (int(shorter * side / short) for side in image.size)
        left, top = (round((side - resolution) / 2) for side in (width, height))
        scaled = image.resize((width, height), Image.Resampling.BILINEAR)
        crop = scaled.crop((left, top, left + resolution, top + resolution))
        torch.testing.assert_close(ours, normalised(crop), rtol=0, atol=1e-6)


def test_types_and_order_in_memory(tree):
    images, labels = next(batches(tree))
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert images.shape == (3, 3, 12, 12)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_images_are_put_on_an_accelerator(tree):
    expected = list(validation_batches(find(tree), batch=4, resolution=12, processes=0))
    with imitated():
        given = validation_batches(find(tree), batch=4, resolution=12, processes=0, device=DEVICE)
        there = list(given)
        assert {tensor.device for batch in there for tensor in batch} == {DEVICE}
        assert_equal([[x.cpu() for x in batch] for batch in there], expected)


def test_an_epoch_shows_each_image_once_in_an_order_of_its_own(singles):
    labels = [labels.tolist() for _, labels in batches(singles, range(6))]
    first, second = [*chain(*labels[:3])], [*chain(*labels[3:])]
    # one of the ten is left over by batches of three
    assert len(set(first)) == len(set(second)) == 9 and first != second
    other = [labels.tolist() for _, labels in batches(singles, range(3), seed="5/finalist")]
    assert [*chain(*other)] != first


def test_a_resumed_run_and_each_part_see_the_same(tree):
    straight = list(batches(tree, range(8)))
    assert_equal(batches(tree, range(4, 8)), straight[4:])
    parts = [list(batches(tree, range(8), part=p)) for p in (slice(0, 1), slice(1, 3))]
    joined = [[torch.cat(pair) for pair in zip(*both, strict=True)] for both in zip(*parts)]  # noqa: B905
    assert_equal(joined, straight)


def test_reading_leaves_the_random_numbers_of_torch_alone(tree):
    before = torch.get_rng_state()
    next(batches(tree))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_of_all_and_a_batch_of_more(tree):
    _, labels = next(batches(tree, batch=15))
    assert sorted(labels.tolist()) == sorted([0, 1, 2] * 5)
    with pytest.raises(UserError, match="a batch of 16 is larger than the 15 training images"):
        batches(tree, batch=16)


@pytest.fixture
def damaged(tree, tmp_path) -> Path:
    return shutil.copytree(tree, tmp_path / "copy")


@pytest.mark.parametrize("damage", ["text", "empty", "cut off", "gone", "other format"])
def test_a_file_that_is_no_image_is_named(damaged, damage):
    found, path = find(damaged), damaged / "val/n02/0.JPEG"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "other format":
        rgb(path).save(path, "GIF")
    else:
        path.write_bytes({"text": b"words", "empty": b"", "cut off": content[:-200]}[damage])
    with pytest.raises(UserError, match=r"val/n02/0.JPEG is no image that can be read \("):
        list(validation_batches(found, batch=2, resolution=8, processes=0))


# --- how pixels are stored --------------------------------------------------------------------

#: What is stored of an upright image under each EXIF orientation, which says where the first row
#: and the first column are seen: 6 is "right, top" (EXIF 2.3, section 4.6.4).
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright.swapaxes(0, 1)[::-1],
    7: lambda upright: upright.swapaxes(0, 1)[::-1, ::-1],
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],
}


def read_one(root: Path, name: str, write, side: int = 28) -> torch.Tensor:
    """The pixels, from 0 to 1, of the central crop of an image that `write` puts into a tree."""
    for part in ("train", "val"):
        (root / part / "c").mkdir(parents=True)
        write(root / part / "c" / name)
    batches = validation_batches(find(root), batch=1, resolution=side, processes=0)
    images, _ = next(batches)
    mean, std = (torch.tensor(each, dtype=torch.float32)[:, None, None] for each in (MEAN, STD))
    return images[0] * std + mean


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png"])
@pytest.mark.parametrize("orientation", STORED)
def test_an_image_is_turned_as_its_exif_orientation_says(orientation, name, tmp_path):
    # 32 rows of 40 pixels, its quarters of different colours; what is scaled to 32 rows stays
    colours = np.array([[[250, 10, 10], [10, 250, 10]], [[10, 10, 250], [250, 250, 10]]], np.uint8)
    upright = colours.repeat(16, axis=0).repeat(20, axis=1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    found = read_one(tmp_path, name, lambda path: stored.save(path, exif=exif, quality=100))
    expected = torch.tensor(upright[2:-2, 6:-6].copy()).permute(2, 0, 1).float() / 255
    # JPEG mixes the colours of neighbours
    far = torch.ones(28, 28, dtype=torch.bool)
    far[12:16] = far[:, 12:16] = False
    torch.testing.assert_close(found[:, far], expected[:, far], rtol=0, atol=0.03)
    if name.endswith("png"):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_damaged_exif_data_are_no_reason_to_refuse_an_image(tmp_path):
    gradient = np.arange(0, 256, 8, dtype=np.uint8).repeat(32).reshape(32, 32)
    for i, exif in enumerate((b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12")):
        save = lambda path: Image.fromarray(gradient).save(path, exif=exif, quality=100)  # noqa: B023, E731
        found = read_one(tmp_path / str(i), "photo.jpg", save)
        expected = torch.tensor(gradient[2:-2, 2:-2] / 255).float().expand(3, -1, -1)
        torch.testing.assert_close(found, expected, rtol=0, atol=0.01)


def test_truncated_exif_data_of_a_png_are_no_reason_to_refuse_an_image(tmp_path):
    for length in range(4, 16):
        exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0"[:length]
        content = png(32, 32, 8, 2, ROWS, (b"eXIf", exif))
        found = read_one(tmp_path / str(length), "i.png", lambda path: path.write_bytes(content))  # noqa: B023
        assert found.shape == (3, 28, 28)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks) -> bytes:
    """Return a PNG file, put together as its specification says."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("colour", "channels"), [(0, 1), (4, 2), (2, 3), (6, 4)], ids=["L", "LA", "RGB", "RGBA"]
)
def test_sixteen_bits_keep_their_values(colour, channels, tmp_path):
    values = np.random.default_rng(colour).integers(65536, size=(32, 32, channels), dtype=np.uint16)
    # a row begins with the number of its filter; 0 is none
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    content = png(32, 32, 16, colour, rows)
    found = read_one(tmp_path, "deep.png", lambda path: path.write_bytes(content))
    seen = values[..., :3] if channels > 2 else values[..., :1].repeat(3, axis=2)
    expected = torch.tensor((seen[2:-2, 2:-2] / 65535).transpose(2, 0, 1)).float()
    torch.testing.assert_close(found, expected, rtol=0, atol=1 / 255)


def test_the_colours_of_pixels_that_are_transparent_count(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(32, 32, 4), dtype=np.uint8)
    found = read_one(tmp_path, "clear.png", Image.fromarray(pixels).save)
    expected = torch.tensor(pixels[2:-2, 2:-2, :3].transpose(2, 0, 1) / 255).float()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("width, height", [(2**13 + 1, 2**13), (13_000, 13_000), (50_000, 60_000)])
def test_an_image_that_is_too_large_is_refused_before_it_is_decoded(width, height, tmp_path):
    content = png(width, height, 8, 2, b"")  # decoded, it would be found to have no rows
    said = rf"huge\.png has {width}×{height} pixels, and at most 67,108,864 are decoded\. Replace "
    with pytest.raises(UserError, match=said):
        read_one(tmp_path, "huge.png", lambda path: path.write_bytes(content))


def test_the_largest_image_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet, "LARGEST", 32 * 40)
    read_one(tmp_path / "a", "large.png", Image.new("RGB", (40, 32)).save)
    with pytest.raises(UserError, match="has 32×41 pixels, and at most 1,280 are decoded"):
        read_one(tmp_path / "b", "larger.png", Image.new("RGB", (32, 41)).save)


def test_an_image_that_would_be_huge_once_scaled_is_refused(tmp_path):
    """A validation image is scaled to a shorter side of some 256 pixels."""
    read_one(tmp_path / "a", "narrow.png", Image.new("RGB", (2, 1000)).save)
    with pytest.raises(UserError, match="has 2×1001 pixels: one side is more than 500 times"):
        read_one(tmp_path / "b", "narrower.png", Image.new("RGB", (2, 1001)).save)


ROWS = (b"\0" + bytes(range(96))) * 32
DAMAGED_PNGS = {
    "cut off": png(32, 32, 8, 2, ROWS)[:-40],
    "text of a gigabyte": png(
        32, 32, 8, 2, ROWS, (b"zTXt", b"k\0\0" + zlib.compress(bytes(2**26), 1) * 16)
    ),
    "pixels that are not compressed": png(32, 32, 8, 2, ROWS).replace(
        zlib.compress(ROWS)[:9], b"w" * 9
    ),
}


@pytest.mark.parametrize("content", DAMAGED_PNGS.values(), ids=DAMAGED_PNGS)
def test_a_damaged_png_is_one_message(content, tmp_path):
    with pytest.raises(UserError, match=r"damaged\.png is no image that can be read \("):
        read_one(tmp_path, "damaged.png", lambda path: path.write_bytes(content))


# --- processes that read --------------------------------------------------------------------


@pytest.fixture
def helpers():
    """Lists the processes that this test has started."""
    before = multiprocessing.active_children()
    return lambda: [p for p in multiprocessing.active_children() if p not in before]


def test_processes_that_read_change_nothing_and_leave(tree, helpers):
    helped = batches(tree, range(12), processes=2)
    first = next(helped)
    started = helpers()
    assert len(started) == 2
    assert_equal([first, *helped], list(batches(tree, range(12))))
    end = time.monotonic() + 30
    # not `join`: the executor waits for them too, and who comes second learns nothing
    while any(helper.exitcode is None for helper in started):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert [helper.exitcode for helper in started] == [0, 0]


def test_an_image_that_a_process_cannot_read_is_told_without_a_traceback(damaged):
    found = find(damaged)
    (damaged / "val/n10/0.JPEG").write_text("words", encoding="utf-8")
    given = validation_batches(found, batch=2, resolution=8, processes=1)
    assert len(next(given)[0]) == 2
    with pytest.raises(UserError, match=r"val/n10/0.JPEG is no image") as caught:
        list(given)
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)


def test_a_process_that_reads_outlives_signals_to_all_and_is_missed_when_killed(tree, helpers):
    given = batches(tree, range(100), processes=1)
    next(given)
    (helper,) = helpers()
    # a cluster tells every process of a job; a training that is to save still needs its images
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
        os.kill(helper.pid, number)
    for _ in range(20):
        next(given)
    os.kill(helper.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="a process that read images was killed"):
        list(given)


def test_processes_that_read_die_with_the_one_that_asked(tree, tmp_path):
    program = f"""
import multiprocessing, os, signal
from pathlib import Path
from ghn_pipeline.data import imagenet
from ghn_pipeline.data.imagenet import find, validation_batches
given = validation_batches(find(Path({str(tree)!r})), batch=1, resolution=8, processes=1)
next(given)
(helper,) = multiprocessing.active_children()
Path({str(tmp_path / "helper")!r}).write_text(str(helper.pid))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program])
    helper = int((tmp_path / "helper").read_text(encoding="utf-8"))
    end = time.monotonic() + 10
    while (alive := lives(helper)) and time.monotonic() < end:
        time.sleep(0.05)
    if alive:
        os.kill(helper, signal.SIGKILL)
    assert not alive


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
