"""A search space as plain data: its name and the arguments of its constructor."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

from pydantic import Field, ValidationError, create_model

from ghn_pipeline.settings.sections import Section
from ghn_pipeline.spaces.known import SPACES
from ghn_pipeline.spaces.space import Space
from ghn_pipeline.system.errors import did_you_mean
from ghn_pipeline.system.schema import faults

Size = Annotated[int, Field(ge=1, le=100_000)]

#: The JSON types of the arguments of a space, by the arguments' own types.
_ARGUMENTS: dict[Any, Any] = {
    int: Size,
    tuple[int, ...]: Annotated[list[Size], Field(max_length=16)],
    tuple[str, ...]: Annotated[list[str], Field(min_length=1, max_length=100)],
}


def _schema(name: str, space: Callable[..., Space]) -> type[Section]:
    arguments: dict[str, Any] = {
        key: (_ARGUMENTS[t], ...) for key, t in get_type_hints(space).items()
    }
    return create_model(name, __base__=Section, **arguments)


_SCHEMAS = {name: _schema(name, space.makes) for name, space in SPACES.items()}


def described(space: Space) -> dict[str, Any]:
    """Return the name of a space and the arguments of its constructor, which `made` takes."""
    (name,) = (name for name, known in SPACES.items() if known.makes is type(space))
    return {"name": name, **{f.name: getattr(space, f.name) for f in fields(space)}}  # type: ignore[arg-type]


def made(content: Mapping[str, Any]) -> Space:
    """Return the space that `described` described.

    Raises:
        ValueError: the content has faults; the message lists the first ones.
    """
    arguments = dict(content)
    if not isinstance(name := arguments.pop("name", None), str) or name not in SPACES:
        raise ValueError(f"unknown space {name!r}{did_you_mean(str(name), SPACES)}")
    # JSON has lists, and spaces take tuples
    lists = {k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()}
    try:
        given = _SCHEMAS[name].model_validate(lists).model_dump()
    except ValidationError as error:
        raise ValueError(faults(error)) from error
    known = SPACES[name].known
    if unknown := [op for op in given["operations"] if op not in known]:
        raise ValueError(f"unknown operation {unknown[0]}{did_you_mean(unknown[0], known)}")
    return SPACES[name].makes(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    )
