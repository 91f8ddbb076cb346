r"""The samplers by name: the one list from which `--help`, the docs and the records in PNG files are made.

A sampler is a row here and a file of the same name in this folder, whose function of that name is the update (see
`ldm/diffusion/sample.py`). Generating from noise is

    sampler = find_sampler("dpmpp_2m_karras")
    levels = sampler_levels(sampler, steps, alpha_bar)
    x = initial_latents(sampler, noise_fn(), levels)
    for step in sample(sampler.update, denoise, x, levels, noise_fn, on_step):
        x = step.x_prev

Image to image starts at a later, less noisy level, from the image's latent noised to that level:

    levels = levels[start:]
    x = levels[0].mix(latent, noise_fn())

with `sampler_levels` and `initial_latents` from `ldm/diffusion/spacing.py`.

How many steps? A model has a default number (`config.defaults.steps`), at which most samplers work. PLMS and LMS
extrapolate from the last steps, which is inaccurate when steps are long: with 20 steps, PLMS gets the colours of about
half the tiny model's images wrong. So they take at least 40 by default (measured: `docs/samplers.md`).
"""

from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any

from ldm.errors import LdmError


@dataclass(frozen=True)
class Sampler:
    """A sampler and its default levels."""

    # The name in ComfyUI (except `plms`, which is ours); "_karras" stands for its scheduler "karras".
    name: str
    label: str  # the name in AUTOMATIC1111's web interface
    description: str
    spacing: str = "linspace"  # a spacing of timesteps in `spacing.py`
    karras: bool = False  # use the levels of Karras et al. 2022 instead of a spacing
    round_timesteps: bool = False  # to whole ones at Karras levels, as diffusers' DPM++ 2M does
    # The last step ends at a clean latent (diffusers' `set_alpha_to_one`); if False, at the level of timestep 0.
    clean_end: bool = True
    # The initial noise has standard deviation 1; if False, the first level's sigma (k-diffusion; 0.998 at t = 999).
    unit_start: bool = True
    min_default_steps: int = 0  # the default number of steps is at least this; measured: docs/samplers.md

    @property
    def update(self) -> Any:
        """The function that takes the latent from one level to the next: an `Update` of `ldm/diffusion/sample.py`."""
        file = self.name.removesuffix("_karras")
        # Imported on first use: --help and the records in PNG files need only names, and do not wait for torch.
        return getattr(import_module(f"ldm.diffusion.samplers.{file}"), file)

    def with_eta(self, eta: float | None) -> Any:
        """The update with its `eta` set, if one is given. Raises `LdmError` if this sampler has none."""
        if eta is None:
            return self.update
        if "eta" not in signature(self.update).parameters:
            raise LdmError(f"eta={eta} with {self.label}, which has no eta; leave it out, or use DDIM")
        return partial(self.update, eta=eta)


ROWS = (
    Sampler("ddim", "DDIM", "no noise, few steps", "leading", clean_end=False),
    Sampler("ddpm", "DDPM", "the original: fresh noise at each step, many steps", "leading_from_0"),
    Sampler(
        "plms",
        "PLMS",
        "DDIM with multistep",
        "leading",
        clean_end=False,
        min_default_steps=40,
    ),
    Sampler("euler", "Euler", "DDIM at evenly spaced levels, to the end", unit_start=False),
    Sampler("euler_ancestral", "Euler a", "Euler with fresh noise at each step", unit_start=False),
    Sampler("heun", "Heun", "second order, two evaluations per step", unit_start=False),
    Sampler("lms", "LMS", "linear multistep, up to fourth order", unit_start=False, min_default_steps=40),
    Sampler(
        "dpmpp_2m",
        "DPM++ 2M",
        "second order, multistep: good in 15 to 25 steps",
        "linspace_without_0",
        round_timesteps=True,
    ),
)
# k-diffusion's samplers solve a differential equation in sigma, and may visit any levels.
KARRAS = tuple(
    replace(row, name=f"{row.name}_karras", label=f"{row.label} Karras", karras=True, min_default_steps=0)
    for row in ROWS
    if row.spacing.startswith("linspace")
)
SAMPLERS = {row.name: row for row in (*ROWS, *KARRAS)}
ALIASES = {row.label.lower(): row.name for row in SAMPLERS.values() if row.label.lower() != row.name}


def find_sampler(name: str) -> Sampler:
    """Look a sampler up by our name or AUTOMATIC1111's, ignoring case. Raises `LdmError` for an unknown name."""
    known = name.lower()
    known = ALIASES.get(known, known)
    if known in SAMPLERS:
        return SAMPLERS[known]
    near = get_close_matches(known, [*SAMPLERS, *ALIASES], n=1)
    hint = f"did you mean {ALIASES.get(near[0], near[0])!r}? Or" if near else "expected"
    raise LdmError(f"sampler {name!r}; {hint} one of {', '.join(SAMPLERS)}")
