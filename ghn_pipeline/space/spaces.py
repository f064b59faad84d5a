"""The search spaces: an entry says all that the rest of the package knows of one."""

from ghn_pipeline.space.anytime import AnytimeSettings
from ghn_pipeline.space.classification import ClassificationSettings
from ghn_pipeline.space.nasbench201 import NasBench201Settings
from ghn_pipeline.space.space import SpaceSettings

#: By the name that the setting `space.name` has; a file in `extensions` may add its own.
SPACES: dict[str, type[SpaceSettings]] = {
    "classification": ClassificationSettings,
    "nasbench201": NasBench201Settings,
    "anytime": AnytimeSettings,
}
