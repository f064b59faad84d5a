"""The schemas of records; the declaration of a stage names the schema of its result.

They refuse damaged and edited files, so that no reader meets a missing key, a value of another
type or an accuracy outside 0 to 1.
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, RootModel, model_validator

from ghn_pipeline.system.schema import Count, Index, Schema, Seconds
from ghn_pipeline.training.measured import Measured, checked

Fraction = Annotated[float, Field(ge=0, le=1)]
#: The hash of an architecture, or the digest of settings.
Hash = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
#: A number of steps, as text, because it is a key of JSON.
Steps = Annotated[str, Field(pattern="^[1-9][0-9]*$")]


class Architectures(Schema):
    """The numbers of architectures that `ghn architectures` drew.

    `published` says which file of published accuracies they are drawn from, if any.
    """

    architectures: Count
    selection: Index
    published: str | None = None


class Training(Schema):
    """A training of a GHN or a one-shot model; the schemas of other trainings extend it.

    The keys of `measured` are the numbers of steps after which the measurements were taken.
    """

    steps: Count
    final_loss: float
    measured: dict[Steps, Measured]

    @model_validator(mode="after")
    def _within(self) -> "Training":
        if late := [k for k in self.measured if int(k) > self.steps]:
            raise ValueError(f"measured after {', '.join(late)} of {self.steps} steps")
        return self

    def at_end(self, *names: str) -> None:
        """Check that the measurements of these names were taken after the last step.

        Raises:
            ValueError: one of them was not.
        """
        there = self.measured.get(str(self.steps), {})
        if missing := [name for name in names if name not in there]:
            raise ValueError(f"measured.{self.steps} has no {', '.join(missing)}")


class Truth(Training):
    """The ground truth of one architecture: its accuracies after training by SGD."""

    hash: Hash

    @model_validator(mode="after")
    def _final(self) -> "Truth":
        self.at_end("validation", "test")
        return self


class Finalist(Truth):
    """A network trained by the full recipe."""

    parameters: Count
    processes: Count
    precision: str


class TreeOfImages(Schema):
    """The folder of images that a mobile network was trained on."""

    digest: Hash
    classes: Count
    training: Count
    validation: Count


class CountedMobile(Schema):
    """An ImageNet-mobile network that was counted and, without images, not trained."""

    hash: Hash
    channels: Count
    parameters: Count
    multiply_adds: Count
    images: None


class TrainedMobile(Training):
    """An ImageNet-mobile network that was trained."""

    hash: Hash
    channels: Count
    parameters: Count
    multiply_adds: Count
    processes: Count
    precision: str
    images: TreeOfImages

    @model_validator(mode="after")
    def _final(self) -> "TrainedMobile":
        self.at_end("top1")
        return self


Mobile = CountedMobile | TrainedMobile


class Anytime(Training):
    """A network with exits; a baseline has no hash, channels and block."""

    spent: Annotated[list[Count], Field(min_length=1)]
    parameters: Count
    hash: Hash | None = None
    channels: Count | None = None
    block: list[Any] | None = None

    @model_validator(mode="after")
    def _final(self) -> "Anytime":
        exits = range(1, 1 + len(self.spent))
        self.at_end(*(f"{of}/exit-{k}" for of in ("validation", "test") for k in exits))
        return self


class Scores(Schema):
    """Scores of the test architectures: each measure has one value for each hash.

    `block_difference` is how much a GHN's weights of consecutive blocks differ, as a fraction.
    """

    mean: Measured
    values: dict[str, list[float]]
    hashes: Annotated[list[Hash], Field(min_length=1)]
    seconds_each: dict[str, Seconds]
    block_difference: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Scores":
        for name, values in self.values.items():
            if len(values) != len(self.hashes):
                raise ValueError(f"{len(values)} of {name} for {len(self.hashes)} architectures")
            for value in values:
                checked({name: value})
        if not self.values or self.mean.keys() != self.values.keys():
            raise ValueError("mean and values must name the same measures")
        return self


class Search(Schema):
    """A search: the number of architectures that it scored, and the best of them."""

    evaluations: Count
    best: float
    hash: Hash
    seconds_each: dict[str, Seconds]


class Winner(Schema):
    """The architecture with the best short training; `of` has the accuracies of all ranks."""

    rank: Index
    validation: Fraction
    hash: Hash
    block: list[Any]
    of: dict[Annotated[str, Field(pattern="^[0-9]+$")], Fraction]


class Footprint(Schema):
    """The memory for training a model."""

    parameters: Count
    peak_bytes: Count


class Memory(RootModel[dict[str, Footprint]]):
    """The footprints of the models that have all operations and the largest number of nodes."""


class Export(Schema):
    """The exported network: the stage that trained it, and its accuracy on the test images."""

    of: str
    hash: Hash
    test: Fraction


#: The result of a stage whose declaration names no other.
AnyResult = dict[str, Any]


def _time(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("has no time zone")
    return text


class Provenance(Schema):
    """The provenance of a result: settings, code, data, machine and time."""

    run: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    stage: str
    scale: str
    digest: Hash
    settings: dict[str, Any]
    cifar10: Hash
    packages: dict[str, str]
    commit: str | None
    dirty: bool | None
    slurm_job: str | None
    finished: Annotated[str, AfterValidator(_time)]


class Record(Provenance):
    """The `run.json` beside a result; another schema checks `result`.

    `inputs` and `outputs` have the SHA-256 of each file that was read and written. `sha256` is the
    SHA-256 of the record itself without this key, its keys sorted.
    """

    result: Any
    accelerator_seconds: Seconds
    hardware: dict[str, str | int]
    inputs: dict[str, Sha256]
    outputs: dict[str, Sha256]
    sha256: Sha256


class Entry(Schema):
    """One architecture of an `architectures.json`; a search adds the values of its measures."""

    model_config = ConfigDict(extra="allow")

    hash: Hash
    block: list[Any]

    @property
    def values(self) -> dict[str, Any]:
        """The values of its measures."""
        return self.model_extra or {}

    @model_validator(mode="after")
    def _measures(self) -> "Entry":
        for name, value in self.values.items():
            if type(value) is not float and type(value) is not int:
                raise ValueError(f"{name} must be a number, not {value!r}")
            checked({name: value})
        return self


class Entries(RootModel[list[Entry]]):
    """An `architectures.json`."""
