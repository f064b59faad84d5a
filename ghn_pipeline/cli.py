"""The command `ghn`: one verb per stage; each reads files, calls the library, writes files.

Heavy imports stand inside the verbs, so that help answers at once.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghn_pipeline.errors import OutOfTimeError, UserError

if TYPE_CHECKING:
    import torch

    from ghn_pipeline.config import Config, Schedule
    from ghn_pipeline.space.graph import Block
    from ghn_pipeline.training.fit import Training


# ---- verbs -------------------------------------------------------------------------------------


def check(args: argparse.Namespace) -> None:
    """Check the configuration, and that this machine is fit for the scale.

    Reads the configuration. Writes nothing.
    """
    from ghn_pipeline.compute import prepare_device

    config = _config(args)
    print(f"{config.scale}: the configuration is whole; device: {prepare_device(config)}")


def configure(args: argparse.Namespace) -> None:
    """Put presets into params.yaml, for `dvc repro`, which reads no other file.

    Reads params.yaml and each FILE. Writes params.yaml, its comments kept; `git checkout
    params.yaml` takes it back.
    """
    from ghn_pipeline.config import adopt

    config = adopt(Path("params.yaml"), [Path(file) for file in args.files])
    print(f"params.yaml is now of the scale {config.scale}")


def prepare_data(args: argparse.Namespace) -> None:
    """Get CIFAR-10 and verify every pixel and label.

    Reads a local copy, or downloads: data.sources says what is tried, in its order.
    Writes {data.folder}/cifar10.bin.
    """
    from ghn_pipeline.data import cifar10

    data = _start(args, "prepare_data").data
    cifar10.obtain(
        Path(data.folder), data.sources, data.local, lambda line: print(line, flush=True)
    )


def sample(args: argparse.Namespace) -> None:
    """Draw the test architectures (section 5.3).

    Reads the configuration. Writes results/SCALE/architectures/architectures.json and run.json.
    """
    import json
    from random import Random

    from ghn_pipeline import record, tracking
    from ghn_pipeline.artifacts import space_of
    from ghn_pipeline.files import write_atomically
    from ghn_pipeline.stages import result_folder

    config = _start(args, "architectures")
    space, rng = space_of(config), Random(config.seeds.test_architectures)
    blocks: dict[str, Block] = {}
    count = len(config.correlation.architectures)
    for _ in range(1000 * count):
        block = space.sample(rng, config.space.nodes)
        blocks.setdefault(block.hash, block)
        if len(blocks) == count:
            break
    else:
        raise UserError(
            f"{1000 * count} draws gave only {len(blocks)} distinct architectures, and "
            f"correlation.architectures names {count}: use more nodes or operations."
        )
    lines = ",\n".join(
        json.dumps({"hash": h, "block": block.to_json()}) for h, block in blocks.items()
    )
    write_atomically(
        result_folder(config, "architectures") / "architectures.json", f"[\n{lines}\n]\n"
    )
    record.write(config, "architectures", {"architectures": len(blocks)}, seconds=0)
    tracking.send(result_folder(config, "architectures"))
    print(f"drew {len(blocks)} architectures, no two isomorphic")


def train_ghn(args: argparse.Namespace) -> None:
    """Train a graph hypernetwork (sections 4 and 7.2).

    Reads {data.folder}/cifar10.bin and results/SCALE/architectures, which it must not see.
    Writes results/SCALE/ghn/NAME: model.pt, curve.csv, run.json; checkpoints below checkpoints/.
    """
    config = _start(args, f"ghn/{args.name}")
    settings = config.named_ghn(args.name)
    _train_search(config, f"ghn/{args.name}", settings, settings.nodes)


def train_oneshot(args: argparse.Namespace) -> None:
    """Train the one-shot model of shared weights (section 5.3).

    Reads {data.folder}/cifar10.bin and results/SCALE/architectures, which it must not see.
    Writes results/SCALE/oneshot: model.pt, curve.csv, run.json; checkpoints below checkpoints/.
    """
    config = _start(args, "oneshot")
    _train_search(config, "oneshot", config.oneshot, config.space.nodes)


def train_sgd(args: argparse.Namespace) -> None:
    """Train one test architecture from scratch: ground truth and SGD stopped early (section 5.3).

    Reads {data.folder}/cifar10.bin and results/SCALE/architectures.
    Writes results/SCALE/sgd/INDEX: curve.csv, run.json; checkpoints below checkpoints/.
    """
    from ghn_pipeline.artifacts import architectures_of, images_of, space_of
    from ghn_pipeline.compute import prepare_device
    from ghn_pipeline.data.images import stream
    from ghn_pipeline.network import Network, Trained
    from ghn_pipeline.training.sgd import sgd_training

    config = _start(args, f"sgd/{args.index}")
    device, blocks = prepare_device(config), architectures_of(config)
    if not 0 <= args.index < len(blocks):
        raise UserError(f"INDEX {args.index}: the architectures are 0 to {len(blocks) - 1}")
    network = Network(space_of(config).modules(blocks[args.index]), config.images.resolution)
    seed = stream(config.seeds.initialisation, "sgd", args.index)
    model, splits = Trained(network, seed).to(device), images_of(config, device)
    training = sgd_training(f"sgd/{args.index}", model, splits, config)
    _train(config, training, device, hash=blocks[args.index].hash)


def train_finalist(args: argparse.Namespace) -> None:
    """Train from scratch the RANK-th best architecture by the first GHN's scores (section 7.3).

    By finalists.workers data-parallel workers, which this command starts: on this machine, or in a
    Slurm job on finalists.nodes of its machines. Not in yet of the paper's recipe: drop-path, the
    auxiliary head, CutOut.
    Reads {data.folder}/cifar10.bin, results/SCALE/architectures and results/SCALE/scores/ghn/NAME.
    Writes results/SCALE/finalists/RANK: model.pt, curve.csv, run.json; checkpoints below
    checkpoints/.
    """
    from ghn_pipeline import record
    from ghn_pipeline.artifacts import architectures_of, images_of, maker_of, space_of
    from ghn_pipeline.compute import prepare_device
    from ghn_pipeline.data.images import stream
    from ghn_pipeline.network import Network, Trained
    from ghn_pipeline.stages import first_ghn
    from ghn_pipeline.training import distributed
    from ghn_pipeline.training.finalist import finalist_training, ranked

    stage = f"finalists/{args.rank}"
    config = _start(args, stage) if distributed.leads() else _config(args)
    device, scores = prepare_device(config), f"scores/{first_ghn(config)}"
    scored = record.read(config, scores, maker_of(scores))["result"]
    index = ranked(scored["accuracies"], args.rank)
    block, workers = architectures_of(config)[index], config.finalists.workers
    if block.hash != scored["hashes"][index]:
        raise UserError(f"{scores} is of other architectures. Run `{maker_of(scores)}` again.")
    if workers > 1 and not distributed.is_worker():
        words = [args.verb, str(args.rank), "--config", *args.config]
        program = ["-m", "ghn_pipeline.cli", *words]
        distributed.launch(workers, config.finalists.nodes, config.compute.threads, program)
        return
    with distributed.joined(device, workers) as team:
        network = Network(space_of(config).modules(block), config.images.resolution)
        seed = stream(config.seeds.initialisation, stage)
        model, splits = Trained(network, seed).to(team.device), images_of(config, team.device)
        training = finalist_training(stage, model, splits, config, team)
        _train(config, training, team.device, hash=block.hash, workers=workers)


def score(args: argparse.Namespace) -> None:
    """Score the test architectures with weights that were generated or shared (section 5.3).

    Reads {data.folder}/cifar10.bin, results/SCALE/architectures and results/SCALE/MODEL.
    Writes results/SCALE/scores/MODEL: scores.csv, run.json; what is done below checkpoints/.
    """
    import hashlib
    from functools import partial

    import pandas as pd

    from ghn_pipeline import record, tracking
    from ghn_pipeline.artifacts import architectures_of, maker_of, scorer_of
    from ghn_pipeline.compute import devices, hardware, prepare_device
    from ghn_pipeline.files import digest, read_bytes, write_atomically
    from ghn_pipeline.search import scoring
    from ghn_pipeline.stages import checkpoint_file, result_folder, settings

    stage = f"scores/{args.model}"
    config = _start(args, stage)
    device = prepare_device(config)
    record.read(config, args.model, maker_of(args.model))
    model = read_bytes(result_folder(config, args.model) / "model.pt", maker_of(args.model))
    inputs = {"model.pt": hashlib.sha256(model).hexdigest()}
    scores = scoring.score(
        stage,
        architectures_of(config),
        partial(scorer_of, config, args.model),
        devices=devices(device, config.compute.workers),
        together=config.evaluation.together,
        partial=checkpoint_file(config, stage, ".json"),
        digest=digest([settings(config, stage), inputs]),
        log_seconds=config.compute.log_seconds,
    )
    table = pd.DataFrame([vars(s) for s in scores])[["hash", "accuracy"]]
    folder, seconds = result_folder(config, stage), sum(s.seconds for s in scores)
    write_atomically(folder / "scores.csv", table.to_csv(index_label="index"))
    result = {
        "mean_accuracy": float(table.accuracy.mean()),
        "seconds_each": seconds / len(scores),
        "accuracies": table.accuracy.tolist(),
        "hashes": table.hash.tolist(),
    }
    machine = hardware(device)
    record.write(config, stage, result, seconds=seconds, hardware=machine, inputs=inputs)
    tracking.send(folder)


def table4(args: argparse.Namespace) -> None:
    """Make Table 4 and Figure 6, and print the correlations.

    Reads results/SCALE/sgd/*, scores/*, ghn/*, oneshot.
    Writes results/SCALE/table4.csv, .md, .html, .tex, .json,
    table4.provenance.json, figure6.png, .svg.
    """
    import json

    from ghn_pipeline.artifacts import table4_rows
    from ghn_pipeline.files import write_atomically
    from ghn_pipeline.paper import figure, figure6, table, table4
    from ghn_pipeline.record import provenance
    from ghn_pipeline.search.correlation import correlate

    config = _start(args, "table4")
    rows, made_of = table4_rows(config)
    folder = Path("results", config.scale)
    chosen = config.correlation
    bootstrap: dict[str, Any] = {
        "resamples": chosen.resamples,
        "confidence": chosen.confidence,
        "seed": config.seeds.bootstrap,
    }
    made = table4.table4(
        rows,
        scale=config.scale,
        scale_note=config.scale_note,
        architectures=len(chosen.architectures),
        costs=config.tables.costs,
        **bootstrap,
    )
    table.write(made, folder / "table4")
    numbers = json.dumps(table4.metrics(rows, **bootstrap), indent=1)
    write_atomically(folder / "table4.json", numbers + "\n")
    ghn = rows["ghn"]
    pearson = correlate(ghn.predicted, ghn.truth, **bootstrap)["pearson"]
    small = "" if config.scale == "paper" else config.scale_note
    drawn = figure6.figure6(ghn.predicted, ghn.truth, scale_note=small, correlation=pearson)
    figure.save(drawn, folder / "figure6")
    sources = {"table": provenance(config, "table4"), "made_of": made_of}
    write_atomically(folder / "table4.provenance.json", json.dumps(sources, indent=1) + "\n")
    print(table4.summary(rows, **bootstrap))
    print(f"see {folder}/table4.md and {folder}/figure6.png")


def calibrate(args: argparse.Namespace) -> None:
    """Hold the search space against Table 1: parameters of random architectures.

    Reads the configuration. Writes nothing; prints mean and deviation in millions.
    """
    from random import Random
    from statistics import mean, stdev

    from ghn_pipeline.artifacts import space_of
    from ghn_pipeline.network import Network
    from ghn_pipeline.paper.numbers import table

    config = _config(args)
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


def plan(args: argparse.Namespace) -> None:
    """Say what a scale takes: jobs, accelerator-hours, disk.

    Reads the configuration, and results/SCALE where there are. Writes nothing.
    """
    from ghn_pipeline.plan import show

    print(show(_config(args)))


def track(args: argparse.Namespace) -> None:
    """Send results to MLflow that are not in the store in force: it was away, or is another now.

    Reads results/**/run.json. Writes to the tracking store, and mlflow.json beside what was sent.
    """
    from ghn_pipeline import tracking

    pending = [
        f for f in sorted(Path("results").rglob("run.json")) if not tracking.is_sent(f.parent)
    ]
    sent = sum(tracking.send(path.parent) is not None for path in pending)
    print(f"sent {sent} of {len(pending)} results that were not in the store")
    if sent < len(pending):
        raise UserError("some results could not be sent; they stay, so try again later")


def ui(args: argparse.Namespace) -> None:
    """Open the MLflow UI on the store that the runs are in.

    Reads MLFLOW_TRACKING_URI, or mlflow.db here. Writes nothing.
    """
    import os

    from ghn_pipeline.tracking import store

    if store().startswith(("http://", "https://")):
        raise UserError("the runs are on the server that MLFLOW_TRACKING_URI names: open it there")
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    # not among the words, which everybody on the machine may read
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store()
    words = ["mlflow", "ui", "--port", str(args.port)]
    os.execv(sys.executable, [sys.executable, "-m", *words])


# ---- what the verbs share ----------------------------------------------------------------------


def _config(args: argparse.Namespace) -> "Config":
    from ghn_pipeline.config import load

    return load([Path(file) for file in args.config])


def _start(args: argparse.Namespace, stage: str) -> "Config":
    """Read the configuration; what is printed from here on stands in the stage's log as well."""
    from ghn_pipeline import logs
    from ghn_pipeline.stages import log_file

    config = _config(args)
    logs.keep(log_file(config, stage))
    return config


def _train_search(config: "Config", stage: str, schedule: "Schedule", nodes: int) -> None:
    """Train what weighs random architectures; the test architectures are kept from it."""
    from ghn_pipeline.artifacts import architectures_of, images_of, space_of, untrained
    from ghn_pipeline.compute import prepare_device
    from ghn_pipeline.training.search import sampler, search_training

    device, space = prepare_device(config), space_of(config)
    forbidden = {block.hash for block in architectures_of(config)}
    draw = sampler(space, nodes, config.seeds.training_architectures, forbidden)
    model, splits = untrained(config, stage).to(device), images_of(config, device)
    _train(config, search_training(stage, model, draw, space, splits, config, schedule), device)


def _train(config: "Config", training: "Training", device: "torch.device", **said: object) -> None:
    """Train to the end, tracked meanwhile; publish and track the model, the curve, the record."""
    import pandas as pd

    from ghn_pipeline import record, tracking
    from ghn_pipeline.compute import hardware
    from ghn_pipeline.files import digest, write_atomically
    from ghn_pipeline.stages import checkpoint_file, result_folder, settings
    from ghn_pipeline.training import checkpoint
    from ghn_pipeline.training.fit import fit

    stage = training.name
    key, folder = digest(settings(config, stage)), result_folder(config, stage)
    path = checkpoint_file(config, stage)
    with tracking.follow(record.provenance(config, stage), folder) as saved_as:
        log = fit(
            training,
            path,
            key,
            checkpoint_seconds=config.compute.checkpoint_seconds,
            log_seconds=config.compute.log_seconds,
            device=device,
            saved_as=saved_as,
        )
    if not training.team.leads:
        return
    curve = pd.DataFrame(log.curve, columns=["step", "loss", "learning_rate"])
    result = {
        "steps": training.steps,
        "final_loss": log.curve[-1][1],
        "measured": log.observed,
        **said,
    }
    seconds = log.seconds * training.team.size
    # a job that waited for this one has nothing left to train, but the same to publish
    with checkpoint.only_writer(path):
        if not stage.startswith("sgd/"):  # a model that others will use, not only a measurement
            checkpoint.save(folder / "model.pt", {"model": training.model.state_dict()}, key)
        write_atomically(folder / "curve.csv", curve.to_csv(index=False))
        record.write(config, stage, result, seconds=seconds, hardware=hardware(device))
        tracking.send(folder)


# ---- the command line ---------------------------------------------------------------------------

VERBS: dict[str, tuple[Callable[[argparse.Namespace], None], dict[str, dict[str, object]]]] = {
    "check": (check, {}),
    "configure": (
        configure,
        {"files": {"metavar": "FILE", "nargs": "+", "help": "such as presets/quick.yaml"}},
    ),
    "prepare-data": (prepare_data, {}),
    "sample": (sample, {}),
    "train-ghn": (train_ghn, {"name": {"metavar": "NAME", "help": "an entry of `ghns`"}}),
    "train-oneshot": (train_oneshot, {}),
    "train-sgd": (
        train_sgd,
        {"index": {"metavar": "INDEX", "type": int, "help": "of the architecture, from 0"}},
    ),
    "train-finalist": (
        train_finalist,
        {"rank": {"metavar": "RANK", "type": int, "help": "by the scores; 0 is the best"}},
    ),
    "score": (
        score,
        {"model": {"metavar": "MODEL", "help": "ghn/NAME or oneshot"}},
    ),
    "table4": (table4, {}),
    "calibrate": (
        calibrate,
        {"--samples": {"type": int, "default": 300, "help": "how many (default 300)"}},
    ),
    "plan": (plan, {}),
    "track": (track, {}),
    "ui": (ui, {"--port": {"type": int, "default": 5000, "help": "to listen at (default 5000)"}}),
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; each verb's help is its docstring."""
    top = argparse.ArgumentParser("ghn", description="Graph HyperNetworks, reproduced.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (verb, arguments) in VERBS.items():
        text = verb.__doc__ or ""
        sub = verbs.add_parser(
            name,
            help=text.splitlines()[0],
            description=text.replace("\n    ", "\n"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for argument, options in arguments.items():
            sub.add_argument(argument, **options)  # type: ignore[arg-type]
        sub.add_argument(
            "--config",
            nargs="+",
            default=["params.yaml"],
            metavar="FILE",
            help="configuration; each file changes what stands in those before (params.yaml)",
        )
    return top


def main() -> int:
    """Run one verb; a user's mistake is one message and exit code 1."""
    args = parser().parse_args()
    try:
        VERBS[args.verb][0](args)
    except UserError as error:
        print(f"ghn {args.verb}: {error}", file=sys.stderr)
        if isinstance(error, OutOfTimeError):
            from ghn_pipeline import slurm

            print(f"ghn {args.verb}: not started again: {slurm.start_again()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"ghn {args.verb}: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
