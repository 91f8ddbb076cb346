r"""Which noise schedule a table of numbers is.

Files may carry the schedule itself: `trained_betas` in a scheduler's JSON, or `alphas_cumprod` among the tensors of an
original checkpoint, whose code computes with that table. Here a schedule is three numbers and a name, so the table is
compared with the schedules that those describe.
"""

import json
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ldm.config import NoiseConfig
from ldm.diffusion.schedule import make_alpha_bar
from ldm.errors import LdmError

LONGEST = 100_000  # steps; published models have 1000


def schedule_of(alpha_bar: Tensor, noise: NoiseConfig) -> NoiseConfig | None:
    r"""The config whose $\bar\alpha$ these are, None if there is none.

    `noise` is tried first, then its betas in the other shapes, each with and without zero terminal SNR. The table may
    have been rounded to half precision, with the rest of its file.
    """
    if alpha_bar.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        return None
    if alpha_bar.ndim != 1 or not 2 <= len(alpha_bar) <= LONGEST or not alpha_bar.isfinite().all():
        return None
    table = alpha_bar.detach().to("cpu", torch.float64)
    # Rounding moves a number by half a unit in its last place; sums in float32 lose a little more.
    rounding = max(torch.finfo(alpha_bar.dtype).eps, 1e-5)
    for zero_snr in (noise.zero_snr, not noise.zero_snr):
        for schedule in dict.fromkeys((noise.schedule, "scaled_linear", "linear", "cosine")):
            # "v", because NoiseConfig refuses "eps" with zero terminal SNR; the table says nothing about it.
            found = replace(noise, steps=len(table), schedule=schedule, prediction="v", zero_snr=zero_snr)
            if torch.allclose(make_alpha_bar(found).double(), table, rtol=rounding, atol=1e-6):
                return replace(found, prediction=noise.prediction)
    return None


def schedule_of_betas(betas: Any, noise: NoiseConfig) -> NoiseConfig:
    """The config whose betas these are. Raises `LdmError` for what is not a list of betas, or no schedule we know."""
    numbers = isinstance(betas, list) and all(type(b) in (int, float) and 0 < b <= 1 for b in betas)
    if not numbers or not 2 <= len(betas) <= LONGEST:
        raise LdmError(
            f"scheduler: its config has trained_betas = {json.dumps(betas)[:60]}; expected a list of 2 to {LONGEST:,} "
            "numbers above 0 and at most 1"
        )
    alpha_bar = torch.cumprod(1 - torch.tensor(betas, dtype=torch.float32, device="cpu"), dim=0)
    # In a known schedule, the first and last beta are the config's.
    for candidate in (noise, replace(noise, beta_start=float(betas[0]), beta_end=float(betas[-1]))):
        if found := schedule_of(alpha_bar, candidate):
            return found
    raise LdmError(
        f"scheduler: its config has {len(betas)} trained_betas from {betas[0]} to {betas[-1]} (their sum is "
        f"{math.fsum(betas):.6g}), which are neither linear, scaled_linear nor squaredcos_cap_v2; no other schedule is "
        "supported"
    )
