r"""Models of a known architecture that want to be sampled in their own way, recognised by their names.

Distilled models need a few steps of one sampler, and no guidance: with the usual settings they give noise or garish
images. Large fine-tunings of Stable Diffusion XL have settings that their authors recommend. Neither can be seen from
the tensors, so it is the name that tells: of the file, the folder, or the title in the metadata. What follows from it
are defaults only, and a line says so.

Sources: the model cards of SDXL-Turbo, SDXL-Lightning, Pony Diffusion V6 XL, Illustrious XL and NoobAI XL. A merge with
one of them in its name may want other settings than these.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ldm.checkpoints.checkpoint import Checkpoint
from ldm.config import Config, Defaults
from ldm.notes import log


@dataclass(frozen=True)
class Flavour:
    """A pattern for names in lower case, and the defaults of the models that have such a name."""

    pattern: str
    name: str
    sampler: str
    steps: int
    guidance: float
    size: int | None = None  # None: as its family
    prediction: str | None = None  # only with this prediction
    hint: str = ""


# The first that matches is taken.
FLAVOURS = (
    Flavour(r"lightning", "SDXL-Lightning", "euler_trailing", 4, 1.0),
    Flavour(r"\bsd[-_. ]?(xl)?[-_. ]?turbo", "Turbo", "euler_ancestral_trailing", 1, 1.0, size=512),
    Flavour(r"turbo", "a merge with SDXL-Turbo", "dpmpp_sde_karras", 8, 2.0),
    Flavour(r"(?<![a-z])lcm(?![a-z])", "a latent consistency model", "lcm", 8, 1.0),
    Flavour(r"noob", "NoobAI XL", "euler_trailing", 28, 4.5, prediction="v"),
    Flavour(r"noob", "NoobAI XL", "euler_ancestral", 28, 5.5),
    Flavour(r"illustrious|(?<![a-z])ilxl(?![a-z])", "Illustrious XL", "euler_ancestral", 28, 6.0),
    Flavour(
        r"(?<![a-z])pony", "Pony Diffusion XL", "euler_ancestral", 25, 7.0,
        hint=". Its prompts begin with `score_9, score_8_up, score_7_up`",
    ),
)  # fmt: skip
STEP_COUNT = re.compile(r"(?<!\d)(\d{1,2})[-_ ]?steps?(?![a-z])")  # "lightning_4step"


def with_flavour(checkpoint: Checkpoint, config: Config, sized: bool) -> Config:
    """The config with the defaults that the checkpoint's name asks for, which is logged; `sized`: its size is known."""
    for name in names_of(checkpoint):
        for flavour in FLAVOURS:
            fits = flavour.prediction in (None, config.noise.prediction)
            if fits and re.search(flavour.pattern, name):
                defaults = _defaults(flavour, name, config.defaults, sized)
                log.info(
                    f"{checkpoint.path} is {flavour.name}, by its name: by default {defaults.steps} steps of "
                    f"{defaults.sampler}, guidance {defaults.guidance:g} (--steps, --sampler, --guidance){flavour.hint}"
                )
                return replace(config, defaults=defaults)
    return config


def names_of(checkpoint: Checkpoint) -> Iterator[str]:
    """What it is called, in lower case: its file or folder, or its repository in the hub's cache; and its titles."""
    path = checkpoint.path
    cached = path.parent.name == "snapshots"
    yield (path.parent.parent if cached else path).name.lower()
    yield checkpoint.metadata.get("modelspec.title", "").lower()
    yield str(checkpoint.settings.get("", {}).get("_name_or_path", "")).lower()


def _defaults(flavour: Flavour, name: str, usual: Defaults, sized: bool) -> Defaults:
    steps = STEP_COUNT.search(name)
    distilled = flavour.guidance == 1
    return replace(
        usual,
        sampler=flavour.sampler,
        steps=int(steps[1]) if steps and distilled and int(steps[1]) else flavour.steps,
        guidance=flavour.guidance,
        size=flavour.size if flavour.size and not sized else usual.size,
    )
