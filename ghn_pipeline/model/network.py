"""A candidate network: one pure function of (architecture, weights, images).

Its weights have three sources: a graph hypernetwork generates them, SGD trains them (`Trained`), or
a one-shot model shares them. Counting, running and generating all read the same `Network`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from itertools import accumulate, islice
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_pipeline.model.graph import Module
from ghn_pipeline.model.operations import OPERATIONS, Operation

#: (module, node): a place in the network.
Place = tuple[int, int]
#: A batch norm, from its name in the network and a tensor [B, C, H, W] to the same shape.
NamedNorm = Callable[[str, Tensor], Tensor]
#: A hook that changes a node's output: [k·B, C, H, W], stacked on the batch axis, if the node
#: applies its operation to each of k inputs, else [B, C, H, W].
Path = Callable[[Place, Tensor], Tensor]


@dataclass(frozen=True)
class Spec:
    """One weight tensor of a network, known without building it.

    Attributes:
        name: a name unique in the network, equal in all networks with that operation at its place.
        branch: the output of the hypernetwork that it is sliced from.
        shape: shape of the tensor.
        fan_in: number of inputs that one output of the whole (concatenated) weight sums over.
        applications: number of applications for one image: output positions × inputs of the node.
        place: the node it belongs to.
        reads: the node at the other end of its edge, for a weight per incoming edge.
    """

    name: str
    branch: str
    shape: tuple[int, ...]
    fan_in: int
    applications: int
    place: Place
    reads: Place | None

    @property
    def size(self) -> int:
        """The number of elements of the tensor."""
        return math.prod(self.shape)


class Read(NamedTuple):
    """An input of a node: its place, its channels, and the ratio of the network's side to its."""

    place: Place
    channels: int
    scale: int


#: The input of the stem: the images of a batch.
IMAGE = Read((-1, 0), 3, 1)


def weight_specs(
    op: str, place: Place, out: int, reads: Sequence[Read], positions: int
) -> list[list[Spec]]:
    """Return, for each weight of an operation, the tensors that make it up.

    Args:
        op: key of OPERATIONS.
        place: place of the operation.
        out: output channels.
        reads: the inputs. A weight per incoming edge has a tensor as wide as each input; the other
            weights are as wide as the first input.
        positions: output positions times inputs, for one image.
    """
    weights = OPERATIONS[op].weights
    specs = []
    for i, weight in enumerate(weights):
        earlier = sum(w.branch == weight.branch for w in weights[:i])
        branch = weight.branch + (str(earlier + 1) if earlier else "")
        name = f"{place[0]:02d}/{place[1]:02d}/{op}/{branch}"
        shapes = [weight.shape(out, r.channels) for r in (reads if weight.per_input else reads[:1])]
        # a convolution applies at every position, a matrix once; a bias multiplies nothing
        applications = {4: positions, 2: 1, 1: 0}[len(shapes[0])]
        fan_in = sum(math.prod(shape[1:]) for shape in shapes)
        edges: list[tuple[str, Place | None]] = [(name, None)]
        if weight.per_input:
            edges = [(f"{name}/{m:02d}/{v:02d}", (m, v)) for (m, v), *_ in reads]
        specs.append(
            [
                Spec(n, branch, shape, fan_in, applications, place, edge)
                for (n, edge), shape in zip(edges, shapes, strict=True)
            ]
        )
    return specs


@dataclass(frozen=True)
class Step:
    """The work of one node, or of the classifier of its exit.

    Attributes:
        op: key of OPERATIONS.
        weights: for each weight of the operation, the tensors that make it up.
        norms: names of its batch norms.
        channels: output channels.
        reads: its inputs, in order.
        scale: the scale to which its inputs are first pooled or upsampled.
        stride: stride of its operation.
    """

    op: str
    weights: list[list[Spec]]
    norms: tuple[str, ...]
    channels: int
    reads: tuple[Read, ...]
    scale: int
    stride: int

    @property
    def operation(self) -> Operation:
        """The definition of its operation."""
        return OPERATIONS[self.op]

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of its convolutions and matrices for one image."""
        return sum(s.size * s.applications for specs in self.weights for s in specs)


class Network:
    """The chain of modules of one architecture, with every weight and its shape.

    Args:
        modules: the chain, from `modules(block)` of a search space.
        resolution: side of the input images in pixels, which only counting needs.

    Attributes:
        exits: the places of the predictions, in the order of their computation: the classifiers of
            nodes with an exit (for node v of module m the place (m, ~v)), or else the last node.
            The next exit is the one with the fewest further multiply-adds; of equals the first.
        steps: the steps that the exits depend on, in order, and no others.
    """

    def __init__(self, modules: Sequence[Module], resolution: int) -> None:
        self.modules = tuple(modules)
        self.resolution = resolution
        self.exits: list[Place] = []
        self.steps: dict[Place, Step] = {}
        needed = {exit: self._needed(exit) for exit in self._exits()}
        made = {p: self._step(p) for p in sorted(set().union(*needed.values()), key=_in_order)}
        while needed:
            further = {exit: needed[exit] - self.steps.keys() for exit in needed}
            exit = min(needed, key=lambda e: sum(made[p].multiply_adds for p in further[e]))
            self.steps |= {place: made[place] for place in made if place in further[exit]}
            self.exits.append(exit)
            del needed[exit]

    def _exits(self) -> list[Place]:
        found = [
            (m, ~v)
            for m, module in enumerate(self.modules)
            for v, node in enumerate(module.block.nodes)
            if node.exit
        ]
        last = len(self.modules) - 1
        return found or [(last, v) for v in self.modules[last].block.leaves]

    def _needed(self, exit: Place) -> set[Place]:
        """Return an exit and all places that it depends on."""
        found: set[Place] = set()
        left = [exit]
        while left:
            place = left.pop()
            if place not in found and place != IMAGE.place:
                found.add(place)
                left += [read.place for read in self._reads(place)]
        return found

    def _step(self, place: Place) -> Step:
        m, v = place
        if v < 0:
            classes, reads = self.modules[m].classes, self._reads(place)
            weights = weight_specs("classifier", (m, ~v), classes, reads, positions=1)
            return Step("classifier", weights, (), classes, reads, reads[0].scale, 1)
        module = self.modules[m]
        node, reads = module.block.nodes[v], self._reads(place)
        whole = self.modules[self._source(place)].scale if reads != (IMAGE,) else IMAGE.scale
        positions = math.ceil(self.resolution / (module.scale * node.scale)) ** 2
        count = len(reads) if OPERATIONS[node.op].join == "sum" else 1
        return Step(
            node.op,
            weight_specs(node.op, place, module.channels, reads, positions * count),
            tuple(f"{m:02d}/{v:02d}/{node.op}/norm{i}" for i in range(OPERATIONS[node.op].norms)),
            module.channels,
            reads,
            whole * node.scale,
            module.scale // whole,
        )

    def _reads(self, place: Place) -> tuple[Read, ...]:
        m, v = place
        source = self._source(place)
        if source < 0:
            return (IMAGE,)
        module = self.modules[source]
        if v < 0:
            read: tuple[int, ...] = (~v,)
        elif source == m:
            read = module.block.nodes[v].inputs
        else:
            read = module.block.leaves
        scales = [(u, module.block.nodes[u].scale) for u in read]
        return tuple(Read((source, u), module.channels, module.scale * s) for u, s in scales)

    def _source(self, place: Place) -> int:
        """Return the module that a node reads: its own, another, or -1 for the image."""
        m, v = place
        module = self.modules[m]
        if v < 0 or module.block.nodes[v].inputs:
            return m
        before = sum(not node.inputs for node in module.block.nodes[:v])
        return module.sources[before]

    @cached_property
    def specs(self) -> list[Spec]:
        """All free weights of the network, including those of stem and classifiers."""
        return [s for step in self.steps.values() for w in step.weights for s in w]

    @cached_property
    def norms(self) -> dict[str, int]:
        """The batch norms of the network, each with its channels."""
        return {n: step.channels for step in self.steps.values() for n in step.norms}

    @cached_property
    def parameters(self) -> int:
        """The number of trained parameters: all weights, and the affine parts of batch norms."""
        return sum(spec.size for spec in self.specs) + 2 * sum(self.norms.values())

    @cached_property
    def multiply_adds(self) -> int:
        """The multiply-adds of the convolutions and classifiers for one image."""
        return self.spent[-1]

    @cached_property
    def spent(self) -> list[int]:
        """For each exit the multiply-adds of all steps up to it, for one image."""
        sums = accumulate(step.multiply_adds for step in self.steps.values())
        return [sum for place, sum in zip(self.steps, sums, strict=True) if place in self.exits]

    @cached_property
    def last_reader(self) -> dict[Place, Place]:
        """For each place that some step reads, the last such step."""
        return {read.place: place for place, step in self.steps.items() for read in step.reads}


def _in_order(place: Place) -> tuple[int, bool, int]:
    """Return a key that sorts by module, and within one puts exits' classifiers after nodes."""
    m, v = place
    return m, v < 0, v


def batch_statistics(_: str, x: Tensor) -> Tensor:
    """Normalise by the statistics of the batch itself, without an affine part."""
    return F.batch_norm(x, None, None, training=True)


def keep_path(_: Place, x: Tensor) -> Tensor:
    """Return the output unchanged."""
    return x


def run(
    network: Network,
    weights: Mapping[str, Tensor],
    images: Tensor,
    norm: NamedNorm = batch_statistics,
    path: Path = keep_path,
) -> Tensor:
    """Run a candidate (Eq. 7).

    Args:
        network: the architecture.
        weights: a tensor for the name of each of `network.specs`.
        images: normalised images [B, 3, R, R].
        norm: the function of a batch norm.
        path: the hook on each node's output.

    Returns:
        Logits [B, classes] of the last exit.
    """
    for logits in run_exits(network, weights, images, norm, path):  # noqa: B007
        pass
    return logits


def run_exits(
    network: Network,
    weights: Mapping[str, Tensor],
    images: Tensor,
    norm: NamedNorm = batch_statistics,
    path: Path = keep_path,
) -> Iterator[Tensor]:
    """Run a candidate as `run` does, and yield the logits of each exit (section 5.2).

    The steps after an exit run only if the caller asks for the next exit.
    """
    exits = set(network.exits)
    for place, x in run_steps(network, weights, images, norm, path):
        if place in exits:
            yield x


def run_to_budget(
    network: Network,
    weights: Mapping[str, Tensor],
    images: Tensor,
    budget: float,
    norm: NamedNorm = batch_statistics,
) -> Tensor:
    """Run a candidate to its last exit within `budget` multiply-adds an image.

    Returns:
        Logits [B, classes] of that exit.

    Raises:
        ValueError: the first exit exceeds the budget, or the images do not have the network's
            resolution, which the counts are for.
    """
    expected = (IMAGE.channels, network.resolution, network.resolution)
    if images.shape[1:] != expected:
        counted, given = ("×".join(map(str, shape)) for shape in (expected, images.shape[1:]))
        raise ValueError(f"the counts are for images of {counted}, and these have {given}")
    reached = sum(spent <= budget for spent in network.spent)
    if not reached:
        raise ValueError(
            f"a budget of {budget:,.0f} multiply-adds is less than the {network.spent[0]:,} of the "
            "first exit"
        )
    *_, logits = islice(run_exits(network, weights, images, norm), reached)
    return logits


def run_steps(
    network: Network,
    weights: Mapping[str, Tensor],
    images: Tensor,
    norm: NamedNorm = batch_statistics,
    path: Path = keep_path,
) -> Iterator[tuple[Place, Tensor]]:
    """Run a candidate as `run` does, and yield the output [B, C, H, W] of each step."""
    values: dict[Place, Tensor] = {IMAGE.place: images}
    for place, step in network.steps.items():
        inputs = [rescale(values[r.place], r.scale, step.scale) for r in step.reads]
        # outputs that no later step reads need not stay in memory
        for read in step.reads:
            if network.last_reader[read.place] == place:
                del values[read.place]
        values[place] = _run_step(step, inputs, weights, norm, partial(path, place))
        del inputs
        yield place, values[place]


def rescale(x: Tensor, old: int, new: int) -> Tensor:
    """Pool (by the mean) or upsample (to the nearest) [B, C, H, W] to another scale (5.2)."""
    if old == new:
        return x
    if old < new:
        return F.avg_pool2d(x, new // old, ceil_mode=True)
    return F.interpolate(x, scale_factor=old // new)


def _run_step(
    step: Step,
    inputs: list[Tensor],
    weights: Mapping[str, Tensor],
    norm: NamedNorm,
    path: Callable[[Tensor], Tensor],
) -> Tensor:
    operation = step.operation
    x = _joined(inputs, operation.join)
    tensors = [
        torch.cat([weights[s.name] for s in specs], dim=1)
        if len(specs) > 1
        else weights[specs[0].name]
        for specs in step.weights
    ]
    x = path(operation.apply(x, tensors, lambda i, y: norm(step.norms[i], y), step.stride))
    return sum_chunks(x, len(inputs)) if operation.join == "sum" else x


def _joined(inputs: list[Tensor], join: str) -> Tensor:
    if len(inputs) == 1 or join == "add":
        return reduce(torch.add, inputs)
    # Eq. 7 applies one operation to every input; stacking on the batch axis needs only one call
    return torch.cat(inputs, dim=0 if join == "sum" else 1)


def sum_chunks(x: Tensor, count: int) -> Tensor:
    """Sum the `count` equal parts of x along the batch axis."""
    return reduce(torch.add, x.chunk(count)) if count > 1 else x


class Trained(nn.Module):
    """A network with weights of its own, for SGD: affine batch norm with running statistics.

    Weights start from the normal distribution of He et al. (2015), drawn from `generator` in the
    order of their names; biases start from zero.
    """

    def __init__(self, network: Network, generator: torch.Generator) -> None:
        super().__init__()
        self.network = network
        self.tensors = nn.ParameterDict({s.name: initial(s, generator) for s in network.specs})
        self.scale = nn.ParameterDict({n: torch.ones(c) for n, c in network.norms.items()})
        self.shift = nn.ParameterDict({n: torch.zeros(c) for n, c in network.norms.items()})
        for n, c in network.norms.items():
            self.register_buffer(f"mean/{n}", torch.zeros(c))
            self.register_buffer(f"variance/{n}", torch.ones(c))

    @classmethod
    def of(cls, network: Network, weights: Mapping[str, Tensor]) -> "Trained":
        """Return a network that starts from copies of these weights, such as generated ones."""
        model = cls(network, torch.Generator())
        with torch.no_grad():
            for name, tensor in model.tensors.items():
                tensor.copy_(weights[name])
        return model

    @torch.no_grad()
    def recalibrate(self, batches: Iterable[Tensor]) -> None:
        """Set the running statistics to those that these images have with the present weights.

        Args:
            batches: normalised images [B, 3, R, R].

        Raises:
            ValueError: there is no batch.
        """
        sums: dict[str, list[Tensor]] = {}
        count = 0

        def norm(name: str, x: Tensor) -> Tensor:
            variance, mean = torch.var_mean(x.double(), (0, 2, 3), correction=0)
            found = [mean * len(images), (variance + mean**2) * len(images)]
            before = sums.get(name)
            sums[name] = [a + b for a, b in zip(before, found, strict=True)] if before else found
            return self.norm_of_batch(name, x)

        for images in batches:
            run(self.network, self.weights, images, norm)
            count += len(images)
        if not count:
            raise ValueError("there are no images to recalibrate with")
        for name, (first, second) in sums.items():
            mean = first / count
            self.get_buffer(f"mean/{name}").copy_(mean)
            self.get_buffer(f"variance/{name}").copy_(second / count - mean**2)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights by name, as `run` takes them."""
        return dict(self.tensors.items())

    def norm_of_batch(self, name: str, x: Tensor) -> Tensor:
        """Normalise by the batch, and leave the running statistics unchanged."""
        return F.batch_norm(x, None, None, self.scale[name], self.shift[name], training=True)

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Normalise by the running statistics in evaluation, and by the batch in training."""
        mean, variance = self.get_buffer(f"mean/{name}"), self.get_buffer(f"variance/{name}")
        scale, shift = self.scale[name], self.shift[name]
        return F.batch_norm(x, mean, variance, scale, shift, self.training)

    def exits(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the logits of each exit for normalised images [B, 3, R, R]."""
        return run_exits(self.network, self.weights, images, self.norm)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, classes] of the last exit."""
        return run(self.network, self.weights, images, self.norm)


def initial(spec: Spec, generator: torch.Generator) -> nn.Parameter:
    """Draw a weight from a normal distribution with variance 2 / fan-in; a bias is zero."""
    if len(spec.shape) == 1:
        return nn.Parameter(torch.zeros(spec.shape))
    return nn.Parameter(torch.randn(spec.shape, generator=generator) * math.sqrt(2 / spec.fan_in))
