r"""The sizes of every model, as plain frozen dataclasses.

Stable Diffusion 1.x, 2.x and the tiny model trained here are *values* of the same classes: no other code asks "which
model is this?", it only reads sizes. A preset at the end of this file is therefore a short and complete description of
a model.

Left out on purpose: anything about training (see `ldm/train/`), and what a caller chooses for each image (prompt,
seed); only the *defaults* for an image belong to the model.
"""

import json
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, get_args, get_origin, get_type_hints

from ldm.errors import LdmError, shown
from ldm.files.read_write import parse_json


class Between(NamedTuple):
    """The limits of a number, or of the length of a list or text. They are far wider than any known model needs.

    A config may come from a stranger's file, and 10**9 layers would keep the machine busy for days.
    """

    least: float
    most: float


Width: TypeAlias = Annotated[int, Between(1, 2**16)]  # channels of a layer
Count: TypeAlias = Annotated[int, Between(1, 1000)]  # of heads, of groups
Pixels: TypeAlias = Annotated[int, Between(1, 8192)]  # along each side
Text: TypeAlias = Annotated[str, Between(1, 100)]  # printable


@dataclass(frozen=True)
class TextConfig:
    """A CLIP text transformer (Radford et al. 2021, section 2.4)."""

    vocab_size: Annotated[int, Between(2, 2**20)]
    context_length: Annotated[int, Between(2, 10_000)]  # tokens per prompt, start and end marks included
    width: Width
    layers: Annotated[int, Between(1, 100)]
    heads: Count
    activation: Literal["quick_gelu", "gelu"]
    output: Literal["last", "penultimate"] = (
        "last"  # the layer that gives the context; none is built after it
    )
    pad: Literal["eos", "zero"] = "eos"  # fills a prompt up to context_length


@dataclass(frozen=True)
class ImageConfig:
    """A CLIP image encoder: a vision transformer (Dosovitskiy et al. 2021)."""

    size: Pixels
    patch: Pixels
    width: Width
    layers: Annotated[int, Between(1, 100)]
    heads: Count
    activation: Literal["quick_gelu", "gelu"]


@dataclass(frozen=True)
class VAEConfig:
    """The autoencoder between pixels and latents (Rombach et al. 2022, appendix G)."""

    channels: Annotated[tuple[Width, ...], Between(1, 8)]  # one entry a level, the finest first
    res_per_level: Annotated[int, Between(1, 16)]  # in the encoder; the decoder has one more
    latent_channels: Count
    scale: Annotated[float, Between(1e-6, 1e6)]  # multiplies latents, to give them a variance near 1
    groups: Count = 32

    @property
    def factor(self) -> int:
        """Pixels per latent along each side: every level but the last halves the image."""
        return 2 ** (len(self.channels) - 1)


@dataclass(frozen=True)
class UNetLevel:
    """One resolution of the U-Net."""

    channels: Width
    heads: Count
    depth: Annotated[int, Between(0, 64)]  # transformer layers after each residual block; 0: none


@dataclass(frozen=True)
class UNetConfig:
    """The denoiser (Rombach et al. 2022, appendix E; Ho et al. 2020, appendix B)."""

    levels: Annotated[tuple[UNetLevel, ...], Between(1, 8)]  # the finest first
    context_width: Width
    in_channels: Count = 4
    out_channels: Count = 4
    res_per_level: Annotated[int, Between(1, 16)] = 2  # on the way down; one more on the way up
    mid_depth: Annotated[int, Between(0, 64)] = 1
    groups: Count = 32


@dataclass(frozen=True)
class NoiseConfig:
    """The forward process, and what the U-Net predicts."""

    steps: Annotated[int, Between(1, 100_000)] = 1000
    schedule: Literal["scaled_linear", "linear", "cosine"] = "scaled_linear"
    beta_start: Annotated[float, Between(1e-9, 0.9999)] = 0.00085
    beta_end: Annotated[float, Between(1e-9, 0.9999)] = 0.012
    prediction: Literal["eps", "v", "x0"] = "eps"
    zero_snr: bool = False  # the last step is pure noise (Lin et al. 2024); not for "eps"


@dataclass(frozen=True)
class Defaults:
    """Default sampling parameters."""

    size: Pixels
    sampler: Text = "ddim"
    steps: Annotated[int, Between(1, 10_000)] = 50
    guidance: Annotated[float, Between(0, 1000)] = 7.5
    guidance_rescale: Annotated[float, Between(0, 1)] = 0.0  # undoes its contrast (Lin et al. 2024)


@dataclass(frozen=True)
class Config:
    """Everything needed to build a latent diffusion model."""

    name: Text
    text: TextConfig
    vae: VAEConfig
    unet: UNetConfig
    noise: NoiseConfig
    defaults: Defaults
    image: ImageConfig | None = None  # the other half of CLIP; generating does not need it
    embedding_width: Width | None = None  # of the space shared by text and image

    def __post_init__(self) -> None:
        """Raise `LdmError` for values that make no model."""
        _check(Config, self, "config")
        blocks = self.unet.res_per_level * 2 + 1
        layers = sum(level.depth * blocks for level in self.unet.levels) + self.unet.mid_depth
        if layers > MOST_TRANSFORMERS:
            raise LdmError(
                f"config.unet has {layers:,} transformer layers; expected at most {MOST_TRANSFORMERS}"
            )

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Read what `to_json` wrote. Raises `LdmError` for missing, unknown or impossible fields."""
        config: Config = build(cls, parse_json(text, "config.json"), "config")
        return config


MOST_TRANSFORMERS = 500  # layers in a U-Net; Stable Diffusion XL has 70


def build(kind: Any, value: Any, where: str) -> Any:
    """Turn parsed JSON into an annotated type: a dataclass, a tuple, an optional or a plain value.

    Raises `LdmError`, with `where`, for a value that does not fit its annotation.
    """
    built = _convert(kind, value, where)
    _check(kind, built, where)
    return built


def _convert(kind: Any, value: Any, where: str) -> Any:
    """Objects become dataclasses, lists tuples, and integers floats where those are expected."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        if not isinstance(value, list):
            raise LdmError(f"{where} is {shown(value)}; expected a list")
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if arguments and origin is not Literal and value is not None:  # Annotated, or X | None
        return _convert(arguments[0], value, where)
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return float(value) if kind is float and _is_number(value) else value
    if not isinstance(value, dict):
        raise LdmError(f"{where} is {shown(value)}; expected an object with the fields of {kind.__name__}")
    hints = _hints(kind)
    unknown = sorted(value.keys() - hints.keys())
    if unknown:
        raise LdmError(f"{where} has unknown fields {shown(unknown)}; expected some of {sorted(hints)}")
    missing = [f.name for f in fields(kind) if f.default is MISSING and f.name not in value]
    if missing:
        raise LdmError(f"{where} lacks the fields {missing}; restore the original file")
    return kind(**{name: _convert(hints[name], item, f"{where}.{name}") for name, item in value.items()})


@lru_cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**1000)  # floats go no further


def _check(kind: Any, value: Any, where: str) -> None:
    """Raise `LdmError` unless a value has the annotated type and lies within its limits."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        _check(arguments[0], value, where)
        least, most = arguments[1]
        size = value if isinstance(value, int | float) else len(value)
        if not least <= size <= most:  # NaN is never between
            what = "" if size is value else "of length "
            raise LdmError(f"{where} is {shown(value)}; expected {what}{least:,} to {most:,}")
        if isinstance(value, str) and not value.isprintable():
            raise LdmError(f"{where} is {shown(value)}; expected printable text")
    elif origin is Literal:
        if value not in arguments:
            raise LdmError(f"{where} is {shown(value)}; expected one of {list(arguments)}")
    elif origin is tuple:
        if not isinstance(value, tuple):
            raise LdmError(f"{where} is {shown(value)}; expected a tuple")
        for i, item in enumerate(value):
            _check(arguments[0], item, f"{where}[{i}]")
    elif arguments:  # X | None
        if value is not None:
            _check(arguments[0], value, where)
    else:
        fits = _is_number(value) if kind is float else isinstance(value, kind)
        if not fits or (kind is int and isinstance(value, bool)):
            raise LdmError(f"{where} is {shown(value)}; expected {kind.__name__}")
        if isinstance(kind, type) and is_dataclass(kind):
            for name, hint in _hints(kind).items():
                _check(hint, getattr(value, name), f"{where}.{name}")


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
    unet=UNetConfig(
        (UNetLevel(320, 8, 1), UNetLevel(640, 8, 1), UNetLevel(1280, 8, 1), UNetLevel(1280, 8, 0)), 768
    ),
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
    unet=UNetConfig(
        (UNetLevel(320, 5, 1), UNetLevel(640, 10, 1), UNetLevel(1280, 20, 1), UNetLevel(1280, 20, 0)), 1024
    ),
    noise=NoiseConfig(),
    defaults=Defaults(size=512),
)
SD2_V = replace(SD2_BASE, name="sd2-v", noise=NoiseConfig(prediction="v"), defaults=Defaults(size=768))
# Inpainting models read the latent (4), the mask (1) and the latent of the masked image (4).
SD1_INPAINT = replace(SD1, name="sd1-inpaint", unet=replace(SD1.unet, in_channels=9))
SD2_INPAINT = replace(SD2_BASE, name="sd2-inpaint", unet=replace(SD2_BASE.unet, in_channels=9))

TINY = Config(
    name="tiny",
    # Two values are known only after training, and are then in the model's own config.json: the size of the
    # vocabulary, learned from the captions, and the VAE's scale, measured on its latents.
    text=TextConfig(1024, 32, width=192, layers=4, heads=4, activation="quick_gelu"),
    vae=VAEConfig(channels=(16, 32, 96, 160), res_per_level=1, latent_channels=4, scale=1.0, groups=4),
    unet=UNetConfig((UNetLevel(96, 4, 0), UNetLevel(192, 6, 1), UNetLevel(256, 8, 1)), 192, res_per_level=1),
    noise=NoiseConfig(),
    defaults=Defaults(size=128, sampler="euler_ancestral", steps=20, guidance=4.0),
    image=ImageConfig(64, patch=16, width=192, layers=4, heads=4, activation="quick_gelu"),
    embedding_width=128,
)
PRESETS = {c.name: c for c in (TINY, SD1, SD1_INPAINT, SD2_BASE, SD2_V, SD2_INPAINT)}
