r"""The sizes of every model, as plain frozen dataclasses.

Stable Diffusion 1.x, 2.x and the tiny model trained here are *values* of the same classes: no code below
this file asks "which model is this?", it only reads sizes. A preset at the end of the file is therefore a short and
complete description of a model.

Left out on purpose: anything about training (see `ldm/train/`) and anything a caller chooses for each
picture (prompt, seed); only the *defaults* for a picture are the model's own.
"""

import json
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ldm.errors import LdmError


@dataclass(frozen=True)
class TextConfig:
    """A CLIP text transformer (Radford et al. 2021, section 2.4)."""

    vocab_size: int
    context_length: int  # tokens per prompt, start and end marks included
    width: int
    layers: int
    heads: int
    activation: Literal["quick_gelu", "gelu"]
    output: Literal["last", "penultimate"] = "last"  # whose state is the context; later layers are not built
    pad: Literal["eos", "zero"] = "eos"  # what fills a prompt up to context_length


@dataclass(frozen=True)
class ImageConfig:
    """A CLIP image encoder: a vision transformer (Dosovitskiy et al. 2021)."""

    size: int  # pixels along each side
    patch: int  # pixels along each side of a patch
    width: int
    layers: int
    heads: int
    activation: Literal["quick_gelu", "gelu"]


@dataclass(frozen=True)
class VAEConfig:
    """The autoencoder between pixels and latents (Rombach et al. 2022, appendix G)."""

    channels: tuple[int, ...]  # one entry a level, the finest first
    res_per_level: int  # in the encoder; the decoder has one more
    latent_channels: int
    scale: float  # latents leave the encoder multiplied by this, so that their variance is near one
    groups: int = 32

    @property
    def factor(self) -> int:
        """Pixels per latent along each side: every level but the last halves the picture."""
        return 2 ** (len(self.channels) - 1)


@dataclass(frozen=True)
class Level:
    """One resolution of the U-Net."""

    channels: int
    heads: int
    depth: int  # transformer layers after each residual block; 0: none


@dataclass(frozen=True)
class UNetConfig:
    """The denoiser (Rombach et al. 2022, appendix E; Ho et al. 2020, appendix B)."""

    levels: tuple[Level, ...]  # the finest first
    context_width: int
    in_channels: int = 4
    out_channels: int = 4
    res_per_level: int = 2  # on the way down; one more on the way up
    mid_depth: int = 1
    groups: int = 32


@dataclass(frozen=True)
class NoiseConfig:
    """The forward process, and what the U-Net is asked to predict."""

    steps: int = 1000
    schedule: Literal["scaled_linear", "linear", "cosine"] = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    prediction: Literal["eps", "v", "x0"] = "eps"
    zero_snr: bool = False  # the last step is noise alone (Lin et al. 2024); not for "eps"


@dataclass(frozen=True)
class Defaults:
    """How this model likes to be sampled when the caller does not say."""

    size: int  # pixels along each side
    sampler: str = "ddim"
    steps: int = 50
    guidance: float = 7.5
    guidance_rescale: float = 0.0  # share of its contrast taken back, 0 to 1 (Lin et al. 2024)


@dataclass(frozen=True)
class Config:
    """Everything needed to build a latent diffusion model."""

    name: str
    text: TextConfig
    vae: VAEConfig
    unet: UNetConfig
    noise: NoiseConfig
    defaults: Defaults
    image: ImageConfig | None = None  # the other half of CLIP; painting does not need it
    embedding_width: int | None = None  # of the space that text and image share

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Read what `to_json` wrote. Raises `LdmError` when a field is missing, unknown or misspelt."""
        try:
            return build(cls, json.loads(text), "config")
        except json.JSONDecodeError as error:
            raise LdmError(f"config.json is not valid JSON ({error}); restore the original file") from error


def build(kind: Any, value: Any, where: str) -> Any:
    """Turn parsed JSON into the annotated type: dataclasses, tuples of them, optional ones, or a leaf."""
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(value, dict):
            raise LdmError(f"{where} is {value!r}; expected an object with the fields of {kind.__name__}")
        hints = get_type_hints(kind)
        unknown = sorted(value.keys() - hints.keys())
        if unknown:
            raise LdmError(f"{where} has unknown fields {unknown}; expected some of {sorted(hints)}")
        missing = [f.name for f in fields(kind) if f.default is MISSING and f.name not in value]
        if missing:
            raise LdmError(f"{where} lacks the fields {missing}; restore the original file")
        return kind(**{name: build(hints[name], item, f"{where}.{name}") for name, item in value.items()})
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        if value not in arguments:
            raise LdmError(f"{where} is {value!r}; expected one of {list(arguments)}")
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise LdmError(f"{where} is {value!r}; expected a list")
        return tuple(build(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if arguments:  # X | None
        return None if value is None else build(arguments[0], value, where)
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise LdmError(f"{where} is {value!r}; expected {kind.__name__}")
    return value


# --- presets -----------------------------------------------------------------------------------------------

CLIP_L_TEXT = TextConfig(49408, 77, width=768, layers=12, heads=12, activation="quick_gelu")
CLIP_L_IMAGE = ImageConfig(224, patch=14, width=1024, layers=24, heads=16, activation="quick_gelu")
OPENCLIP_H_TEXT = TextConfig(
    49408, 77, width=1024, layers=24, heads=16, activation="gelu", output="penultimate", pad="zero"
)
SD_VAE = VAEConfig(channels=(128, 256, 512, 512), res_per_level=2, latent_channels=4, scale=0.18215)

SD1 = Config(
    name="sd1",
    text=CLIP_L_TEXT,
    vae=SD_VAE,
    # Eight heads at every level, so their width grows: 40, 80, 160.
    unet=UNetConfig((Level(320, 8, 1), Level(640, 8, 1), Level(1280, 8, 1), Level(1280, 8, 0)), 768),
    noise=NoiseConfig(),
    defaults=Defaults(size=512),
    image=CLIP_L_IMAGE,
    embedding_width=768,
)
SD2_BASE = Config(
    name="sd2-base",
    text=OPENCLIP_H_TEXT,
    vae=SD_VAE,
    # Heads of width 64 at every level, so their number grows.
    unet=UNetConfig((Level(320, 5, 1), Level(640, 10, 1), Level(1280, 20, 1), Level(1280, 20, 0)), 1024),
    noise=NoiseConfig(),
    defaults=Defaults(size=512),
)
SD2_V = replace(SD2_BASE, name="sd2-v", noise=NoiseConfig(prediction="v"), defaults=Defaults(size=768))
# Inpainting models are fed the latent (4), the mask (1) and the latent of the masked picture (4).
SD1_INPAINT = replace(SD1, name="sd1-inpaint", unet=replace(SD1.unet, in_channels=9))
SD2_INPAINT = replace(SD2_BASE, name="sd2-inpaint", unet=replace(SD2_BASE.unet, in_channels=9))

TINY = Config(
    name="tiny",
    # Two sizes are only known after training, and are written to the model's own config.json then: the
    # vocabulary, learned from the captions, and the VAE's scale, measured on its latents.
    text=TextConfig(1024, 32, width=192, layers=4, heads=4, activation="quick_gelu"),
    vae=VAEConfig(channels=(16, 32, 96, 160), res_per_level=1, latent_channels=4, scale=1.0, groups=4),
    unet=UNetConfig((Level(96, 4, 0), Level(192, 6, 1), Level(256, 8, 1)), 192, res_per_level=1),
    noise=NoiseConfig(),
    defaults=Defaults(size=128, sampler="euler_ancestral", steps=20, guidance=4.0),
    image=ImageConfig(64, patch=16, width=192, layers=4, heads=4, activation="quick_gelu"),
    embedding_width=128,
)
PRESETS = {c.name: c for c in (TINY, SD1, SD1_INPAINT, SD2_BASE, SD2_V, SD2_INPAINT)}
