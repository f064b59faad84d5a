# The paper's tables and figures: `snakemake --cores all [--configfile presets/quick.yaml]`.
# Rules stand in workflow/rules, one file per chapter of the paper; each is one `ghn` command.

from pathlib import Path

from snakemake.exceptions import WorkflowError

from ghn_pipeline import stages
from ghn_pipeline.config import validate, write
from ghn_pipeline.errors import UserError

configfile: "params.yaml"


try:
    CONFIG = validate(config, "params.yaml, --configfile and --config")
except UserError as error:
    raise WorkflowError(str(error)) from None

if Path("results").exists() and not Path("results").is_dir():
    raise WorkflowError("results is a file, and the results need a folder: move it away.")

RESULTS = f"results/{CONFIG.scale}"
# the settings in force, presets and --config included, for the commands to read
FILE = f"{RESULTS}/config.yaml"


onstart:
    from ghn_pipeline.compute import prepare_device

    try:
        # not before: another run may hold the folder, and a dry run writes nothing
        write(CONFIG, Path(FILE))
        # on a cluster it is the jobs that need an accelerator
        if workflow.local_exec:
            prepare_device(CONFIG)
    except UserError as error:
        raise WorkflowError(str(error)) from None


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/correlation.smk"


rule all:
    default_target: True
    input:
        rules.table4.output,
        [f"{RESULTS}/scores/ghn/{name}/scores.csv" for name in CONFIG.ghns],
