"""The search space that a configuration describes, and the other ways to stack its blocks."""

from collections.abc import Mapping
from dataclasses import replace

from ghn_pipeline.data.imagenet import ILSVRC, ImageNet
from ghn_pipeline.settings.config import Config
from ghn_pipeline.space.anytime import Anytime
from ghn_pipeline.space.classification import Classification
from ghn_pipeline.space.space import Space
from ghn_pipeline.space.spaces import SPACES

CLASSES = 10  # of CIFAR-10


def space_of(config: Config, weights: Mapping[str, int] | None = None) -> Space:
    """Return the search space of the configuration.

    Where `weights` are given, an operation is drawn so many times as often as one of weight 1,
    which those have that it does not name. Its networks are the same.
    """
    listed = [op for op in config.space.operations for _ in range((weights or {}).get(op, 1))]
    said = config.space.model_dump(exclude={"name", "nodes", "operations"}, exclude_none=True)
    return SPACES[config.space.name](
        operations=tuple(listed),
        blocks=config.network.blocks,
        channels=config.network.channels,
        reductions=tuple(config.network.reductions),
        stem_multiplier=config.network.stem_multiplier,
        classes=CLASSES,
        **said,
    )


def paper_space(config: Config) -> Classification:
    """Return the search space of a chapter of section 5.1.1: see `stage.check_space`."""
    space = space_of(config)
    assert isinstance(space, Classification)
    return space


def anytime_space(config: Config) -> Anytime:
    """Return the search space of the chapter of section 5.2: see `stage.check_space`."""
    space = space_of(config)
    assert isinstance(space, Anytime)
    return space


def mobile_space(config: Config, images: ImageNet | None) -> Classification:
    """Return how a block is stacked for ImageNet-mobile, its channels not chosen yet (5.1.2)."""
    settings = config.mobile
    return replace(
        paper_space(config),
        blocks=settings.blocks,
        reductions=tuple(settings.reductions),
        stem_stride=settings.stem_stride,
        classes=len(images.classes) if images else ILSVRC[0],
    )
