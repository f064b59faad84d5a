"""The progress of long work: a bar on a terminal, plain lines in a log."""

import os
import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from ghn_pipeline.system import logs

#: seconds between changes of a bar
REFRESH = 0.2


class Progress:
    """Reports steps, their rate and the time left.

    Args:
        what: name of the work.
        total: number of steps.
        start: number of steps done before this process.
        every: seconds between lines in a log.
    """

    def __init__(self, what: str, total: int, start: int, every: float) -> None:
        self.what, self.total, self.start, self.every = what, total, start, every
        self.begun = self.said = self.shown = time.monotonic()
        # a workflow engine that runs several jobs on one terminal sets TERM=dumb
        alone = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        # the bar bypasses the log, which gets lines
        bar = {"total": total, "initial": start, "desc": what, "file": sys.__stderr__}
        self.bar = tqdm(**bar, unit="step") if alone else None
        if start:
            self.say(f"goes on from step {start} of {total}")

    def say(self, text: str) -> None:
        """Print a line without damaging the bar."""
        if self.bar is None:
            print(f"{self.what}: {text}", file=sys.stderr, flush=True)
        else:
            self.bar.write(f"{self.what}: {text}", file=sys.__stderr__)
            logs.only(f"{self.what}: {text}")

    def due(self, step: int) -> bool:
        """Return whether `at` would show anything for this number of steps."""
        every = self.every if self.bar is None else min(self.every, REFRESH)
        return time.monotonic() - self.shown >= every or step == self.total

    def at(self, step: int, detail: Callable[[], str]) -> None:
        """Report that `step` steps are done; `detail` is called only if something is shown."""
        if not self.due(step):
            return
        self.shown = time.monotonic()
        if self.bar is not None:
            self.bar.n = step
            self.bar.set_postfix_str(detail(), refresh=False)
            self.bar.update(0)
        if self.shown - self.said >= self.every or step == self.total:
            self.said = self.shown
            line = self._line(step, detail())
            self.say(line) if self.bar is None else logs.only(f"{self.what}: {line}")

    def _line(self, step: int, detail: str) -> str:
        rate = (step - self.start) / max(self.said - self.begun, 1e-9)
        left = (self.total - step) / max(rate, 1e-9)
        return (
            f"step {step}/{self.total}  {detail}  {rate:.3g} steps/s  "
            f"{int(left // 60)}m{int(left % 60):02d}s left"
        )

    def close(self) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()
