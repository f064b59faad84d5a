"""The sections of params.yaml; each setting is checked by itself, and within its section."""

import os
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ghn_pipeline.data.cifar10 import SOURCES
from ghn_pipeline.system.errors import did_you_mean


def _nameable(path: str) -> str:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise ValueError("the locale in force cannot name this path (try LC_ALL=C.UTF-8)") from None
    return path


def _known_source(name: str) -> str:
    if name not in SOURCES:
        raise ValueError(f"there is no source {name!r}{did_you_mean(name, SOURCES)}")
    return name


#: A name becomes part of a path, and a word of a command, in which a leading "-" means an option.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=100)]
#: The path of a folder or file. File systems refuse a NUL, and a line break would break up lines.
Folder = Annotated[
    str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=1000), AfterValidator(_nameable)
]

Source = Annotated[Name, AfterValidator(_known_source)]

# The upper bounds of numbers are far above any use, so that a typing error is a fault of the
# configuration and does not fill the memory of the machine.
Epochs = Annotated[int, Field(ge=1, le=100_000)]
Steps = Annotated[int, Field(ge=1, le=1_000_000_000)]
Warmup = Annotated[int, Field(ge=0, le=1_000_000_000)]  # in steps
WarmupEpochs = Annotated[int, Field(ge=0, le=100_000)]
Batch = Annotated[int, Field(ge=2, le=65_536)]  # batch norm needs two
Batches = Annotated[int, Field(ge=1, le=65_536)]
Nodes = Annotated[int, Field(ge=2, le=1000)]  # of a block
Blocks = Annotated[int, Field(ge=1, le=1000)]
Width = Annotated[int, Field(ge=1, le=10_000)]  # channels, or the size of a hidden layer
Factor = Annotated[int, Field(ge=1, le=100)]
Passes = Annotated[int, Field(ge=1, le=1000)]
Architectures = Annotated[int, Field(ge=1, le=1_000_000)]
Selection = Annotated[int, Field(ge=0, le=1_000_000)]
Index = Annotated[int, Field(ge=0, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Processes = Annotated[int, Field(ge=1, le=10_000)]  # or threads, cores, machines
Helpers = Annotated[int, Field(ge=0, le=10_000)]  # processes; 0 has a meaning of its own
Megabytes = Annotated[int, Field(ge=1, le=100_000_000)]
Minutes = Annotated[int, Field(ge=1, le=525_600)]  # a year
Seconds = Annotated[int, Field(ge=1, le=60 * 525_600)]
Rate = Annotated[float, Field(gt=0, le=1000)]
Decay = Annotated[float, Field(ge=0, le=1000)]
Norm = Annotated[float, Field(gt=0, le=1e6)]
Loss = Annotated[float, Field(ge=0, le=1000)]  # the weight of a loss
Share = Annotated[float, Field(ge=0, lt=1)]
Millions = Annotated[int, Field(ge=1, le=1_000_000)]  # of multiply-adds
Budget = Annotated[float, Field(gt=0, le=1e6)]  # in millions of multiply-adds
Ghns = Annotated[list[Name], Field(max_length=1000)]
BlockNumbers = Annotated[list[Blocks], Field(max_length=1000)]
OperationWeight = Annotated[int, Field(ge=1, le=1000)]  # entries in the list of the draw
Milestones = Annotated[list[Epochs], Field(max_length=1000)]


class Section(BaseModel):
    """A section; unknown keys and wrong types are faults, and values cannot be changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def faults(self) -> list[str]:
        """Return the contradictions between settings of the section, as "KEY: message"."""
        return []


class Data(Section):
    """The sources of CIFAR-10, all of which give the same bytes."""

    folder: Annotated[Folder, Field(min_length=1)]
    sources: Annotated[list[Source], Field(min_length=1, max_length=10)]
    local: Folder


class Images(Section):
    """The numbers of images in use, and their size."""

    train: Annotated[int, Field(ge=1, le=45000)]
    validation: Annotated[int, Field(ge=1, le=5000)]
    resolution: Literal[4, 8, 16, 32]
    padding: Annotated[int, Field(ge=0, le=32)]


class Macro(Section):
    """The stack of blocks (section 5.1.1)."""

    blocks: Blocks
    channels: Width
    reductions: BlockNumbers
    stem_multiplier: Factor

    def faults(self) -> list[str]:
        """Return a fault for a reduction of a block that does not exist."""
        return _missing(self, "reductions", "blocks")


class Schedule(Section):
    """Training by Adam on random architectures, of GHNs and the one-shot model alike (7.2)."""

    epochs: Epochs
    batch: Batch
    learning_rate: Rate
    halve_at: Milestones
    clip: Norm
    operation_weights: dict[str, OperationWeight]
    warmup: Warmup
    average: Share
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1000)]

    def each(self, name: str) -> dict[str, Self]:
        """Return a copy for each seed. The first is called `name`, the others NAME-SEED."""
        first = self.seeds[0]
        return {
            name if seed == first else f"{name}-{seed}": self.model_copy(update={"seeds": [seed]})
            for seed in self.seeds
        }


class Design(Section):
    """The design of a graph hypernetwork, which with the search space determines its parameters."""

    passes: Passes
    scheme: Literal["forward-backward", "synchronous"]
    share_parameters: bool
    pass_embeddings: bool
    embedding: Width
    message_hidden: Width
    hypernetwork_hidden: Width
    positions: bool


class Ghn(Schedule, Design):
    """A graph hypernetwork, and the parts of its training that differ from `training`."""

    nodes: Nodes
    fewer_nodes: bool


class Sgd(Section):
    """Training one network from scratch (sections 5.3 and 7.3)."""

    epochs: Epochs
    batch: Batch
    learning_rate: Rate
    momentum: Share
    weight_decay: Decay


class Evaluation(Section):
    """The validation batches and the measure that judge generated weights.

    Each measure has a subclass: see `ranking.measures`.
    """

    batch: Batch
    together: Architectures
    batches: Batches
    measure: str
    flow: Annotated[float, Field(gt=0, le=0.5)] | None = None
    budgets: Annotated[list[Budget], Field(min_length=2, max_length=2)] | None = None


class Correlation(Section):
    """Predicted against true accuracy (section 5.3)."""

    ghns: Annotated[Ghns, Field(min_length=1)]
    drawn: Annotated[Architectures, Field(ge=5)]  # so that the better half has three
    selection: Selection
    architectures: Annotated[int, Field(ge=5, le=1000)]
    repeats: Annotated[int, Field(ge=0, le=1000)]
    steps: Annotated[list[Steps], Field(min_length=1, max_length=1000)]
    confidence: Annotated[float, Field(gt=0, lt=1)]

    def faults(self) -> list[str]:
        """Return a fault if a GHN is listed twice, or so few repeats have no correlation."""
        few = self.repeats in (1, 2)
        return [*_twice(self, "ghns"), *(["repeats: must be 0, or 3 or more"] if few else [])]


class Proxies(Section):
    """The networks and the batch of zero-cost proxies."""

    batch: Batch
    network: Macro | None
    resolution: Literal[4, 8, 16, 32] | None


class Benchmark(Section):
    """The comparison with published accuracies."""

    table: Folder
    curve: Annotated[int, Field(ge=0, le=1000)]
    images: Batch
    top: Annotated[float, Field(gt=0, lt=1)]


class Search(Section):
    """Ranking many architectures by the first GHN (section 5.1.1)."""

    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1000)]
    evaluations: Architectures
    population: Architectures
    sample: Architectures
    generation: Architectures

    def faults(self) -> list[str]:
        """Return faults for a seed listed twice, or a group larger than the one it is part of."""
        sizes = ("sample", "population", "evaluations")
        return _twice(self, "seeds") + [
            f"{less}: more than search.{more}"
            for less, more in pairwise(sizes)
            if getattr(self, less) > getattr(self, more)
        ]


class Ablations(Section):
    """The GHNs of each figure and table of section 5.4."""

    figure5a: Ghns
    figure5b: Ghns
    table5: Ghns


class Recipe(Section):
    """Training a network to the end, by data-parallel workers (section 7.3)."""

    workers: Processes
    processes: Processes
    nodes: Processes
    epochs: Epochs
    batch: Batch
    norm_batch: Batch
    learning_rate: Rate
    warmup_epochs: WarmupEpochs
    momentum: Share
    weight_decay: Decay
    drop_path: Share
    auxiliary_weight: Loss
    auxiliary_channels: Annotated[list[Width], Field(min_length=2, max_length=2)]
    cutout: Annotated[int, Field(ge=0, le=1024)]
    label_smoothing: Share

    @property
    def together(self) -> int:
        """The images in a step of all workers."""
        return self.batch * self.workers

    def faults(self) -> list[str]:
        """Return faults for work that cannot be shared evenly, or for too long a warm-up."""
        faults, groups = [], self.together // self.norm_batch
        if self.batch % self.norm_batch:
            faults.append("norm_batch: does not divide batch")
        elif groups % self.processes:
            faults.append(
                f"processes: cannot evenly share the {groups} groups of norm_batch images in a "
                "step of all workers"
            )
        if self.processes % self.nodes:
            faults.append("processes: must be the same number on each of the nodes")
        if self.warmup_epochs > self.epochs:
            faults.append("warmup_epochs: more than epochs")
        return faults


class Finalists(Recipe):
    """The best of the search, trained from scratch on CIFAR-10 (sections 5.1.1 and 7.3)."""

    ranks: Annotated[list[Index], Field(min_length=1, max_length=1000)]
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1000)]

    def faults(self) -> list[str]:
        """Return the faults of a recipe, or a fault if a rank or a seed is listed twice."""
        return super().faults() + _twice(self, "ranks", "seeds")


class Mobile(Recipe):
    """The winner as an ImageNet-mobile network (sections 5.1.2 and 7.3)."""

    folder: Folder
    resolution: Annotated[int, Field(ge=8, le=1024)]
    blocks: Blocks
    reductions: BlockNumbers
    stem_stride: Factor
    multiply_adds: Millions
    decay: Annotated[float, Field(gt=0, le=1)]

    def faults(self) -> list[str]:
        """Return the faults of a recipe, or faults for impossible reductions."""
        side = self.resolution // self.stem_stride
        small = side < 2 ** len(self.reductions)
        return (
            super().faults()
            + _missing(self, "reductions", "blocks")
            + (["reductions: too many for mobile.resolution"] if small else [])
        )


class MsdNet(Section):
    """MSDNet, a baseline of section 5.2; Huang et al. (2018) use these names of settings."""

    blocks: Blocks
    base: Blocks
    step: Blocks
    channels: Width
    growth: Width


class ResNet(Section):
    """A ResNet with several classifiers, a baseline of section 5.2."""

    blocks: Blocks
    channels: Width
    exits: BlockNumbers

    def faults(self) -> list[str]:
        """Return a fault for an exit after a block that does not exist."""
        return _missing(self, "exits", "blocks")


class ResNets(Section):
    """An ensemble of ResNets of several depths, a baseline of section 5.2."""

    blocks: Annotated[BlockNumbers, Field(min_length=1)]
    channels: Width


class DenseNet(Section):
    """A DenseNet with several classifiers, a baseline of section 5.2."""

    layers: Blocks
    channels: Width
    growth: Width
    bottleneck: Factor
    reduction: Annotated[float, Field(gt=0, le=1)]
    exits: BlockNumbers

    def faults(self) -> list[str]:
        """Return a fault for an exit after a layer that does not exist."""
        return _missing(self, "exits", "layers")


class DenseNets(Section):
    """An ensemble of DenseNets of several depths, a baseline of section 5.2."""

    layers: Annotated[BlockNumbers, Field(min_length=1)]
    channels: Width
    growth: Width
    bottleneck: Factor
    reduction: Annotated[float, Field(gt=0, le=1)]


Baseline = Literal["msdnet", "resnet_mc", "densenet_mc", "resnet_ensemble", "densenet_ensemble"]


class Anytime(Section):
    """The trainings of networks with exits: top, random and baselines (sections 5.2 and 7.3)."""

    top: Annotated[list[Index], Field(min_length=1, max_length=1000)]
    random: Annotated[list[Index], Field(min_length=3, max_length=1000)]
    rivals: Annotated[list[Baseline], Field(min_length=1, max_length=100)]
    msdnet: MsdNet
    resnet_mc: ResNet
    densenet_mc: DenseNet
    resnet_ensemble: ResNets
    densenet_ensemble: DenseNets
    epochs: Epochs
    batch: Batch
    learning_rate: Rate
    divide_at: Milestones
    momentum: Annotated[float, Field(gt=0, lt=1)]
    nesterov: bool
    weight_decay: Decay

    def faults(self) -> list[str]:
        """Return a fault if a network is listed twice."""
        return _twice(self, "top", "random", "rivals")


class Memory(Section):
    """The measurement of the memory of the one-shot model and the GHN (section 7.1)."""

    nodes: Annotated[list[Nodes], Field(min_length=2, max_length=1000)]


class Tables(Section):
    """The form of tables."""

    costs: bool


class Seeds(Section):
    """The seeds; each starts a stream of random numbers."""

    split: Seed
    test_architectures: Seed
    training_architectures: Seed
    data_order: Seed
    initialisation: Seed
    search: Seed


class Compute(Section):
    """The use of the machine; these settings change no result and are part of no digest."""

    device: Literal["auto", "cpu", "cuda", "mps", "xpu"]
    threads: Processes
    workers: Helpers
    loaders: Helpers
    precision: Literal["auto", "float32", "bfloat16"]
    checkpoint_seconds: Annotated[float, Field(ge=0, le=31_536_000)]
    log_seconds: Annotated[float, Field(gt=0, le=31_536_000)]
    minutes: Minutes
    stop_seconds: Seconds
    memory_mb: Megabytes
    cores: Processes

    def faults(self) -> list[str]:
        """Return a fault if a job has no time left to work in."""
        late = self.stop_seconds >= 60 * self.minutes
        return ["stop_seconds: must be less than compute.minutes"] if late else []


def _twice(section: Section, *keys: str) -> list[str]:
    lists: dict[str, list[Any]] = {key: getattr(section, key) for key in keys}
    return [
        f"{key}: an entry is listed twice" for key, of in lists.items() if len(set(of)) < len(of)
    ]


def _missing(section: Section, key: str, counted: str) -> list[str]:
    count = getattr(section, counted)
    more = any(number > count for number in getattr(section, key))
    return [f"{key}: there are only {count} {counted}"] if more else []
