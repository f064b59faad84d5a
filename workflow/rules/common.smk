# What the rules share.

import json
import shlex
import signal

from ghn_pipeline.files import digest

# jobs on one terminal print lines: their bars would overwrite one another
shell.prefix("export TERM=dumb; ")

# Slurm's signal ahead of a time limit goes to every process of a job and is meant for the
# training alone; what Snakemake starts inherits that it is ignored until it says otherwise
if not workflow.is_main_process:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

# without presets the command is DVC's, to the letter
OPTIONS = "" if FILES == ["params.yaml"] else f" --config {shlex.join(FILES)}"

# One machine has its accelerator for one job at a time; a cluster gives each job its own. Which
# it is, is not known before the rules are read: hence the function.
GPU = 0 if CONFIG.cpu_is_enough else 1
workflow.global_resources.setdefault("turn", 1)


def turn(wildcards):
    return GPU if workflow.local_exec else 0


# What a job asks of a cluster; `threads` would be cut to the cores of the machine that submits.
SCORING = {
    "turn": turn,
    "mem_mb": CONFIG.compute.memory_mb,
    "runtime": CONFIG.compute.minutes,
    "gpu": GPU,
    "cpus_per_task": CONFIG.compute.cores,
}
# told ahead of the limit to save; the same job then starts again, or else the next one goes on
TRAINING = {
    **SCORING,
    "cpus_per_task": CONFIG.compute.threads,
    "slurm_extra": f"--signal=USR1@{CONFIG.compute.stop_seconds}",
}


# No rule has a `log:`: Snakemake deletes it when a job starts again. What a stage says over all of
# its jobs is kept by the command itself, in results/SCALE/logs.
#
# {OPTIONS} is filled in as the job is: a file more on the command line is no change of a rule's code,
# of which Snakemake would run everything again.
def ghn(words):
    return f"ghn {words}{{OPTIONS}}"


def in_report(file, caption, category, what):
    """`file`, to stand on the page that `snakemake --report` makes."""
    return report(
        file, caption=f"../report/{caption}", category=category, labels={"what": what}
    )


def depends(stage):
    """The settings that change a stage's result: a job runs again when they have changed."""
    return lambda wildcards: stages.settings(CONFIG, stage.format(**wildcards))


def not_stale(stage, record="{stage}/run.json"):
    """No file, but a look at the record that is there: made with other settings, it is made anew.

    Snakemake remembers the settings of what it made itself, not of what DVC or a command by hand
    has put in its place.
    """

    def look(wildcards):
        name = stage.format(**wildcards)
        path = Path(RESULTS, record.format(stage=name))
        if workflow.is_main_process and path.exists():
            made = contents(path)
            if made.get("table", made).get("digest") != digest(stages.settings(CONFIG, name)):
                workflow.dag.forcefiles.add(str(path))
        return []

    return look


def contents(path):
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}  # not there, or not whole


# for the captions: what the size is, and what made the results that are there
config["scale_note"] = CONFIG.scale_note
config["made_of"] = contents(Path(RESULTS, "table4.provenance.json"))


wildcard_constraints:
    model="|".join(["oneshot", *(f"ghn/{name}" for name in CONFIG.ghns)]),
    ghn="|".join(CONFIG.ghns),
    index=r"\d+",
    rank=r"\d+",
