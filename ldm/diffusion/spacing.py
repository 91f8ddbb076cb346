r"""Which noise levels a sampler visits: timestep spacings and sigma schedules.

A model is trained on some thousand noise levels; a sampler visits a few of them, from the noisiest to the end. A
*spacing* picks timesteps, and the schedule gives their levels. A *sigma schedule* picks the levels themselves, and the
time that the network is told follows from them. Both are plain functions here, and each sampler's usual ones are in its
row in `ldm/diffusion/samplers/table.py`.
"""

import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.level import CLEAN, Latent, Level, Time, vp_level, vp_level_of
from ldm.diffusion.samplers import Sampler
from ldm.errors import LdmError

Numbers = Float[np.ndarray, "n"]
MOST_SIGNAL = (
    0.02  # of a latent's variance, in noise to start from; at Stable Diffusion's last timestep it is 0.0047
)
LARGEST_SIGMA = 4096.0  # stands for infinity, as in the reference, where a formula needs a finite noise level

# --- spacings: (number of steps, length of the schedule) -> timesteps, in ascending order --------------------


def leading(count: int, total: int) -> list[Time]:
    """1, 51, ..., 901, 951 for 20 of 1000: Stable Diffusion's, whose training code had the offset of 1."""
    return [t + 1 for t in leading_from_0(count, total)]


def leading_from_0(count: int, total: int) -> list[Time]:
    """0, 50, ..., 900, 950 for 20 of 1000: DDPM's.

    The reference's steps all have total // count timesteps, rounded down; for 334 of 1000 they would end at 666, with
    nothing removed above. Where an eighth of the schedule or more would be left out, the steps are as even as whole
    timesteps allow instead: 0, 2, 5, ..., 994, 997.
    """
    stride = total // count
    if count * stride > total * 7 / 8:
        return [i * stride for i in range(count)]
    return [i * total // count for i in range(count)]


def trailing(count: int, total: int) -> list[Time]:
    """49, 99, ..., 949, 999 for 20 of 1000: starts at the noisiest timestep (Lin et al. 2024, section 3.3)."""
    return [round(total - i * total / count) - 1 for i in reversed(range(count))]


def linspace(count: int, total: int) -> list[Time]:
    """0, 52.6, ..., 946.4, 999 for 20 of 1000: both ends, and points between timesteps as they come; k-diffusion's."""
    times: list[Time] = np.linspace(total - 1, 0, count)[::-1].tolist()
    return times


def linspace_inner(count: int, total: int) -> list[Time]:
    """50, 100, ..., 949, 999 for 20 of 1000: whole timesteps; of count + 1 the lowest, 0, is left out. DPM-Solver's."""
    if count >= total:
        raise LdmError(
            f"{count} sampling steps; with this sampler the model's schedule allows at most {total - 1}"
        )
    times: list[Time] = np.linspace(0, total - 1, count + 1).round()[1:].astype(int).tolist()
    return times


SPACINGS: dict[str, Callable[[int, int], list[Time]]] = {
    spacing.__name__: spacing for spacing in (leading, leading_from_0, trailing, linspace, linspace_inner)
}


def spaced_timesteps(count: int, total: int, spacing: str = "leading") -> list[Time]:
    """The timesteps that a sampler visits when it takes `count` steps through a schedule of `total`, noisiest first.

    Raises `LdmError` unless 1 <= count <= total, and where a spacing leads past the end of the schedule.
    """
    if not 1 <= count <= total:
        raise LdmError(
            f"{count} sampling steps; expected 1 to {total}, the length of the model's noise schedule"
        )
    if spacing not in SPACINGS:
        raise LdmError(f"timestep spacing {spacing!r}; expected one of {', '.join(SPACINGS)}")
    times = SPACINGS[spacing](count, total)
    if times[-1] >= total:
        raise LdmError(
            f"{count} sampling steps; this sampler starts its grid at 1, so the model's schedule of {total} allows "
            f"at most {total - 1}"
        )
    return times[::-1]


# --- sigma schedules: in VE units, sigma / alpha --------------------------------------------------------------


def karras_sigmas(count: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Numbers:
    r"""`count` noise levels from `sigma_max` down to `sigma_min`, ever closer together:

    $$\sigma_i = \left(\sigma_{\max}^{1/\rho} + \tfrac{i}{n-1} \left(\sigma_{\min}^{1/\rho}
                 - \sigma_{\max}^{1/\rho}\right)\right)^{\rho}, \qquad i = 0 \ldots n-1$$

    Evenly spaced $\rho$-th roots: few steps are spent where there is almost nothing but noise, and many where the
    details appear. Source: Karras et al. 2022, eq. 5 (with rho = 7 from their table 1).
    """
    ramp = np.linspace(0, 1, count)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return (high + ramp * (low - high)) ** rho


def sigma_table(alpha_bar: Float[Tensor, "T"]) -> Float[np.ndarray, "T"]:
    r"""$\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$ of every timestep, rising, in float64; at most `LARGEST_SIGMA`."""
    table = np.maximum(alpha_bar.detach().cpu().double().numpy(), 1 / (1 + LARGEST_SIGMA**2))
    return np.sqrt((1 - table) / table)


def time_of(sigma: Numbers, table: Float[np.ndarray, "T"]) -> Numbers:
    r"""The time whose noise level is sigma: the table inverted, with $\log\sigma$ linear between timesteps.

    k-diffusion does the same, to evaluate at levels in between a network that was trained on whole timesteps.
    """
    return np.interp(np.log(sigma), np.log(table), np.arange(len(table)))


# --- levels --------------------------------------------------------------------------------------------------


def spaced_levels(times: Sequence[Time], alpha_bar: Float[Tensor, "T"]) -> list[Level]:
    r"""The VP levels of these times. Between two timesteps, $\sigma / \alpha$ is linear.

    Raises IndexError for a whole timestep outside the schedule.
    """
    table, alpha_bar = sigma_table(alpha_bar), alpha_bar.cpu()
    sigmas = np.interp(times, np.arange(len(table)), table)
    return [
        vp_level(t, alpha_bar) if isinstance(t, int) else vp_level_of(t, sigma)
        for t, sigma in zip(times, sigmas.tolist())
    ]


def karras_levels(count: int, alpha_bar: Float[Tensor, "T"], whole: bool = False) -> list[Level]:
    r"""The VP levels of `karras_sigmas`, over the whole range of the schedule.

    With `whole` the network is told the nearest timestep, although the level lies beside it: so does the reference's
    DPM++ 2M.
    """
    table = sigma_table(alpha_bar)
    sigmas = karras_sigmas(count, table[0], table[-1])
    times = time_of(sigmas, table)
    told: list[Time] = times.round().astype(int).tolist() if whole else times.tolist()
    return [vp_level_of(t, sigma) for t, sigma in zip(told, sigmas.tolist())]


def sampler_levels(
    sampler: Sampler, steps: int | Sequence[Time], alpha_bar: Float[Tensor, "T"], spacing: str | None = None
) -> list[Level]:
    r"""The levels of a number of steps, or of the timesteps themselves, and the one where the last step ends.

    `spacing`, a name in `SPACINGS`, replaces the sampler's usual levels, Karras's included. The usual spacing of a
    schedule that ends in pure noise ($\bar\alpha = 0$) is trailing, to start there (Lin et al. 2024, section 3.3).
    Raises `LdmError` for steps that do not fit the schedule.
    """
    usual = "trailing" if alpha_bar[-1] == 0 else sampler.spacing
    if isinstance(steps, Sequence):
        levels = spaced_levels(descending(steps, len(alpha_bar), spacing), alpha_bar)
    elif sampler.karras and spacing is None:
        spaced_timesteps(steps, len(alpha_bar), usual)  # raises for a number of steps that does not fit
        levels = karras_levels(steps, alpha_bar, whole=sampler.spacing == "linspace_inner")
    else:
        levels = spaced_levels(spaced_timesteps(steps, len(alpha_bar), spacing or usual), alpha_bar)
    return [*levels, CLEAN if sampler.clean_end else vp_level(0, alpha_bar)]


def descending(times: Sequence[Time], total: int, spacing: str | None = None) -> list[Time]:
    """A caller's timesteps. Raises `LdmError` unless they fall from below `total` to 0 or more, without a `spacing`."""
    if spacing is not None:
        raise LdmError(f"the spacing {spacing!r} and a list of timesteps; expected one of the two")
    if not times or not all(b < a for a, b in pairwise([total, *times, -0.5])):
        raise LdmError(
            f"the timesteps {list(times)}; expected falling numbers from {total - 1} at most to 0 at least"
        )
    return [int(t) if t == int(t) else float(t) for t in times]


def initial_latents(sampler: Sampler, noise: Latent, levels: Sequence[Level]) -> Latent:
    r"""Where an image from noise starts: at noise of variance 1, or of variance $\sigma^2$ (see `Sampler`).

    Warns where the network expects a part of the image at the first level, since pure noise has none.
    """
    first = levels[0]
    if first.alpha**2 > MOST_SIGNAL:
        warnings.warn(
            f"the first of {len(levels) - 1} sampling steps is at t = {first.t:g}, where {first.alpha**2:.0%} of the "
            "latent's variance should be image, but it starts from pure noise: expect faults. Take more steps, or a "
            "sampler that starts at the noisiest timestep (euler, dpmpp_2m)",
            stacklevel=2,
        )
    return noise if sampler.unit_start else levels[0].sigma * noise
