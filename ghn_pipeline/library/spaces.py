"""Search spaces by their names, and the counts of their networks."""

from typing import Any, NamedTuple

from ghn_pipeline.library import trained
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network
from ghn_pipeline.spaces.described import made
from ghn_pipeline.spaces.space import Space
from ghn_pipeline.system.errors import UserError


class Counts(NamedTuple):
    """The size of a network.

    Attributes:
        parameters: the trained numbers: all weights, and the affine parts of batch norms.
        multiply_adds: the multiply-adds of convolutions and classifiers for one image.
    """

    parameters: int
    multiply_adds: int


def space(name: str, **settings: Any) -> Space:
    """Return a search space.

    Args:
        name: "classification" (the paper's, section 7.1), "nasbench201", "darts", "anytime", or the
            space of an extension.
        settings: arguments of its constructor, such as `blocks`, `channels`, `reductions`,
            `classes` and `operations`. One that is not given is that of the trained GHN for this
            space; if there is none, all are needed.

    Raises:
        UserError: a name or a setting is unknown, missing or out of its range.
    """
    known = trained.description(trained.folder(name)).space if name in trained.names() else {}
    try:
        return made({**known, "name": name, **settings})
    except ValueError as error:
        raise UserError(f"space({name!r}): {error}") from error


def count(space: Space, block: Block, resolution: int = 32) -> Counts:
    """Return the parameters and the multiply-adds of the network that stacks a block.

    Args:
        space: the search space of the block.
        block: the block.
        resolution: side of the images in pixels.
    """
    network = Network(space.modules(block), resolution)
    return Counts(network.parameters, network.multiply_adds)
