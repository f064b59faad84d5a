"""The base of the schemas that check files before any key is read."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


class Schema(BaseModel):
    """A schema; unknown keys, wrong types and numbers that are not finite are faults."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def faults(error: ValidationError) -> str:
    """Return the first three faults that pydantic found in a file, in one line."""
    lines = [f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors()]
    more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
    return "; ".join(lines[:3]) + more
