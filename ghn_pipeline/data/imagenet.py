"""Batches of ImageNet, read by processes from a folder that the user provides."""

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

#: the numbers of classes and validation images of ILSVRC 2012, the ImageNet of papers
ILSVRC = (1000, 50_000)

# mean and deviation of the channels of ImageNet's training images, with pixels from 0 to 1, from
# the documentation of torchvision's pretrained models
MEAN = torch.tensor([0.485, 0.456, 0.406])
STD = torch.tensor([0.229, 0.224, 0.225])

# ranges of a random crop's share of the image's area and of its ratio of width to height; Szegedy
# et al. 2015, "Going deeper with convolutions", section 6
CROP_AREA = (0.08, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)

# ratio of the shorter side to the central crop; 224 out of 256 pixels are customary
SHORTER_SIDE = 256 / 224

#: most pixels of an image that is decoded; a reading process takes up to 8 bytes for each
LARGEST = 2**26
#: largest ratio of the longer to the shorter side of an image that is decoded, because validation
#: images are scaled to a shorter side of some 256 pixels
NARROWEST = 500

#: the operation that turns an image upright, by its EXIF orientation
UPRIGHT: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

#: seconds that a reading process continues after all processes are told to stop
GRACE = 10

WHOLE = slice(None)
CPU = torch.device("cpu")

#: The name and size of each image of a class.
Listing = list[tuple[str, int]]
#: The pixels of images, uint8 [B, R, R, 3].
Pixels = npt.NDArray[np.uint8]
#: The key of random draws.
Key = tuple[int | str, ...]


@dataclass(frozen=True)
class ImageNet:
    """The images of a folder with train/CLASS/*.JPEG and val/CLASS/*.JPEG.

    Attributes:
        classes: sorted names of the class folders; a label is a position among them.
        train: path and label of each training image, in the order of the names.
        validation: path and label of each validation image, in the order of the names.
        digest: digest of the names and sizes of all images.
    """

    classes: tuple[str, ...]
    # paths are text, because a million objects of the class Path would take a gigabyte
    train: tuple[tuple[str, int], ...] = field(repr=False)
    validation: tuple[tuple[str, int], ...] = field(repr=False)
    digest: str


def find(folder: Path) -> ImageNet:
    """Return the images (.jpg, .jpeg or .png) of `folder`; hidden files and folders do not count.

    Raises:
        UserError: the folder is not ImageNet; the message lists every fault.
    """
    try:
        train, validation = (_classes(folder / part) for part in ("train", "val"))
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename}: {error.strerror}. Make it readable or remove it."
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
        path: path of the file.
        label: number of its class.
        key: key of its random crop and flip; None for the central crop.
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
    """Yield the training batch of each step: images, randomly cropped and flipped, and labels.

    A batch depends on `seed` and the step alone. An epoch shows each image once, without the last
    incomplete batch.

    Args:
        imagenet: the images; the training ones are used.
        steps: the steps, counted from the start of the training.
        batch: images in the whole batch.
        resolution: R, side of the crops in pixels.
        seed: seed of the order, the crops and the flips.
        processes: number of processes that read files ahead; with 0 this process reads them.
        part: the rows of the whole batch to read and yield.
        device: the device of the batches.

    Yields:
        Normalised images, float32 [B, 3, R, R], and labels, int64 [B].

    Raises:
        UserError: the batch is larger than the set or, later, a file is no image or a reading
            process was killed.
    """
    if batch > len(imagenet.train):
        raise UserError(
            f"a batch of {batch} is larger than the {len(imagenet.train)} training images of "
            "ImageNet: choose a smaller batch."
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
    """Yield the central crops and labels of all validation images, in the order of the names.

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
        # the channels come last in memory, which makes convolutions faster
        images = _moved(torch.from_numpy(pixels).permute(0, 3, 1, 2), device)
        labels = _moved(torch.tensor([item.label for item in items]), device)
        yield normalise(images, mean, std), labels


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda":  # copies from pinned memory run beside the computation
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _read_ahead(
    read: Callable[[list[_Item]], Pixels], parts: Iterable[list[_Item]], processes: int
) -> Iterator[tuple[list[_Item], Pixels]]:
    """Yield each part with its pixels, in order, and read two parts per process ahead."""
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
            "a process that read images was killed, most likely because memory ran out: fewer such "
            "processes (compute.loaders) take less memory."
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _start_reading() -> None:
    """Ignore signals that are sent to a whole job, and end when the parent process ends."""
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    # a training that is told to stop first finishes its step, for which it may need more images
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

    The upper 8 of 16 bits are kept. Palette indices become their colours, grey becomes three equal
    channels, and CMYK becomes RGB by Pillow's formula. Alpha is dropped, and its colours stay.

    Raises:
        UserError: the file is damaged, has another format, or is larger than `LARGEST` or narrower
            than `NARROWEST`.
    """
    try:
        # Pillow warns of damaged EXIF data and dropped alpha, although the pixels are whole
        with warnings.catch_warnings(action="ignore"):
            image, turn = _decoded(path)
            return image if turn is None else image.transpose(turn)
    # Pillow raises different errors for damaged files
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise UserError(
            f"{path} is no image that can be read ({error}). Replace it by a whole copy."
        ) from error


def _decoded(path: str) -> tuple[Image.Image, Image.Transpose | None]:
    """Return an image as it is stored, in RGB, and the operation that turns it upright."""
    with _header(path) as image:
        if image.width * image.height > LARGEST:
            raise UserError(
                f"{path} has {image.width}×{image.height} pixels, and at most {LARGEST:,} are "
                "decoded. Replace it by a smaller copy, or remove it from the folder."
            )
        if max(image.size) > NARROWEST * min(image.size):
            raise UserError(
                f"{path} has {image.width}×{image.height} pixels: one side is more than "
                f"{NARROWEST} times the other. Remove it from the folder."
            )
        image.load()
        return _rgb(image), _turn(image)


def _header(path: str) -> Image.Image:
    """Open an image without decoding it."""
    bound, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # `LARGEST` is stricter
    try:
        return Image.open(path, formats=("JPEG", "PNG"))
    finally:
        Image.MAX_IMAGE_PIXELS = bound


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except (SyntaxError, struct.error):  # damaged EXIF data have no orientation
        return None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # grey of 16 bits, which `convert` would turn mostly white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def _random_crop(image: Image.Image, resolution: int, key: Key) -> Image.Image:
    transforms = import_torchvision().transforms
    # torchvision draws from torch's global stream, which is set for this image and then restored
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
