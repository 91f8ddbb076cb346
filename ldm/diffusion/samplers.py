r"""The samplers by name, and the path that each one walks.

A sampler is two things: a loop (one a file: `ddim.py`, `euler.py`, ...) and the path it is used to, a list of strides
from noise to picture. All loops have one signature, so a picture from noise is

    sampler = find_sampler("dpmpp_2m_karras")
    path = sampler.path(steps, alpha_bar)
    x = sampler.begin(noise(), path)
    for step in sampler.walk(denoise, x, path, noise, project):
        x = step.x_prev

and one that begins from another picture starts further down the path, at that level's noise:

    path = path[start:]
    x = add_noise(latent, noise(), path[0].alpha_bar)

`project(x, alpha_bar)` is called after every update, with the new latent and its noise level, and what it returns is
gone on with. Latents are everywhere in the form that the network reads, whatever a sampler computes in.

How many steps? A model has a default number (`config.defaults.steps`), at which most samplers work. PLMS and LMS
extrapolate from the last steps, which is inaccurate when steps are long: with 20 steps of the tiny model PLMS gets the
colours of every other image wrong. So where the caller does not say, they take at least 40 (measured:
`docs/samplers.md`).

The names are ComfyUI's (`plms` is ours); those of A1111's web interface are understood, too.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.ddim import ddim
from ldm.diffusion.ddpm import ddpm
from ldm.diffusion.dpmpp_2m import dpmpp_2m
from ldm.diffusion.euler import euler
from ldm.diffusion.euler_ancestral import euler_ancestral
from ldm.diffusion.heun import heun
from ldm.diffusion.lms import lms
from ldm.diffusion.plms import plms
from ldm.diffusion.sampling import Denoise, Latent, Noise, Project, Step, Stride, strides, unchanged
from ldm.diffusion.schedule import spaced_timesteps
from ldm.diffusion.sigmas import sigma_path, whole_sigma_path
from ldm.errors import LdmError


def ddim_path(count: int, alpha_bar: Float[Tensor, "T"]) -> list[Stride]:
    r"""951, 901, ..., 1 for 20 of 1000 steps, and then to $\bar\alpha_0$, as Stable Diffusion has it."""
    return strides(_timesteps(count, alpha_bar, offset=1), alpha_bar, final=alpha_bar[0])


def ddpm_path(count: int, alpha_bar: Float[Tensor, "T"]) -> list[Stride]:
    r"""950, 900, ..., 0 for 20 of 1000 steps, and then to the clean latent, $\bar\alpha = 1$."""
    return strides(_timesteps(count, alpha_bar, offset=0), alpha_bar, final=alpha_bar.new_tensor(1.0))


def _timesteps(count: int, alpha_bar: Float[Tensor, "T"], offset: int) -> list[tuple[int, int]]:
    r"""The reference's timesteps, unless those leave out an eighth of the schedule or more.

    All its strides are of `steps // count` timesteps, rounded down: 334 of 1000 steps would be 667, 665, ..., 1 with
    nothing taken off above 667. Then the strides are as even as whole timesteps allow: 998, 995, ..., 4, 1.
    """
    steps = len(alpha_bar)
    # A schedule that ends in pure noise must be entered there (Lin et al. 2024, section 3.3).
    spacing = "trailing" if alpha_bar[-1] == 0 else "leading"
    pairs = spaced_timesteps(count, steps, spacing, offset)
    if count * (steps // count) > steps * 7 / 8:
        return pairs
    times = [t for t, _ in pairs]
    if spacing == "leading":
        times = [i * steps // count + offset for i in reversed(range(count))]
    return list(zip(times, [*times[1:], -1]))


NOISE = (
    0.02  # a larger share of image, alpha_bar, is no noise to start from; Stable Diffusion's last is 0.0047
)


@dataclass(frozen=True)
class Sampler:
    """A loop, and the path it walks: `path(steps, alpha_bar)` raises `LdmError` for steps that do not fit."""

    walk: Callable[..., Iterator[Step]]  # (denoise, x, path, noise, project)
    path: Callable[[int, Float[Tensor, "T"]], list[Stride]]
    unit_start: bool = True
    usual_steps: int = (
        0  # taken by default where the model's own default is fewer; measured: docs/samplers.md
    )

    def begin(self, noise: Latent, path: Sequence[Stride]) -> Latent:
        r"""Where a picture from nothing starts: noise of variance 1, or of what the first level asks for.

        k-diffusion's samplers start from $y = \sigma_{max} z$ (in our form $\sqrt{1-\bar\alpha}\, z$: a grey picture
        under its noise), the others from $x = z$. With Stable Diffusion's schedule they differ by 0.2 %.

        Warns where the network expects a part of the image at the first level, for pure noise has none.
        """
        first = path[0]
        if first.alpha_bar > NOISE:
            warnings.warn(
                f"the first of {len(path)} sampling steps is at t = {first.t:g}, where {first.alpha_bar:.0%} of the "
                "latent's variance should be image, but it starts from pure noise: expect faults. Take more steps, or "
                "a sampler that starts at the noisiest timestep (euler, dpmpp_2m)",
                stacklevel=2,
            )
        return noise if self.unit_start else noise * (1 - path[0].alpha_bar).sqrt()


def from_pure_noise(walk: Callable[..., Iterator[Step]], eta: float = 0.0) -> Callable[..., Iterator[Step]]:
    r"""A sampler that divides by $\sqrt{\bar\alpha}$, made to start where that is 0: at zero terminal SNR.

    There $\sigma$ is infinite. But the limit of Euler's stride is DDIM's, which needs no division, and that of Euler
    ancestral's is DDIM's with `eta` 1. So the first stride is DDIM's, exactly, and the sampler takes over at the level
    where it ends. Multistep samplers remember nothing of it: no polynomial leads through infinity.
    """

    def sample(
        denoise: Denoise,
        x: Latent,
        path: Sequence[Stride],
        noise: Noise,
        project: Project = unchanged,
        **options: Any,
    ) -> Iterator[Step]:
        if path and path[0].alpha_bar == 0:
            for step in ddim(denoise, x, path[:1], noise, project, eta):
                yield step
                x = step.x_prev
            path = path[1:]
        yield from walk(denoise, x, path, noise, project, **options)

    return sample


def _in_sigmas(walk: Callable[..., Iterator[Step]], karras: bool = False, eta: float = 0.0) -> Sampler:
    return Sampler(from_pure_noise(walk, eta), partial(sigma_path, karras=karras), unit_start=False)


SAMPLERS = {
    "ddim": Sampler(ddim, ddim_path),
    "ddpm": Sampler(ddpm, ddpm_path),
    "plms": Sampler(from_pure_noise(plms), ddim_path, usual_steps=40),
    "euler": _in_sigmas(euler),
    "euler_karras": _in_sigmas(euler, karras=True),
    "euler_ancestral": _in_sigmas(euler_ancestral, eta=1.0),
    "euler_ancestral_karras": _in_sigmas(euler_ancestral, karras=True, eta=1.0),
    "heun": _in_sigmas(heun),
    "heun_karras": _in_sigmas(heun, karras=True),
    "lms": replace(_in_sigmas(lms), usual_steps=40),
    "lms_karras": _in_sigmas(lms, karras=True),
    "dpmpp_2m": Sampler(from_pure_noise(dpmpp_2m), whole_sigma_path),
    "dpmpp_2m_karras": Sampler(from_pure_noise(dpmpp_2m), partial(whole_sigma_path, karras=True)),
}

# A1111's names, in small letters; where they are ours in capitals ("DDIM", "Heun"), nothing need be said.
ALIASES = {"euler a": "euler_ancestral", "dpm++ 2m": "dpmpp_2m"}
ALIASES |= {f"{alias} karras": f"{name}_karras" for alias, name in ALIASES.items()}
ALIASES |= {f"{name} karras": f"{name}_karras" for name in ("euler", "heun", "lms")}


def find_sampler(name: str) -> Sampler:
    """The sampler of a name, ours or A1111's, capitals or not. Raises `LdmError` for another, with the nearest one."""
    known = name.lower()
    known = ALIASES.get(known, known)
    if known in SAMPLERS:
        return SAMPLERS[known]
    near = get_close_matches(known, [*SAMPLERS, *ALIASES], n=1)
    hint = f"did you mean {ALIASES.get(near[0], near[0])!r}? Or" if near else "expected"
    raise LdmError(f"sampler {name!r}; {hint} one of {', '.join(SAMPLERS)}")
