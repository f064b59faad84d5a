"""Generated weights as a start for training: `python benchmarks/fine_tuning.py NAME`.

Networks start from weights that a trained GHN generates, and from random weights, and are trained
for equal steps on the same batches by the same recipe. The accuracy is that on CIFAR-10's test
images, whose batch norms use statistics of training images. The command writes the means, the
paired differences and their intervals over architectures to fine_tuning.json and prints them.

NAME is a GHN that comes with the package, or a folder. CIFAR-10 must be in data/ (`ghn data`).
"""

import argparse
import json
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.nn.functional as F

from ghn_pipeline import GHN
from ghn_pipeline.data import cifar10
from ghn_pipeline.data.images import Splits, split, stream
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network, Trained
from ghn_pipeline.pipeline.commit import commit
from ghn_pipeline.pipeline.machine import hardware
from ghn_pipeline.ranking.intervals import mean_of
from ghn_pipeline.system.compute import fastest
from ghn_pipeline.training.batches import accuracy, fixed_batches, training_batch

STEPS = (0, 25, 50, 100, 200, 400)
BATCH, RATE, MOMENTUM, WEIGHT_DECAY = 128, 0.05, 0.9, 5e-4
MEASURED, CALIBRATED = 5000, 2000  # images
OUTPUT = Path(__file__).with_name("fine_tuning.json")


def accuracies(model: Trained, splits: Splits, seed: int, padding: int) -> list[float]:
    """Train a network; return its accuracy on test images after each of `STEPS`."""
    optimizer = torch.optim.SGD(
        model.parameters(), RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    found = []
    for step in range(max(STEPS) + 1):
        if step in STEPS:
            found.append(judged(model, splits))
        images, labels = training_batch(splits, step, batch=BATCH, padding=padding, seed=seed)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model.train()(images), labels).backward()
        optimizer.step()
    return found


def judged(model: Trained, splits: Splits) -> float:
    """Return the accuracy on test images, with running statistics of training images."""
    batches = CALIBRATED // BATCH
    model.recalibrate(images for images, _ in fixed_batches(splits.train, splits, BATCH, batches))
    tested = fixed_batches(splits.test, splits, 250, MEASURED // 250)
    return accuracy(model.eval().network, model.weights, tested, model.norm)


def starts(ghn: GHN, block: Block, seed: int, device: torch.device) -> dict[str, Trained]:
    """Return a block's network with generated and with random weights."""
    network = Network(ghn.network(block).modules, ghn.resolution)
    made = {
        "generated": Trained.of(network, ghn.weights(block)),
        "random": Trained(network, stream(seed, block.hash)),
    }
    return {name: model.to(device) for name, model in made.items()}


def main() -> None:
    """Compare both starts over architectures and seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", default="nasbench201")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--architectures", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    device, ghn = fastest(), GHN.from_pretrained(args.name)
    pixels, labels = cifar10.load(Path("data"))
    side = ghn.resolution
    sizes = {"train": 45_000, "validation": 0, "resolution": side, "seed": 0}
    splits = split(pixels, labels, **sizes, device=device)
    blocks = [ghn.space.sample(Random(i), args.nodes) for i in range(args.architectures)]
    shape = len(blocks), args.seeds, len(STEPS)
    found = {"generated": np.zeros(shape), "random": np.zeros(shape)}
    for i, block in enumerate(blocks):
        for seed in range(args.seeds):
            for name, model in starts(ghn, block, seed, device).items():
                found[name][i, seed] = accuracies(model, splits, seed, padding=side // 8)
        print(f"{i + 1} of {len(blocks)} architectures", flush=True)
    means = {name: values.mean(axis=1) for name, values in found.items()}
    rows = []
    for at, steps in enumerate(STEPS):
        ahead = mean_of(means["generated"][:, at] - means["random"][:, at], 0.95)
        row = {name: round(float(of[:, at].mean()), 4) for name, of in means.items()}
        interval = [round(end, 4) for end in (ahead.value, ahead.low, ahead.high)]
        rows.append({"steps": steps, **row, "ahead": interval})
        print(f"{steps:4} steps: {row}, ahead by {interval}", flush=True)
    machine = {**hardware(device), **commit(), "torch": torch.__version__}
    sizes = {"architectures": args.architectures, "seeds": args.seeds, "ghn": args.name}
    OUTPUT.write_text(
        json.dumps({**machine, **sizes, "rows": rows}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
