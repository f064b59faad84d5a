# The paper's tables and figures: `snakemake --cores all [--configfile presets/quick.yaml]`,
# on a Slurm cluster with `--profile slurm`.
# Rules stand in workflow/rules, one file per chapter of the paper; each is one `ghn` command.

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from ghn_pipeline.pipeline import stages
from ghn_pipeline.settings.config import load
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
    from ghn_pipeline.system.compute import prepare_device

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
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/correlation.smk"
include: "workflow/rules/ablations.smk"
include: "workflow/rules/search.smk"
include: "workflow/rules/finalists.smk"
include: "workflow/rules/mobile.smk"
include: "workflow/rules/anytime.smk"
include: "workflow/rules/memory.smk"
include: "workflow/rules/benchmark.smk"


# What a person asks for: `snakemake CHAPTER --cores all ...`. Chapters that are a rule of their own:
# `ablations` (Figures 5a and 5b, Table 5), `memory`, and `benchmark`, for presets of NAS-Bench-201.
# `anytime` is for presets of that space.


rule all:
    default_target: True
    input:
        # the chapters of the space
        rules.benchmark.output if CONFIG.space.name == "nasbench201" else
        rules.anytime_curves.output if CONFIG.space.name == "anytime" else [
            rules.table4.output,
            rules.ablations.output,
            rules.table1.output,
            rules.table2.output,
            rules.table3.output,
            rules.search_curves.output,
            rules.export.output,
            rules.memory.output,
            expand(f"{RESULTS}/scores/ghn/{{ghn}}/scores.csv", ghn=CONFIG.correlation.ghns),
        ],


# Table 4 and Figure 6: a newcomer's first half hour at the quick preset
rule correlation:
    input:
        rules.table4.output,


# Tables 1 and 2, the curves of the searches, Figure 7 and the winner's files
rule search:
    input:
        rules.table1.output,
        rules.table2.output,
        rules.search_curves.output,
        rules.export.output,


# Table 3
rule transfer:
    input:
        rules.table3.output,


# Figures 3, 4 and 8 to 10
rule anytime:
    input:
        rules.anytime_curves.output,
