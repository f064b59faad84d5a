"""The search spaces; the rest of the package knows a space only by its entry here."""

from ghn_pipeline.spaces.anytime import AnytimeSettings
from ghn_pipeline.spaces.classification import ClassificationSettings
from ghn_pipeline.spaces.darts import DartsSettings
from ghn_pipeline.spaces.nasbench201 import NasBench201Settings
from ghn_pipeline.spaces.space import SpaceSettings
from ghn_pipeline.system.registry import Registry

#: The spaces by the value of `space.name`; a file in `extensions` may add its own.
SPACES: Registry[type[SpaceSettings]] = Registry(
    "space",
    {
        "classification": ClassificationSettings,
        "nasbench201": NasBench201Settings,
        "darts": DartsSettings,
        "anytime": AnytimeSettings,
    },
)
