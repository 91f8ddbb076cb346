r"""The log of a run: the loss, as numbers in log.csv and as a curve in loss.png."""

import time
from pathlib import Path
from typing import Any

import torch

from ldm.files.read_write import atomic_path
from ldm.train.checkpoint import explaining_write_errors
from ldm.train.plot import plot_losses
from ldm.train.processes import rank

HEADER = "step,loss,seconds\n"
STEPS_PER_LINE = 20


class Log:
    """One line for every 20 steps: their mean loss and the total training time in seconds, over all resumed parts.

    `state()` goes into the checkpoint, and a log made from that state continues from there: lines written after the
    checkpoint are dropped and written again when their steps are repeated. Only process 0 writes files.
    """

    def __init__(self, run: Path, state: dict[str, Any] | None = None):
        state = state or {"lines": [], "recent": [], "seconds": 0.0}
        self.run = run
        self.lines: list[tuple[int, float, float]] = [tuple(line) for line in state["lines"]]
        self.recent: list[float] = list(state["recent"])  # the losses since the last line
        self.mean_loss = float("nan")
        self.start_time = time.monotonic() - state["seconds"]
        self.plotted = len(self.lines)  # the number of lines that loss.png shows
        if rank() == 0:
            with explaining_write_errors(run / "log.csv"), atomic_path(run / "log.csv") as temporary:
                temporary.write_text(HEADER + "".join(map(_csv, self.lines)))

    @property
    def seconds(self) -> float:
        """The total training time, over all resumed parts of the run."""
        return time.monotonic() - self.start_time

    def state(self) -> dict[str, Any]:
        return {"lines": self.lines, "recent": self.recent, "seconds": self.seconds}

    def add(self, step: int, loss: float) -> None:
        """Record the loss of one step; every 20th step writes a line."""
        self.recent.append(loss)
        self.mean_loss = sum(self.recent) / len(self.recent)
        if (step + 1) % STEPS_PER_LINE == 0:
            self.lines.append((step + 1, self.mean_loss, self.seconds))
            self.recent = []
            if rank() == 0:
                with explaining_write_errors(self.run / "log.csv"), open(self.run / "log.csv", "a") as file:
                    file.write(_csv(self.lines[-1]))

    def plot(self) -> None:
        """Update loss.png if there are new lines."""
        if len(self.lines) > self.plotted:
            plot_losses([self.run], self.run / "loss.png")
            self.plotted = len(self.lines)


def _csv(line: tuple[int, float, float]) -> str:
    step, loss, seconds = line
    return f"{step},{loss:.6f},{seconds:.1f}\n"


def seconds_spent(run: Path) -> float:
    """The total training time of a finished run, over all its resumed parts."""
    return torch.load(run / "checkpoint.pt", mmap=True, weights_only=True)["log"]["seconds"]
