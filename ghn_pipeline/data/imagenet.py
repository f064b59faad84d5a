"""ImageNet from a folder tree that the user has: batches of its images, read by processes."""

import multiprocessing
import os
import signal
import struct
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image
from torch import Tensor

from ghn_pipeline.data.images import normalise, stream
from ghn_pipeline.data.torchvision_shim import import_torchvision
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import digest
from ghn_pipeline.system.processes import end_with_parent

SUFFIXES = (".jpg", ".jpeg", ".png")

#: classes and validation images of ILSVRC 2012, which is ImageNet in papers
ILSVRC = (1000, 50_000)

# of the channels of ImageNet's training images, whose pixels count from 0 to 1; from the
# documentation of torchvision's pretrained models
MEAN = torch.tensor([0.485, 0.456, 0.406])
STD = torch.tensor([0.229, 0.224, 0.225])

# shares of the image's area and ratios of width to height that random crops have; Szegedy et al.
# 2015, "Going deeper with convolutions", section 6
CROP_AREA = (0.08, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)

# pixels of the shorter side over those of the central crop, as 224 out of 256 are customary
SHORTER_SIDE = 256 / 224

#: pixels of the largest image that is decoded; a process that reads takes up to 8 bytes for each
LARGEST = 2**26
#: longer over shorter side of the narrowest image that is decoded: a validation image is scaled to
#: a shorter side of some 256 pixels
NARROWEST = 500

#: what turns an image upright, by its EXIF orientation
UPRIGHT: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

#: seconds that a reading process goes on when all processes are told to stop
GRACE = 10

WHOLE = slice(None)
CPU = torch.device("cpu")

#: Name and size of each image of a class.
Listing = list[tuple[str, int]]
#: Of images, uint8 [B, R, R, 3].
Pixels = npt.NDArray[np.uint8]
#: What random draws depend on.
Key = tuple[int | str, ...]


@dataclass(frozen=True)
class ImageNet:
    """The images of a folder with train/CLASS/*.JPEG and val/CLASS/*.JPEG.

    Attributes:
        classes: names of the folders, sorted; a label is a position among them.
        train: path and label of each training image, in the order of the names.
        validation: likewise.
        digest: of the names below the folder and the sizes of all images.
    """

    classes: tuple[str, ...]
    # text, for a million objects of the class Path would take a gigabyte
    train: tuple[tuple[str, int], ...] = field(repr=False)
    validation: tuple[tuple[str, int], ...] = field(repr=False)
    digest: str


def find(folder: Path) -> ImageNet:
    """List the images (.jpg, .jpeg or .png) of `folder`; hidden files and folders do not count.

    Raises:
        UserError: the folder is not as it must be; it names every fault.
    """
    try:
        train, validation = (_classes(folder / part) for part in ("train", "val"))
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename}: {error.strerror}. Mend it or take it away."
        ) from error
    if faults := _faults(folder, train, validation):
        raise UserError(
            f"{folder} is not ImageNet:"
            + "".join(f"\n  {fault}" for fault in faults)
            + "\nIt must hold train/CLASS/*.JPEG and val/CLASS/*.JPEG (or .jpg, .jpeg, .png): a "
            "folder for each class, the same classes in both."
        )
    return ImageNet(
        tuple(train),
        _labelled(folder / "train", train),
        _labelled(folder / "val", validation),
        digest({"train": train, "val": validation}),
    )


def _classes(folder: Path) -> dict[str, Listing]:
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    return {name: _images(folder / name) for name in names}


def _images(folder: Path) -> Listing:
    with os.scandir(folder) as entries:
        return sorted(
            (e.name, e.stat().st_size)
            for e in entries
            if e.name.lower().endswith(SUFFIXES) and not e.name.startswith(".")
        )


def _faults(folder: Path, train: dict[str, Listing], validation: dict[str, Listing]) -> list[str]:
    if not folder.is_dir():
        return [f"there is no folder {folder}"]
    faults = []
    parts = ((folder / "train", train, validation), (folder / "val", validation, train))
    for part, classes, others in parts:
        empty = [name for name, images in classes.items() if not images]
        alone = [name for name in classes if name not in others]
        if not part.is_dir():
            faults.append(f"there is no folder {part}")
        elif not classes:
            faults.append(f"{part} holds no folders of classes")
        if empty:
            faults.append(f"{part} has no images of {_shortened(empty)}")
        if others and alone:
            faults.append(f"only {part} has the classes {_shortened(alone)}")
    return faults


def _shortened(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _labelled(folder: Path, classes: dict[str, Listing]) -> tuple[tuple[str, int], ...]:
    return tuple(
        (os.path.join(folder, name, image), label)
        for label, (name, images) in enumerate(classes.items())
        for image, _ in images
    )


class _Item(NamedTuple):
    """One image of a batch.

    Attributes:
        path: of the file.
        label: its class.
        key: of its random crop and flip; None for the central crop.
    """

    path: str
    label: int
    key: Key | None = None


def training_batches(
    imagenet: ImageNet,
    steps: Iterable[int],
    *,
    batch: int,
    resolution: int,
    seed: int | str,
    processes: int,
    part: slice = WHOLE,
    device: torch.device = CPU,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images, cropped at random, flipped half the time and normalised, and labels, by step.

    What a step sees depends on `seed` and the step alone. An epoch shows each image once, less
    the last incomplete batch.

    Args:
        imagenet: the images, of which those for training are taken.
        steps: whose batches to yield, counted from the start of the training.
        batch: images in the whole batch.
        resolution: R, pixels a side.
        seed: seed of the order, the crops and the flips.
        processes: that read files ahead of their use; 0: this process reads them when asked.
        part: the rows to read and yield, the same as they stand in the whole batch.
        device: the device of the batches.

    Yields:
        float32 [B, 3, R, R] and int64 [B].

    Raises:
        UserError: the batch is larger than the set; later on, a file is no image, or a process
            that reads was killed.
    """
    if batch > len(imagenet.train):
        raise UserError(
            f"a batch of {batch} is larger than the {len(imagenet.train)} training images of "
            "ImageNet to draw it from: choose a smaller batch."
        )
    items = (_drawn(imagenet, step, batch, seed, part) for step in steps)
    return _batches(items, resolution, processes, device)


def validation_batches(
    imagenet: ImageNet,
    *,
    batch: int,
    resolution: int,
    processes: int,
    device: torch.device = CPU,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the central crops of all validation images, and labels, in the order of the names.

    The shorter side is scaled to 256/224 of the resolution first. The last batch may be short.
    Arguments, yields and errors are those of `training_batches`.
    """
    items = [_Item(*image) for image in imagenet.validation]
    parts = (items[start : start + batch] for start in range(0, len(items), batch))
    return _batches(parts, resolution, processes, device)


def _drawn(imagenet: ImageNet, step: int, batch: int, seed: int | str, part: slice) -> list[_Item]:
    epoch, place = divmod(step, len(imagenet.train) // batch)
    order = _order(len(imagenet.train), seed, epoch)
    rows: list[int] = order[place * batch :][:batch].tolist()
    return [
        _Item(*imagenet.train[row], key=(seed, "imagenet", step, position))
        for position, row in list(enumerate(rows))[part]
    ]


@lru_cache(maxsize=2)
def _order(length: int, seed: int | str, epoch: int) -> Tensor:
    return torch.randperm(length, generator=stream(seed, "imagenet", "order", epoch))


def _batches(
    parts: Iterable[list[_Item]], resolution: int, processes: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    mean, std = MEAN.to(device), STD.to(device)
    for items, pixels in _read_ahead(partial(_read, resolution=resolution), parts, processes):
        # of last channels in memory, which is faster to convolve
        images = _moved(torch.from_numpy(pixels).permute(0, 3, 1, 2), device)
        labels = _moved(torch.tensor([item.label for item in items]), device)
        yield normalise(images, mean, std), labels


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda":  # from pinned memory the copy goes on beside the computation
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _read_ahead(
    read: Callable[[list[_Item]], Pixels], parts: Iterable[list[_Item]], processes: int
) -> Iterator[tuple[list[_Item], Pixels]]:
    """Yield what was to be read and what `read` gives, in order, two parts a process ahead."""
    if processes == 0:
        yield from ((items, read(items)) for items in parts)
        return
    context = multiprocessing.get_context("spawn")  # CUDA and threads do not survive a fork
    pool = ProcessPoolExecutor(processes, context, _start_reading)
    submitted = ((items, pool.submit(read, items)) for items in parts)
    try:
        ahead = deque(islice(submitted, 2 * processes))
        while ahead:
            items, pixels = ahead.popleft()
            ahead.extend(islice(submitted, 1))
            yield items, pixels.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a process that read images was killed, most likely for want of memory: fewer such "
            "processes (compute.loaders) take less."
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _start_reading() -> None:
    """Ignore the signals that are sent to a whole job; end when the parent process ends."""
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    # a training that is told to stop finishes its step first, and may still wait for the images
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
    end_with_parent()


def _read(items: list[_Item], resolution: int) -> Pixels:
    return np.stack([np.asarray(_crop(item, resolution)) for item in items])


def _crop(item: _Item, resolution: int) -> Image.Image:
    image = _opened(item.path)
    if item.key is None:
        return _central_crop(image, resolution)
    return _random_crop(image, resolution, item.key)


def _opened(path: str) -> Image.Image:
    """Return the image in `path` upright, in RGB with 8 bits a channel.

    Of 16 bits the upper 8 are kept. Palette indices become their colours, grey three equal
    channels, and CMYK the RGB of Pillow's formula. Alpha is dropped: the colours below it stay.

    Raises:
        UserError: the file is damaged, of another format, larger than `LARGEST`, or narrower than
            `NARROWEST`.
    """
    try:
        # Pillow warns of damaged EXIF data and of alpha that is dropped; the pixels are whole
        with warnings.catch_warnings(action="ignore"):
            image, turn = _decoded(path)
            return image if turn is None else image.transpose(turn)
    # what Pillow raises of files that are damaged in this way or that
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise UserError(
            f"{path} is no image that can be read ({error}). Put a whole copy there."
        ) from error


def _decoded(path: str) -> tuple[Image.Image, Image.Transpose | None]:
    """Return an image as it is stored, in RGB, and how it is turned upright."""
    with _header(path) as image:
        if image.width * image.height > LARGEST:
            raise UserError(
                f"{path} has {image.width}×{image.height} pixels, and at most {LARGEST:,} are "
                "decoded. Put a smaller copy there, or take it out of the folder."
            )
        if max(image.size) > NARROWEST * min(image.size):
            raise UserError(
                f"{path} has {image.width}×{image.height} pixels: one side is more than "
                f"{NARROWEST} times the other. Take it out of the folder."
            )
        image.load()
        return _rgb(image), _turn(image)


def _header(path: str) -> Image.Image:
    """Open an image without decoding it."""
    bound, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # `LARGEST` is the stricter one
    try:
        return Image.open(path, formats=("JPEG", "PNG"))
    finally:
        Image.MAX_IMAGE_PIXELS = bound


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except (SyntaxError, struct.error):  # the EXIF data are damaged and tell no orientation
        return None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # grey of 16 bits, most of which `convert` would turn white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def _random_crop(image: Image.Image, resolution: int, key: Key) -> Image.Image:
    transforms = import_torchvision().transforms
    # torchvision draws from torch's own stream: it is set to this image's, and afterwards back
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(stream(*key).get_state())
        crop = transforms.RandomResizedCrop(resolution, CROP_AREA, CROP_RATIO)(image)
        flipped: Image.Image = transforms.RandomHorizontalFlip()(crop)
    return flipped


def _central_crop(image: Image.Image, resolution: int) -> Image.Image:
    transforms = import_torchvision().transforms
    scaled = transforms.Resize(round(resolution * SHORTER_SIDE))(image)
    crop: Image.Image = transforms.CenterCrop(resolution)(scaled)
    return crop
