"""An operation that halves its input."""

from ghn_pipeline.model.operations import OPERATIONS, Operation
from ghn_pipeline.spaces.known import SPACES

OPERATIONS["half"] = Operation(lambda x, w, norm, stride: x / 2, join="add")
SPACES["classification"].known += ("half",)
