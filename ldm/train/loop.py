r"""The loop that trains CLIP, the VAE and the U-Net alike.

A stage hands over a module and a function `loss_at(step)`; the loop turns it into weights. Whatever a loss
draws (pictures, captions, noise) depends on the seed and the step alone, so a run that was interrupted takes up
exactly where its last checkpoint stands, given the same seed, recipe and inputs.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ldm.files import atomic_path
from ldm.nn.attention import Attention


@dataclass(frozen=True)
class Recipe:
    """How long, how much at once, how fast."""

    steps: int
    batch: int
    lr: float  # the highest learning rate
    warmup: int = 200  # steps until it is reached
    ema: float = 0.999  # the decay of the average: it spans about 1 / (1 - ema) steps
    weight_decay: float = 0.01
    checkpoint_minutes: float = 5.0


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up to `recipe.lr`, then half a cosine down to zero (the cosine: Loshchilov & Hutter 2017)."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * done))


def mixed_precision() -> torch.autocast:
    """A context in which matrix products and convolutions run in bfloat16; weights, sums and losses do not.

    Much faster where the CPU has matrix units for it (AMX); elsewhere it would not pay, and this does nothing.
    """
    capable = hasattr(torch.cpu, "get_capabilities") and torch.cpu.get_capabilities().get("amx_bf16", False)
    return torch.autocast("cpu", torch.bfloat16, enabled=capable)


def attend_by_hand(module: nn.Module) -> None:
    """Train with the open form of attention: over few tokens, its backward is quicker on a CPU than the kernel's."""
    for part in module.modules():
        if isinstance(part, Attention):
            part.by_hand = True


@torch.no_grad()
def update_ema(average: nn.Module, module: nn.Module, decay: float, step: int) -> None:
    r"""$\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta$: the weights, averaged over the last $1/(1-d)$ steps.

    In the average the noise of the gradients cancels out, and it usually paints better than any single network; used
    by Ho et al. 2020, appendix B. Early on the average must not remember the random start, so d grows to `decay`.
    """
    d = min(decay, (1 + step) / (10 + step))
    for mean, current in zip(average.parameters(), module.parameters(), strict=True):
        mean.lerp_(current, 1 - d)


Module = TypeVar("Module", bound=nn.Module)


def train(
    module: Module, loss_at: Callable[[int], Tensor], recipe: Recipe, run: Path, resume: bool = False
) -> Module:
    """Minimise `loss_at(step)` over the module's parameters; returns their moving average.

    `run` receives log.csv and checkpoint.pt; with `resume` the run goes on from the latter. AdamW (Loshchilov &
    Hutter 2019), gradients clipped to norm 1.
    """
    attend_by_hand(module)
    average = copy.deepcopy(module).requires_grad_(False)
    # 0.99, not 0.999: a run of a few thousand steps should not remember squared gradients for a thousand.
    optimizer = torch.optim.AdamW(module.parameters(), betas=(0.9, 0.99), weight_decay=recipe.weight_decay)
    checkpoint, first = run / "checkpoint.pt", 0
    if resume and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        module.load_state_dict(saved["module"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    log = Log(run / "log.csv", first)

    module.train()
    saved_at = time.monotonic()
    bar = tqdm(range(first, recipe.steps), initial=first, total=recipe.steps, desc=run.name, unit="step")
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        loss = loss_at(step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        update_ema(average, module, recipe.ema, step)

        log.add(step, loss.item())
        bar.set_postfix(loss=f"{log.smooth:.4f}", refresh=False)
        # Only where a line of the log ends: a resumed run could not finish a line that it has not begun.
        due = not log.recent and time.monotonic() - saved_at > 60 * recipe.checkpoint_minutes
        if step + 1 == recipe.steps or due:
            state = {"module": module.state_dict(), "average": average.state_dict()}
            state |= {"optimizer": optimizer.state_dict(), "step": step + 1}
            with atomic_path(checkpoint) as temporary:
                torch.save(state, temporary)
            saved_at = time.monotonic()
    return average.eval()


class Log:
    """A CSV of the loss: one line for every 20 steps, with their mean."""

    every = 20

    def __init__(self, path: Path, first: int):
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = path.read_text().splitlines()[1:] if first and path.exists() else []
        kept = [row for row in rows if int(row.split(",")[0]) <= first]  # a resumed run may repeat some steps
        with atomic_path(path) as temporary:
            temporary.write_text("\n".join(["step,loss", *kept]) + "\n")
        self.path, self.smooth = path, float("nan")
        self.recent: list[float] = []

    def add(self, step: int, loss: float) -> None:
        """Note the loss of one step; every 20th writes a line with the mean of the last 20."""
        self.recent.append(loss)
        self.smooth = sum(self.recent) / len(self.recent)
        if (step + 1) % self.every == 0:
            with open(self.path, "a") as file:
                file.write(f"{step + 1},{self.smooth:.6f}\n")
            self.recent = []
