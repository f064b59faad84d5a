"""The cost of weights from a hypernetwork or a one-shot model, compared with ordinary ones."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random

import torch
import torch.nn.functional as F
from rows import Row, Work, compare, row
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ghn_pipeline.model.network import Network, Trained, batch_statistics, run
from ghn_pipeline.model.oneshot import OneShot
from ghn_pipeline.model.operations import OPERATIONS, Norm
from ghn_pipeline.pipeline.spaces import space_of
from ghn_pipeline.settings.config import Config
from ghn_pipeline.training.ghn import build, examples
from ghn_pipeline.training.optimizers import adam, momentum_sgd

#: The largest ratio of a step of GHN training to a step of SGD of the same network.
STEPS = {"paper": 1.02, "quick": 1.12, "nasbench201": 1.30, "nasbench201-long": 1.15}
#: The largest ratio of the operations that a GHN dispatches to those of its network.
OPERATIONS_OF = {"paper": 0.5, "quick": 0.7, "nasbench201": 1.0}
ONE_SHOT, SCORING, PIXELS = 1.05, 1.10, 1.02


def images_for(config: Config, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return random images and labels of the configuration's size."""
    R = config.images.resolution
    images = torch.randn(batch, 3, R, R, device=device)
    labels = torch.randint(10, (batch,), device=device)
    return images.contiguous(memory_format=torch.channels_last), labels


def training_steps(config: Config, kind: str, pairs: int, device: torch.device) -> Row:
    """Compare a step of GHN or one-shot training with a step of SGD of the same network."""
    space, settings = space_of(config), config.ghn
    model: nn.Module = build(space, settings, 0)
    if kind == "one-shot":
        model = OneShot(examples(space, settings.nodes), torch.Generator())
    model = model.to(device)
    optimizer = adam(model.parameters(), settings.learning_rate)
    images, labels = images_for(config, settings.batch, device)
    rng = Random(0)

    def pair() -> tuple[Work, Work]:
        block = space.sample(rng, settings.nodes)
        trained = Trained(Network(space.modules(block), 1), torch.Generator()).to(device)
        sgd = momentum_sgd(trained, config.sgd)

        def ours() -> None:
            network = Network(space.modules(block), config.images.resolution)
            optimizer.zero_grad()
            F.cross_entropy(run(network, model([network])[0], images), labels).backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            optimizer.step()

        def by_sgd() -> None:
            sgd.zero_grad()
            F.cross_entropy(trained(images), labels).backward()
            nn.utils.clip_grad_norm_(trained.parameters(), settings.clip)
            sgd.step()

        return ours, by_sgd

    what = (
        f"{kind} step / SGD step, {config.scale} shape (F={config.network.channels}, "
        f"N={settings.nodes}, batch {settings.batch})"
    )
    limit = ONE_SHOT if kind == "one-shot" else STEPS[config.scale]
    return compare(what, limit, (pair() for _ in range(pairs)), device)


def pixels_first(config: Config, of_ghn: bool, pairs: int, device: torch.device) -> Row:
    """Compare bottlenecks that take every second pixel first with strided convolutions.

    Each block has two leaves or more. The output of a single leaf has only 8 channels, and with so
    few a strided convolution may damage the memory of this process (see `operations.take_every`).
    """
    space, settings = space_of(config), config.ghn
    images, labels = images_for(config, settings.batch, device)
    ghn = build(space, settings, 0).to(device)
    rng = Random(3)

    def strided(x: Tensor, w: Sequence[Tensor], norm: Norm, stride: int) -> Tensor:
        return norm(0, F.conv2d(F.relu(x), w[0], stride=stride))

    def before(step: Work) -> Work:
        old = {op: replace(OPERATIONS[op], apply=strided) for op in ("input_1", "input_2")}

        def work() -> None:
            now = {op: OPERATIONS[op] for op in old}
            OPERATIONS.update(old)
            try:
                step()
            finally:
                OPERATIONS.update(now)

        return work

    def made() -> Iterator[tuple[Work, Work]]:
        for _ in range(pairs):
            block = next(
                b for _ in iter(int, 1) if len((b := space.sample(rng, settings.nodes)).leaves) > 1
            )
            network = Network(space.modules(block), config.images.resolution)
            trained = Trained(network, torch.Generator()).to(device)

            def step(network: Network = network, trained: Trained = trained) -> None:
                weights = ghn([network])[0] if of_ghn else trained.weights
                F.cross_entropy(run(network, weights, images), labels).backward()

            yield step, before(step)

    name = "GHN" if of_ghn else "SGD"
    what = f"{name} forward and backward: pixels first / strided, {config.scale} shape"
    return compare(what, PIXELS, made(), device)


@torch.no_grad()
def scoring(config: Config, pairs: int, device: torch.device) -> Row:
    """Compare the scoring of an architecture with the bare forward pass over the same images."""
    space = space_of(config)
    ghn = build(space, config.ghn, 0).to(device)
    batches = [
        images_for(config, config.evaluation.batch, device)[0]
        for _ in range(config.evaluation.batches)
    ]
    rng = Random(1)

    def pair() -> tuple[Work, Work]:
        block = space.sample(rng, config.space.nodes)
        network = Network(space.modules(block), config.images.resolution)
        ordinary = Trained(network, torch.Generator()).to(device).weights

        def scored() -> None:
            fresh = Network(space.modules(block), config.images.resolution)
            weights = ghn([fresh])[0]
            for images in batches:
                run(fresh, weights, images).argmax(1)

        def bare() -> None:
            for images in batches:
                run(network, ordinary, images, batch_statistics).argmax(1)

        return scored, bare

    what = f"scoring / bare forward pass, {config.scale} shape, {len(batches)} batches"
    return compare(what, SCORING, (pair() for _ in range(pairs)), device)


class Counted(TorchDispatchMode):
    """Counts the tensor operations that are dispatched."""

    operations = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        self.operations += 1
        return func(*args, **kwargs or {})


def operations(config: Config, pairs: int, device: torch.device) -> Row:
    """Compare the operations that a GHN dispatches in a training step with those of its network."""
    space = space_of(config)
    ghn = build(space, config.ghn, 0).to(device)
    images, labels = images_for(config, 2, device)
    rng, counted = Random(5), []
    for _ in range(pairs):
        network = Network(space.modules(space.sample(rng, config.ghn.nodes)), 1)
        ghn.zero_grad()
        with Counted() as forward:
            made = ghn([network])[0]
        weights = {name: w.detach().requires_grad_() for name, w in made.items()}
        with Counted() as alone:
            F.cross_entropy(run(network, weights, images), labels).backward()
        with Counted() as backward:
            torch.autograd.backward(list(made.values()), [w.grad for w in weights.values()])
        counted.append((forward.operations + backward.operations, alone.operations))
    what = f"operations of the GHN / of its network, forward and backward, {config.scale} shape"
    # a training draws many architectures, so it dispatches their mean
    ours, theirs = (sum(side) / pairs for side in zip(*counted, strict=True))
    return row(what, [(ours, theirs)], OPERATIONS_OF[config.scale])
