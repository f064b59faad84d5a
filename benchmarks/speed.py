"""What the hypernetwork costs beside the network that it weighs: `python benchmarks/speed.py`.

Most figures are ratios of two things timed in turn, in this process, on one device; the limit is
what the same network costs with ordinary weights. Of propagation alone the processor time of one
thread is held against its arithmetic, and the count of tensor operations against the network's.
Options: --threads, --repeats, --quick (leaves out the paper's shape, which takes minutes on a
processor).
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ghn_pipeline.model.compiled import engine
from ghn_pipeline.model.network import Network, Trained, batch_statistics, run
from ghn_pipeline.model.operations import OPERATIONS, Norm
from ghn_pipeline.pipeline.commit import commit
from ghn_pipeline.pipeline.spaces import space_of
from ghn_pipeline.settings.config import Config, load
from ghn_pipeline.system.compute import fastest, hardware, prepare_process, synchronize
from ghn_pipeline.training.ghn import build

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "model"))
from test_propagation import slow_embed  # noqa: E402  the slow loop that the tests hold us against


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Time one call."""
    synchronize(device)
    begun = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - begun


def compare(
    what: str,
    target: str,
    pairs: list[tuple[Callable[[], object], Callable[[], object]]],
    device: torch.device,
) -> None:
    """Time the two sides of each pair in turn; print the median time of each and of the ratios.

    Which side is the first changes from pair to pair.
    """
    for ours, other in pairs[:1]:  # warm up
        ours(), other()
    timed = []
    for i, pair in enumerate(pairs):
        order = (0, 1) if i % 2 else (1, 0)
        took = {side: seconds(pair[side], device) for side in order}
        timed.append((took[0], took[1]))
    ratios = sorted(a / b for a, b in timed)
    a, b = (1e3 * median(t[i] for t in timed) for i in (0, 1))
    print(
        f"{what:<66} {a:9.1f} ms {b:9.1f} ms   ratio {median(ratios):6.3f} "
        f"[{ratios[0]:.3f}, {ratios[-1]:.3f}] of {len(ratios)}   target {target}",
        flush=True,
    )


def images_for(config: Config, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return random images and labels of the configuration's size."""
    R = config.images.resolution
    images = torch.randn(batch, 3, R, R, device=device)
    labels = torch.randint(10, (batch,), device=device)
    return images.contiguous(memory_format=torch.channels_last), labels


def training_steps(config: Config, repeats: int, device: torch.device) -> None:
    """A step of GHN training against a step of SGD of the very same network."""
    space, settings = space_of(config), config.ghn
    ghn = build(space, settings, 0).to(device)
    adam = torch.optim.Adam(ghn.parameters(), fused=True)
    images, labels = images_for(config, settings.batch, device)
    rng = Random(0)

    def pair() -> tuple[Callable[[], object], Callable[[], object]]:
        block = space.sample(rng, settings.nodes)
        trained = Trained(Network(space.modules(block), 1), torch.Generator()).to(device)
        sgd = torch.optim.SGD(
            trained.parameters(), lr=0.01, momentum=0.9, weight_decay=3e-4, fused=True
        )

        def by_ghn() -> None:
            network = Network(space.modules(block), config.images.resolution)
            adam.zero_grad()
            F.cross_entropy(run(network, ghn([network])[0], images), labels).backward()
            nn.utils.clip_grad_norm_(ghn.parameters(), settings.clip)
            adam.step()

        def by_sgd() -> None:
            sgd.zero_grad()
            F.cross_entropy(trained(images), labels).backward()
            sgd.step()

        return by_ghn, by_sgd

    what = (
        f"GHN step / SGD step  F={config.network.channels} {config.network.blocks} blocks "
        f"N={settings.nodes} T={settings.passes} batch {settings.batch}"
    )
    target = "1.10" if config.scale == "paper" else "1.50"
    compare(what, target, [pair() for _ in range(repeats)], device)


def pixels_first(config: Config, repeats: int, device: torch.device) -> None:
    """Steps with bottlenecks that take every second pixel first, against strided convolutions.

    The blocks have two leaves or more: with the 8 channels of one, a strided convolution may damage
    the memory of this process (see `operations.take_every`).
    """
    space, settings = space_of(config), config.ghn
    images, labels = images_for(config, settings.batch, device)
    ghn = build(space, settings, 0).to(device)
    rng = Random(3)

    def strided(x: Tensor, w: Sequence[Tensor], norm: Norm, stride: int) -> Tensor:
        return norm(0, F.conv2d(F.relu(x), w[0], stride=stride))

    def before(step: Callable[[], object]) -> Callable[[], object]:
        old = {op: replace(OPERATIONS[op], apply=strided) for op in ("input_1", "input_2")}

        def work() -> None:
            now = {op: OPERATIONS[op] for op in old}
            OPERATIONS.update(old)
            try:
                step()
            finally:
                OPERATIONS.update(now)

        return work

    def pairs(of_ghn: bool) -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
        for _ in range(repeats):
            block = next(
                b for _ in iter(int, 1) if len((b := space.sample(rng, settings.nodes)).leaves) > 1
            )
            network = Network(space.modules(block), config.images.resolution)
            trained = Trained(network, torch.Generator()).to(device)

            def step(network: Network = network, trained: Trained = trained) -> None:
                weights = ghn([network])[0] if of_ghn else trained.weights
                F.cross_entropy(run(network, weights, images), labels).backward()

            yield step, before(step)

    for name, of_ghn in (("SGD", False), ("GHN", True)):
        what = f"{name}, forward and backward: pixels first / strided  {config.scale} shape"
        compare(what, "1.02", list(pairs(of_ghn)), device)


@torch.no_grad()
def scoring(config: Config, repeats: int, device: torch.device) -> None:
    """Scoring an architecture against the bare forward pass over the same images."""
    space = space_of(config)
    ghn = build(space, config.ghn, 0).to(device)
    batches = [
        images_for(config, config.evaluation.batch, device)[0]
        for _ in range(config.evaluation.batches)
    ]
    rng = Random(1)

    def pair() -> tuple[Callable[[], object], Callable[[], object]]:
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

    what = f"scoring / bare forward pass  {config.scale} shape, {len(batches)} batches"
    compare(what, "1.10", [pair() for _ in range(repeats)], device)


@torch.no_grad()
def generation(config: Config, repeats: int, device: torch.device) -> None:
    """Weights of 64 architectures together, one after another, and by the slow loop."""
    space = space_of(config)
    ghn = build(space, config.ghn, 0).to(device)
    rng = Random(2)
    blocks = [space.sample(rng, config.space.nodes) for _ in range(64)]
    networks = [Network(space.modules(b), config.images.resolution) for b in blocks]
    for network in networks:
        _ = network.specs  # counted once for all three

    def together(these: list[Network]) -> Callable[[], object]:
        return lambda: ghn(these)

    def one_by_one() -> None:
        for network in networks:
            ghn([network])

    def slow(these: list[Network]) -> Callable[[], object]:
        return lambda: [slow_embed(ghn, network) for network in these]

    shape = f"{config.scale} shape N={config.space.nodes} T={config.ghn.passes}"
    compare(
        f"64 one by one / 64 together  {shape}",
        "-",
        [(one_by_one, together(networks))] * repeats,
        device,
    )
    compare(
        f"slow loop of Eq. 3 to 15 / embeddings of 64  {shape}",
        "at least 10",
        [(slow(networks), lambda: ghn.embed(networks))] * repeats,
        device,
    )


def propagation(config: Config, device: torch.device) -> None:
    """Embeddings alone, by one thread: processor time, against fixed targets.

    Of one architecture these are 10 and 15 times what its multiply-adds take at the best: 11.0
    million forward, 0.5 ms, and three times as many with gradients, 1.4 ms. Of 64 they are a fifth
    and a twelfth of what tensor operations took, one after another.
    """
    space = space_of(config)
    ghn = build(space, config.ghn, 0).to(device)
    rng = Random(4)

    def drawn(count: int, nodes: int) -> list[Network]:
        return [Network(space.modules(space.sample(rng, nodes)), 1) for _ in range(count)]

    @torch.no_grad()
    def forward(networks: list[Network]) -> None:
        ghn.embed(networks)

    def with_gradients(networks: list[Network]) -> None:
        ghn.zero_grad()
        ghn.embed(networks)[0].sum().backward()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    print(f"propagation by {engine(device, torch.float32)}")
    targets = {(1, 7): (5, 21), (64, 17): (296, 934)}
    for (count, nodes), limits in targets.items():
        networks = drawn(count, nodes)
        for what, work, limit in (
            ("forward", forward, limits[0]),
            ("with gradients", with_gradients, limits[1]),
        ):
            took = []
            for _ in range(6 if count > 1 else 30):
                synchronize(device)
                begun = time.process_time()
                work(networks)
                synchronize(device)
                took.append(1e3 * (time.process_time() - begun))
            name = f"{count} embedded {what}  N={nodes} T={config.ghn.passes}"
            print(
                f"{name:<66} {median(took):9.1f} ms of the processor, least {min(took):.1f}   "
                f"target at most {limit}",
                flush=True,
            )
    torch.set_num_threads(threads)


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


def operations(config: Config, target: str, device: torch.device) -> None:
    """What a GHN dispatches in a training step over what its network does."""
    space = space_of(config)
    ghn = build(space, config.ghn, 0).to(device)
    images, labels = images_for(config, 2, device)
    rng, of_ghn, of_network = Random(5), 0, 0
    for _ in range(5):
        network = Network(space.modules(space.sample(rng, config.ghn.nodes)), 1)
        ghn.zero_grad()
        with Counted() as forward:
            made = ghn([network])[0]
        weights = {name: w.detach().requires_grad_() for name, w in made.items()}
        with Counted() as alone:
            F.cross_entropy(run(network, weights, images), labels).backward()
        with Counted() as backward:
            torch.autograd.backward(list(made.values()), [w.grad for w in weights.values()])
        of_network += alone.operations
        of_ghn += forward.operations + backward.operations
    print(
        f"{'operations of the GHN / of its network  ' + config.scale + ' shape':<66} "
        f"{of_ghn // 5:9,}    {of_network // 5:9,}      ratio {of_ghn / of_network:6.3f}   "
        f"target {target}",
        flush=True,
    )


def main() -> None:
    """Print every ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, help="instead of the preset's compute.threads")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="leave out the paper's shape")
    args = parser.parse_args()
    device = fastest()
    print({**hardware(device), **commit(), "torch": torch.__version__})
    quick = load([ROOT / "params.yaml", ROOT / "presets/quick.yaml"])
    paper = load([ROOT / "params.yaml"])
    cells = load([ROOT / "params.yaml", ROOT / "presets/nasbench201.yaml"])
    prepare_process(paper.compute.threads)
    propagation(paper, device)
    for config, target in ((paper, "0.5"), (quick, "0.7"), (cells, "1.0")):
        operations(config, target, device)
    print(f"{'':66} {'first':>12} {'second':>12}   first / second, median [least, most]")
    for config in [quick] if args.quick else [quick, paper]:
        prepare_process(config.compute.threads)
        if args.threads:
            torch.set_num_threads(args.threads)
        print(f"{config.scale} shape, {torch.get_num_threads()} threads")
        repeats = args.repeats if config is quick or device.type != "cpu" else 5
        training_steps(config, repeats, device)
        pixels_first(config, repeats, device)
        if config is quick or device.type != "cpu":
            scoring(config, repeats, device)
        generation(config, 3, device)


if __name__ == "__main__":
    main()
