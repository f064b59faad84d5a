"""The command `ghn`: a verb for each kind of stage, and verbs for all stages together."""

import argparse
import gc
import io
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import mean, stdev
from typing import TYPE_CHECKING, NoReturn

from ghn_pipeline import __version__
from ghn_pipeline.pipeline import stage
from ghn_pipeline.pipeline.stage import SCALE, Job, Stage, find, kinds, log_file, placeholders
from ghn_pipeline.system import extensions, logs, slurm
from ghn_pipeline.system.errors import OutOfTimeError, UserError, did_you_mean
from ghn_pipeline.system.files import write_atomically
from ghn_pipeline.system.processes import is_worker, leads
from ghn_pipeline.system.supervised import supervised

if TYPE_CHECKING:
    from ghn_pipeline.settings.config import Config

# ---- verbs about all stages ----------------------------------------------------------------------


def configuration(args: argparse.Namespace) -> "Config":
    """Read the configuration.

    Raises:
        UserError: the configuration has faults; the message lists them all.
    """
    from ghn_pipeline.settings.config import load

    return load([Path(file) for file in args.config])


def check(args: argparse.Namespace) -> None:
    """Check the configuration, and whether this machine has the device that it needs.

    Reads the configuration. Writes nothing.
    """
    from ghn_pipeline.pipeline.machine import prepare_device

    config = configuration(args)
    print(f"{config.scale}: the configuration is whole; device: {prepare_device(config)}")
    if extensions.texts():
        print(f"extensions: {', '.join(extensions.texts())}")


def configure(args: argparse.Namespace) -> None:
    """Write presets into params.yaml and dvc.yaml, the only files `dvc repro` reads.

    Reads params.yaml and each FILE. Writes params.yaml, whose comments stay, and dvc.yaml with the
    stages of the search space; `git checkout params.yaml dvc.yaml` undoes it.
    """
    from ghn_pipeline.pipeline import dvc
    from ghn_pipeline.settings.config import adopt

    config = adopt(Path("params.yaml"), [Path(file) for file in args.files])
    write_atomically(Path("dvc.yaml"), dvc.text(config))
    print(f"params.yaml and dvc.yaml are now of the scale {config.scale}")


def calibrate(args: argparse.Namespace) -> None:
    """Compare the sizes of random architectures with those of Table 1.

    Reads the configuration. Writes nothing; prints the mean and the deviation of the parameters in
    millions.
    """

    from ghn_pipeline.model.network import Network
    from ghn_pipeline.pipeline.spaces import space_of
    from ghn_pipeline.report.paper.numbers import table

    config = configuration(args)
    if args.samples < 2:
        raise UserError("--samples: a deviation needs at least 2 architectures")
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
    """Show the jobs, accelerator-hours and disk that a scale takes.

    Reads the configuration, and results/SCALE if there are any. Writes nothing.
    """
    from ghn_pipeline.pipeline.plan import show

    print(show(configuration(args)))


def track(args: argparse.Namespace) -> None:
    """Send the results that MLflow's store lacks.

    The store may not have answered, or may be another one now.
    Reads results/**/run.json. Writes to the tracking store, and mlflow.json beside each run.json.
    """
    from ghn_pipeline.pipeline import tracking

    pending = tracking.unsent(tracking.folders_of(Path("results")))
    sent = sum(tracking.send(folder) is not None for folder in pending)
    print(f"sent {sent} of {len(pending)} results that were not in the store")
    if sent < len(pending):
        raise UserError(f"{len(pending) - sent} results were not sent; the warnings say why")


def keep(args: argparse.Namespace) -> None:
    """Keep the finished results of a scale as evidence; older evidence of the scale is replaced.

    Reads results/SCALE. Writes evidence/SCALE: the settings, and all results except weights. Then
    `ghn evidence` makes the page of claims.
    """
    from ghn_pipeline.pipeline import evidence

    folder = evidence.keep(configuration(args))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder} holds {size / 1e6:.1f} MB; `ghn evidence` makes the page of claims from it")


def evidence(args: argparse.Namespace) -> None:
    """Make the tables, the figures and the page of the paper's claims from the evidence.

    Reads evidence/SCALE. Writes its tables and figures, and evidence/claims.md, .html, .tex, .csv,
    .json, .svg and .png. Nothing is trained.
    """
    from ghn_pipeline.pipeline.evidence import remake
    from ghn_pipeline.report.paper.claims import counted

    print(f"the paper's claims: {counted(remake())}; see evidence/claims.md")


def ship(args: argparse.Namespace) -> None:
    """Put the trained GHN that ranks the selection best into the package, with a card.

    Reads results/SCALE and CIFAR-10. Writes ghn_pipeline/trained/SPACE, in half precision.
    """
    from ghn_pipeline.pipeline import shipping

    print(f"GHN.from_pretrained({shipping.ship(configuration(args)).name!r}) is this GHN now")


def ui(args: argparse.Namespace) -> None:
    """Open the MLflow UI on the store of the runs.

    Reads MLFLOW_TRACKING_URI, or mlflow.db here. Writes nothing, except that it makes a missing
    store.
    """
    from ghn_pipeline.pipeline import store, tracking

    if store.address().lower().startswith(("http://", "https://")):
        raise UserError("the runs are on the server that MLFLOW_TRACKING_URI names: open it there")
    tracking.check()  # MLflow's own errors would show the address
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    # not in the arguments, which everybody on the machine can read
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store.address()
    words = ["mlflow", "ui", "--port", str(args.port)]
    os.execv(sys.executable, [sys.executable, "-m", *words])


def completion(args: argparse.Namespace) -> None:
    """Print a script with which a shell completes `ghn`.

    Reads nothing. Writes nothing, except the script to standard output:
    `eval "$(ghn completion bash)"` enables it in the present shell.
    """

    import shtab  # the import takes a quarter of the time of `ghn --help`

    print(shtab.complete(parser(shtab.FILE), args.shell))


# ---- the command line ---------------------------------------------------------------------------

#: The shells for which shtab writes scripts.
SHELLS = ("bash", "zsh", "tcsh", "fish")

Verb = Callable[[argparse.Namespace], None]

#: The verbs that are no stages, with their arguments.
OTHERS: dict[str, tuple[Verb, dict[str, dict[str, object]]]] = {
    "check": (check, {}),
    "configure": (
        configure,
        {"files": {"metavar": "FILE", "nargs": "*", "help": "such as presets/quick.yaml"}},
    ),
    "calibrate": (
        calibrate,
        {"--samples": {"type": int, "default": 300, "help": "architectures (default 300)"}},
    ),
    "plan": (plan, {}),
    "track": (track, {}),
    "keep": (keep, {}),
    "evidence": (evidence, {}),
    "ship": (ship, {}),
    "completion": (
        completion,
        {"shell": {"metavar": "SHELL", "choices": SHELLS, "help": f"one of {', '.join(SHELLS)}"}},
    ),
    "ui": (ui, {"--port": {"type": int, "default": 5000, "help": "its port (default 5000)"}}),
}


#: The verbs without the option --config.
WITHOUT_SETTINGS = ("configure", "track", "evidence", "completion", "ui")


def verbs() -> list[str]:
    """Return the name of every verb."""
    return [*kinds(), *OTHERS]


class _Parser(argparse.ArgumentParser):
    """A parser that answers an unknown verb with the nearest one instead of the whole list."""

    def error(self, message: str) -> NoReturn:
        if unknown := re.search(r"argument VERB: invalid choice: '(.*?)'", message):
            message = f"there is no verb {unknown[1]!r}{did_you_mean(unknown[1], verbs())}"
        super().error(message)


def parser(files: object = None) -> argparse.ArgumentParser:
    """Return the parser of the command line; each verb's help is its docstring.

    Args:
        files: shtab's mark for arguments that a shell completes with file names.
    """
    top = _Parser("ghn", description="Graph HyperNetworks, reproduced.")
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for kind, stages in kinds().items():
        parts = [stage.name.partition("/")[2] for stage in stages if stage.name != kind]
        sub = _add_verb(verbs, kind, f"{stages[0].work.__doc__}{_files_of(stages)}", files)
        if parts:
            metavar = parts[0] if len(parts) == 1 else "PART"
            sub.add_argument("part", metavar=metavar, help=" | ".join(parts) + placeholders(stages))
    for name, (verb, arguments) in OTHERS.items():
        sub = _add_verb(verbs, name, verb.__doc__, files)
        for argument, options in arguments.items():
            sub.add_argument(argument, **options)  # type: ignore[arg-type]
    return top


def _files_of(stages: list[Stage]) -> str:
    """Say which files the stages of a kind read and write."""
    one, *others = stages
    reads = dict.fromkeys(pattern for each in stages for pattern, _ in each.inputs())
    folder = one.root or f"{SCALE}/{f'{one.kind}/PART' if others else one.name}"
    said = (
        f"Reads the results of {', '.join(reads)}." if reads else "Reads the configuration.",
        f"Writes {folder.replace('{scale}', 'SCALE')}: {', '.join(one.files)}.",
    )
    return "".join(f"\n{textwrap.fill(text, 90, break_on_hyphens=False)}" for text in said)


def _add_verb(
    verbs: "argparse._SubParsersAction[_Parser]",
    name: str,
    text: str | None,
    files: object,
) -> argparse.ArgumentParser:
    assert text is not None
    sub = verbs.add_parser(
        name,
        help=text.splitlines()[0],
        description=text.replace("\n    ", "\n"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if name in WITHOUT_SETTINGS:
        return sub
    sub.add_argument(
        "--config",
        nargs="+",
        default=["params.yaml"],
        metavar="FILE",
        help="configuration; each file overrides those before it (default params.yaml)",
    ).complete = files  # type: ignore[attr-defined]
    return sub


def main() -> int:
    """Run one verb in a child process, so that this process can report the signal that ended it."""
    # imports make no garbage, and collecting it would take 20% of their time
    gc.set_threshold(100_000)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a locale without ± or × must not end the work
            stream.reconfigure(errors="backslashreplace")
    try:
        args = parser().parse_args()
    except UserError as error:  # raised by an extension, which may declare verbs
        print(f"ghn: {error}", file=sys.stderr)
        return 1
    # torchrun itself supervises its workers
    if is_worker():
        return run(args)
    return supervised(lambda: run(args), f"ghn {args.verb}")


def run(args: argparse.Namespace) -> int:
    """Run one verb in this process; a user's mistake gives one message and exit code 1."""
    try:
        if args.verb in OTHERS:
            OTHERS[args.verb][0](args)
        else:
            _do(args)
    except UserError as error:
        print(f"ghn {args.verb}: {error}", file=sys.stderr)
        if isinstance(error, OutOfTimeError):
            print(f"ghn {args.verb}: not started again: {slurm.start_again()}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        print(
            f"ghn {args.verb}: out of memory ({reason}). Use smaller batches, networks or images, "
            "or a machine with more memory (compute.memory_mb); the same command goes on.",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:
        # the reader of the output, such as `head`, has ended, so nothing more can be printed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print(f"ghn {args.verb}: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


def _do(args: argparse.Namespace) -> None:
    """Do the work of a stage, and keep its output in its log.

    Raises:
        UserError: the configuration has faults, the space has no such stage, or the work raises it.
    """
    from ghn_pipeline.pipeline import tracking

    parts = [args.part] if "part" in args else []
    name, config = "/".join([args.verb, *parts]), configuration(args)
    log = log_file(config, name)
    tracking.when()  # a fault of the environment is said before the work
    # one of several processes that share the work keeps the log
    if leads():
        logs.keep(log)
    find(config, name)[0].work(Job(config, name, [args.verb, *parts, "--config", *args.config]))
    missing = [path for path in stage.files(config, name) if not Path(path).exists()]
    if missing and leads():
        raise UserError(f"{name} did not write {', '.join(missing)}, which its declaration names")


def ran_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out; only their text identifies such errors of torch on a CPU."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # of torch, without importing it
        or "DefaultCPUAllocator" in str(error)
    )


if __name__ == "__main__":
    sys.exit(main())
