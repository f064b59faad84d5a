"""A strict reader of the part of YAML that every engine reads alike.

It uses ruamel, as DVC does, so that 1e-3 is a number and `yes` is text to both engines.
"""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import ScalarNode

from ghn_pipeline.system.errors import UserError

DEEPEST = 20  # params.yaml has 4 levels
LONGEST = 10_000  # characters of a value; Python refuses to convert some longer numbers
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str")}


class _Strict(Composer):
    """Refuses syntax that readers take differently, unlimited sizes, and duplicate keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        if isinstance(event, AliasEvent) or event.anchor is not None:
            # a change in one place would also change the other
            _refuse("anchors (&name) and aliases (*name) are not read: write the value out", event)
        if event.ctag is not None:
            _refuse("tags (!name) are not read: write the plain value", event)
        if self.depth >= DEEPEST:
            _refuse(f"values are nested more than {DEEPEST} deep", event)
        return super().compose_node(parent, index)

    def compose_scalar_node(self, anchor: Any) -> Any:
        node = super().compose_scalar_node(anchor)
        if str(node.tag) not in _PLAIN:
            _refuse(f"{node.value!r} is no plain value: put it in quotes if it is text", node)
        if len(node.value) > LONGEST:
            _refuse(f"a value has more than {LONGEST:,} characters", node)
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                _refuse("a key must be a name", key)
            if key.value in lines:
                _refuse(
                    f"the key {key.value!r} is given twice, first in line {lines[key.value]}", key
                )
            lines[key.value] = key.start_mark.line + 1
        return node


def _refuse(problem: str, at: Any) -> None:
    raise ComposerError(None, None, problem, at.start_mark)


def editor() -> YAML:
    """Return a reader and writer that keeps comments, quotes and 1.0e-3 as they stand."""
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def read(file: Path, reader: YAML | None = None) -> Any:
    """Return the content of a YAML file.

    Args:
        file: the file to read.
        reader: an `editor`, to read content that can be written back with its comments.

    Raises:
        UserError: the file cannot be read, or is not plain YAML; the message names the line.
    """
    reader = reader or YAML(typ="safe", pure=True)
    reader.Composer = _Strict
    try:
        text = file.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith("%"):  # %YAML 1.1 would change the value of `yes`
                raise UserError(
                    f"{file} is not plain YAML, line {number}: directives (%NAME) are not read"
                )
        return reader.load(text)
    except OSError as error:
        raise UserError(
            f"cannot read the configuration {file}: {error.strerror}. Run this in the folder of "
            "params.yaml, or name another file."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} is not UTF-8 ({error.reason} at byte {error.start}): save it in that encoding"
        ) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(filter(None, (error.context, error.problem)))
        raise UserError(f"{file} is not plain YAML, line {mark.line + 1}: {said}") from error
    except (YAMLError, ValueError) as error:
        raise UserError(f"{file} is not plain YAML: {error}") from error
