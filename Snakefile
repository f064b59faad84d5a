# The paper's tables and figures: `snakemake --cores all [--configfile presets/quick.yaml]`,
# on a Slurm cluster with `--profile slurm`.
# Each rule runs one `ghn` command; workflow/rules/stages.smk makes all rules.

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from ghn_pipeline.pipeline import stage, tracking
from ghn_pipeline.settings.config import load
from ghn_pipeline.spaces.known import SPACES
from ghn_pipeline.system.errors import UserError

if workflow.config_settings.config:
    raise WorkflowError(
        "Settings on the command line (--config) reach no job: write them into a file and add it "
        "to --configfile."
    )

# relative paths, so that a command can be repeated from this folder on any machine
ADDED = [os.path.relpath(file) for file in workflow.overwrite_configfiles]
FILES = ["params.yaml", *(file for file in ADDED if file != "params.yaml")]
try:
    CONFIG = load([Path(file) for file in FILES])
except UserError as error:
    raise WorkflowError(str(error)) from None


# loading MLflow takes longer than many of the jobs
os.environ.setdefault(tracking.WHEN, "workflow")


# after `load`, so that the message on a faulty file is that of `load`
configfile: "params.yaml"


report: "workflow/report/workflow.rst"


if Path("results").exists() and not Path("results").is_dir():
    raise WorkflowError("results is a file, and the results need a folder: move the file away.")

RESULTS = f"results/{CONFIG.scale}"


onstart:
    from ghn_pipeline.pipeline.machine import prepare_device

    if CONFIG.notice:
        print(CONFIG.notice, file=sys.stderr, flush=True)
    # on a cluster only the jobs need an accelerator
    if workflow.local_exec:
        try:
            prepare_device(CONFIG)
        except UserError as error:
            raise WorkflowError(str(error)) from None
    # if many jobs opened a new store at once, all except one would fail
    tracking.prepare()


onsuccess:
    tracking.send_rest(Path(RESULTS))


onerror:
    tracking.send_rest(Path(RESULTS))
    print(f"The output of each stage, and which signal ended it, is in {RESULTS}/logs/STAGE.log.")


include: "workflow/rules/common.smk"
include: "workflow/rules/stages.smk"


# The targets for users: `snakemake CHAPTER --cores all ...`. `ghn_pipeline/space` lists the chapters of
# a space. A chapter with the name of a stage is that stage's rule.


rule all:
    default_target: True
    input:
        [leaves(chapter) for chapter in CONFIG.space.chapters],


for CHAPTER in sorted({chapter for space in SPACES.values() for chapter in space.chapters}):
    if CHAPTER not in KINDS:

        rule:
            name:
                CHAPTER
            input:
                leaves(CHAPTER),
