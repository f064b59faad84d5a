"""What a stage is: one declaration, from which the command line, both engines and the plan follow.

A declaration stands above the function that does the work, as a decorator. It names settings by
their dotted paths. In braces such a path stands for its value: `{search.seeds[0]}` is the first
entry, and `{search.seeds}` each entry of the list. `{part}` is the part of the stage at hand: in
`sgd/3` it is 3.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ghn_pipeline.system.errors import UserError, did_you_mean
from ghn_pipeline.system.files import digest

if TYPE_CHECKING:  # the command line lists all stages without reading any settings
    from ghn_pipeline.settings.config import Config

#: The folder of what tables and figures are written as.
SCALE = "results/{scale}"
RECORD = "run.json"

#: The chapters of each space; an engine is asked for one by its name.
CHAPTERS_OF = {
    "classification": (
        "correlation",
        "ablations",
        "architecture_search",
        "transfer",
        "memory",
    ),
    "nasbench201": ("benchmark",),
    "anytime": ("anytime_prediction",),
}
#: What a job asks of a machine; workflow/rules/common.smk has the figures.
Needs = Literal["little", "scoring", "measuring", "training", "finalists", "mobile"]


@dataclass(frozen=True)
class Job:
    """A stage to be done.

    Attributes:
        config: the settings of its scale.
        stage: its whole name, "sgd/3".
        words: the command after `ghn`, for processes that share the work.
    """

    config: "Config"
    stage: str
    words: Sequence[str]

    @property
    def part(self) -> str:
        """What follows the first word of the name: "3" of "sgd/3"."""
        return self.stage.partition("/")[2]


#: Does the work of a stage.
Work = Callable[[Job], None]


@dataclass(frozen=True)
class Shown:
    """A result on the page of `snakemake --report`: its caption's file, its category and label."""

    caption: str
    category: str
    label: str


@dataclass(frozen=True)
class Stage:
    """The declaration of a stage.

    Attributes:
        name: "memory"; of a stage with parts the last word is a placeholder: "sgd/INDEX".
        work: does it.
        writes: names of its files, without the record.
        reads: "STAGE" for all files of an earlier stage, or "STAGE: FILE FILE".
        settings: dotted paths of all settings that change its result, those of the stages that it
            reads left out.
        each: the setting that lists the parts that the workflow makes.
        known: the setting that lists all parts there can be, if these are more.
        needs: what it asks of a machine.
        memory_mb, minutes: how little, if `needs` is "little".
        first: how early an engine starts it, of those that are ready: the larger the earlier.
        chapters: that it is made for; none for all.
        root: the folder of its files; for a table that of the scale.
        shown: what stands on the report's page.
    """

    name: str
    work: Work
    writes: tuple[str, ...]
    reads: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    each: str = ""
    known: str = ""
    needs: Needs = "little"
    memory_mb: int = 2000
    minutes: int = 10
    first: int = 0
    chapters: tuple[str, ...] = ()
    root: str = ""
    shown: Mapping[str, Shown] | None = None

    @property
    def kind(self) -> str:
        """The first word of the name: the verb of `ghn`, and the rule."""
        return self.name.partition("/")[0]

    @property
    def literal(self) -> str:
        """The name without the placeholder of its parts."""
        return self.name.rpartition("/")[0] if self.each else self.name

    @property
    def is_table(self) -> bool:
        """Whether it only shows what others have made: it has no folder and no run of its own."""
        return self.root == SCALE

    @property
    def record(self) -> str:
        """The name of the file that says what made its results; "" where there is none."""
        if self.kind == "data":
            return ""
        return f"{self.kind}.provenance.json" if self.is_table else RECORD

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all its files, the record last."""
        return (*self.writes, self.record) if self.record else self.writes

    def parts(self, config: "Config", *, made: bool = False) -> list[str]:
        """Return all parts that there can be, or only those that the workflow makes."""
        listed = self.each if made else self.known or self.each
        return [str(part) for part in value(config, listed)] if listed else [""]

    def names(self, config: "Config", *, made: bool = False) -> list[str]:
        """Return the names of its stages: ["sgd/0", "sgd/1"]."""
        return [f"{self.literal}/{p}".rstrip("/") for p in self.parts(config, made=made)]

    def inputs(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield for each entry of `reads` the stage and its files; no files stand for all."""
        for entry in self.reads:
            name, _, files = entry.partition(":")
            yield name, tuple(files.split())


_STAGES: dict[str, Stage] = {}


def stage(name: str, **more: Any) -> Callable[[Work], Work]:
    """Declare that a function does the work of a stage; see `Stage` for the keywords."""

    def declare(work: Work) -> Work:
        _STAGES[name] = Stage(name, work, **more)
        return work

    return declare


def declared() -> list[Stage]:
    """Return the declarations of all stages."""
    # they stand above this module, and declare themselves when they are imported
    import ghn_pipeline.stages  # noqa: F401

    return list(_STAGES.values())


def needed(space: str) -> list[Stage]:
    """Return the stages of the chapters of a space, and all that these read."""
    chapters = set(CHAPTERS_OF[space])
    needed = {one.name for one in declared() if chapters & set(one.chapters)}
    while (
        more := {
            read_by(pattern).name
            for one in declared()
            if one.name in needed
            for pattern, _ in one.inputs()
        }
        - needed
    ):
        needed |= more
    return [one for one in declared() if one.name in needed]


def read_by(pattern: str) -> Stage:
    """Return the stage that an entry of `reads` is of."""
    literal = pattern.rpartition("/")[0] if pattern.endswith("}") else pattern
    (found,) = (one for one in declared() if one.literal == literal)
    return found


# ---- names in braces -----------------------------------------------------------------------------

_BRACES = re.compile(r"\{([a-z_0-9.]+)(\[0\])?\}")


def value(config: "Config", path: str) -> Any:
    """Return the setting at a dotted path."""
    found: Any = config
    for key in path.split("."):
        found = found[key] if isinstance(found, Mapping) else getattr(found, key)
    return found


def filled(config: "Config", text: str, part: str = "") -> list[str]:
    """Return a text with the values of what stands in braces; several where one is a list."""
    found = [""]
    end = 0
    for match in _BRACES.finditer(text):
        path, first = match.groups()
        there = part if path == "part" else value(config, path)
        entries = [there[0]] if first else there if isinstance(there, list) else [there]
        found = [f"{f}{text[end : match.start()]}{entry}" for f in found for entry in entries]
        end = match.end()
    return [f + text[end:] for f in found]


# ---- one stage by its name -----------------------------------------------------------------------


def find(config: "Config", name: str) -> tuple[Stage, str]:
    """Return the declaration of a stage, and the last word of its name: 3 of "sgd/3".

    Raises:
        UserError: there is no such stage; the nearest is named.
    """
    before, _, last = name.rpartition("/")
    for found in declared():
        if found.each and found.literal == before and last in found.parts(config):
            return found, last
        if not found.each and found.name == name:
            return found, ""
    kind = name.partition("/")[0]
    alike = [s for s in declared() if s.kind == kind]
    known = [n for s in alike or declared() for n in s.names(config)]
    forms = f": it is {_listed([s.name for s in alike])}" if alike else ""
    lists = {s.name.rpartition("/")[2]: s.known or s.each for s in alike if s.each}
    forms += "".join(f", {part} one of {path}" for part, path in lists.items())
    raise UserError(f"there is no stage {name!r}{forms}{did_you_mean(name, known)}")


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def settings(config: "Config", name: str) -> dict[str, Any]:
    """Return all that changes the result of a stage: its settings, and digests of what it reads.

    Raises:
        UserError: there is no such stage.
    """
    one, part = find(config, name)
    return {**_own(config, one, part), **_read(config, one, part)}


def all_settings(config: "Config", name: str) -> dict[str, Any]:
    """Return the settings of a stage and of those that it reads, for a person who compares runs.

    Where it reads all parts of a stage, such as every GHN, their settings stand in their own
    records.
    """
    one, part = find(config, name)
    found: dict[str, Any] = {}
    for pattern, _ in one.inputs():
        below = filled(config, pattern, part)
        if len(below) == 1:
            found |= all_settings(config, below[0])
    return found | _own(config, one, part)


def _own(config: "Config", one: Stage, part: str) -> dict[str, Any]:
    paths = [path for text in one.settings for path in filled(config, text, part)]
    if one.record:
        paths.insert(0, "method")
    # two GHNs of the same settings are the same, whatever they are called
    return {re.sub(r"^ghns\..*", "ghn", path): _plain(value(config, path)) for path in paths}


def _read(config: "Config", one: Stage, part: str) -> dict[str, Any]:
    patterns = dict.fromkeys(pattern for pattern, _ in one.inputs() if pattern != "data")
    stages = [name for pattern in patterns for name in filled(config, pattern, part)]
    return {name: digest(settings(config, name)) for name in stages}


def _plain(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {key: _plain(each) for key, each in found.items()}
    return found.model_dump() if hasattr(found, "model_dump") else found


def files(config: "Config", name: str, only: Sequence[str] = ()) -> list[str]:
    """Return the paths of the files of a stage, below the working directory."""
    one, _ = find(config, name)
    return [f"{_root(config, one, name)}/{file}" for file in only or one.files]


def inputs(config: "Config", name: str) -> list[str]:
    """Return the paths of all files that a stage reads."""
    one, part = find(config, name)
    return [
        path
        for pattern, only in one.inputs()
        for below in filled(config, pattern, part)
        for path in files(config, below, only)
    ]


def _root(config: "Config", one: Stage, name: str) -> str:
    (root,) = filled(config, one.root or f"{SCALE}/{name}")
    return root


def result_folder(config: "Config", name: str) -> Path:
    """Return the folder of a stage's results, below the working directory."""
    return Path("results", config.scale, name)


def command(name: str) -> str:
    """Return the command that makes the results of a stage."""
    return f"ghn {name.replace('/', ' ', 1)}"


def check_space(config: "Config", name: str) -> None:
    """Refuse a stage of a chapter that the space does not have.

    Raises:
        UserError: the space has no such chapter; those that it has are named. Or there is no such
            stage.
    """
    from ghn_pipeline.settings.sections import PRESETS_OF

    chapters, own = find(config, name)[0].chapters, CHAPTERS_OF[config.space.name]
    if not chapters or set(chapters) & set(own):
        return
    space = next(space for space, has in CHAPTERS_OF.items() if chapters[0] in has)
    presets = ", ".join(f"presets/{preset}.yaml" for preset in PRESETS_OF[space])
    raise UserError(
        f"{name} belongs to the chapter {_listed(chapters)}, which the space {config.space.name} "
        f"does not have: it has {', '.join(own)}. Ask for one of these, or use a preset of the "
        f"space {space} ({presets})."
    )


def log_file(config: "Config", name: str) -> Path:
    """Return the file in which all that a stage said is kept.

    Raises:
        UserError: there is no such stage, or not in this space.
    """
    check_space(config, name)
    return Path("results", config.scale, "logs", f"{name}.log")


def checkpoint_file(config: "Config", name: str, suffix: str = ".pt", of: str = "") -> Path:
    """Return the file from which a stopped stage goes on.

    It lies outside `results`, for a workflow engine deletes the outputs of a job that failed. The
    settings' digest is in its name: changed settings start anew, and changed back they go on.

    Args:
        config: of the scale.
        name: of the stage.
        suffix: of the file.
        of: a hash of what it works on, where the settings alone do not say: an architecture that
            was chosen, weights that score, images of a folder.
    """
    made_from = f"{digest(settings(config, name))}{'-' if of else ''}{of}"
    return Path("checkpoints", config.scale, f"{name}-{made_from}{suffix}")
