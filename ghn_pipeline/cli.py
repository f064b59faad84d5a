"""The command `ghn`: a verb for each kind of stage, and those that are about all of them."""

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
from ghn_pipeline.pipeline.stage import SCALE, Job, Stage, find, kinds, log_file, placeholders
from ghn_pipeline.system import logs, slurm
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
        UserError: with every fault of it.
    """
    from ghn_pipeline.settings.config import load

    return load([Path(file) for file in args.config])


def check(args: argparse.Namespace) -> None:
    """Check the configuration, and that this machine is fit for the scale.

    Reads the configuration. Writes nothing.
    """
    from ghn_pipeline.pipeline.machine import prepare_device

    config = configuration(args)
    print(f"{config.scale}: the configuration is whole; device: {prepare_device(config)}")


def configure(args: argparse.Namespace) -> None:
    """Put presets into params.yaml and dvc.yaml, for `dvc repro`, which reads no other file.

    Reads params.yaml and each FILE. Writes params.yaml, its comments kept, and dvc.yaml with the
    stages of the search space; `git checkout params.yaml dvc.yaml` takes it back.
    """
    from ghn_pipeline.pipeline import dvc
    from ghn_pipeline.settings.config import adopt

    config = adopt(Path("params.yaml"), [Path(file) for file in args.files])
    write_atomically(Path("dvc.yaml"), dvc.text(config))
    print(f"params.yaml and dvc.yaml are now of the scale {config.scale}")


def calibrate(args: argparse.Namespace) -> None:
    """Hold the search space against Table 1: parameters of random architectures.

    Reads the configuration. Writes nothing; prints mean and deviation in millions.
    """

    from ghn_pipeline.model.network import Network
    from ghn_pipeline.pipeline.spaces import space_of
    from ghn_pipeline.report.paper.numbers import table

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


def plan(args: argparse.Namespace) -> None:
    """Say what a scale takes: jobs, accelerator-hours, disk.

    Reads the configuration, and results/SCALE where there are. Writes nothing.
    """
    from ghn_pipeline.pipeline.plan import show

    print(show(configuration(args)))


def track(args: argparse.Namespace) -> None:
    """Send results to MLflow that its store lacks, because it was away or is another one now.

    Reads results/**/run.json. Writes to the tracking store, and mlflow.json beside what was sent.
    """
    from ghn_pipeline.pipeline import tracking

    folders = [record.parent for record in sorted(Path("results").rglob("run.json"))]
    pending = tracking.unsent(folders)
    sent = sum(tracking.send(folder) is not None for folder in pending)
    print(f"sent {sent} of {len(pending)} results that were not in the store")
    if sent < len(pending):
        raise UserError(f"{len(pending) - sent} results were not sent; the warnings say why")


def ui(args: argparse.Namespace) -> None:
    """Open the MLflow UI on the store that the runs are in.

    Reads MLFLOW_TRACKING_URI, or mlflow.db here. Writes nothing, except that it makes a store where
    there is none.
    """
    from ghn_pipeline.pipeline import store, tracking

    if store.address().lower().startswith(("http://", "https://")):
        raise UserError("the runs are on the server that MLFLOW_TRACKING_URI names: open it there")
    tracking.check()  # what MLflow itself says of a store shows the address
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    # not among the words, which everybody on the machine may read
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store.address()
    words = ["mlflow", "ui", "--port", str(args.port)]
    os.execv(sys.executable, [sys.executable, "-m", *words])


def completion(args: argparse.Namespace) -> None:
    """Print a script by which a shell completes `ghn`.

    Reads nothing. Writes nothing, except the script to standard output:
    `eval "$(ghn completion bash)"` is for the shell at hand.
    """

    import shtab  # which takes a quarter of the time of `ghn --help`

    print(shtab.complete(parser(shtab.FILE), args.shell))


# ---- the command line ---------------------------------------------------------------------------

#: Shells that shtab writes scripts for.
SHELLS = ("bash", "zsh", "tcsh", "fish")

Verb = Callable[[argparse.Namespace], None]

#: Verbs that are no stages, with their arguments.
OTHERS: dict[str, tuple[Verb, dict[str, dict[str, object]]]] = {
    "check": (check, {}),
    "configure": (
        configure,
        {"files": {"metavar": "FILE", "nargs": "*", "help": "such as presets/quick.yaml"}},
    ),
    "calibrate": (
        calibrate,
        {"--samples": {"type": int, "default": 300, "help": "how many (default 300)"}},
    ),
    "plan": (plan, {}),
    "track": (track, {}),
    "completion": (
        completion,
        {"shell": {"metavar": "SHELL", "choices": SHELLS, "help": f"one of {', '.join(SHELLS)}"}},
    ),
    "ui": (ui, {"--port": {"type": int, "default": 5000, "help": "to listen at (default 5000)"}}),
}


#: Verbs that read no configuration, or that are told otherwise what to read.
WITHOUT_SETTINGS = ("configure", "track", "completion", "ui")


def verbs() -> list[str]:
    """Return the name of every verb."""
    return [*kinds(), *OTHERS]


class _Parser(argparse.ArgumentParser):
    """Answers an unknown verb with the nearest one, in place of all of them."""

    def error(self, message: str) -> NoReturn:
        if unknown := re.search(r"argument VERB: invalid choice: '(.*?)'", message):
            message = f"there is no verb {unknown[1]!r}{did_you_mean(unknown[1], verbs())}"
        super().error(message)


def parser(files: object = None) -> argparse.ArgumentParser:
    """Return the parser of the command line; each verb's help is its docstring.

    Args:
        files: shtab's mark of words that a shell completes by files.
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
        help="configuration; each file changes what stands in those before (params.yaml)",
    ).complete = files  # type: ignore[attr-defined]
    return sub


def main() -> int:
    """Run one verb in a child process, so that this one can say which signal ended it."""
    # none of the many objects that imports make is garbage, and to look for it takes 20% of them
    gc.set_threshold(100_000)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a locale without ± or × must not end the work
            stream.reconfigure(errors="backslashreplace")
    try:
        args = parser().parse_args()
    except UserError as error:  # of an extension, which may declare verbs
        print(f"ghn: {error}", file=sys.stderr)
        return 1
    # torchrun supervises its workers itself
    if is_worker():
        return run(args)
    return supervised(lambda: run(args), f"ghn {args.verb}")


def run(args: argparse.Namespace) -> int:
    """Run one verb in this process; a user's mistake is one message and exit code 1."""
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
        # what reads the output, such as `head`, has ended; nothing more can be said there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print(f"ghn {args.verb}: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


def _do(args: argparse.Namespace) -> None:
    """Do the work of a stage; all that it says stands in its log as well.

    Raises:
        UserError: a fault of the configuration, no such stage in the space, or one of the work.
    """
    from ghn_pipeline.pipeline import tracking

    parts = [args.part] if "part" in args else []
    name, config = "/".join([args.verb, *parts]), configuration(args)
    log = log_file(config, name)
    tracking.at_once()  # a fault of the environment is said before the work
    # of processes that share the work
    if leads():
        logs.keep(log)
    find(config, name)[0].work(Job(config, name, [args.verb, *parts, "--config", *args.config]))


def ran_out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory: of torch's errors on a CPU only the text says so."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, which need not be imported here
        or "DefaultCPUAllocator" in str(error)
    )


if __name__ == "__main__":
    sys.exit(main())
