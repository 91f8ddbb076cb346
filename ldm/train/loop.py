r"""The loop that trains CLIP, the VAE and the U-Net alike.

A stage hands over a module and a function `loss_at(step)`; the loop turns it into weights. Whatever a loss
draws (images, captions, noise) depends on the seed and the step alone, so a run that was interrupted takes up
exactly where its last checkpoint stands (`checkpoint.py`), and many processes can share the work of each step
without a word about what was drawn (`processes.py`).
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ldm.backend.accelerate import accelerate
from ldm.backend.cpu import bfloat16_instructions
from ldm.errors import LdmError
from ldm.leftovers import sweep_folder
from ldm.nn.attention import Attention
from ldm.train.checkpoint import (
    Identity,
    explaining_write_errors,
    graceful_interrupt,
    read_checkpoint,
    write_checkpoint,
)
from ldm.train.log import Log
from ldm.train.processes import average_gradients, barrier, device, mean_over_ranks, rank


@dataclass(frozen=True)
class Recipe:
    """How long, how much at once, how fast."""

    steps: int
    batch: int  # of all processes together
    lr: float  # the highest learning rate
    warmup: int = 200  # steps of linear warm-up
    ema: float = 0.999  # the decay of the average: it spans about 1 / (1 - ema) steps
    weight_decay: float = 0.01
    checkpoint_minutes: float = 5.0  # 0: after every step


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up to `recipe.lr`, then half a cosine down to zero (the cosine: Loshchilov & Hutter 2017)."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * done))


def mixed_precision() -> torch.autocast:
    """A context in which matrix products and convolutions run in bfloat16; weights, sums and losses do not.

    Much faster on a CUDA device and on a CPU that computes in bfloat16. On other CPUs it would not pay, and who
    set torch's default to float64 wants precision: there it does nothing.
    """
    capable = device().type == "cuda" or bfloat16_instructions() is not None
    wanted = torch.get_default_dtype() == torch.float32
    return torch.autocast(device().type, torch.bfloat16, enabled=capable and wanted)


def full_precision(x: Tensor) -> Tensor:
    """What comes out of `mixed_precision`, for losses and sums: float32, or whatever torch's default is."""
    return x.to(torch.get_default_dtype())


def use_plain_attention(module: nn.Module) -> None:
    """On a CPU, train with the open form of attention: over few tokens, its backward is quicker than the kernel's."""
    for part in module.modules():
        if isinstance(part, Attention) and device().type == "cpu":
            part.by_hand = True


@torch.no_grad()
def update_ema(average: nn.Module, module: nn.Module, decay: float, step: int) -> None:
    r"""The weights, averaged over about the last $1/(1-d)$ steps:

    $$\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta, \qquad
      d = \min\!\left(\mathtt{decay},\, \frac{1 + \mathtt{step}}{10 + \mathtt{step}}\right)$$

    In the average the noise of the gradients cancels out, and it usually paints better than any single network; used
    by Ho et al. 2020, appendix B. Early on the average must not remember the random start, so d grows to `decay`.
    """
    d = min(decay, (1 + step) / (10 + step))
    for mean, current in zip(average.parameters(), module.parameters(), strict=True):
        mean.lerp_(current, 1 - d)


def optimizer_step(module: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> Tensor:
    """One step down the gradient of `loss`, which is clipped to norm 1; returns the norm that it had."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()
    average_gradients(module)
    norm = nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    return norm


Module = TypeVar("Module", bound=nn.Module)
OnCheckpoint = Callable[[Module, Path], None]  # (averaged module, path): writes an image of the progress


def train(
    module: Module,
    loss_at: Callable[[int], Tensor],
    recipe: Recipe,
    run: Path,
    resume: bool = False,
    *,
    identity: Identity | None = None,
    on_checkpoint: OnCheckpoint[Module] | None = None,
    unit: str = "image",
) -> Module:
    """Minimise `loss_at(step)` over the module's parameters; returns their moving average.

    The module is moved to `device()`, where a loss finds it. `run` receives log.csv and, every few minutes,
    checkpoint.pt, loss.png and what `watch` paints. With `resume` the run goes on from the checkpoint, if there is one:
    an `LdmError` if it is damaged, or of a run with another recipe or `identity`; and whenever a loss or a gradient is
    not finite. Ctrl-C raises KeyboardInterrupt after a last checkpoint. `unit` is what the progress bar counts. AdamW:
    Loshchilov & Hutter 2019.
    """
    accelerate(module.to(device()))
    use_plain_attention(module)
    average = copy.deepcopy(module).requires_grad_(False).eval()
    # 0.99, not 0.999: a run of a few thousand steps should not remember squared gradients for a thousand.
    optimizer = torch.optim.AdamW(
        module.parameters(), betas=(0.9, 0.99), weight_decay=recipe.weight_decay, fused=True
    )
    parts = {"module": module, "average": average, "optimizer": optimizer}
    checkpointer = Checkpointer(
        run, recipe, identity or {}, parts, lambda path: on_checkpoint and on_checkpoint(average, path)
    )
    first, log = checkpointer.restore(resume)

    module.train()
    with graceful_interrupt() as asked, progress_bar(run.name, first, recipe, unit) as bar:
        for step in range(first, recipe.steps):
            loss = loss_at(step)
            norm = optimizer_step(module, optimizer, loss, learning_rate(recipe, step))
            update_ema(average, module, recipe.ema, step)

            # Means over all processes, so that all stop at the same step.
            value, slope, stop = mean_over_ranks(loss.item(), norm.item(), float(asked()))
            checkpointer.check_finite(step, value, slope)
            log.add(step, value)
            bar.set_postfix(loss=f"{log.smooth:.4f}", refresh=False)
            bar.update()
            checkpointer.save_if_due(step + 1, log, stop > 0)
    return average


def progress_bar(name: str, first: int, recipe: Recipe, unit: str) -> tqdm:
    """Counts samples, not steps, and says how many a second; only process 0 shows it."""
    return tqdm(
        desc=name, initial=first, total=recipe.steps, unit=unit, unit_scale=recipe.batch, disable=rank() > 0
    )


class Checkpointer:
    """Writes down how far a run is, every few minutes and at the end, and takes it up again."""

    def __init__(
        self,
        run: Path,
        recipe: Recipe,
        identity: Identity,
        parts: dict[str, Any],
        on_checkpoint: Callable[[Path], object],
    ):
        self.run, self.recipe, self.parts, self.on_checkpoint = run, recipe, parts, on_checkpoint
        self.identity = {**identity, **{f"recipe.{name}": value for name, value in asdict(recipe).items()}}
        del self.identity["recipe.checkpoint_minutes"]  # which changes no weight
        self.written = time.monotonic()
        self.kept = 0  # the step of the last checkpoint; 0: none

    def restore(self, resume: bool) -> tuple[int, Log]:
        """The first step to do, and the log of those before it."""
        checkpoint, first, kept = self.run / "checkpoint.pt", 0, None
        if resume and checkpoint.exists():
            state = read_checkpoint(checkpoint, self.identity, self.parts)
            first, kept = state["step"], state["log"]
            self.kept = first
        barrier()  # until all have read it
        if rank() == 0:
            sweep_folder(self.run)
        return first, Log(self.run, kept)

    def check_finite(self, step: int, loss: float, norm: float) -> None:
        """Raise `LdmError` if loss or gradient is not finite: then the weights are not, and are never written."""
        wrong = "loss" if not math.isfinite(loss) else "gradient" if not math.isfinite(norm) else None
        if wrong:
            kept = (
                f"the checkpoint of step {self.kept} is kept" if self.kept else "there is no checkpoint yet"
            )
            raise LdmError(
                f"{self.run.name}: the {wrong} of step {step + 1} is not finite, so training stops; {kept}. The same "
                "steps would go the same way: start anew, without --resume, with another --seed or other images"
            )

    def save_if_due(self, step: int, log: Log, stop: bool) -> None:
        """After `step` steps: write everything if it is time to. Raises KeyboardInterrupt if asked to `stop`."""
        due = time.monotonic() - self.written >= 60 * self.recipe.checkpoint_minutes
        last = step == self.recipe.steps
        if rank() == 0 and (due or stop or last):
            state = {name: part.state_dict() for name, part in self.parts.items()}
            state |= {"step": step, "log": log.state(), "identity": self.identity}
            with explaining_write_errors(self.run / "loss.png"):
                log.plot()  # before: a run whose checkpoint says that it is finished has its curve
            write_checkpoint(self.run / "checkpoint.pt", state)
            cards = [torch.cuda.current_device()] if device().type == "cuda" else []
            with torch.random.fork_rng(cards):  # looking changes nothing
                if last or not stop:
                    samples = self.run / f"samples-{step:06d}.png"
                    with explaining_write_errors(samples):
                        self.on_checkpoint(samples)
            self.written = time.monotonic()
            self.kept = step
        if stop and not last:
            raise KeyboardInterrupt(
                f"stopped after step {step} of {self.recipe.steps}; the same command with --resume goes on from there"
            )
