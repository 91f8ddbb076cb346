r"""Which noise levels a sampler visits: spacings of timesteps, and the levels that follow.

A model is trained on a thousand noise levels; a sampler visits a few of them, from the noisiest to the end. A *spacing*
picks timesteps, and the noise schedule gives their levels. A *sigma schedule* (`ldm/diffusion/sigmas.py`) picks the
levels themselves, and the timesteps given to the network follow from them. Any of both goes with any sampler; each
sampler's default is in its row in `ldm/diffusion/samplers/table.py`, together with the names that other programs use.
"""

import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.level import CLEAN, Latent, Level, Schedule, Time, vp_level, vp_level_of
from ldm.diffusion.samplers import Sampler, find_spacing
from ldm.diffusion.sigmas import SIGMA_SCHEDULES, Numbers, sigma_table, time_of
from ldm.errors import LdmError

# Where more than this share of the latent's variance should be image, pure noise is a bad start. (At Stable Diffusion's
# last timestep: 0.0047.)
MAX_SIGNAL_AT_START = 0.02
DISTILLED_STEPS = 50  # the timesteps on which LCM was distilled

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


def simple(count: int, total: int) -> list[Time]:
    """49, 99, ..., 949, 999 for 20 of 1000: ComfyUI's. Like trailing, with timesteps rounded up."""
    return [total - 1 - int(i * total / count) for i in reversed(range(count))]


def ddim_uniform(count: int, total: int) -> list[Time]:
    """1, 51, ..., 901, 951 for 20 of 1000: ComfyUI's, which goes on from 1 in strides of total // count to the end.

    For 30 of 1000 that makes 31 steps, 1, 34, ..., 958, 991, of which "leading" leaves the last out.
    """
    return list(range(1, total, max(total // count, 1)))


def beta_cdf(x: Numbers, shape: float = 0.6) -> Numbers:
    r"""The cumulative distribution function of the symmetric beta distribution Beta(a, a), for x in [0, 1]:

    $$F(x) = \frac{\int_0^x u^{a-1} (1-u)^{a-1}\,du}{\int_0^1 u^{a-1} (1-u)^{a-1}\,du}$$

    By a power series of $(1-u)^{a-1}$, which converges fast below 1/2; above it, by symmetry, $F(x) = 1 - F(1-x)$.
    """
    near_0, coefficient = np.minimum(x, 1 - x), 1.0
    part, half = np.zeros_like(near_0), 0.0
    for k in range(60):
        part, half = (
            sums + coefficient * u ** (shape + k) / (shape + k) for sums, u in ((part, near_0), (half, 0.5))
        )
        coefficient *= (k + 1 - shape) / (k + 1)
    return np.where(x <= 0.5, part, 2 * half - part) / (2 * half)


def beta(count: int, total: int) -> list[Time]:
    """Dense at both ends, where the composition and the details are decided: quantiles of a beta distribution.

    13, 40, 77, ..., 986, 999 for 20 of 1000: the timesteps below which a share of 1, 1 - 1/20, ..., 1/20 of Beta(0.6,
    0.6) lies, rounded; duplicates are dropped, so many steps become fewer. diffusers' `use_beta_sigmas` spaces sigmas
    instead of timesteps this way, which gives other levels. Source: Lee et al. 2024b, in ComfyUI's form.
    """
    # A timestep t is the rounded quantile of all shares between F(t - 1/2) and F(t + 1/2).
    bounds = beta_cdf((np.arange(total - 1) + 0.5) / (total - 1))
    shares = 1 - np.linspace(0, 1, count, endpoint=False)
    times: list[Time] = np.unique(np.searchsorted(bounds, shares, side="right")).tolist()
    return times


def lcm(count: int, total: int) -> list[Time]:
    """259, 499, 759, 999 for 4 of 1000: as even as the 50 timesteps 19, 39, ..., 999 allow.

    A latent consistency model was distilled on these 50, and does not know the others (`samplers/lcm.py`). Source: Luo
    et al. 2023, in diffusers' form.
    """
    grid = min(DISTILLED_STEPS, total)
    if count > grid:
        raise LdmError(f"{count} sampling steps; the spacing 'lcm' has at most {grid}")
    return [(grid - i * grid // count) * (total // grid) - 1 for i in reversed(range(count))]


SPACINGS: dict[str, Callable[[int, int], list[Time]]] = {
    spacing.__name__: spacing
    for spacing in (
        *(leading, leading_from_0, trailing, linspace, linspace_without_0),
        *(simple, ddim_uniform, beta, lcm),
    )
}


def spaced_timesteps(count: int, total: int, spacing: str = "leading") -> list[Time]:
    """The timesteps that a sampler visits when it takes `count` steps through a schedule of `total`, noisiest first.

    Raises `LdmError` unless 1 <= count <= total, or if the spacing would go past the end of the schedule.
    """
    check_count(count, total)
    times = SPACINGS[spacing](count, total)
    if times[-1] >= total:
        raise LdmError(
            f"{count} sampling steps; this sampler starts its grid at 1, so the model's schedule of {total} allows "
            f"at most {total - 1}"
        )
    return times[::-1]


def check_count(count: int, total: int) -> None:
    """Raise `LdmError` unless 1 <= count <= total."""
    if not 1 <= count <= total:
        raise LdmError(
            f"{count} sampling steps; expected 1 to {total}, the length of the model's noise schedule"
        )


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


def sigma_levels(
    count: int, alpha_bar: Float[Tensor, "T"], schedule: str, round_timesteps: bool = False
) -> list[Level]:
    r"""The VP levels of a sigma schedule, a name in `SIGMA_SCHEDULES`, over the whole range of the model's levels.

    With `round_timesteps`, t is rounded to a whole timestep although sigma is not, as in diffusers' DPM++ 2M.
    """
    check_count(count, len(alpha_bar))
    table = sigma_table(alpha_bar)
    sigmas = SIGMA_SCHEDULES[schedule](count, table)
    fractional = time_of(sigmas, table)
    times: list[Time] = fractional.round().astype(int).tolist() if round_timesteps else fractional.tolist()
    return [vp_level_of(t, sigma) for t, sigma in zip(times, sigmas.tolist())]


def vp_schedule(alpha_bar: Float[Tensor, "T"]) -> Schedule:
    """All the levels of a VP model, for samplers that use some between those they visit (see `Schedule`)."""
    table, alpha_bar = sigma_table(alpha_bar), alpha_bar.cpu()
    return Schedule(
        at_time=lambda t: vp_level(int(t), alpha_bar),
        at_ratio=lambda ratio: vp_level_of(float(time_of(np.array([ratio]), table)[0]), ratio),
    )


def sampler_levels(
    sampler: Sampler, steps: int | Sequence[Time], alpha_bar: Float[Tensor, "T"], spacing: str | None = None
) -> list[Level]:
    r"""The levels for `steps` (a number of sampling steps, or a list of timesteps), followed by the final level.

    `spacing` replaces the sampler's default: a name in `SPACINGS` or `SIGMA_SCHEDULES`, or another program's name for
    one (see `find_spacing`). For a schedule that ends in pure noise ($\bar\alpha = 0$) the default is "trailing", which
    starts exactly there (Lin et al. 2024, section 3.3), unless the sampler's own is "lcm" or a sigma schedule. Raises
    `LdmError` for an unknown spacing, and for steps that do not fit the schedule.
    """
    default = sampler.spacing
    if alpha_bar[-1] == 0 and default.startswith(("leading", "linspace")):
        default = "trailing"
    name = default if spacing is None else find_spacing(spacing)
    if isinstance(steps, Sequence):
        levels = spaced_levels(check_timesteps(steps, len(alpha_bar), spacing), alpha_bar)
    elif name in SIGMA_SCHEDULES:
        levels = sigma_levels(steps, alpha_bar, name, sampler.round_timesteps)
    else:
        levels = spaced_levels(spaced_timesteps(steps, len(alpha_bar), name), alpha_bar)
    end = CLEAN if sampler.clean_end else vp_level(0, alpha_bar)
    return vp_schedule(alpha_bar).attached_to([*levels, end])


def levels_between(levels: Sequence[Level], start: float, stop: float, total: int) -> list[Level]:
    r"""The levels of one part of sampling, for two models that share it: from a share `start` of the way to `stop`.

    The way begins at timestep `total` and ends at 0. The first model stops at the first level below
    `total * (1 - stop)`; the second, with `start` equal to that `stop`, goes on from there. Source: the "ensemble of
    experts" of Stable Diffusion XL's base model and refiner (Podell et al. 2024, section 2.5), in diffusers' form.
    Raises `LdmError` unless 0 <= start < stop <= 1, or if no step is left.
    """
    if (start, stop) == (0, 1):  # the whole way
        return list(levels)
    if not 0 <= start < stop <= 1:
        raise LdmError(f"a start of {start} and a stop of {stop}; expected 0 <= start < stop <= 1")
    first, last = (total * (1 - share) for share in (start, stop))
    inside = [level for level in levels[:-1] if last <= level.t < first]
    if not inside:
        raise LdmError(f"no timestep lies between {first:g} and {last:g}; take more steps")
    following = levels.index(inside[-1]) + 1
    return [*inside, levels[following]]


def check_timesteps(times: Sequence[Time], total: int, spacing: str | None = None) -> list[Time]:
    """A list of timesteps, whole ones as int.

    Raises `LdmError` unless they decrease and lie in [0, total - 1], or if a `spacing` is given as well.
    """
    if spacing is not None:
        raise LdmError(f"the spacing {spacing!r} and a list of timesteps; expected one of the two")
    if not (times and times[0] <= total - 1 and times[-1] >= 0 and all(b < a for a, b in pairwise(times))):
        raise LdmError(f"the timesteps {list(times)}; expected decreasing numbers between {total - 1} and 0")
    return [int(t) if t == int(t) else float(t) for t in times]


def initial_latents(
    sampler: Sampler, noise: Latent, levels: Sequence[Level], spacing: str | None = None
) -> Latent:
    r"""The latents that sampling starts from: noise of standard deviation 1 or $\sigma$ (see `Sampler.unit_start`).

    With a leading `spacing` (by default the sampler's own), which starts below the noisiest level, it is always 1.
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
    leading = (spacing or sampler.spacing).startswith("leading")
    return noise if sampler.unit_start or leading else levels[0].sigma * noise
