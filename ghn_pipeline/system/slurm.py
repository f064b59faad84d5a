"""A Slurm job that has run out of time starts again: its work goes on from the checkpoint."""

import os
import subprocess
import time

#: seconds to be ended in by Slurm; it says that it is about to, and then does so
PATIENCE = 120


def start_again() -> str:
    """Ask Slurm to put this process's own job back into the queue, and wait to be ended.

    Returns:
        Why that was not done, if this process is still there to hear it.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return "this is no Slurm job"
    try:
        words = ["scontrol", "requeue", job]
        done = subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "there is no scontrol on this node"
    if done.returncode != 0:
        return f"scontrol requeue {job}: {done.stderr.strip()}"
    print(f"asked Slurm to start job {job} again", flush=True)
    time.sleep(PATIENCE)
    return f"Slurm did not end job {job} within {PATIENCE} s of having agreed to"
