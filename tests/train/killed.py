r"""Kill a small training run at random moments, for `test_checkpoint.py`: `python killed.py FOLDER`.

One process imports torch, and forks one for each attempt. Every attempt resumes the training in FOLDER/cut, which
writes a checkpoint after each step, and gets a real SIGKILL. FOLDER/whole is the same training, left in peace.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401
import torch
from torch import nn

from ldm.train.loop import Recipe, train
from ldm.train.plot import plot_losses

RECIPE = Recipe(
    steps=400,  # on a single core, few of the moments it waits for are observed
    batch=1,
    lr=0.05,
    warmup=5,
    ema=0.9,
    checkpoint_minutes=0.0,
)
KILLS = 20


def attempt(run: Path) -> int:
    r"""Start or resume the training of `run` in its own process; returns the process id."""
    child = os.fork()
    if child:
        return child
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the progress bars
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 2))

    def loss_at(step: int) -> torch.Tensor:
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        dropped = nn.functional.dropout(
            module(x), 0.1
        )  # draws from torch's own generator: it must be saved too
        return (dropped - x[:, :2] * 2).square().mean()

    train(module, loss_at, RECIPE, run, resume=True)
    os._exit(0)


def still_running(child: int) -> bool:
    r"""Raises RuntimeError if it ended by itself, because waiting for it would never end."""
    if os.waitpid(child, os.WNOHANG)[0]:
        raise RuntimeError("the training ended before it could be killed; give RECIPE more steps")
    return True


def wait_for_steps(run: Path, count: int, child: int) -> None:
    r"""Wait until the checkpoint has been replaced `count` times."""
    for _ in range(count):
        before = inode(run)
        while inode(run) == before and still_running(child):
            time.sleep(0.0005)


def inode(run: Path) -> int:
    try:
        return (run / "checkpoint.pt").stat().st_ino
    except FileNotFoundError:
        return 0


def is_writing(run: Path) -> bool:
    return any(run.glob(".checkpoint.pt.*"))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    os.fsync = lambda file: None  # against power cuts, not kills: what the kernel was given, it keeps
    # The first call of each imports a lot, so call them here once and not in each attempt.
    torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    (folder / "first").mkdir(parents=True)
    (folder / "first" / "log.csv").write_text("step,loss,seconds\n1,1.0,1\n")
    plot_losses([folder / "first"], folder / "first.png")
    assert os.waitpid(attempt(folder / "whole"), 0)[1] == 0
    cut, rng = folder / "cut", random.Random(0)
    kills, while_writing = 0, 0
    for i in range(KILLS):
        child = attempt(cut)
        wait_for_steps(cut, rng.randrange(10), child)
        if i % 2:  # any moment
            time.sleep(rng.uniform(0, 0.03))
        else:  # a moment of writing
            while not is_writing(cut) and still_running(child):
                pass
        os.kill(child, signal.SIGKILL)
        kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        while_writing += is_writing(cut)
    begun = torch.load(cut / "checkpoint.pt", weights_only=True)["step"]
    assert os.waitpid(attempt(cut), 0)[1] == 0
    print(kills, while_writing, begun)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
