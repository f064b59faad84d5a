"""Processes that work for a parent process."""

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """End this process, which `multiprocessing` started, when its parent is gone.

    Otherwise a worker would wait for ever after its parent was killed.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def is_worker() -> bool:
    """Return whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def leads() -> bool:
    """Return whether this process writes files, which worker 0 and single processes do."""
    return not is_worker() or os.environ["RANK"] == "0"


def stop_with_parent(parent: int) -> None:
    """Signal this process to stop when its parent is gone.

    Args:
        parent: process number of the parent, which may already be gone.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
