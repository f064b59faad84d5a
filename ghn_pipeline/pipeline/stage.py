"""The declaration of a stage; the command line, both engines and the plan follow it.

A declaration is a decorator of the function that does the work. It names settings by their dotted
paths. A path in braces stands for its value: `{search.seeds[0]}` is the first entry of a list, and
`{search.seeds}` stands for every entry. A path to a number n stands for 0 to n - 1. `{part}` is the
last word of the stage's own name: in `sgd/3` it is 3.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ghn_pipeline.system import extensions
from ghn_pipeline.system.errors import UserError, did_you_mean
from ghn_pipeline.system.files import digest, given_sha256
from ghn_pipeline.system.registry import Registry

if TYPE_CHECKING:  # the command line lists all stages without reading settings
    from ghn_pipeline.pipeline.costs import CostsOf
    from ghn_pipeline.settings.config import Config

#: The folder of tables and figures.
SCALE = "results/{scale}"
RECORD = "run.json"
#: The first GHN, which Table 4 shows and the search uses.
FIRST_GHN = "ghn/{correlation.ghns[0]}"
#: The search that chooses the finalists, the paper's random search (section 5.1.1).
CHOSEN_BY = "search/random/{search.seeds[0]}"

#: The resources of a job; workflow/rules/common.smk turns them into numbers.
Needs = Literal["little", "scoring", "measuring", "training", "finalists", "mobile"]


@dataclass(frozen=True)
class Job:
    """One run of a stage.

    Attributes:
        config: all settings.
        stage: the whole name, such as "sgd/3".
        words: the words that follow `ghn` on the command line.
    """

    config: "Config"
    stage: str
    words: Sequence[str]

    @property
    def part(self) -> str:
        """The name without its first word: "3" of "sgd/3"."""
        return self.stage.partition("/")[2]


#: The function that does the work of a stage.
Work = Callable[[Job], None]


@dataclass(frozen=True)
class Shown:
    """An entry of the page that `snakemake --report` makes."""

    caption: str
    category: str
    label: str


@dataclass(frozen=True)
class Stage:
    """The declaration of a stage.

    Attributes:
        name: "memory", or with a placeholder for the part: "sgd/INDEX".
        work: the function that does the work.
        writes: the names of its files, except the record.
        reads: earlier stages, as "STAGE" for all their files or as "STAGE: FILE FILE".
        optional: the same, for stages that it reads only in search spaces that have their chapters.
        settings: the dotted paths of the settings that change its result, except those that change
            the stages in `reads`.
        given: the dotted paths of the settings that name a file of the user, whose content changes
            its result; "" names none.
        each: the setting that lists or counts the parts; both engines make one job for each.
        known: the setting that lists every possible part, if there are more.
        needs: the resources of a job.
        memory_mb, minutes: the limits of a job that needs "little".
        first: the priority; of the ready jobs, an engine starts those with the highest first.
        chapters: the chapters that it belongs to; without any it runs if another stage reads it.
        root: the folder of its files, by default results/SCALE/STAGE.
        shown: the entries of the report, by file.
        result: the name of the schema of its result, in `pipeline.schemas`.
        costs: the function that returns the costs of a job; see pipeline/costs.py.
        like: the name of a line in the plan, by default the stage's own. Stages with the same text
            share a line; with "{part}" each part has a line of its own.
    """

    name: str
    work: Work
    writes: tuple[str, ...]
    reads: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    each: str = ""
    known: str = ""
    needs: Needs = "little"
    memory_mb: int = 2000
    minutes: int = 10
    first: int = 0
    chapters: tuple[str, ...] = ()
    root: str = ""
    shown: Mapping[str, Shown] | None = None
    result: str = "AnyResult"
    costs: "CostsOf | None" = None
    like: str = ""

    @property
    def kind(self) -> str:
        """The first word of the name, which is also the verb of `ghn` and Snakemake's rule."""
        return self.name.partition("/")[0]

    @property
    def literal(self) -> str:
        """The name without the placeholder of its parts."""
        return self.name.rpartition("/")[0] if self.each else self.name

    @property
    def pattern(self) -> str:
        """The name with `{part}` in the place of its part: "sgd/{part}"."""
        return f"{self.literal}/{{part}}" if self.each else self.name

    @property
    def is_table(self) -> bool:
        """Whether it only shows results of other stages, without a folder and an MLflow run."""
        return self.root == SCALE

    @property
    def record(self) -> str:
        """The name of its record; "" for the images, which have none."""
        if self.kind == "data":
            return ""
        return f"{self.kind}.provenance.json" if self.is_table else RECORD

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all its files, the record last."""
        return (*self.writes, self.record) if self.record else self.writes

    def parts(self, config: "Config", *, made: bool = False) -> list[str]:
        """Return all possible parts, or only those that the engines make."""
        listed = self.each if made else self.known or self.each
        return [str(part) for part in entries(value(config, listed))] if listed else [""]

    def names(self, config: "Config", *, made: bool = False) -> list[str]:
        """Return the whole names, such as ["sgd/0", "sgd/1"]."""
        return [f"{self.literal}/{p}".rstrip("/") for p in self.parts(config, made=made)]

    def inputs(self, chapters: Sequence[str] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each entry of `reads` as a stage and its files; () stands for all files.

        Args:
            chapters: the chapters of a space, which decide on the entries of `optional`; without
                any these are all there.
        """
        for entry in (*self.reads, *self.optional):
            name, _, files = entry.partition(":")
            lacks = chapters and not set(chapters) & set(read_by(name).chapters)
            if entry in self.reads or not lacks:
                yield name, tuple(files.split())


_STAGES: Registry[Stage] = Registry("stage")


def stage(name: str, *, costs: "CostsOf | None" = None, **more: Any) -> Callable[[Work], Work]:
    """Declare a stage whose work the decorated function does; `Stage` explains the keywords."""

    def declare(work: Work) -> Work:
        one = Stage(name, work, costs=costs, **more)
        for key in ("reads", "optional", "settings", "given", "writes", "chapters"):
            if isinstance(getattr(one, key), str):
                raise UserError(f"stage {name}: {key} is a text; write ({getattr(one, key)!r},)")
        if one.needs not in get_args(Needs):
            near = did_you_mean(one.needs, get_args(Needs))
            raise UserError(f"stage {name}: there is no needs={one.needs!r}{near}")
        if not work.__doc__:
            raise UserError(
                f"stage {name}: its function has no docstring, which is the verb's help"
            )
        _STAGES[name] = one
        return work

    return declare


@cache
def declared() -> list[Stage]:
    """Return the declarations of all stages; do not change the list."""
    # the stages import this module and declare themselves, so the import stands here
    import ghn_pipeline.stages  # noqa: F401

    extensions.load()
    # Python applies the decorators of a function from the last to the first
    of_work: dict[Work, list[Stage]] = {}
    for one in _STAGES.values():
        of_work.setdefault(one.work, []).insert(0, one)
    return [one for stages in of_work.values() for one in stages]


@cache
def kinds() -> dict[str, list[Stage]]:
    """Return the declarations by kind, the first word of the name."""
    found: dict[str, list[Stage]] = {}
    for one in declared():
        found.setdefault(one.kind, []).append(one)
    return found


def needed(chapters: tuple[str, ...]) -> list[Stage]:
    """Return the stages of some chapters, such as those of a space, and all stages they read."""
    needed = {one.name for one in declared() if set(chapters) & set(one.chapters)}
    while (
        more := {
            read_by(pattern).name
            for one in declared()
            if one.name in needed
            for pattern, _ in one.inputs(chapters)
        }
        - needed
    ):
        needed |= more
    return [one for one in declared() if one.name in needed]


def read_by(pattern: str) -> Stage:
    """Return the stage that an entry of `reads` names.

    Raises:
        UserError: there is none.
    """
    literal = pattern.rpartition("/")[0] if pattern.endswith("}") else pattern
    for one in declared():
        if one.literal == literal:
            return one
    near = did_you_mean(pattern, [one.literal for one in declared()])
    raise UserError(f"a declaration reads {pattern!r}, which is no stage{near}")


# ---- names in braces -----------------------------------------------------------------------------

_BRACES = re.compile(r"\{([a-z_0-9.]+)(\[0\])?\}")


def value(config: "Config", path: str) -> Any:
    """Return the setting at a dotted path.

    Raises:
        UserError: there is none.
    """
    found: Any = config
    try:
        for key in path.split("."):
            found = found[key] if isinstance(found, Mapping) else getattr(found, key)
    except (KeyError, AttributeError):
        raise UserError(f"a declaration names the setting {path!r}, which there is not") from None
    return found


def entries(value: Any) -> list[Any]:
    """Return the entries of a list, the keys of a mapping, or the indices below a number."""
    if isinstance(value, int):
        return list(range(value))
    return [value] if isinstance(value, str) else list(value)


def filled(config: "Config", text: str, part: str = "") -> list[str]:
    """Return the texts in which values replace the paths in braces, one for each list entry."""
    found = [""]
    end = 0
    for match in _BRACES.finditer(text):
        path, first = match.groups()
        there = part if path == "part" else value(config, path)
        named = there[:1] if first else entries(there)
        found = [f"{f}{text[end : match.start()]}{entry}" for f in found for entry in named]
        end = match.end()
    return [f + text[end:] for f in found]


# ---- one stage by its name -----------------------------------------------------------------------


def find(config: "Config", name: str) -> tuple[Stage, str]:
    """Return the declaration of a stage and its part, such as "3" of "sgd/3".

    Raises:
        UserError: there is no such stage. The message names the nearest one.
    """
    before, _, last = name.rpartition("/")
    for found in declared():
        if found.each and found.literal == before and last in found.parts(config):
            return found, last
        if not found.each and found.name == name:
            return found, ""
    of_kind = kinds().get(name.partition("/")[0], [])
    alike = [one for one in of_kind if _is_of_space(config, one)]
    if of_kind and not alike:
        raise _of_another_space(config, name, of_kind[0].chapters)
    known = [n for one in alike or declared() for n in one.names(config)]
    forms = f": it is {_listed([one.name for one in alike])}" if alike else ""
    near = did_you_mean(name, known)
    raise UserError(f"there is no stage {name!r}{forms}{placeholders(alike)}{near}")


def placeholders(stages: Sequence[Stage]) -> str:
    """Return the settings that list the parts of some stages, in words."""
    lists = {one.name.rpartition("/")[2]: one.known or one.each for one in stages if one.each}
    return "".join(f", {part} one of {path}" for part, path in lists.items())


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def settings(config: "Config", name: str) -> dict[str, Any]:
    """Return all settings that change the result of a stage.

    They are its own settings, and a digest for each stage that it reads.

    Raises:
        UserError: there is no such stage, or a file that the user names cannot be read.
    """
    one, part = find(config, name)
    return {**_own(config, one, part), **_read(config, one, part)}


def all_settings(config: "Config", name: str) -> dict[str, Any]:
    """Return the settings of a stage and of the stages that it reads, to compare runs by.

    If it reads every part of a stage, such as all GHNs, their settings stand only in their own
    records.
    """
    one, part = find(config, name)
    found: dict[str, Any] = {}
    for pattern, _ in one.inputs(config.space.chapters):
        below = filled(config, pattern, part)
        if len(below) == 1:
            found |= all_settings(config, below[0])
    found |= _own(config, one, part)
    # a section that some stage depends on includes the single settings of others
    return {
        path: each
        for path, each in found.items()
        if not any(path.startswith(f"{section}.") for section in found)
    }


#: The section that describes one of several models.
_SECTION = {"models": "ghn", "oneshots": "oneshot"}


def _own(config: "Config", one: Stage, part: str) -> dict[str, Any]:
    paths = [path for text in one.settings for path in filled(config, text, part)]
    if one.record:
        paths.insert(0, "method")
    # models with equal settings have equal digests, whatever their names are
    found = {
        _SECTION.get(path.partition(".")[0], path): _plain(value(config, path)) for path in paths
    }
    # a file has the same results wherever it lies
    found |= {
        path: given_sha256(file, path, config.space.table)
        for path in one.given
        if (file := value(config, path))
    }
    code = {path: digest(text) for path, text in extensions_of(one).items()}
    return {**found, **({"extensions": code} if code else {})}


def extensions_of(one: Stage) -> dict[str, str]:
    """Return the extensions that can change the result of a stage: their text, by path.

    A file that declares stages changes these alone, a file with proxies the scores of proxies, and
    any other, such as one with a search space, every result.
    """
    found = {}
    for path, text in extensions.texts().items():
        module = f"{extensions.FOLDER.name}.{Path(path).stem}"
        declares = [each.name for each in declared() if each.work.__module__ == module]
        if declares:
            changes = one.name in declares
        else:
            changes = "ranking.proxies" not in text or "proxies.batch" in one.settings
        if changes and one.record:
            found[path] = text
    return found


def _read(config: "Config", one: Stage, part: str) -> dict[str, Any]:
    patterns = dict.fromkeys(name for name, _ in one.inputs(config.space.chapters))
    patterns.pop("data", None)
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
    made = [
        path
        for pattern, only in one.inputs(config.space.chapters)
        for below in filled(config, pattern, part)
        for path in files(config, below, only)
    ]
    return made + [file for path in one.given if (file := value(config, path))]


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
    """Refuse a stage whose chapters the search space does not have.

    Raises:
        UserError: the space has none of its chapters, or there is no such stage. The message names
            the chapters that the space has.
    """
    one, _ = find(config, name)
    if not _is_of_space(config, one):
        raise _of_another_space(config, name, one.chapters)


def _is_of_space(config: "Config", one: Stage) -> bool:
    return not one.chapters or one in needed(config.space.chapters)


def _of_another_space(config: "Config", name: str, chapters: Sequence[str]) -> UserError:
    from ghn_pipeline.spaces.known import SPACES  # not needed to list the stages

    spaces = {of: one for of, one in SPACES.items() if set(chapters) & set(one.chapters)}
    presets = ", ".join(f"presets/{each}.yaml" for one in spaces.values() for each in one.presets)
    return UserError(
        f"{name} belongs to the chapter {_listed(chapters)}, which the space {config.space.name} "
        f"does not have: it has {', '.join(config.space.chapters)}. Ask for one of these, or use a "
        f"preset of the space {_listed(list(spaces))} ({presets or 'there is none'})."
    )


def log_file(config: "Config", name: str) -> Path:
    """Return the file that keeps everything a stage has printed.

    Raises:
        UserError: there is no such stage, or this space does not have it.
    """
    check_space(config, name)
    return Path("results", config.scale, "logs", f"{name}.log")


def checkpoint_file(config: "Config", name: str, suffix: str = ".pt", of: str = "") -> Path:
    """Return the checkpoint of a stage.

    It lies outside `results`, because a workflow engine deletes the outputs of a failed job. Its
    name has the digest of the settings, so that a stage starts anew with other settings and resumes
    with the same ones.

    Args:
        config: all settings.
        name: the whole name of the stage.
        suffix: the ending of the file's name.
        of: a hash of its subject if the settings alone do not determine it, such as the chosen
            architecture, the weights that score, or the images of a folder.
    """
    made_from = f"{digest(settings(config, name))}{'-' if of else ''}{of}"
    return Path("checkpoints", config.scale, f"{name}-{made_from}{suffix}")
