"""Processes that work for another one."""

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """Let this process, which `multiprocessing` started, end when its parent is gone.

    A worker whose parent was killed would wait for work for ever.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def is_worker() -> bool:
    """Whether torchrun has started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def leads() -> bool:
    """Whether this process writes files: as worker 0, or because it is no worker."""
    return not is_worker() or os.environ["RANK"] == "0"


def stop_with_parent(parent: int) -> None:
    """Have this process, whatever has started it, told to stop when its parent is gone.

    Args:
        parent: the number of the process that started it, which may be gone already.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
