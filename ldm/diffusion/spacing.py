r"""Which noise levels a sampler visits: timestep spacings and sigma schedules.

A model is trained on a thousand noise levels; a sampler visits a few of them, from the noisiest to the end. A *spacing*
picks timesteps, and the noise schedule gives their levels. A *sigma schedule* picks the levels themselves, and the
timesteps given to the network follow from them. Both are plain functions here; each sampler's default is in its row in
`ldm/diffusion/samplers/table.py`.
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
# Where more than this share of the latent's variance should be image, pure noise is a bad start. (At Stable Diffusion's
# last timestep: 0.0047.)
MAX_SIGNAL_AT_START = 0.02
LARGEST_SIGMA = 4096.0  # stands for infinity where a finite sigma is needed, as in diffusers

# --- spacings: (number of steps, length of the schedule) -> timesteps, in ascending order --------------------


def leading(count: int, total: int) -> list[Time]:
    """1, 51, ..., 901, 951 for 20 of 1000: Stable Diffusion's, whose DDIM code adds 1 (diffusers' `steps_offset`)."""
    return [t + 1 for t in leading_from_0(count, total)]


def leading_from_0(count: int, total: int) -> list[Time]:
    """0, 50, ..., 900, 950 for 20 of 1000: "leading" without an offset, the default of diffusers' DDPM.

    In diffusers every step spans total // count timesteps. For 334 of 1000 that is 2, and the grid would end at 666:
    the noisiest third of the schedule would be skipped. Where an eighth or more would be skipped, we depart from
    diffusers and space the steps as evenly as whole timesteps allow: 0, 2, 5, ..., 994, 997.
    """
    stride = total // count
    if count * stride > total * 7 / 8:
        return [i * stride for i in range(count)]
    return [i * total // count for i in range(count)]


def trailing(count: int, total: int) -> list[Time]:
    """49, 99, ..., 949, 999 for 20 of 1000: starts at the noisiest timestep (Lin et al. 2024, section 3.3)."""
    return [round(total - i * total / count) - 1 for i in reversed(range(count))]


def linspace(count: int, total: int) -> list[Time]:
    """0, 52.6, ..., 946.4, 999 for 20 of 1000: k-diffusion's. It includes both ends; other points may be fractional."""
    times: list[Time] = np.linspace(total - 1, 0, count)[::-1].tolist()
    return times


def linspace_without_0(count: int, total: int) -> list[Time]:
    """50, 100, ..., 949, 999 for 20 of 1000: count + 1 whole timesteps, without the lowest, 0. DPM-Solver's."""
    if count >= total:
        raise LdmError(
            f"{count} sampling steps; with this sampler the model's schedule allows at most {total - 1}"
        )
    times: list[Time] = np.linspace(0, total - 1, count + 1).round()[1:].astype(int).tolist()
    return times


SPACINGS: dict[str, Callable[[int, int], list[Time]]] = {
    spacing.__name__: spacing for spacing in (leading, leading_from_0, trailing, linspace, linspace_without_0)
}


def spaced_timesteps(count: int, total: int, spacing: str = "leading") -> list[Time]:
    """The timesteps that a sampler visits when it takes `count` steps through a schedule of `total`, noisiest first.

    Raises `LdmError` unless 1 <= count <= total, or if the spacing would go past the end of the schedule.
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
    r"""`count` noise levels from `sigma_max` down to `sigma_min`, closer and closer together:

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
    r"""The (fractional) timestep whose noise level is sigma, interpolating $\log\sigma$ linearly in the table.

    k-diffusion does the same, so that a network trained on whole timesteps can be evaluated at levels between them.
    """
    return np.interp(np.log(sigma), np.log(table), np.arange(len(table)))


# --- levels --------------------------------------------------------------------------------------------------


def spaced_levels(times: Sequence[Time], alpha_bar: Float[Tensor, "T"]) -> list[Level]:
    r"""The VP levels of these timesteps. Between whole ones $\sigma / \alpha$ is interpolated linearly.

    diffusers does the same; k-diffusion interpolates the logarithm, as `time_of` does. Raises IndexError for a whole
    timestep outside the schedule.
    """
    table, alpha_bar = sigma_table(alpha_bar), alpha_bar.cpu()
    sigmas = np.interp(times, np.arange(len(table)), table)
    return [
        vp_level(t, alpha_bar) if isinstance(t, int) else vp_level_of(t, sigma)
        for t, sigma in zip(times, sigmas.tolist())
    ]


def karras_levels(count: int, alpha_bar: Float[Tensor, "T"], round_timesteps: bool = False) -> list[Level]:
    r"""The VP levels of `karras_sigmas`, over the whole range of the schedule.

    With `round_timesteps`, t is rounded to a whole timestep although sigma is not, as in diffusers' DPM++ 2M.
    """
    table = sigma_table(alpha_bar)
    sigmas = karras_sigmas(count, table[0], table[-1])
    fractional = time_of(sigmas, table)
    times: list[Time] = fractional.round().astype(int).tolist() if round_timesteps else fractional.tolist()
    return [vp_level_of(t, sigma) for t, sigma in zip(times, sigmas.tolist())]


def sampler_levels(
    sampler: Sampler, steps: int | Sequence[Time], alpha_bar: Float[Tensor, "T"], spacing: str | None = None
) -> list[Level]:
    r"""The levels for `steps` (a number of sampling steps, or a list of timesteps), followed by the final level.

    `spacing`, a name in `SPACINGS`, replaces the sampler's default levels, Karras levels included. For a schedule that
    ends in pure noise ($\bar\alpha = 0$) the default spacing is "trailing", which starts exactly there (Lin et al.
    2024, section 3.3); Karras samplers keep their own levels. Raises `LdmError` for steps that do not fit the schedule.
    """
    default = "trailing" if alpha_bar[-1] == 0 else sampler.spacing
    if isinstance(steps, Sequence):
        levels = spaced_levels(check_timesteps(steps, len(alpha_bar), spacing), alpha_bar)
    elif sampler.karras and spacing is None:
        spaced_timesteps(steps, len(alpha_bar), default)  # raises for a number of steps that does not fit
        levels = karras_levels(steps, alpha_bar, sampler.round_timesteps)
    else:
        levels = spaced_levels(spaced_timesteps(steps, len(alpha_bar), spacing or default), alpha_bar)
    return [*levels, CLEAN if sampler.clean_end else vp_level(0, alpha_bar)]


def check_timesteps(times: Sequence[Time], total: int, spacing: str | None = None) -> list[Time]:
    """A list of timesteps, whole ones as int.

    Raises `LdmError` unless they decrease and lie in [0, total - 1], or if a `spacing` is given as well.
    """
    if spacing is not None:
        raise LdmError(f"the spacing {spacing!r} and a list of timesteps; expected one of the two")
    if not (times and times[0] <= total - 1 and times[-1] >= 0 and all(b < a for a, b in pairwise(times))):
        raise LdmError(f"the timesteps {list(times)}; expected decreasing numbers between {total - 1} and 0")
    return [int(t) if t == int(t) else float(t) for t in times]


def initial_latents(sampler: Sampler, noise: Latent, levels: Sequence[Level]) -> Latent:
    r"""The latents that sampling starts from: noise of standard deviation 1 or $\sigma$ (see `Sampler.unit_start`).

    diffusers calls this factor `init_noise_sigma`, in VE units. Warns if the network expects part of an image at the
    first level, since pure noise has none.
    """
    first = levels[0]
    if first.alpha**2 > MAX_SIGNAL_AT_START:
        warnings.warn(
            f"the first of {len(levels) - 1} sampling steps is at t = {first.t:g}, where {first.alpha**2:.0%} of the "
            "latent's variance should be image, but it starts from pure noise: expect artefacts. Use more steps, or a "
            "sampler that starts at the noisiest timestep (euler, dpmpp_2m)",
            stacklevel=2,
        )
    return noise if sampler.unit_start else levels[0].sigma * noise
