"""CIFAR-10 (section 5.1.1) and the architectures of the test set (section 5.3)."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ghn_pipeline.stages.shared import configuration, start
from ghn_pipeline.system.errors import UserError

if TYPE_CHECKING:
    from ghn_pipeline.model.graph import Block


def prepare_data(args: argparse.Namespace) -> None:
    """Get CIFAR-10 and verify every pixel and label.

    Reads a local copy, or downloads: data.sources says what is tried, in its order.
    Writes {data.folder}/cifar10.bin.
    """
    from ghn_pipeline.data import cifar10

    data = start(args, "prepare_data").data
    cifar10.obtain(
        Path(data.folder), data.sources, data.local, lambda line: print(line, flush=True)
    )


def sample(args: argparse.Namespace) -> None:
    """Draw the test architectures (section 5.3), and others by which choices may be made.

    Reads the configuration. Writes results/SCALE/architectures: architectures.json,
    selection.json, run.json.
    """
    from ghn_pipeline.pipeline import record, tracking
    from ghn_pipeline.pipeline.artifacts import draw_held_out
    from ghn_pipeline.pipeline.stages import result_folder

    config = start(args, "architectures")
    test, selection = draw_held_out(config)
    folder = result_folder(config, "architectures")
    _write_blocks(folder / "architectures.json", test)
    _write_blocks(folder / "selection.json", selection)
    result = {"architectures": len(test), "selection": len(selection)}
    outputs = ["architectures.json", "selection.json"]
    record.write(config, "architectures", result, seconds=0, outputs=outputs)
    tracking.send(folder)
    print(f"drew {len(test)} architectures, and {len(selection)} others for choices")


def _write_blocks(path: Path, blocks: "list[Block]") -> None:
    import json

    from ghn_pipeline.system.files import write_atomically

    lines = ",\n".join(json.dumps({"hash": b.hash, "block": b.to_json()}) for b in blocks)
    write_atomically(path, f"[\n{lines}\n]\n")


def calibrate(args: argparse.Namespace) -> None:
    """Hold the search space against Table 1: parameters of random architectures.

    Reads the configuration. Writes nothing; prints mean and deviation in millions.
    """
    from random import Random
    from statistics import mean, stdev

    from ghn_pipeline.model.network import Network
    from ghn_pipeline.pipeline.artifacts import space_of
    from ghn_pipeline.report.numbers import table

    config = configuration(args)
    if args.samples < 2:
        raise UserError("--samples: a deviation needs at least 2")
    space, rng = space_of(config), Random(config.seeds.test_architectures)
    blocks = [space.sample(rng, config.space.nodes) for _ in range(args.samples)]
    sizes = [Network(space.modules(b), config.images.resolution).parameters / 1e6 for b in blocks]
    paper = table("table1")["rows"]["random"]
    print(
        f"{args.samples} random architectures at F={config.network.channels}, "
        f"{config.network.blocks} blocks of {config.space.nodes} nodes: "
        f"{mean(sizes):.2f} ± {stdev(sizes):.2f} million parameters "
        f"(Table 1, at the paper's scale: {paper['params']} ± {paper['params_sd']})"
    )
