"""The typed and validated settings of params.yaml and presets; all faults are reported at once."""

import re
from collections.abc import Mapping, Sequence
from functools import reduce
from io import StringIO
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from ghn_pipeline.ranking.measures import MEASURES, Measure
from ghn_pipeline.settings import plain_yaml
from ghn_pipeline.settings.agreements import disagreements
from ghn_pipeline.settings.sections import (
    Ablations,
    Anytime,
    Benchmark,
    Compute,
    Correlation,
    Data,
    Finalists,
    Ghn,
    Images,
    Macro,
    Memory,
    Mobile,
    Name,
    Proxies,
    Schedule,
    Search,
    Section,
    Seeds,
    Sgd,
    Tables,
)
from ghn_pipeline.spaces.anytime import sizes
from ghn_pipeline.spaces.known import SPACES
from ghn_pipeline.spaces.space import SpaceSettings
from ghn_pipeline.system import extensions
from ghn_pipeline.system.errors import UserError, did_you_mean
from ghn_pipeline.system.files import write_atomically

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

#: The paper's own scales, of params.yaml and presets/anytime.yaml, and their costs in words.
PAPER_SCALES = {
    "paper": "by the paper's figures some 500 hours of a GPU",
    "anytime": "at a cost that the paper does not state",
}


#: Sections whose fields depend on one of their settings: the setting, and a class by its values.
KINDS: dict[str, tuple[str, Mapping[str, type[Section]]]] = {
    "space": ("name", SPACES),
    "evaluation": ("measure", MEASURES),
}
extensions.load()  # extensions may add to them
if TYPE_CHECKING:
    OneSpace = SpaceSettings
    OneMeasure = Measure
else:
    OneSpace, OneMeasure = (
        Annotated[reduce(or_, sections.values()), Field(discriminator=key)]
        for key, sections in KINDS.values()
    )


class Config(Section):
    """All settings of one scale."""

    method: Literal[5]
    scale: Name
    cpu_is_enough: bool
    data: Data
    images: Images
    space: OneSpace
    network: Macro
    training: Schedule
    ghn: Ghn
    ghns: Annotated[dict[Name, Ghn], Field(min_length=1, max_length=1000)]
    oneshot: Schedule
    sgd: Sgd
    evaluation: OneMeasure
    correlation: Correlation
    proxies: Proxies
    benchmark: Benchmark
    ablations: Ablations
    search: Search
    finalists: Finalists
    mobile: Mobile
    anytime: Anytime
    memory: Memory
    tables: Tables
    seeds: Seeds
    compute: Compute

    @property
    def of_proxies(self) -> "Config":
        """The configuration with the networks and images of the zero-cost proxies."""
        side = self.proxies.resolution or self.images.resolution
        images = self.images.model_copy(update={"resolution": side})
        network = self.proxies.network or self.network
        return self.model_copy(update={"images": images, "network": network})

    @property
    def models(self) -> dict[str, Ghn]:
        """Every GHN by its name: for each entry of `ghns` one of each seed (`Schedule.each`)."""
        return {name: one for of, ghn in self.ghns.items() for name, one in ghn.each(of).items()}

    @property
    def trained(self) -> list[str]:
        """The names of the GHNs that are trained."""
        return [name for of in self.correlation.ghns for name in self.seeds_of(of)]

    @property
    def first_ghns(self) -> list[str]:
        """The names of the first GHN of `correlation.ghns`, one of each seed."""
        return self.seeds_of(self.correlation.ghns[0])

    def seeds_of(self, entry: str) -> list[str]:
        """Return the names of the GHNs of an entry of `ghns`, one of each seed."""
        return list(self.ghns[entry].each(entry))

    @property
    def oneshots(self) -> dict[str, Schedule]:
        """The one-shot models by their seed."""
        return {str(one.seeds[0]): one for one in self.oneshot.each("").values()}

    def ablated(self, part: str) -> list[str]:
        """Return the entries of `ghns` in "figure5a", "figure5b" or "table5" that are trained."""
        return [n for n in getattr(self.ablations, part) if n in self.correlation.ghns]

    # the size of an experiment in words, for titles

    @property
    def network_note(self) -> str:
        """The size of the networks."""
        side = self.images.resolution
        return f"{self._preset}images of {side}×{side}, {self._stack}"

    @property
    def images_note(self) -> str:
        """The size of a training on images."""
        side = self.images.resolution
        return (
            f"{self._preset}{self.images.train:,} training images at {side}×{side}, {self._stack}"
        )

    @property
    def scale_note(self) -> str:
        """The size of an experiment on the ground truth."""
        return f"{self.images_note}, ground truth of {self.sgd.epochs} epochs"

    @property
    def finalists_note(self) -> str:
        """The size of the finalists' training."""
        return f"{self.images_note}, finalists of {self.finalists.epochs} epochs"

    @property
    def anytime_note(self) -> str:
        """The size of the training of networks with exits, and of their baselines."""
        side, count = self.images.resolution, self.network.blocks
        *others, last = map(str, sizes(self.space.nodes, count))
        return (
            f"{self._preset}{self.images.train:,} training images at {side}×{side}, {count} blocks "
            f"of {', '.join(others)} and {last} nodes, {self.anytime.epochs} epochs"
        )

    @property
    def whole_note(self) -> str:
        """The size of the whole workflow in this search space."""
        note: str = getattr(self, self.space.size)
        return note

    @property
    def mobile_note(self) -> str:
        """The size of the ImageNet-mobile network."""
        mobile, side = self.mobile, self.mobile.resolution
        return (
            f"{self._preset}images of {side}×{side}, {mobile.blocks} blocks of {self.space.nodes} "
            f"nodes, at most {mobile.multiply_adds} million multiply-adds, {mobile.epochs} epochs"
        )

    @property
    def notice(self) -> str:
        """A notice for somebody who may have forgotten a preset; "" at other scales."""
        if self.scale not in PAPER_SCALES:
            return ""
        small = self.space.presets[0]
        return (
            f"This is the paper's scale ({self.scale}), {PAPER_SCALES[self.scale]}; `ghn plan` "
            "lists what each stage takes. For a laptop choose a preset: snakemake --cores all "
            f"--configfile presets/{small}.yaml"
        )

    def small(self, note: str) -> str:
        """Return a note for a figure's title, "" at the paper's scale."""
        return "" if self.scale in PAPER_SCALES else note

    @property
    def scale_in_titles(self) -> str:
        """The scale's name in titles: 'paper' at any of the paper's own scales."""
        return "paper" if self.scale in PAPER_SCALES else self.scale

    @property
    def _preset(self) -> str:
        return "" if self.scale in PAPER_SCALES else f"{self.scale} preset: "

    @property
    def _stack(self) -> str:
        network = self.network
        return f"F={network.channels}, {network.blocks} blocks of {self.space.nodes} nodes"


def _whole_sections(settings: Mapping[str, Any], faulty: set[Any]) -> dict[str, Any]:
    """Return the sections without faults, as objects."""
    return {
        name: TypeAdapter[Any](field.rebuild_annotation()).validate_python(settings[name])
        for name, field in Config.model_fields.items()
        if name not in faulty
    }


def _line(fault: "ErrorDetails") -> str:
    """Return the path of a fault and its message."""
    keys, said = list(fault["loc"]), _message(fault)
    if keys[0] in KINDS:
        key, _ = KINDS[keys[0]]
        if fault["type"].startswith("union_tag"):
            keys.append(key)
        elif len(keys) > 1:  # pydantic adds the kind of the section
            kind = keys.pop(1)
            if fault["type"] == "none_required" or fault["input"] is None:
                must = "must" if fault["type"] == "none_required" else "must not"
                said = f"{must} be null where {keys[0]}.{key} is {kind}"
    # a key may hold characters that would garble a terminal
    path = ".".join(str(key) if str(key).isprintable() else repr(key) for key in keys)
    return f"{path}: {said}"


def _message(fault: "ErrorDetails") -> str:
    given = fault["input"]
    match fault["type"]:
        case "value_error":
            return str(fault["ctx"]["error"])
        case "missing" | "union_tag_not_found":
            return "is missing"
        case "extra_forbidden":
            *path, key = fault["loc"]
            return f"unknown key{did_you_mean(key, _keys_at(path))}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"must be a mapping of settings, not {repr(given)[:200]}"
        case "union_tag_invalid":
            given, known = fault["ctx"]["tag"], fault["ctx"]["expected_tags"]
            near = did_you_mean(given, re.findall("'(.*?)'", known))
            return f"must be one of {known}, not {given!r}{near}"
    message = f"{fault['msg'][0].lower()}{fault['msg'][1:]}, not {repr(given)[:200]}"
    if fault["type"] == "literal_error":
        message += did_you_mean(given, re.findall("'(.*?)'", fault["ctx"]["expected"]))
    if isinstance(given, str) and re.search("number|integer", message) and given[:1].isdigit():
        message += " (in quotes a number is text)"
    return message


def _keys_at(path: Sequence[Any]) -> list[str]:
    """Return the keys of the section at `path`."""
    if path[:1] == ["ghns"]:  # the user names its entries
        return list(Ghn.model_fields)
    section: type[Section] = Config
    for key in path:
        if section is Config and key in KINDS:
            return list(KINDS[key][1][path[1]].model_fields)
        kind = section.model_fields[key].annotation
        section = next(k for k in (kind, *get_args(kind)) if isinstance(k, type))
    return list(section.model_fields)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes`: sections are merged, and all other values replaced."""
    both = dict(base)
    for key, value in changes.items():
        old = both.get(key)
        both[key] = (
            merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
        )
    return both


#: For sections that may hold only what differs from another section: the settings they inherit.
_INHERITED = {
    "ghn": frozenset(Schedule.model_fields),
    "oneshot": frozenset(Schedule.model_fields),
    "ghns": frozenset(Ghn.model_fields),  # of each of its entries
}


def _completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with all that `ghn` and `oneshot`, and the entries of `ghns`, inherit."""
    found = dict(settings)
    for name in ("ghn", "oneshot"):
        if name in found:
            found[name] = _over(found.get("training"), found[name])
    if isinstance(entries := found.get("ghns"), Mapping):
        found["ghns"] = {name: _over(found.get("ghn"), entry) for name, entry in entries.items()}
    return found


def _over(base: Any, own: Any) -> Any:
    """Return the settings `own` over those of `base`; null means the same as a missing key."""
    if not (isinstance(base, Mapping) and isinstance(own, Mapping)):
        return own
    inherited = _INHERITED["ghns"]
    return {**base, **{k: v for k, v in own.items() if v is not None or k not in inherited}}


def _own_faults(error: ValidationError, settings: Mapping[str, Any]) -> "list[ErrorDetails]":
    """Return the faults, without repeating a fault for each section that inherits it."""

    def keys(section: str) -> set[str]:
        own = settings.get(section)
        return set(map(str, own)) if isinstance(own, Mapping) else set()

    def is_own(fault: "ErrorDetails") -> bool:
        section, *path = fault["loc"]
        own = settings.get(str(section))
        if section == "ghns" and path and isinstance(own, Mapping):
            own = own.get(path.pop(0))
        if section not in _INHERITED or not path or not isinstance(own, Mapping):
            return True
        # a key of another section may be one that none has
        others = keys("training") | (keys("ghn") if section == "ghns" else set())
        key = str(path[0])
        return key in map(str, own) or not (key in _INHERITED[section] or key in others)

    faults = error.errors()
    return [fault for fault in faults if is_own(fault)] or faults


def validate(settings: Mapping[str, Any], where: str) -> Config:
    """Turn plain settings into a Config; an entry of `ghns` holds the settings that differ.

    Raises:
        UserError: the settings have faults; the message lists all of them with their paths.
    """
    lines = [
        f"{repr(key)[:200]}: the name of a section must be text"
        for key in settings
        if not isinstance(key, str)
    ]
    given = {key: value for key, value in settings.items() if isinstance(key, str)}
    named = _completed(given)
    faulty: set[Any] = set()
    try:
        config = Config(**named)
    except ValidationError as error:
        lines += [_line(fault) for fault in _own_faults(error, given)]
        faulty = {fault["loc"][0] for fault in error.errors()}
    lines += disagreements(_whole_sections(named, faulty))
    if not lines:
        return config
    faults = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
    raise UserError("\n  ".join([f"{faults} in the configuration ({where}):", *lines]))


def load(files: Sequence[Path]) -> Config:
    """Read configuration files, each of which overrides settings of those before it.

    Raises:
        UserError: a file cannot be read or is not plain YAML, a preset follows a first file that
            already holds another preset, or the settings have faults.
    """
    settings: dict[str, Any] = {}
    base = None
    for file in files:
        content = plain_yaml.read(file)
        if not isinstance(content, dict):
            raise UserError(f"{file} must be a mapping of sections, as params.yaml is")
        base = base or content.get("scale")
        if base != "paper" and content.get("scale", base) != base:
            # settings that only the first preset changes would stay, unseen
            raise UserError(
                f"{files[0]} is already of the scale {base!r}, and {file} is a preset of another "
                f"scale: together they would make a mixture. Restore {files[0]} first (git "
                f"checkout {files[0]})."
            )
        settings = merged(settings, content)
    return validate(settings, " + ".join(map(str, files)))


def adopt(path: Path, files: Sequence[Path]) -> Config:
    """Write the changes of `files` into the configuration at `path`, and keep its comments.

    Raises:
        UserError: `load` raises it, and nothing is written; or the file cannot be written.
    """
    config, editor = load([path, *files]), plain_yaml.editor()
    settings = plain_yaml.read(path, editor)
    for file in files:
        _change(settings, plain_yaml.read(file, editor))
    text = StringIO()
    editor.dump(settings, text)
    write_atomically(path, text.getvalue())
    return config


def _change(settings: Any, changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(settings.get(key), Mapping) and isinstance(value, Mapping):
            _change(settings[key], value)
        else:
            settings[key] = value
