r"""The samplers and spacings by name: the lists from which `--help`, the docs and the records in PNG files are made.

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
extrapolate from the last steps, which is inaccurate when steps are long: on Stable Diffusion's schedule and with 20
steps, PLMS got the colours of about half the images of an earlier tiny model wrong. So they take at least 40 by
default. (On a schedule that ends in pure noise, 20 are enough: `docs/samplers.md`.)
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

    # The name in ComfyUI (except `plms`, `tcd` and `unipc`, which are ours), perhaps with a spacing: "euler_karras".
    name: str
    label: str  # the name in AUTOMATIC1111's web interface
    description: str
    spacing: str = "linspace"  # the usual one: a name in `SPACING_LABELS`
    round_timesteps: bool = False  # to whole ones with a sigma schedule, as diffusers' DPM++ 2M does
    # The last step ends at a clean latent (diffusers' `set_alpha_to_one`); if False, at the level of timestep 0.
    clean_end: bool = True
    # The initial noise has standard deviation 1; if False, the first level's sigma (k-diffusion; 0.998 at t = 999).
    unit_start: bool = True
    min_default_steps: int = 0  # the default number of steps is at least this; measured: docs/samplers.md

    @property
    def update(self) -> Any:
        """The function that takes the latent from one level to the next: an `Update` of `ldm/diffusion/sample.py`."""
        file = self.name.removesuffix(f"_{self.spacing}")
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
    Sampler("plms", "PLMS", "DDIM with multistep", "leading", clean_end=False, min_default_steps=40),
    Sampler("lcm", "LCM", "for models distilled for it, 2 to 8 steps", "lcm"),
    Sampler("tcd", "TCD", "for models distilled for it, 1 to 8 steps", "lcm", clean_end=False),
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
    Sampler(
        "dpmpp_2m_sde",
        "DPM++ 2M SDE",
        "the same with noise",
        "linspace_without_0",
        round_timesteps=True,
    ),
    Sampler("dpmpp_sde", "DPM++ SDE", "with noise, two evaluations per step", unit_start=False),
    Sampler(
        "unipc",
        "UniPC",
        "third order: predictor and corrector",
        "linspace_without_0",
        round_timesteps=True,
    ),
)
# The spacings of `spacing.py` and `sigmas.py`, with their names in AUTOMATIC1111's web interface, or ours.
SPACING_LABELS = {
    "leading": "Leading",
    "leading_from_0": "Leading from 0",
    "trailing": "Trailing",
    "linspace": "Uniform",
    "linspace_without_0": "Uniform without 0",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "ddim_uniform": "DDIM",
    "beta": "Beta",
    "kl_optimal": "KL Optimal",
    "lcm": "LCM",
}


def with_spacing(row: Sampler, spacing: str) -> Sampler:
    """The sampler with another default spacing, and named after it: "dpmpp_2m_karras", "DPM++ 2M Karras"."""
    label = f"{row.label} {SPACING_LABELS[spacing]}"
    # PLMS and LMS need many steps at evenly spaced timesteps; 20 are enough at Karras levels.
    least = 0 if spacing == "karras" else row.min_default_steps
    return replace(row, name=f"{row.name}_{spacing}", label=label, spacing=spacing, min_default_steps=least)


# The usual pairs. k-diffusion's samplers solve a differential equation in sigma, and may visit any levels.
KARRAS = tuple(with_spacing(row, "karras") for row in ROWS if row.spacing.startswith("linspace"))
SAMPLERS = {row.name: row for row in (*ROWS, *KARRAS)}
ALIASES = {row.label.lower(): row.name for row in SAMPLERS.values() if row.label.lower() != row.name}
# ComfyUI's other names. Its "uni_pc" is of order 3, with another B(h); "_gpu" only says where the noise is drawn.
ALIASES |= {"uni_pc": "unipc", "uni_pc_bh2": "unipc"}
ALIASES |= {f"{name}_gpu": name for name in ("dpmpp_2m_sde", "dpmpp_sde")}
SPACING_ALIASES = {label.lower(): name for name, label in SPACING_LABELS.items()} | {"normal": "linspace"}


def find_sampler(name: str) -> Sampler:
    """Look a sampler up by our name, ComfyUI's or AUTOMATIC1111's, ignoring case.

    A spacing at the end replaces the sampler's own: "dpmpp_2m_exponential" or "DPM++ 2M Exponential". Raises `LdmError`
    for an unknown name.
    """
    known = name.lower()
    known = ALIASES.get(known, known)
    if known in SAMPLERS:
        return SAMPLERS[known]
    for spacing, label in SPACING_LABELS.items():
        for end in (f"_{spacing}", f" {label.lower()}"):
            base = ALIASES.get(known.removesuffix(end), known.removesuffix(end))
            if known.endswith(end) and base in SAMPLERS and SAMPLERS[base] in ROWS:
                return with_spacing(SAMPLERS[base], spacing)
    near = get_close_matches(known, [*SAMPLERS, *ALIASES], n=1)
    hint = f"did you mean {ALIASES.get(near[0], near[0])!r}? Or" if near else "expected"
    raise LdmError(f"sampler {name!r}; {hint} one of {', '.join(SAMPLERS)}")


def find_spacing(name: str) -> str:
    """Our name of a spacing, from ours, ComfyUI's or AUTOMATIC1111's. Raises `LdmError` for an unknown one."""
    known = name.lower()
    known = SPACING_ALIASES.get(known, known)
    if known in SPACING_LABELS:
        return known
    near = get_close_matches(known, [*SPACING_LABELS, *SPACING_ALIASES], n=1)
    hint = f"did you mean {SPACING_ALIASES.get(near[0], near[0])!r}? Or" if near else "expected"
    raise LdmError(f"timestep spacing {name!r}; {hint} one of {', '.join(SPACING_LABELS)}")
