r"""What a run writes down: the loss, as numbers in log.csv and as a curve in loss.png."""

import time
from pathlib import Path
from typing import Any

import torch

from ldm.files import atomic_path
from ldm.train.checkpoint import explaining_write_errors
from ldm.train.plot import plot_loss
from ldm.train.processes import rank

HEADER = "step,loss,seconds\n"
EVERY = 20  # steps a line


class Log:
    """One line for every 20 steps: their mean loss, and the seconds of training so far, all attempts together.

    `state` is the log up to now, for the checkpoint, and a log made from it goes on from there: what was written
    after that checkpoint is written again when its steps are done again. Only process 0 writes files.
    """

    def __init__(self, run: Path, state: dict[str, Any] | None = None):
        state = state or {"lines": [], "recent": [], "seconds": 0.0}
        self.run = run
        self.lines: list[tuple[int, float, float]] = [tuple(line) for line in state["lines"]]
        self.recent: list[float] = list(state["recent"])  # losses that fill no line yet
        self.smooth = float("nan")
        self.began = time.monotonic() - state["seconds"]
        self.plotted = len(self.lines)  # lines that loss.png shows already
        if rank() == 0:
            with explaining_write_errors(run / "log.csv"), atomic_path(run / "log.csv") as temporary:
                temporary.write_text(HEADER + "".join(map(_csv, self.lines)))

    @property
    def seconds(self) -> float:
        """Of training so far, all attempts together."""
        return time.monotonic() - self.began

    def state(self) -> dict[str, Any]:
        return {"lines": self.lines, "recent": self.recent, "seconds": self.seconds}

    def add(self, step: int, loss: float) -> None:
        """Note the loss of one step; every 20th writes a line."""
        self.recent.append(loss)
        self.smooth = sum(self.recent) / len(self.recent)
        if (step + 1) % EVERY == 0:
            self.lines.append((step + 1, self.smooth, self.seconds))
            self.recent = []
            if rank() == 0:
                with explaining_write_errors(self.run / "log.csv"), open(self.run / "log.csv", "a") as file:
                    file.write(_csv(self.lines[-1]))

    def plot(self) -> None:
        """Draw loss.png anew, if there is anything new."""
        if len(self.lines) > self.plotted:
            plot_loss([line[:2] for line in self.lines], self.run.name, self.run / "loss.png")
            self.plotted = len(self.lines)


def _csv(line: tuple[int, float, float]) -> str:
    step, loss, seconds = line
    return f"{step},{loss:.6f},{seconds:.1f}\n"


def seconds_spent(run: Path) -> float:
    """The seconds that a finished run took, all attempts together."""
    return torch.load(run / "checkpoint.pt", mmap=True, weights_only=True)["log"]["seconds"]
