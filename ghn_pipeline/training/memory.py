"""What training takes in memory: O(KN) for a one-shot model, O(N) + O(K) for a GHN (section 7.1).

Letters: K operations to choose from, N operation nodes of a block.
"""

import gc
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ghn_pipeline.data.images import stream
from ghn_pipeline.model.network import IMAGE, Network, Trained, run
from ghn_pipeline.model.oneshot import OneShot
from ghn_pipeline.settings.sections import Ghn, Sgd
from ghn_pipeline.space.classification import Classification
from ghn_pipeline.system.progress import Progress
from ghn_pipeline.training.optimizers import adam, momentum_sgd
from ghn_pipeline.training.search import build, examples

#: What is trained; "network" is a candidate with weights of its own, the part common to both.
Model = Literal["ghn", "oneshot", "network"]
#: A model, its optimiser, and its logits for images [B, 3, R, R] put through a network.
Trainee = tuple[nn.Module, Optimizer, Callable[[Network, Tensor], Tensor]]


@dataclass(frozen=True)
class Footprint:
    """What a model takes.

    Attributes:
        parameters: numbers that are trained.
        peak_bytes: the most that tensors take at once, from before the model is made until it is
            trained: weights, gradients, the optimiser's moments, activations and images.
    """

    parameters: int
    peak_bytes: int


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts, while entered, the bytes of the tensors that operations make, until each is freed.

    The scratch memory of a kernel is not counted: it depends on the machine, and it is no tensor.
    So on one kind of device the same training takes the same number of bytes every time.

    Attributes:
        live: bytes now.
        peak: the most so far.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.live = self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and count what it made; a view makes nothing."""
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.device.type == self.device.type:
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._known:
            self._known.add(storage)
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._freed, storage.nbytes())

    def _freed(self, size: int) -> None:
        self.live -= size


def footprint(
    model: Model,
    space: Classification,
    nodes: int,
    settings: Ghn,
    sgd: Sgd,
    resolution: int,
    device: torch.device,
) -> Footprint:
    """Train for a moment and measure what that takes.

    Each of `space.examples` is trained, first on two images, then on a batch. Between them they
    hold every weight, so the second time all moments of the optimiser are there beside the
    activations of each. Of "network" each example is a model of its own; the largest counts.

    Args:
        model: the model to train.
        space: the search space; its operations are K.
        nodes: N, of the blocks and of the one-shot model.
        settings: of the GHN; the one-shot model has their batch and rate too.
        sgd: how "network" is trained; its batch is that of `settings`.
        resolution: side of the images in pixels.
        device: the device to train on.
    """
    gc.collect()  # what is left of the last model need not stand beside this one
    chains = [space.modules(block) for block in space.examples(nodes)]
    networks = [Network(chain, resolution) for chain in chains]
    shape = (settings.batch, IMAGE.channels, resolution, resolution)

    def weigher() -> Trainee:
        values = stream("memory")
        made = (
            build(space, settings, 0) if model == "ghn" else OneShot(examples(space, nodes), values)
        )
        made = made.to(device)
        optimizer = adam(made.parameters(), settings.learning_rate)
        return made, optimizer, lambda network, images: run(network, made([network])[0], images)

    def candidate(network: Network) -> Trainee:
        made = Trained(network, stream("memory")).to(device)
        return made, momentum_sgd(made, sgd), lambda _, images: made(images)

    if model != "network":
        return _measured(weigher, networks, shape, device)
    each = [_measured(partial(candidate, n), [n], shape, device) for n in networks]
    return Footprint(max(e.parameters for e in each), max(e.peak_bytes for e in each))


def _measured(
    make: Callable[[], Trainee],
    networks: Sequence[Network],
    shape: tuple[int, ...],
    device: torch.device,
) -> Footprint:
    with LiveBytes(device) as account:
        model, optimizer, logits = make()
        # the layout is that of training's batches; noise takes as much as photographs
        images = torch.randn(shape, generator=stream("memory")).to(device)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(len(images), dtype=torch.int64, device=device)
        for count in (2, len(images)):  # batch norm needs two
            for network in networks:
                optimizer.zero_grad(set_to_none=True)
                # no name for the loss: it would keep this step's graph into the next one
                F.cross_entropy(logits(network, images[:count]), labels[:count]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    return Footprint(sum(p.numel() for p in model.parameters()), account.peak)


def sweep(
    space: Classification,
    settings: Ghn,
    sgd: Sgd,
    *,
    nodes: int,
    node_counts: Sequence[int],
    resolution: int,
    device: torch.device,
    log_seconds: float,
) -> pd.DataFrame:
    """Measure every model with more and more operations, and with more and more nodes.

    Operations are the first K of the space, from 2 to all, in blocks of `nodes` nodes; nodes are
    `node_counts`, with all operations.

    Args:
        space: the search space.
        settings: as of `footprint`.
        sgd: likewise.
        nodes: of a block, as operations grow in number.
        node_counts: of a block, as nodes do.
        resolution: side of the images in pixels.
        device: the device to train on.
        log_seconds: seconds between lines of progress.

    Returns:
        A row for each axis ("operations" or "nodes"), point and model, with the columns axis,
        operations, nodes, model, parameters, peak_bytes.
    """
    every = len(space.operations)
    points = [("operations", K, nodes) for K in range(2, every + 1)]
    points += [("nodes", every, N) for N in node_counts]
    todo = [(*point, model) for point in points for model in get_args(Model)]
    progress = Progress("memory", len(todo), 0, log_seconds)
    rows = []
    for i, (axis, K, N, model) in enumerate(todo):
        first = replace(space, operations=space.operations[:K])
        found = footprint(model, first, N, settings, sgd, resolution, device)
        rows.append({"axis": axis, "operations": K, "nodes": N, "model": model, **vars(found)})
        progress.at(i + 1, lambda: f"{model}, K={K}, N={N}")  # noqa: B023
    progress.close()
    return pd.DataFrame(rows)
