"""The memory of training: O(KN) for a one-shot model, O(N) + O(K) for a GHN (section 7.1).

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
from ghn_pipeline.spaces.classification import Classification
from ghn_pipeline.system.progress import Progress
from ghn_pipeline.training.ghn import build, examples
from ghn_pipeline.training.optimizers import adam, momentum_sgd

#: The models; "network" is a candidate with weights of its own, the part common to both others.
Model = Literal["ghn", "oneshot", "network"]
#: A model, its optimizer, and a function from a network and images [B, 3, R, R] to its logits.
Trainee = tuple[nn.Module, Optimizer, Callable[[Network, Tensor], Tensor]]


@dataclass(frozen=True)
class Footprint:
    """The footprint of a model.

    Attributes:
        parameters: number of trained parameters.
        peak_bytes: the most bytes of tensors at once, from before the model is made until it is
            trained: weights, gradients, the optimizer's moments, activations and images.
    """

    parameters: int
    peak_bytes: int


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors from their making to their freeing, while it is entered.

    The scratch memory of kernels is not counted, because it depends on the machine. So on one kind
    of device the same training takes the same number of bytes every time.

    Attributes:
        live: number of bytes now.
        peak: the highest number so far.
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
        """Run an operation and count its new tensors; a view takes no bytes."""
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
    """Train for a few steps and measure the memory.

    Each of `space.examples` is trained, first on two images, then on a batch. Together they use
    every weight, so in the second round all moments of the optimizer exist beside the activations.
    For "network" each example is a model of its own, and the largest one counts.

    Args:
        model: the model to train.
        space: the search space; K is the number of its operations.
        nodes: N, the nodes of the blocks and of the one-shot model.
        settings: the settings of the GHN; the one-shot model shares their batch and rate.
        sgd: the recipe of "network", except for the batch, which is that of `settings`.
        resolution: side of the images in pixels.
        device: the device to train on.
    """
    gc.collect()  # free the rest of the last model
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
        # the layout is that of training batches; noise takes as many bytes as photographs
        images = torch.randn(shape, generator=stream("memory")).to(device)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(len(images), dtype=torch.int64, device=device)
        for count in (2, len(images)):  # batch norm needs two
            for network in networks:
                optimizer.zero_grad(set_to_none=True)
                # a name for the loss would keep this step's graph until the next step
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
    """Measure every model for growing numbers of operations, and for growing numbers of nodes.

    The operations are the first K of the space, from 2 to all, in blocks of `nodes` nodes. The
    numbers of nodes are `node_counts`, with all operations.

    Args:
        space: the search space.
        settings: the settings of the GHN, see `footprint`.
        sgd: the recipe of "network", see `footprint`.
        nodes: nodes of a block while the number of operations grows.
        node_counts: the growing numbers of nodes of a block.
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
