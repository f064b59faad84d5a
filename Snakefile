# The paper's tables and figures: `snakemake --cores all [--configfile presets/quick.yaml]`,
# on a Slurm cluster with `--profile slurm`.
# Each rule is one `ghn` command; all of them stand in workflow/rules/stages.smk.

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from ghn_pipeline.pipeline import stage
from ghn_pipeline.settings.config import load
from ghn_pipeline.space.spaces import SPACES
from ghn_pipeline.system.errors import UserError

if workflow.config_settings.config:
    raise WorkflowError(
        "Settings on the command line (--config) reach no job: write them into a file and add it "
        "to --configfile."
    )

# relative, so that a command can be typed again from here, whatever machine it ran on
ADDED = [os.path.relpath(file) for file in workflow.overwrite_configfiles]
FILES = ["params.yaml", *(file for file in ADDED if file != "params.yaml")]
try:
    CONFIG = load([Path(file) for file in FILES])
except UserError as error:
    raise WorkflowError(str(error)) from None


# below, so that a fault of the file is answered with the message of `load`
configfile: "params.yaml"


report: "workflow/report/workflow.rst"


if Path("results").exists() and not Path("results").is_dir():
    raise WorkflowError("results is a file, and the results need a folder: move it away.")

RESULTS = f"results/{CONFIG.scale}"


onstart:
    from ghn_pipeline.pipeline import tracking
    from ghn_pipeline.pipeline.machine import prepare_device

    if CONFIG.notice:
        print(CONFIG.notice, file=sys.stderr, flush=True)
    # on a cluster it is the jobs that need an accelerator
    if workflow.local_exec:
        try:
            prepare_device(CONFIG)
        except UserError as error:
            raise WorkflowError(str(error)) from None
    # of many jobs that open a new store at once, all but one would fail
    tracking.prepare()


onerror:
    print(f"What each stage said, and which signal ended it, is in {RESULTS}/logs/STAGE.log.")


include: "workflow/rules/common.smk"
include: "workflow/rules/stages.smk"


# What a person asks for: `snakemake CHAPTER --cores all ...`. `ghn_pipeline/space` says which chapters
# a space has. A chapter with the name of a stage is that stage's rule.


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
