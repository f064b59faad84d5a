"""The search space that a configuration describes, and the other ways to stack its blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ghn_pipeline.data.imagenet import ILSVRC, ImageNet
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network
from ghn_pipeline.ranking.correlation import Floats
from ghn_pipeline.settings.config import Config
from ghn_pipeline.spaces.anytime import Anytime
from ghn_pipeline.spaces.classification import Classification
from ghn_pipeline.spaces.published import PublishedAccuracies
from ghn_pipeline.spaces.space import Space

CLASSES = 10  # of CIFAR-10


def space_of(config: Config, weights: Mapping[str, int] | None = None) -> Space:
    """Return the search space of the configuration; see `SpaceSettings.make`."""
    return config.space.make(config.network, CLASSES, weights)


def parameters(config: Config, blocks: Sequence[Block]) -> Floats:
    """Return the parameters [n] of the networks that stack these blocks [n]."""
    space, side = space_of(config), config.images.resolution
    return np.array([Network(space.modules(block), side).parameters for block in blocks], float)


def published_of(config: Config) -> PublishedAccuracies:
    """Return the published accuracies of a chapter "benchmark", which `check_space` has checked.

    Raises:
        UserError: the file that `benchmark.table` names cannot be read, or has faults.
    """
    found = config.space.published(config.benchmark.table)
    assert found is not None
    return found


def listed(config: Config) -> Sequence[Block]:
    """Return the architectures with published accuracies if the space has others too, else ().

    Raises:
        UserError: the file that `benchmark.table` names cannot be read, or has faults.
    """
    found = config.space.published(config.benchmark.table)
    return found.cells if found else ()


def paper_space(config: Config) -> Classification:
    """Return the search space of a chapter of section 5.1.1, which `check_space` has checked."""
    space = space_of(config)
    assert isinstance(space, Classification)
    return space


def anytime_space(config: Config) -> Anytime:
    """Return the search space of the chapter of section 5.2, which `check_space` has checked."""
    space = space_of(config)
    assert isinstance(space, Anytime)
    return space


def mobile_space(config: Config, images: ImageNet | None) -> Classification:
    """Return the space that stacks blocks for ImageNet-mobile, with channels yet to be chosen."""
    settings = config.mobile
    return replace(
        paper_space(config),
        blocks=settings.blocks,
        reductions=tuple(settings.reductions),
        stem_stride=settings.stem_stride,
        classes=len(images.classes) if images else ILSVRC[0],
    )
