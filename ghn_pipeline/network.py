"""A candidate network: one pure function of (architecture, weights, images).

Three ways give it weights: a graph hypernetwork generates them, SGD trains them (`Trained`), a
one-shot model shares them. Counting, running and weighing all read the same `Network`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_pipeline.space.graph import Module
from ghn_pipeline.space.operations import OPERATIONS, Operation

#: (module, node): where in the network something stands.
Place = tuple[int, int]
#: Batch norm: its name in the network and a tensor [B, C, H, W], to the same shape.
NamedNorm = Callable[[str, Tensor], Tensor]
#: What becomes of what a node made of its inputs, still stacked on the batch axis [k·B, C, H, W].
Path = Callable[[Place, Tensor], Tensor]

IMAGE_CHANNELS = 3


@dataclass(frozen=True)
class Spec:
    """One weight tensor of a network, known without building it.

    Attributes:
        name: unique in the network, and the same in every network with that operation there.
        branch: which output of the hypernetwork it is sliced from.
        shape: of the tensor.
        fan_in: how many inputs one output of the whole (concatenated) weight sums over.
        applications: how often one image applies it: output positions × inputs of the node.
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
        """Numbers in the tensor."""
        return math.prod(self.shape)


def weight_specs(
    op: str, place: Place, out: int, into: int, reads: Sequence[Place], positions: int
) -> list[list[Spec]]:
    """List, for each weight of an operation, the tensors that it is made of.

    Args:
        op: key of OPERATIONS.
        place: where the operation stands.
        out: channels that it puts out.
        into: channels of one of its inputs.
        reads: the nodes it reads: one tensor each for a weight per incoming edge.
        positions: output positions times inputs, for one image.
    """
    weights = OPERATIONS[op].weights
    specs = []
    for i, weight in enumerate(weights):
        earlier = sum(w.branch == weight.branch for w in weights[:i])
        branch = weight.branch + (str(earlier + 1) if earlier else "")
        shape = weight.shape(out, into)
        # a convolution is applied at every position, a matrix once; adding a bias multiplies none
        applications = {4: positions, 2: 1, 1: 0}[len(shape)]
        name = f"{place[0]:02d}/{place[1]:02d}/{op}/{branch}"
        if weight.per_input:
            fan_in = len(reads) * math.prod(shape[1:])
            names: list[tuple[str, Place | None]]
            names = [(f"{name}/{m:02d}/{v:02d}", (m, v)) for m, v in reads]
        else:
            fan_in, names = math.prod(shape[1:]), [(name, None)]
        specs.append([Spec(n, branch, shape, fan_in, applications, place, r) for n, r in names])
    return specs


@dataclass(frozen=True)
class Step:
    """One node's work.

    Attributes:
        op: key of OPERATIONS.
        weights: for each weight of the operation, the tensors that it is made of.
        norms: names of its batch norms.
        channels: that it puts out.
        source: the module that it reads; its own where it reads nodes.
        stride: of its operation.
    """

    op: str
    weights: list[list[Spec]]
    norms: tuple[str, ...]
    channels: int
    source: int
    stride: int

    @property
    def operation(self) -> Operation:
        """The definition of what the node computes."""
        return OPERATIONS[self.op]


class Network:
    """The chain of modules of one architecture, with every weight and its shape.

    Args:
        modules: the chain, as a search space's `modules(block)` gives it.
        resolution: side of the input images in pixels; it matters for counting only.
    """

    def __init__(self, modules: Sequence[Module], resolution: int) -> None:
        self.modules = tuple(modules)
        self.resolution = resolution
        self.live = self._live()
        self.steps = [list(self._module_steps(m)) for m in range(len(modules))]
        #: for each module that is read, the last one that reads it
        self.last_reader = {
            step.source: m for m, steps in enumerate(self.steps) for step in steps if step
        }

    def _live(self) -> set[Place]:
        """The nodes that the output depends on; an input node that no operation reads is not."""
        live = {(len(self.modules) - 1, v) for v in self.modules[-1].block.leaves}
        for m in reversed(range(len(self.modules))):
            module, sources = self.modules[m], iter(self.modules[m].sources)
            reads = [None if node.inputs else next(sources) for node in module.block.nodes]
            for v in reversed(range(len(reads))):
                source = reads[v]
                if (m, v) in live and source is None:
                    live |= {(m, u) for u in module.block.nodes[v].inputs}
                elif (m, v) in live and source is not None and source >= 0:
                    live |= {(source, u) for u in self.modules[source].block.leaves}
        return live

    def _module_steps(self, m: int) -> Iterator[Step | None]:
        module = self.modules[m]
        sources = iter(module.sources)
        positions = math.ceil(self.resolution / module.scale) ** 2
        for v, node in enumerate(module.block.nodes):
            source = None if node.inputs else next(sources)
            if (m, v) not in self.live:
                yield None
                continue
            into, scale, reads = self._reads(m, v, source)
            count = max(1, len(node.inputs)) if OPERATIONS[node.op].join == "sum" else 1
            yield Step(
                node.op,
                weight_specs(node.op, (m, v), module.channels, into, reads, positions * count),
                tuple(
                    f"{m:02d}/{v:02d}/{node.op}/norm{i}" for i in range(OPERATIONS[node.op].norms)
                ),
                module.channels,
                m if source is None else source,
                module.scale // scale,
            )

    def _reads(self, m: int, v: int, source: int | None) -> tuple[int, int, list[Place]]:
        """Channels of one input of a node, its scale, and the places that it reads."""
        module = self.modules[m]
        if source is None:
            return module.channels, module.scale, [(m, u) for u in module.block.nodes[v].inputs]
        if source < 0:
            return IMAGE_CHANNELS, 1, []
        read = self.modules[source]
        return read.channels, read.scale, [(source, u) for u in read.block.leaves]

    @cached_property
    def specs(self) -> list[Spec]:
        """Every free weight of the network, stem and classifier included."""
        return [
            s for steps in self.steps for step in steps if step for w in step.weights for s in w
        ]

    @cached_property
    def norms(self) -> dict[str, int]:
        """Every batch norm of the network and its channels."""
        return {
            n: step.channels for steps in self.steps for step in steps if step for n in step.norms
        }

    @cached_property
    def parameters(self) -> int:
        """Numbers that SGD trains: every weight, and the affine part of every batch norm."""
        return sum(spec.size for spec in self.specs) + 2 * sum(self.norms.values())

    @cached_property
    def multiply_adds(self) -> int:
        """Multiply-adds of the convolutions and the classifier for one image."""
        return sum(spec.size * spec.applications for spec in self.specs)


def batch_statistics(_: str, x: Tensor) -> Tensor:
    """Batch norm by the statistics of the batch itself, with no affine part."""
    return F.batch_norm(x, None, None, training=True)


def keep_path(_: Place, x: Tensor) -> Tensor:
    """Let every path pass."""
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
        images: [B, 3, R, R], normalised.
        norm: what a batch norm does.
        path: what becomes of each input of a node once its operation was applied.

    Returns:
        Logits [B, classes].
    """
    for logits in run_modules(network, weights, images, norm, path):  # noqa: B007
        pass
    return logits


def run_modules(
    network: Network,
    weights: Mapping[str, Tensor],
    images: Tensor,
    norm: NamedNorm = batch_statistics,
    path: Path = keep_path,
) -> Iterator[Tensor]:
    """Run a candidate as `run` does, and yield what each module puts out on the way.

    A module on which the logits do not depend is left out, with an empty tensor in its place.
    """
    outputs: dict[int, Tensor] = {-1: images}
    for m, module in enumerate(network.modules):
        values: dict[int, Tensor] = {}
        for v, step in enumerate(network.steps[m]):
            if step is None:
                continue
            reads = module.block.nodes[v].inputs
            inputs = [values[u] for u in reads] if reads else [outputs[step.source]]
            values[v] = _run_step(step, inputs, weights, norm, partial(path, (m, v)))
        leaves = [values[u] for u in module.block.leaves if u in values]
        if leaves:
            outputs[m] = torch.cat(leaves, dim=1) if len(leaves) > 1 else leaves[0]
        yield outputs.get(m, images.new_empty(0))
        # what no later module reads need not stay in memory
        outputs = {s: x for s, x in outputs.items() if network.last_reader.get(s, s) > m or s == m}


def _run_step(
    step: Step,
    inputs: list[Tensor],
    weights: Mapping[str, Tensor],
    norm: NamedNorm,
    path: Callable[[Tensor], Tensor],
) -> Tensor:
    operation = step.operation
    dimension = 0 if operation.join == "sum" else 1
    # Eq. 7 applies one operation to every input: stacked on the batch axis it is one call
    x = torch.cat(inputs, dim=dimension) if len(inputs) > 1 else inputs[0]
    tensors = [
        torch.cat([weights[s.name] for s in specs], dim=1)
        if len(specs) > 1
        else weights[specs[0].name]
        for specs in step.weights
    ]
    x = path(operation.apply(x, tensors, lambda i, y: norm(step.norms[i], y), step.stride))
    return sum_chunks(x, len(inputs)) if operation.join == "sum" else x


def sum_chunks(x: Tensor, count: int) -> Tensor:
    """Sum the `count` equal parts of x along the batch axis."""
    return reduce(torch.add, x.chunk(count)) if count > 1 else x


class Trained(nn.Module):
    """A network with weights of its own, for SGD: affine batch norm with running statistics.

    Weights start from the normal distribution of He et al. (2015), drawn in the order of the
    names from `generator`; biases from zero.
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

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights by name, as `run` takes them."""
        return dict(self.tensors.items())

    def norm_of_batch(self, name: str, x: Tensor) -> Tensor:
        """Batch norm of the batch itself, which leaves the running statistics alone."""
        return F.batch_norm(x, None, None, self.scale[name], self.shift[name], training=True)

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Batch norm of the running statistics in evaluation, of the batch in training."""
        mean, variance = self.get_buffer(f"mean/{name}"), self.get_buffer(f"variance/{name}")
        scale, shift = self.scale[name], self.shift[name]
        return F.batch_norm(x, mean, variance, scale, shift, self.training)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, classes] for normalised images [B, 3, R, R]."""
        return run(self.network, self.weights, images, self.norm)


def initial(spec: Spec, generator: torch.Generator) -> nn.Parameter:
    """Draw the initial value of a weight: normal, variance 2 / fan-in; a bias is zero."""
    if len(spec.shape) == 1:
        return nn.Parameter(torch.zeros(spec.shape))
    return nn.Parameter(torch.randn(spec.shape, generator=generator) * math.sqrt(2 / spec.fan_in))
