r"""The training loop that CLIP, the VAE and the U-Net share.

A stage passes a module and a function `loss_at(step)`; the loop minimises it. Everything random in a loss (images,
captions, noise) depends on the seed and the step alone. So an interrupted run resumes exactly where its last checkpoint
stands (`checkpoint.py`), and several processes can split each step without exchanging what they sampled
(`processes.py`).
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
from ldm.files.leftovers import sweep_folder
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
    """The hyperparameters of a training run."""

    steps: int
    batch: int  # over all processes
    lr: float  # the peak learning rate
    warmup: int = 200  # steps of linear warm-up
    ema: float = 0.999  # decay of the moving average, which spans about 1 / (1 - ema) steps
    weight_decay: float = 0.01
    checkpoint_minutes: float = 5.0  # between checkpoints; 0 for one after every step


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up to `recipe.lr`, then cosine decay to zero (Loshchilov & Hutter 2017)."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * progress))


def mixed_precision() -> torch.autocast:
    """Autocast to bfloat16 for matrix products and convolutions; weights, sums and losses keep their dtype.

    This is much faster on a CUDA device and on a CPU with bfloat16 instructions. On other CPUs, or if torch's default
    dtype is not float32, it does nothing.
    """
    supported = device().type == "cuda" or bfloat16_instructions() is not None
    wanted = torch.get_default_dtype() == torch.float32
    return torch.autocast(device().type, torch.bfloat16, enabled=supported and wanted)


def full_precision(x: Tensor) -> Tensor:
    """Convert an output of `mixed_precision` to torch's default dtype, for losses and sums."""
    return x.to(torch.get_default_dtype())


def use_plain_attention(module: nn.Module) -> None:
    """On a CPU, use attention without the fused kernel: for few tokens, its backward pass is faster."""
    for part in module.modules():
        if isinstance(part, Attention) and device().type == "cpu":
            part.by_hand = True


@torch.no_grad()
def update_ema(average: nn.Module, module: nn.Module, decay: float, step: int) -> None:
    r"""Update the exponential moving average of the weights, over about the last $1/(1-d)$ steps:

    $$\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta, \qquad
      d = \min\!\left(\mathtt{decay},\, \frac{1 + \mathtt{step}}{10 + \mathtt{step}}\right)$$

    Gradient noise averages out, so the averaged weights usually generate better images than the current ones; used by
    Ho et al. 2020, appendix B. d grows to `decay`, so that the average soon forgets the random initialisation.
    """
    d = min(decay, (1 + step) / (10 + step))
    for mean, current in zip(average.parameters(), module.parameters(), strict=True):
        mean.lerp_(current, 1 - d)


def optimizer_step(module: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> Tensor:
    """One optimizer step on `loss`, with the gradient clipped to norm 1. Returns the norm before clipping."""
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
    """Minimise `loss_at(step)` with AdamW (Loshchilov & Hutter 2019); returns the module with averaged weights.

    The module is moved to `device()` in place. The folder `run` receives log.csv and, every few minutes, checkpoint.pt,
    loss.png and the image that `on_checkpoint` writes. With `resume`, training continues from the checkpoint if there
    is one. Ctrl-C raises KeyboardInterrupt after a last checkpoint. `unit` is what the progress bar counts.

    Raises `LdmError` if the checkpoint is damaged or belongs to a run with another recipe or `identity`, and as soon as
    a loss or a gradient is not finite.
    """
    accelerate(module.to(device()))
    use_plain_attention(module)
    average = copy.deepcopy(module).requires_grad_(False).eval()
    # 0.99, not 0.999: in a run of a few thousand steps, averaging squared gradients over a thousand is too slow.
    optimizer = torch.optim.AdamW(
        module.parameters(), betas=(0.9, 0.99), weight_decay=recipe.weight_decay, fused=True
    )
    parts = {"module": module, "average": average, "optimizer": optimizer}
    checkpointer = Checkpointer(
        run, recipe, identity or {}, parts, lambda path: on_checkpoint and on_checkpoint(average, path)
    )
    first, log = checkpointer.restore(resume)

    # The bar shows samples per second, not steps.
    options = {"unit": unit, "unit_scale": recipe.batch, "disable": rank() > 0}
    bar = tqdm(desc=run.name, initial=first, total=recipe.steps, **options)
    module.train()
    with graceful_interrupt() as interrupted, bar:
        for step in range(first, recipe.steps):
            loss = loss_at(step)
            norm = optimizer_step(module, optimizer, loss, learning_rate(recipe, step))
            update_ema(average, module, recipe.ema, step)

            # Means over all processes, so that all stop at the same step.
            loss_value, norm_value, stop = mean_over_ranks(loss.item(), norm.item(), float(interrupted()))
            checkpointer.check_finite(step, loss_value, norm_value)
            log.add(step, loss_value)
            bar.set_postfix(loss=f"{log.mean_loss:.4f}", refresh=False)
            bar.update()
            checkpointer.save_if_due(step + 1, log, stop > 0)
    return average


class Checkpointer:
    """Saves a run every few minutes and at the end, and restores it."""

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
        del self.identity["recipe.checkpoint_minutes"]  # it does not affect the weights
        self.last_saved = time.monotonic()
        self.last_step = 0  # the step of the last checkpoint; 0 for none

    def restore(self, resume: bool) -> tuple[int, Log]:
        """Returns the first step to train and the log of the steps before it."""
        checkpoint, first, log_state = self.run / "checkpoint.pt", 0, None
        if resume and checkpoint.exists():
            state = read_checkpoint(checkpoint, self.identity, self.parts)
            first, log_state = state["step"], state["log"]
            self.last_step = first
        barrier()  # until all processes have read it
        if rank() == 0:
            sweep_folder(self.run)
        return first, Log(self.run, log_state)

    def check_finite(self, step: int, loss: float, norm: float) -> None:
        """Raise `LdmError` if loss or gradient is not finite, so that non-finite weights are never saved."""
        wrong = "loss" if not math.isfinite(loss) else "gradient" if not math.isfinite(norm) else None
        if wrong:
            checkpoint = (
                f"the checkpoint of step {self.last_step} is kept"
                if self.last_step
                else "there is no checkpoint yet"
            )
            raise LdmError(
                f"{self.run.name}: the {wrong} of step {step + 1} is not finite, so training stops; {checkpoint}. "
                "Resuming would repeat the same steps: start again without --resume, with another --seed or other "
                "images"
            )

    def save_if_due(self, step: int, log: Log, stop: bool) -> None:
        """After `step` steps, save everything if it is due. Raises KeyboardInterrupt if `stop` is True."""
        due = time.monotonic() - self.last_saved >= 60 * self.recipe.checkpoint_minutes
        last = step == self.recipe.steps
        if rank() == 0 and (due or stop or last):
            state = {name: part.state_dict() for name, part in self.parts.items()}
            state |= {"step": step, "log": log.state(), "identity": self.identity}
            with explaining_write_errors(self.run / "loss.png"):
                log.plot()  # before the checkpoint, so that a finished run always has its curve
            write_checkpoint(self.run / "checkpoint.pt", state)
            devices = [torch.cuda.current_device()] if device().type == "cuda" else []
            with torch.random.fork_rng(devices):  # sampling must not change training's random numbers
                if last or not stop:
                    samples = self.run / f"samples-{step:06d}.png"
                    with explaining_write_errors(samples):
                        self.on_checkpoint(samples)
            self.last_saved = time.monotonic()
            self.last_step = step
        if stop and not last:
            raise KeyboardInterrupt(
                f"stopped after step {step} of {self.recipe.steps}; repeat the command with --resume to continue"
            )
