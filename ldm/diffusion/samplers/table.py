r"""The samplers by name: the one list from which `--help`, the docs and the records in PNG files are made.

A sampler is one row here and one file in this folder, named alike; the file's function of that name is the update (see
`ldm/diffusion/sample.py`). An image from noise is

    sampler = find_sampler("dpmpp_2m_karras")
    levels = sampler_levels(sampler, steps, alpha_bar)
    x = initial_latents(sampler, noise_fn(), levels)
    for step in sample(sampler.update, denoise, x, levels, noise_fn, on_step):
        x = step.x_prev

and image to image starts further down, at that level's noise:

    levels = levels[start:]
    x = levels[0].mix(latent, noise_fn())

with `sampler_levels` and `initial_latents` from `ldm/diffusion/spacing.py`.

How many steps? A model has a default number (`config.defaults.steps`), at which most samplers work. PLMS and LMS
extrapolate from the last steps, which is inaccurate when steps are long: with 20 steps of the tiny model PLMS gets the
colours of every other image wrong. So they take at least 40 by default (measured: `docs/samplers.md`).
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
    """A sampler and the levels it usually visits."""

    name: str  # ComfyUI's (`plms` is ours); also that of the file and of the update in it
    label: str  # AUTOMATIC1111's
    description: str
    spacing: str = "linspace"  # of its timesteps: see `spacing.py`
    karras: bool = False  # the levels of Karras et al. 2022 in place of that spacing
    clean_end: bool = True  # to alpha = 1; otherwise to the first timestep's level, as in Stable Diffusion
    unit_start: bool = True  # from noise of variance 1; otherwise of sigma^2, k-diffusion's (0.2 % less)
    usual_steps: int = 0  # by default, where the model's own default is fewer; measured: docs/samplers.md

    @property
    def update(self) -> Any:
        """The function that takes the latent from one level to the next: an `Update` of `ldm/diffusion/sample.py`."""
        file = self.name.removesuffix("_karras")
        # Imported on first use: --help and the records in PNG files need names alone, and do not wait for torch.
        return getattr(import_module(f"ldm.diffusion.samplers.{file}"), file)

    def with_eta(self, eta: float | None) -> Any:
        """The update, adding the noise that `eta` asks for. Raises `LdmError` if this sampler knows no eta."""
        if eta is None:
            return self.update
        if "eta" not in signature(self.update).parameters:
            raise LdmError(f"an eta of {eta} with {self.label}, which knows none; leave it out, or take DDIM")
        return partial(self.update, eta=eta)


ROWS = (
    Sampler("ddim", "DDIM", "no noise, few steps", "leading", clean_end=False),
    Sampler("ddpm", "DDPM", "the original: fresh noise at each step, many steps", "leading_from_0"),
    Sampler(
        "plms",
        "PLMS",
        "DDIM with multistep; Stable Diffusion 1's own",
        "leading",
        clean_end=False,
        usual_steps=40,
    ),
    Sampler("euler", "Euler", "DDIM at evenly spaced levels, to the end", unit_start=False),
    Sampler("euler_ancestral", "Euler a", "Euler with fresh noise at each step", unit_start=False),
    Sampler("heun", "Heun", "second order, two evaluations a step", unit_start=False),
    Sampler("lms", "LMS", "linear multistep, up to fourth order", unit_start=False, usual_steps=40),
    Sampler("dpmpp_2m", "DPM++ 2M", "second order, multistep: good in 15 to 25 steps", "linspace_inner"),
)
# k-diffusion's samplers solve an equation and may visit any levels.
KARRAS = tuple(
    replace(row, name=f"{row.name}_karras", label=f"{row.label} Karras", karras=True, usual_steps=0)
    for row in ROWS
    if row.spacing.startswith("linspace")
)
SAMPLERS = {row.name: row for row in (*ROWS, *KARRAS)}
ALIASES = {row.label.lower(): row.name for row in SAMPLERS.values() if row.label.lower() != row.name}


def find_sampler(name: str) -> Sampler:
    """The sampler of a name, ours or AUTOMATIC1111's, in any case. Raises `LdmError` for another, with the nearest."""
    known = name.lower()
    known = ALIASES.get(known, known)
    if known in SAMPLERS:
        return SAMPLERS[known]
    near = get_close_matches(known, [*SAMPLERS, *ALIASES], n=1)
    hint = f"did you mean {ALIASES.get(near[0], near[0])!r}? Or" if near else "expected"
    raise LdmError(f"sampler {name!r}; {hint} one of {', '.join(SAMPLERS)}")
