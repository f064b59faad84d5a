"""The images of a run, kept as bytes on the device, and the drawing and augmenting of batches."""

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ghn_pipeline.system.compute import sent
from ghn_pipeline.system.errors import UserError

OFFICIAL_TRAINING = 50_000  # the official training part comes first, the test part after it
LARGEST_TRAIN, LARGEST_VALIDATION = 45_000, 5_000


@dataclass(frozen=True, eq=False)
class Images:
    """Images and their classes.

    Attributes:
        pixels: uint8 [N, 3, R, R].
        labels: int64 [N].
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Images":
        """Return the same images on `device`."""
        return Images(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Splits:
    """The three disjoint parts of CIFAR-10.

    Attributes:
        mean: mean of each channel of `train`, with pixels from 0 to 1, float32 [3].
        std: standard deviation of each channel (divided by the count), float32 [3].
    """

    train: Images
    validation: Images
    test: Images
    mean: Tensor
    std: Tensor


def split(
    pixels: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    *,
    train: int,
    validation: int,
    resolution: int,
    seed: int,
    device: torch.device | str,
) -> Splits:
    """Split CIFAR-10 into training, validation and the official test images.

    The official training images are permuted by `seed`. Then 45,000 of them are for training and
    the other 5,000 for validation, even if only a part of either is used.

    Args:
        pixels: pixels [60000, 3, 32, 32] from `cifar10.load`.
        labels: labels [60000].
        train: number of training images to use, 1 to 45,000.
        validation: number of validation images to use, 0 to 5,000.
        resolution: side in pixels, a divisor of 32; blocks of pixels are averaged.
        seed: seed of the permutation.
        device: the device of the images.

    Raises:
        UserError: a size or the resolution is out of its range.
    """
    _check(train, validation, resolution)
    order = np.random.default_rng(seed).permutation(OFFICIAL_TRAINING)
    training, validating, testing = (
        Images(torch.from_numpy(_shrink(pixels[part], resolution)), torch.from_numpy(labels[part]))
        for part in (
            order[:LARGEST_TRAIN][:train],
            order[LARGEST_TRAIN:][:validation],
            np.arange(OFFICIAL_TRAINING, len(pixels)),
        )
    )
    mean, std = _moments(training.pixels)
    return Splits(
        train=training.to(device),
        validation=validating.to(device),
        test=testing.to(device),
        mean=mean.to(device),
        std=std.to(device),
    )


def normalise(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return uint8 `pixels` [B, 3, R, R] as float32, less the mean [3] and over the std [3]."""
    return (pixels / 255 - mean[:, None, None]) / std[:, None, None]


def augment(pixels: Tensor, generator: torch.Generator, padding: int) -> Tensor:
    """Return each image cropped at random from its zero-padded self and flipped half the time.

    Args:
        pixels: uint8 [B, 3, R, R] on any device.
        generator: a generator on the CPU, so that the draws are the same for every device.
        padding: number of pixels added at each side.

    Returns:
        uint8 [B, 3, R, R].

    Source: He et al. 2016, "Deep residual learning for image recognition", section 4.2.
    """
    B, _, R, _ = pixels.shape
    offsets = torch.randint(2 * padding + 1, (2, B, 1), generator=generator)
    flipped = torch.randint(2, (B, 1), generator=generator).bool()
    ahead = torch.arange(R)
    rows = offsets[0] + ahead
    columns = offsets[1] + torch.where(flipped, ahead.flip(0), ahead)
    # positions in the flattened padded image, so that one gather crops and flips the whole batch
    positions = (rows[:, :, None] * (R + 2 * padding) + columns[:, None, :]).reshape(B, 1, R * R)
    padded = F.pad(pixels, (padding,) * 4).flatten(2)
    return padded.gather(2, sent(positions, pixels.device).expand(-1, 3, -1)).view_as(pixels)


def cutout(images: Tensor, centres: Tensor, side: int) -> Tensor:
    """Return normalised `images` with a square of zeros, the mean, in each.

    Args:
        images: float [B, 3, R, R] on any device.
        centres: row and column of each square's centre, int [2, B], on the CPU. It may be any
            pixel, so the border may clip the square.
        side: side of the square in pixels.

    Returns:
        float [B, 3, R, R].

    Source: DeVries and Taylor 2017, "Improved regularization of convolutional neural networks
    with Cutout", section 3.
    """
    R = images.shape[-1]
    start = centres[:, :, None] - side // 2
    inside = (start <= torch.arange(R)) & (torch.arange(R) < start + side)
    hole = inside[0, :, :, None] & inside[1, :, None, :]
    return images * ~sent(hole[:, None], images.device)


def batch_at(images: Images, step: int, batch_size: int, seed: int | str) -> Tensor:
    """Return the indices, int64 [batch_size], of the batch of `step`, on the images' device.

    They depend only on the arguments, so a resumed run sees the same batches. An epoch shows each
    image once, without the last incomplete batch.

    Raises:
        UserError: the batch is larger than the set.
    """
    steps_per_epoch = len(images) // batch_size
    if steps_per_epoch == 0:
        raise UserError(
            f"a batch of {batch_size} is larger than the {len(images)} images of the set: choose a "
            "smaller batch or use more images."
        )
    epoch, position = divmod(step, steps_per_epoch)
    order = _order(len(images), seed, epoch, images.pixels.device)
    # a copy, because the order is cached
    return order[position * batch_size :][:batch_size].clone()


def stream(*key: int | str) -> torch.Generator:
    """Return a new CPU generator whose numbers depend only on `key`, such as (seed, "crop", step).

    Torch's CPU generator uses only 32 bits of its seed, so two keys coincide once in 2**32.
    """
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


@lru_cache(maxsize=4)
def _order(length: int, seed: int | str, epoch: int, device: torch.device) -> Tensor:
    return sent(torch.randperm(length, generator=stream(seed, epoch)), device)


def _check(train: int, validation: int, resolution: int) -> None:
    if not 1 <= train <= LARGEST_TRAIN:
        raise UserError(f"{train} training images: choose from 1 to {LARGEST_TRAIN}.")
    if not 0 <= validation <= LARGEST_VALIDATION:
        raise UserError(f"{validation} validation images: choose from 0 to {LARGEST_VALIDATION}.")
    if resolution < 1 or 32 % resolution:
        raise UserError(f"resolution {resolution} does not divide 32: choose 1, 2, 4, 8, 16 or 32.")


def _shrink(pixels: npt.NDArray[np.uint8], resolution: int) -> npt.NDArray[np.uint8]:
    """Return the means of blocks, halves rounded up, uint8 [N, 3, resolution, resolution]."""
    block = pixels.shape[-1] // resolution
    if block == 1:
        return pixels
    sums = np.full((len(pixels), 3, resolution, resolution), block**2 // 2, np.uint32)
    # this loop is ten times faster than a sum over the short axes of a reshaped array
    for row, column in product(range(block), repeat=2):
        sums += pixels[:, :, row::block, column::block]
    means: npt.NDArray[np.uint32] = sums // block**2
    return means.astype(np.uint8)


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and std [3] of the channels, from whole numbers, so equal on every machine."""
    values = torch.arange(256)
    n = pixels.shape[0] * pixels.shape[2] * pixels.shape[3]
    means, stds = [], []
    for channel in pixels.unbind(1):
        counts = torch.bincount(channel.flatten(), minlength=256)
        total, squares = int((counts * values).sum()), int((counts * values**2).sum())
        means.append(total / (255 * n))
        # n * squares exceeds 64 bits, so this needs Python's integers
        stds.append(math.sqrt(n * squares - total**2) / (255 * n))
    return torch.tensor(means), torch.tensor(stds)
