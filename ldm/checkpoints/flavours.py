r"""Models and LoRAs of a known architecture that want to be sampled in their own way, recognised by their names.

Distilled models need a few steps of one sampler, and little guidance or none: with the usual settings they give noise
or garish images. Large fine-tunings of Stable Diffusion XL have settings that their authors recommend. Neither can be
seen from the tensors, so it is the name that tells: of the file, the folder, or a title in the metadata; or the
scheduler that a diffusers folder asks for. What follows from it are defaults only, and a line says so.

Sources: the model cards. Of several steps that a card allows, the default is that of its example. A merge with one of
them in its name may want other settings than these.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from ldm.checkpoints.checkpoint import Checkpoint
from ldm.config import Config, Defaults
from ldm.notes import log

Kinds: TypeAlias = tuple[Literal["model", "lora"], ...]
MODEL: Kinds = ("model",)
LORA: Kinds = ("lora",)
ALL = ("sd1", "sd2-base", "sd2-v", "sdxl")  # families


@dataclass(frozen=True)
class Flavour:
    """A pattern for names in lower case, and the defaults of the models or LoRAs that have such a name."""

    pattern: str
    name: str
    sampler: str
    steps: int  # if the name says no number: "lightning_8step"
    guidance: float
    kinds: Kinds = ("model", "lora")
    families: tuple[str, ...] = ("sdxl",)  # of the models; a LoRA is for any that it fits
    size: int | None = None  # None: as its family
    prediction: str | None = None  # only with this prediction
    hint: str = ""


# The first that matches is taken.
FLAVOURS = (
    # Distilled: a LoRA, or a whole model, as its publisher names it.
    Flavour(r"sdxl[-_. ]?lightning|lightning[-_. ]?\d+[-_ ]?step", "SDXL-Lightning", "euler_trailing", 4, 1.0),
    Flavour(r"hyper[-_. ]?sd.*cfg", "Hyper-SD with guidance", "ddim_trailing", 8, 5.0, families=ALL),
    Flavour(
        r"hyper[-_. ]?sd.*(?<!\d)1[-_ ]?step[-_. ]?unet", "Hyper-SD of one step", "lcm", 1, 1.0, MODEL,
        hint=". It was distilled at timestep 800: in Python, steps=[800]",
    ),
    Flavour(r"hyper[-_. ]?sd.*(?<!\d)1[-_ ]?step", "Hyper-SD of any steps", "tcd", 1, 1.0, families=ALL),
    Flavour(r"hyper[-_. ]?sd", "Hyper-SD", "ddim_trailing", 4, 1.0, families=ALL),
    # (DMD2's card warns that the default timesteps of diffusers' LCM are not those of its training, which are 999, 749,
    # 499, 249: trailing.)
    Flavour(r"(?<![a-z])dmd2(?![a-z0-9])", "DMD2", "lcm_trailing", 4, 1.0),
    Flavour(r"(?<![a-z])tcd(?![a-z])", "a trajectory consistency model", "tcd", 4, 1.0, families=ALL),
    Flavour(r"(?<![a-z])lcm(?![a-z])", "an LCM-LoRA", "lcm", 4, 1.0, LORA),
    Flavour(r"(?<![a-z])lcm(?![a-z])", "a latent consistency model", "lcm", 8, 1.0, MODEL, ALL),
    # (For four steps Turbo's own code takes the timesteps 999, 899, 799, 699; diffusers 999, 749, 499, 249, as here.)
    Flavour(
        r"(?<![a-z])sd[-_. ]?(xl)?[-_. ]?turbo", "Turbo", "euler_ancestral_trailing", 1, 1.0,
        families=("sd2-base", "sdxl"), size=512,
    ),
    # Fine-tunings: merges with distilled models, which allow some guidance again, and models with advice of their own.
    Flavour(r"lightning", "a merge with SDXL-Lightning", "dpmpp_sde_karras", 6, 2.0, MODEL),
    Flavour(r"turbo", "a merge with SDXL-Turbo", "dpmpp_sde_karras", 8, 2.0, MODEL),
    Flavour(r"noob", "NoobAI XL", "euler_trailing", 28, 4.5, MODEL, prediction="v"),
    # (The card of Laxhar/noobai-XL-1.0, which predicts eps: Euler a, 25 to 30 steps, CFG 5 to 6.)
    Flavour(r"noob", "NoobAI XL", "euler_ancestral", 28, 5.5, MODEL),
    # (No card with settings was found: near those of NoobAI, which was trained from it.)
    Flavour(r"illustrious|(?<![a-z])ilxl(?![a-z])", "Illustrious XL", "euler_ancestral", 28, 6.0, MODEL),
    Flavour(
        r"(?<![a-z])pony", "Pony Diffusion XL", "euler_ancestral", 25, 7.0, MODEL,
        hint=". Its prompts begin with `score_9, score_8_up, score_7_up`",
    ),
)  # fmt: skip
STEP_COUNT = re.compile(r"(?<!\d)(\d{1,2})[-_ ]?steps?(?![a-z])")  # "lightning_4step"


@dataclass(frozen=True)
class Recognised:
    """What a model or LoRA is, what tells it, and how it wants to be sampled."""

    flavour: Flavour
    why: str  # "its name"
    steps: int

    def settings(self, usual: Defaults) -> Defaults:
        """The usual defaults with its sampler, steps and guidance."""
        own = self.flavour
        return replace(usual, sampler=own.sampler, steps=self.steps, guidance=own.guidance)

    def told(self) -> str:
        own = self.flavour
        return f"{own.name}, by {self.why}: by default {sampling(self.steps, own.sampler, own.guidance)}{own.hint}"


def sampling(steps: int, sampler: str, guidance: float) -> str:
    """Settings in words, with the options that change them."""
    return f"{steps} step{'s' * (steps > 1)} of {sampler}, guidance {guidance:g} (--steps, --sampler, --guidance)"


def recognise(names: Iterable[tuple[str, str]], kind: str, config: Config | None = None) -> Recognised | None:
    """The first flavour of this kind that one of the names has; each name comes with what it is: "its name".

    `config` is that of a model, whose family and prediction have to fit.
    """
    for why, name in names:
        for flavour in FLAVOURS:
            fits = config is None or (
                config.name in flavour.families and flavour.prediction in (None, config.noise.prediction)
            )
            if fits and kind in flavour.kinds and re.search(flavour.pattern, name.lower()):
                said = STEP_COUNT.search(name.lower())
                distilled = "lora" in flavour.kinds or flavour.guidance == 1
                steps = int(said[1]) if said and distilled else 0
                return Recognised(flavour, why, steps or flavour.steps)
    return None


def with_flavour(checkpoint: Checkpoint, config: Config, sized: bool) -> Config:
    """The config with the defaults that the checkpoint asks for, which are logged; `sized`: its size is known."""
    found = recognise(names_of(checkpoint), "model", config)
    if found is None:
        return config
    log.info(f"{checkpoint.path} is {found.told()}")
    defaults, size = found.settings(config.defaults), found.flavour.size
    return replace(config, defaults=replace(defaults, size=size) if size and not sized else defaults)


def names_of(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    """What a model is called: its U-Net's file if that is another; its own, its folder or repository; its titles.

    And its scheduler.
    """
    source = checkpoint.parts["unet"].source
    if source != checkpoint.path and checkpoint.path not in source.parents:
        yield "its U-Net's name", name_of(_home(source))
    yield "its name", name_of(checkpoint.path)
    yield from titles(checkpoint.metadata)
    yield "its name", str(checkpoint.settings.get("", {}).get("_name_or_path", ""))
    scheduler = str(checkpoint.settings.get("scheduler", {}).get("_class_name"))
    yield "its scheduler", scheduler.removesuffix("Scheduler") if scheduler.startswith(("LCM", "TCD")) else ""


def _home(network: Path) -> Path:
    """What a network is called after: its file, or the folder of a library's that it is in."""
    if not network.name.startswith("diffusion_pytorch_model"):
        return network
    return network.parent.parent if network.parent.name == "unet" else network.parent


def name_of(path: Path) -> str:
    cached = path.parent.name == "snapshots"
    return (path.parent.parent if cached else path).name


def titles(metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What a file's metadata calls it: in ModelSpec, and in what kohya's programs write."""
    for key in ("modelspec.title", "ss_output_name"):
        yield f"its metadata ({key})", metadata.get(key, "")
