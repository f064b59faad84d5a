"""The text of dvc.yaml, which lists the stages of a search space, from their declarations."""

import json
from collections.abc import Iterator
from typing import Any

import yaml

from ghn_pipeline.pipeline.stage import (
    FIRST_GHN,
    SCALE,
    Stage,
    command,
    entries,
    extensions_of,
    filled,
    needed,
    read_by,
    value,
)
from ghn_pipeline.settings.config import Config

HEAD = """\
# The stages of the space {space}, for `dvc repro`: the same commands, inputs and outputs as
# Snakemake's. `ghn configure` writes this file from the declarations in ghn_pipeline/stages; change
# those instead. DVC reads only params.yaml. After a change there of correlation.architectures or
# correlation.repeats, or of the GHNs or seeds of a comparison, run `ghn configure` again, because
# DVC cannot expand these into jobs.
"""


def text(config: Config) -> str:
    """Return dvc.yaml for the search space of a configuration."""
    there = needed(config.space.chapters)
    stages = "\n".join(_block({name(one): _stage(config, one, there)}, 1) for one in there)
    literals = {one.literal for one in there}
    # trainings whose loss `dvc plots` shows
    curves = [FIRST_GHN, *(f"oneshot/{seed}" for seed in config.oneshot.seeds[:1])]
    curves = [c for c in curves if c.partition("/")[0] in literals]
    y = {f"{_path(f'{SCALE}/{curve}')}/curve.csv": "loss" for curve in curves}
    plots = _block({"plots": [{"learning curves": {"x": "step", "y": y}}]}, 0)
    return f"{HEAD.format(space=config.space.name)}\nstages:\n{stages}\n{plots}"


def name(one: Stage) -> str:
    """Return the name of a stage in DVC; DVC itself appends @ and the part."""
    return one.literal.replace("/", "-")


def _stage(config: Config, one: Stage, there: list[Stage]) -> dict[str, Any]:
    folder = _path(one.root or f"{SCALE}/{one.pattern}")
    found: dict[str, Any] = {}
    if one.each:
        found["matrix"] = {"part": _parts(config, one, there)}
    found["cmd"] = _path(command(one.pattern))
    given = [f"${{{path}}}" for path in one.given if value(config, path)]
    read = _inputs(config, one)
    found["deps"] = list(dict.fromkeys([*read, *given, *extensions_of(one)]))
    found["params"] = [*(["method"] if one.record else []), *_params(one)]
    files = [f"{folder}/{file}" for file in one.files]
    numbers = [f"{folder}/{file}" for file in one.files if file == f"{one.kind}.json"]
    if one.kind == "data":
        # the data are verified and equal from every source, so DVC neither fetches them again nor
        # caches them
        found["outs"] = [{file: {"cache": False, "persist": True}} for file in files]
    else:
        plots = [f for f in files if f.endswith(".png")]
        found["outs"] = [f for f in files if f not in (*numbers, *plots)]
        found |= {"metrics": numbers, "plots": plots}
    found = {key: each for key, each in found.items() if each}
    return _by_entry(config, found) if one.each == "trained" else found


def _by_entry(config: Config, found: dict[str, Any]) -> dict[str, Any]:
    """Return a stage of GHNs, in which `${key}` is the name of one and `${item}` its entry."""
    of = {name: entry for entry in config.correlation.ghns for name in config.seeds_of(entry)}
    del found["matrix"]
    named = json.dumps(found).replace("${item.part}", "${key}")
    return {"foreach": of, "do": json.loads(named)}


def _parts(config: Config, one: Stage, there: list[Stage]) -> str | list[Any]:
    if isinstance(there_are := value(config, one.each), int) or _is_derived(one.each):
        return _Row(entries(there_are))
    return f"${{{one.each}}}" if _all_parts_are_read(one, there) else [f"${{{one.each}[0]}}"]


def _is_derived(path: str) -> bool:
    """Return whether a setting does not stand in params.yaml, so that DVC cannot read it."""
    return path.partition(".")[0] not in Config.model_fields


def _all_parts_are_read(one: Stage, there: list[Stage]) -> bool:
    """Return whether other stages of the space read more than the first part of this one."""
    readers = [
        (reader, pattern)
        for reader in there
        for pattern, _ in reader.inputs()
        if read_by(pattern) is one
    ]
    return not readers or any(
        _all_parts_are_read(reader, there)
        if pattern.endswith("{part}")
        else not pattern.endswith("[0]}")
        for reader, pattern in readers
    )


def _inputs(config: Config, one: Stage) -> Iterator[str]:
    for pattern, only in one.inputs(config.space.chapters):
        read, listed = read_by(pattern), pattern.rpartition("{")[2].removesuffix("}")
        names = [pattern]
        if pattern.endswith("}") and not pattern.endswith(("{part}", "[0]}")):
            if not _is_derived(listed):
                yield _path(f"{SCALE}/{read.literal}")  # DVC cannot expand a list of files here
                continue
            names = filled(config, pattern)
        for name in names:
            folder = _path(read.root or f"{SCALE}/{name}")
            yield from (f"{folder}/{file}" for file in only or read.files)


def _params(one: Stage) -> Iterator[str]:
    entry = "${item}" if one.each else "${correlation.ghns[0]}"
    made_of = {
        "models": ["training", "ghn", f"ghns.{entry}"],
        "oneshots": ["training", "oneshot"],
    }
    for path in one.settings:
        yield from made_of.get(path.partition(".")[0], [_path(path)])


def _path(path: str) -> str:
    """Return a declaration's path in DVC's notation."""
    return path.replace("{part}", "{item.part}").replace("{", "${")


class _Row(list[Any]):
    """A list that YAML shows in one line."""


def _write_row(dumper: yaml.SafeDumper, row: _Row) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", row, flow_style=True)


yaml.SafeDumper.add_representer(_Row, _write_row)


def _block(content: Any, depth: int) -> str:
    written = yaml.safe_dump(content, sort_keys=False, width=200)
    return "".join(f"{'  ' * depth}{line}\n" for line in written.splitlines())
