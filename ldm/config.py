r"""The sizes of every model, as plain frozen dataclasses.

Stable Diffusion 1.x, 2.x, XL and the tiny model trained here are *values* of the same classes: no other code asks which
model it has; it only reads sizes. A preset at the end of the file is therefore a short and complete description of a
model.

Not here: anything about training (see `ldm/train/`), and anything a caller chooses for each image (prompt, seed). The
*defaults* for an image are here, since they belong to the model.

An image is made in four steps. The text encoder turns the prompt into vectors, the *context* (`TextConfig`). A latent,
the VAE's small stand-in for an image, starts as random noise (`NoiseConfig`). The U-Net removes the noise step by step
while it reads the context (`UNetConfig`). The VAE's decoder turns the clean latent into pixels (`VAEConfig`).
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Literal, TypeAlias

from ldm.errors import LdmError
from ldm.files.read_write import parse_json
from ldm.files.typed_json import Between, check, from_json_value

# The limits are far wider than any known model needs. A config may come from a stranger's file, and 10**9 layers would
# keep the machine busy for days.
Width: TypeAlias = Annotated[int, Between(1, 2**16)]  # number of channels of a layer
Count: TypeAlias = Annotated[int, Between(1, 1000)]  # number of heads, of groups, of a latent's channels
Pixels: TypeAlias = Annotated[int, Between(1, 8192)]  # along one side
Name: TypeAlias = Annotated[str, Between(1, 100)]
Scale: TypeAlias = Annotated[float, Between(1e-6, 1e6)]
Variance: TypeAlias = Annotated[float, Between(1e-9, 0.9999)]
MAX_TRANSFORMER_LAYERS = 500  # in a U-Net; Stable Diffusion XL has 70


@dataclass(frozen=True)
class TextConfig:
    """The text encoder, CLIP's transformer (Radford et al. 2021, section 2.4): a prompt to one vector per token.

    These vectors are the *context*, which the U-Net reads.
    """

    vocab_size: Annotated[int, Between(2, 2**20)]  # number of different tokens
    context_length: Annotated[int, Between(2, 10_000)]  # tokens per prompt, start and end tokens included
    width: Width  # of each token's vector
    layers: Annotated[int, Between(1, 100)]
    heads: Count  # attention heads, each with width / heads channels
    activation: Literal["quick_gelu", "gelu"]  # quick_gelu: x * sigmoid(1.702 x), an approximation of gelu
    # The states that are the context: those of the last layer, normalised (Stable Diffusion 1); of the second-to-last,
    # normalised (2, whose last layer is therefore not built); or of the second-to-last as they are (XL).
    output: Literal["last", "penultimate", "hidden"] = "last"
    # What fills a short prompt up to context_length, and is read like the rest: the end token again, or token 0.
    pad: Literal["eos", "zero"] = "eos"
    # Of the pooled vector, one for the whole prompt; only Stable Diffusion XL's U-Net reads one (`ldm/unet/added.py`).
    pooled_width: Width | None = None

    @property
    def layers_built(self) -> int:
        """Without the last layer of Stable Diffusion 2's encoder, which nothing reads."""
        return self.layers - (self.output == "penultimate")


@dataclass(frozen=True)
class ImageConfig:
    """CLIP's image encoder, a vision transformer (Dosovitskiy et al. 2021)."""

    size: Pixels  # of the image
    patch: Pixels  # of one patch; the image is cut into (size / patch)^2 of them
    width: Width  # of each patch's vector
    layers: Annotated[int, Between(1, 100)]
    heads: Count
    activation: Literal["quick_gelu", "gelu"]


@dataclass(frozen=True)
class VAEConfig:
    """The autoencoder between pixels and latents (Rombach et al. 2022, appendix G)."""

    channels: Annotated[tuple[Width, ...], Between(1, 8)]  # one entry per level, finest first
    res_per_level: Annotated[int, Between(1, 16)]  # residual blocks of the encoder; the decoder has one more
    latent_channels: Count  # numbers per latent pixel
    scale: Scale  # the encoder's output times this is the latent, with a variance near one
    groups: Count = 32  # of every GroupNorm: how many groups its channels are split into
    float16: bool = (
        True  # whether it can compute in float16; the feature maps of Stable Diffusion XL's overflow there
    )

    @property
    def factor(self) -> int:
        """Pixels per latent pixel, along one side: every level but the last halves the image."""
        return 2 ** (len(self.channels) - 1)


@dataclass(frozen=True)
class UNetLevel:
    """One resolution of the U-Net. (A *noise* level is something else: `ldm.diffusion.level.Level`.)"""

    channels: Width
    heads: Count  # their number; diffusers' configs call it `attention_head_dim`
    depth: Annotated[int, Between(0, 64)]  # transformer layers after each residual block; 0: no attention


@dataclass(frozen=True)
class AddedConfig:
    """What the U-Net of Stable Diffusion XL reads besides context and timestep (`ldm/unet/added.py`)."""

    pooled_width: Width  # of the vector that stands for the whole prompt
    # How many numbers describe the image: original size, crop and target size; or original size, crop and a score.
    numbers: Annotated[int, Between(5, 6)] = 6
    sinusoid_width: Width = 256  # of the sinusoids that each number becomes


@dataclass(frozen=True)
class UNetConfig:
    """The denoiser (Rombach et al. 2022, appendix E; Ho et al. 2020, appendix B)."""

    levels: Annotated[tuple[UNetLevel, ...], Between(1, 8)]  # finest first, each half as large as the last
    context_width: Width  # of the vectors that cross-attention reads: the text encoders' widths together
    in_channels: Count = 4  # the latent's, and for inpainting five more
    out_channels: Count = 4  # the latent's
    res_per_level: Annotated[int, Between(1, 16)] = 2  # residual blocks of the down path; one more going up
    mid_depth: Annotated[int, Between(0, 64)] = 1  # transformer layers at the bottom, between down and up
    groups: Count = 32  # of every GroupNorm
    added: AddedConfig | None = None  # what is added to the time embedding; only in Stable Diffusion XL
    # Of the sinusoids of the guidance scale, which a latent consistency model reads (`ldm/unet/guidance_embedding.py`).
    guidance_width: Annotated[int, Between(4, 2**16)] | None = None


@dataclass(frozen=True)
class NoiseConfig:
    r"""How noise is added in training (the forward process, `ldm/diffusion/schedule.py`), and what the U-Net predicts.

    At timestep t of T, the latent $x_0$ of a training image and standard normal noise $\epsilon$ are mixed to
    $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1 - \bar\alpha_t}\,\epsilon$. The share $\bar\alpha_t$ falls from nearly 1
    to nearly 0 as t grows: it is the product of all $1 - \beta_s$ up to t, where $\beta_s$ is the variance of the noise
    that step s adds. From $x_t$ the U-Net predicts one of three things, each of which gives the others
    (`ldm/diffusion/predict.py`): the noise "eps", the clean latent "x0", or the mixture
    $v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1 - \bar\alpha_t}\,x_0$.
    """

    steps: Annotated[int, Between(1, 100_000)] = 1000  # T, the timesteps in training; sampling takes fewer
    schedule: Literal["scaled_linear", "linear", "cosine"] = "scaled_linear"  # the curve on which beta rises
    beta_start: Variance = 0.00085  # beta at the first timestep ("cosine" needs neither this nor beta_end)
    beta_end: Variance = 0.012  # beta at the last timestep
    prediction: Literal["eps", "v", "x0"] = "eps"
    # Whether the last timestep is pure noise, with a signal-to-noise ratio (SNR) of 0 (Lin et al. 2024). With "eps"
    # it cannot be: pure noise says nothing about the image.
    zero_snr: bool = False


@dataclass(frozen=True)
class Defaults:
    """The settings for generating an image that the caller does not give.

    DDIM, 50 steps and a guidance of 7.5 are those of CompVis's text-to-image script for Stable Diffusion 1.
    """

    size: Pixels  # of each side of the image
    sampler: Name = "ddim"
    steps: Annotated[int, Between(1, 10_000)] = 50  # of the sampler, far fewer than the timesteps in training
    guidance: Annotated[float, Between(0, 1000)] = 7.5  # how strongly the prompt steers; 1: no emphasis
    # How much of the contrast that guidance adds is removed again: phi in Lin et al. 2024, eq. 16; 0: none.
    guidance_rescale: Annotated[float, Between(0, 1)] = 0.0
    # What an empty negative prompt becomes: a text like any other, or zeros in place of its context and pooled vector,
    # with which Stable Diffusion XL was trained.
    empty_negative: Literal["encoded", "zero"] = "encoded"


@dataclass(frozen=True)
class Head:
    """A head of one of the U-Net's cross-attention layers."""

    layer: Name  # within the U-Net, such as "up.0.attn.1.layers.0"
    head: Annotated[int, Between(0, 999)]


@dataclass(frozen=True)
class Config:
    """Everything needed to build a latent diffusion model."""

    name: Name
    text: TextConfig
    vae: VAEConfig
    unet: UNetConfig
    noise: NoiseConfig
    defaults: Defaults
    text_2: TextConfig | None = (
        None  # a second text encoder (`ldm/text/joint.py`); only Stable Diffusion XL has one
    )
    image: ImageConfig | None = None  # CLIP's image encoder; generating images does not need it
    embedding_width: Width | None = None  # of the vectors that CLIP compares, of a text and of an image
    # The heads whose maps best show where a word's thing is, chosen by `ldm evaluate --choose-heads`; empty: all heads.
    map_heads: Annotated[tuple[Head, ...], Between(0, 100)] = ()

    def __post_init__(self) -> None:
        """Raises `LdmError` for a value that no model can have."""
        check(Config, self, "config")
        blocks = self.unet.res_per_level * 2 + 1
        layers = sum(level.depth * blocks for level in self.unet.levels) + self.unet.mid_depth
        if layers > MAX_TRANSFORMER_LAYERS:
            raise LdmError(
                f"config.unet has {layers:,} transformer layers; expected at most {MAX_TRANSFORMER_LAYERS}"
            )

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Read what `to_json` wrote. Raises `LdmError` for a missing, unknown or impossible field."""
        config: Config = from_json_value(cls, parse_json(text, "config.json"), "config")
        return config


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
# A latent consistency model: it needs few steps, and reads the guidance scale.
SD1_LCM = replace(
    SD1,
    name="sd1-lcm",
    unet=replace(SD1.unet, guidance_width=256),
    defaults=Defaults(size=768, sampler="lcm", steps=4, guidance=8.0),
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

# The VAE of Stable Diffusion XL: the same sizes, other weights.
SDXL_VAE = replace(SD_VAE, scale=0.13025, float16=False)
OPENCLIP_BIGG_TEXT = TextConfig(
    49408,
    77,
    width=1280,
    layers=32,
    heads=20,
    activation="gelu",
    output="hidden",
    pad="zero",
    pooled_width=1280,
)

SDXL = Config(
    name="sdxl",
    text=replace(CLIP_L_TEXT, output="hidden"),
    text_2=OPENCLIP_BIGG_TEXT,
    vae=SDXL_VAE,
    # Heads of width 64. No attention at the finest level, where it would cost most; most of it at the coarsest.
    unet=UNetConfig(
        (UNetLevel(320, 5, 0), UNetLevel(640, 10, 2), UNetLevel(1280, 20, 10)),
        context_width=768 + 1280,
        mid_depth=10,
        added=AddedConfig(pooled_width=1280),
    ),
    noise=NoiseConfig(),
    defaults=Defaults(size=1024, sampler="euler_leading", steps=30, guidance=5.0, empty_negative="zero"),
)
SDXL_INPAINT = replace(SDXL, name="sdxl-inpaint", unet=replace(SDXL.unet, in_channels=9))
SDXL_LCM = replace(
    SDXL,
    name="sdxl-lcm",
    unet=replace(SDXL.unet, guidance_width=256),
    defaults=replace(SDXL.defaults, sampler="lcm", steps=4, guidance=8.0),
)
# The refiner goes on from a latent of the base model, with little noise left in it. It reads the second encoder only.
SDXL_REFINER = Config(
    name="sdxl-refiner",
    text=OPENCLIP_BIGG_TEXT,
    vae=SDXL_VAE,
    unet=UNetConfig(
        (UNetLevel(384, 6, 0), UNetLevel(768, 12, 4), UNetLevel(1536, 24, 4), UNetLevel(1536, 24, 0)),
        context_width=1280,
        mid_depth=4,
        added=AddedConfig(pooled_width=1280, numbers=5),
    ),
    noise=NoiseConfig(),
    defaults=Defaults(size=1024, sampler="euler_leading", steps=30, guidance=5.0),
)

TINY = Config(
    name="tiny",
    # Two values are known only after training, and are then in the model's own config.json: the size of the
    # vocabulary, learned from the captions, and the VAE's scale, measured on its latents.
    text=TextConfig(1024, 40, width=192, layers=4, heads=4, activation="quick_gelu"),
    vae=VAEConfig(channels=(32, 64, 96, 160), res_per_level=1, latent_channels=16, scale=1.0, groups=4),
    unet=UNetConfig(
        (UNetLevel(96, 4, 1), UNetLevel(192, 6, 1), UNetLevel(256, 8, 1)),
        context_width=192,
        in_channels=16,
        out_channels=16,
        res_per_level=1,
    ),
    # Stable Diffusion 1's schedule ends with a trace of the image, from which this U-Net would read colours and light
    # that it should take from the prompt (notebook 03 measures it). So this one ends in pure noise.
    noise=NoiseConfig(prediction="v", zero_snr=True),
    defaults=Defaults(size=128, sampler="euler_ancestral", steps=20, guidance=4.0),
    image=ImageConfig(64, patch=8, width=192, layers=4, heads=4, activation="quick_gelu"),
    embedding_width=128,
)
PRESETS = {
    c.name: c
    for c in (
        *(TINY, SD1, SD1_INPAINT, SD1_LCM, SD2_BASE, SD2_V, SD2_INPAINT),
        *(SDXL, SDXL_INPAINT, SDXL_LCM, SDXL_REFINER),
    )
}
