# What the rules share.

INDICES = [f"{i:03d}" for i in range(CONFIG.correlation.architectures)]


def depends(stage):
    """The settings that change a stage's result: a job runs again when they have changed."""
    return lambda wildcards: stages.settings(CONFIG, stage.format(**wildcards))


def ghn(verb):
    """One command; its words go to the terminal and, in one piece over all resumes, to the log."""
    return f"ghn {verb} --config {FILE} 2>&1 | tee -ai {{log}}"


# what a training asks of a cluster; on one machine only the threads count
LARGE = {"mem_mb": 8000, "runtime": 1440, "gpu": 0 if CONFIG.cpu_is_enough else 1}

# on one machine, one job at a time has the accelerator; a cluster gives each job its own
if workflow.local_exec:
    workflow.global_resources.setdefault("gpu", 1)


wildcard_constraints:
    model="ghn/[A-Za-z0-9_-]+|oneshot",
    ghn="[A-Za-z0-9_-]+",
    index=r"\d{3}",

