"""The restart of a Slurm job that ran out of time, whose work resumes from the checkpoint."""

import os
import subprocess
import time

#: seconds to wait for Slurm to end this job after it has agreed to requeue it
PATIENCE = 120


def start_again() -> str:
    """Ask Slurm to requeue the job of this process, and wait until Slurm ends it.

    Returns:
        The reason, if Slurm does not end it.
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
    return f"Slurm agreed to requeue job {job}, but did not end it within {PATIENCE} s"
