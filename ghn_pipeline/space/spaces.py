"""The search spaces by name."""

from collections.abc import Callable

from ghn_pipeline.space.anytime import Anytime
from ghn_pipeline.space.classification import Classification
from ghn_pipeline.space.nasbench201 import NasBench201
from ghn_pipeline.space.space import Space

#: What makes each search space, from `network` and what its own part of `space` says.
SPACES: dict[str, Callable[..., Space]] = {
    "classification": Classification,
    "nasbench201": NasBench201,
    "anytime": Anytime,
}
