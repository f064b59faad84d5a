"""The command `ghn`: one verb per stage, in `stages`; here those that are about all of them."""

import argparse
import gc
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ghn_pipeline import __version__
from ghn_pipeline.stages import (
    anytime,
    benchmark,
    correlation,
    data,
    export,
    finalists,
    memory,
    mobile,
    search,
    train,
)
from ghn_pipeline.stages.shared import configuration
from ghn_pipeline.system.errors import OutOfTimeError, UserError, did_you_mean
from ghn_pipeline.system.processes import is_worker
from ghn_pipeline.system.supervised import supervised

# ---- verbs -------------------------------------------------------------------------------------


def check(args: argparse.Namespace) -> None:
    """Check the configuration, and that this machine is fit for the scale.

    Reads the configuration. Writes nothing.
    """
    from ghn_pipeline.system.compute import prepare_device

    config = configuration(args)
    print(f"{config.scale}: the configuration is whole; device: {prepare_device(config)}")


def configure(args: argparse.Namespace) -> None:
    """Put presets into params.yaml, for `dvc repro`, which reads no other file.

    Reads params.yaml and each FILE. Writes params.yaml, its comments kept; `git checkout
    params.yaml` takes it back.
    """
    from ghn_pipeline.settings.config import adopt

    config = adopt(Path("params.yaml"), [Path(file) for file in args.files])
    print(f"params.yaml is now of the scale {config.scale}")


def plan(args: argparse.Namespace) -> None:
    """Say what a scale takes: jobs, accelerator-hours, disk.

    Reads the configuration, and results/SCALE where there are. Writes nothing.
    """
    from ghn_pipeline.pipeline.plan import show

    print(show(configuration(args)))


def track(args: argparse.Namespace) -> None:
    """Send results to MLflow that are not in the store in force: it was away, or is another now.

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
    import shtab

    print(shtab.complete(parser(shtab.FILE), args.shell))


# ---- the command line ---------------------------------------------------------------------------

#: Shells that shtab writes scripts for.
SHELLS = ("bash", "zsh", "tcsh", "fish")

VERBS: dict[str, tuple[Callable[[argparse.Namespace], None], dict[str, dict[str, object]]]] = {
    "check": (check, {}),
    "configure": (
        configure,
        {"files": {"metavar": "FILE", "nargs": "+", "help": "such as presets/quick.yaml"}},
    ),
    "prepare-data": (data.prepare_data, {}),
    "sample": (data.sample, {}),
    "train-ghn": (train.train_ghn, {"name": {"metavar": "NAME", "help": "an entry of `ghns`"}}),
    "train-oneshot": (train.train_oneshot, {}),
    "train-sgd": (
        train.train_sgd,
        {"index": {"metavar": "INDEX", "type": int, "help": "of the architecture, from 0"}},
    ),
    "score": (
        correlation.score,
        {"model": {"metavar": "MODEL", "help": "ghn/NAME, oneshot, proxies or sgd"}},
    ),
    "table4": (correlation.table4, {}),
    "ablations": (correlation.ablations, {}),
    "benchmark": (benchmark.benchmark, {}),
    "search": (
        search.search,
        {"name": {"metavar": "METHOD/SEED", "help": "random/SEED or evolution/SEED"}},
    ),
    "search-curves": (search.search_curves, {}),
    "train-short": (
        finalists.train_short,
        {"rank": {"metavar": "RANK", "type": int, "help": "by the search; 0 is the best"}},
    ),
    "choose": (finalists.choose, {}),
    "train-finalist": (
        finalists.train_finalist,
        {"name": {"metavar": "NAME", "help": "top/RANK, random/RANK or best/SEED"}},
    ),
    "table1": (finalists.table1, {}),
    "table2": (finalists.table2, {}),
    "train-mobile": (mobile.train_mobile, {}),
    "table3": (mobile.table3, {}),
    "train-anytime": (
        anytime.train_anytime,
        {"name": {"metavar": "NAME", "help": "top/RANK, random/INDEX, best or a rival's name"}},
    ),
    "anytime-curves": (anytime.anytime_curves, {}),
    "memory": (memory.memory, {}),
    "export": (export.export, {}),
    "calibrate": (
        data.calibrate,
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


class _Parser(argparse.ArgumentParser):
    """Answers an unknown verb with the nearest one, in place of all of them."""

    def error(self, message: str) -> NoReturn:
        if unknown := re.search(r"argument VERB: invalid choice: '(.*?)'", message):
            message = f"there is no verb {unknown[1]!r}{did_you_mean(unknown[1], VERBS)}"
        super().error(message)


def parser(files: object = None) -> argparse.ArgumentParser:
    """Return the parser of the command line; each verb's help is its docstring.

    Args:
        files: shtab's mark of words that a shell completes by files.
    """
    top = _Parser("ghn", description="Graph HyperNetworks, reproduced.")
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
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
        ).complete = files  # type: ignore[attr-defined]
    return top


def main() -> int:
    """Run one verb in a child process, so that this one can say which signal ended it."""
    # none of the many objects that imports make is garbage, and to look for it takes 20% of them
    gc.set_threshold(100_000)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a locale without ± or × must not end the work
            stream.reconfigure(errors="backslashreplace")
    args = parser().parse_args()
    # torchrun supervises its workers itself
    if is_worker():
        return run(args)
    return supervised(lambda: run(args), f"ghn {args.verb}")


def run(args: argparse.Namespace) -> int:
    """Run one verb in this process; a user's mistake is one message and exit code 1."""
    try:
        VERBS[args.verb][0](args)
    except UserError as error:
        print(f"ghn {args.verb}: {error}", file=sys.stderr)
        if isinstance(error, OutOfTimeError):
            from ghn_pipeline.system import slurm

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


def ran_out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory: of torch's errors on a CPU only the text says so."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, which need not be imported here
        or "DefaultCPUAllocator" in str(error)
    )


if __name__ == "__main__":
    sys.exit(main())
