# Definitions that the rules share.

import atexit
import json
import shlex
import signal

from ghn_pipeline.system.files import digest

# jobs print lines, because their bars would overwrite one another on the terminal
shell.prefix("export TERM=dumb; ")

# Slurm sends its signal ahead of a time limit to every process of a job, and only the training needs
# it. Processes that Snakemake starts inherit that it is ignored until they set a handler.
if not workflow.is_main_process:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


# A preset is easily forgotten, so a notice stands before the first job (`onstart`), and here below
# the long list of a dry run.
@atexit.register
def remind():
    if workflow.dryrun and workflow.is_main_process and CONFIG.notice:
        print(CONFIG.notice, file=sys.stderr)


# without presets the command is exactly that of DVC
OPTIONS = "" if FILES == ["params.yaml"] else f" --config {shlex.join(FILES)}"

# One machine gives its accelerator to one job at a time; a cluster gives each job its own. This is a
# function, because Snakemake knows which case holds only after it has read the rules.
GPU = 0 if CONFIG.cpu_is_enough else 1
workflow.global_resources.setdefault("turn", 1)


def turn(wildcards):
    return GPU if workflow.local_exec else 0


# The resources of a job on a cluster; `threads` would be cut to the cores of the submitting machine.
SCORING = {
    "turn": turn,
    "mem_mb": CONFIG.compute.memory_mb,
    "runtime": CONFIG.compute.minutes,
    "gpu": GPU,
    "cpus_per_task": CONFIG.compute.cores,
}
# A signal ahead of the limit asks to save; then the same job starts again, or the next one goes on.
TRAINING = {
    **SCORING,
    "cpus_per_task": CONFIG.compute.threads,
    "slurm_extra": f"--signal=USR1@{CONFIG.compute.stop_seconds}",
}
# tables and figures
LIGHT = {"mem_mb": 2000, "runtime": 10}


def processes_of(recipe, loaders=0):
    """The resources of a data-parallel training on a cluster, with `loaders` for each process."""
    nodes, on_each = recipe.nodes, recipe.processes // recipe.nodes
    memory = CONFIG.compute.memory_mb + 500 * loaders
    asked = {
        **TRAINING,
        "mem_mb": memory * on_each,
        "cpus_per_task": (CONFIG.compute.threads + loaders) * on_each,
        "gpu": GPU * on_each,
    }
    if nodes > 1:
        # One job takes several nodes, and the command itself starts its processes by srun, which
        # Snakemake calls `mpi`. `gpu` would be a sum that Slurm may share unevenly among nodes.
        asked |= {"mpi": "srun", "nodes": nodes, "tasks": nodes, "gpu": 0}
        asked |= {"gres": f"gpu:{on_each}", "tasks_per_gpu": 0} if GPU else {}
    return asked


def asked_by(declared):
    """The resources of a stage on a cluster."""
    needs = declared.needs
    if needs == "mobile" and not CONFIG.mobile.folder:  # without ImageNet the stage only counts
        needs = "little"
    return {
        "little": {"mem_mb": declared.memory_mb, "runtime": declared.minutes},
        "scoring": SCORING,
        "measuring": {**SCORING, "cpus_per_task": CONFIG.compute.threads},
        "training": TRAINING,
        "finalists": processes_of(CONFIG.finalists),
        "mobile": processes_of(CONFIG.mobile, CONFIG.compute.loaders),
    }[needs]


def cores_for(declared):
    """The number of cores of this machine that a stage uses."""
    threads, mobile = CONFIG.compute.threads, CONFIG.mobile
    return {
        "little": 1,
        # by default as many processes as there are cores, within the limit of --cores
        "scoring": CONFIG.compute.workers or os.cpu_count(),
        "measuring": threads,
        "training": threads,
        "finalists": threads * CONFIG.finalists.processes,
        "mobile": threads * mobile.processes if mobile.folder else 1,
    }[declared.needs]


# There is no `log` directive, since Snakemake deletes its file when a job starts again. The command
# itself keeps everything that a stage prints, over all of its jobs, in results/SCALE/logs.


def contents(path):
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}  # not there, or not whole


def made_of(table):
    """The provenance of an existing table or figure in words, "" if there is none."""
    found = contents(Path(RESULTS, f"{table}.provenance.json"))
    try:
        return in_words(table, found["table"], found["made_of"])
    except (KeyError, TypeError, AttributeError):  # not there, or not whole
        return ""


def in_words(table, made, runs):
    commits = ", ".join(sorted({str(run["commit"]) for run in runs}))
    changed = " (with changes that were not committed)" if any(r["dirty"] for r in runs) else ""
    devices = ", ".join(sorted({r["hardware"]["device"] for r in runs if r["hardware"]}))
    return (
        f"Made of {len(runs)} runs, the last finished {made['finished']}; commit "
        f"{commits}{changed}; on {devices}; configuration digest {made['digest']}. "
        f"Every run is listed in ``{table}.provenance.json``."
    )


# for the captions: the scale, and the provenance of existing tables
SMALL = "" if CONFIG.scale_in_titles == "paper" else "; **not the paper's scale**"
config["at_scale"] = {
    name: f"{getattr(CONFIG, f'{name}_note')}{SMALL}."
    for name in ("scale", "network", "images", "finalists", "mobile", "anytime", "whole")
}
config["made_of"] = {one.kind: made_of(one.kind) for one in stage.declared() if one.is_table}
