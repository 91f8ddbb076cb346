r"""A model's sizes, inferred from the shapes of its tensors: a checkpoint of any width opens, not only the known ones.

What shapes cannot tell (numbers of heads, activation, prediction) is the family's, unless JSON that came with the
checkpoint says it (`ldm.checkpoints.settings`), or the caller.
"""

from dataclasses import replace
from itertools import count, takewhile
from pathlib import Path

from ldm.checkpoints.checkpoint import PART_NAMES, Part
from ldm.checkpoints.detect import Shapes, dimension
from ldm.config import (
    OPENCLIP_BIGG_TEXT,
    PRESETS,
    SD1,
    SD2_BASE,
    SDXL,
    AddedConfig,
    Config,
    TextConfig,
    UNetConfig,
    UNetLevel,
    VAEConfig,
)
from ldm.errors import LdmError
from ldm.notes import log

HEAD_WIDTH = 64  # of every head of Stable Diffusion 2 and XL, and of all text encoders


def indices(name: str, shapes: Shapes, start: int = 0, step: int = 1) -> list[int]:
    """The numbers i = start, start + step, ... with a tensor `name.format(i)`, up to the first that has none."""
    return list(takewhile(lambda i: name.format(i) in shapes, count(start, step)))


# What shapes do not tell of a text encoder. (Stable Diffusion XL has two; its refiner, the second alone.)
TEXTS = {"sd1": SD1.text, "sd2": SD2_BASE.text, "sdxl": SDXL.text, "sdxl_2": OPENCLIP_BIGG_TEXT}


def unet_config(part: Part, version: str) -> UNetConfig:
    """`version`: "sd1" has eight heads at every level, others have heads of width 64. Raises `LdmError`.

    Read off the first block of each level. Whether the others are like it is seen when all tensors are compared.
    """
    shapes, compvis = part.shapes, part.layout == "compvis"
    if compvis:  # one running index for all blocks; a level ends with one that halves the resolution
        conv, attention = "input_blocks.{}.0.in_layers.2.weight", "input_blocks.{}.1"
        per_level = len(indices(conv, shapes, start=1))
        levels = indices(conv, shapes, 1, per_level + 1)
    else:
        conv, attention = "down_blocks.{}.resnets.0.conv1.weight", "down_blocks.{}.attentions.0"
        per_level = len(indices("down_blocks.0.resnets.{}.conv1.weight", shapes))
        levels = indices(conv, shapes)
    widths = [dimension(shapes, conv.format(i), 0) for i in levels]
    depths = [_depth(attention.format(i), shapes) for i in levels]
    ending = "attn2.to_k.weight"
    guidance = "time_embedding.cond_proj.weight"
    to_k = next((name for name in shapes if name.endswith(f"transformer_blocks.0.{ending}")), ending)
    return UNetConfig(
        tuple(
            UNetLevel(width, _heads(width, version, part.source), depth)
            for width, depth in zip(widths, depths)
        ),
        context_width=dimension(shapes, to_k, 1),
        in_channels=dimension(shapes, "input_blocks.0.0.weight" if compvis else "conv_in.weight", 1),
        out_channels=dimension(shapes, "out.2.weight" if compvis else "conv_out.weight", 0),
        res_per_level=per_level,
        mid_depth=_depth("middle_block.1" if compvis else "mid_block.attentions.0", shapes),
        guidance_width=dimension(shapes, guidance, 1) if guidance in shapes else None,
    )


def added_config(part: Part, pooled_width: int, numbers: int) -> AddedConfig:
    """What the U-Net of Stable Diffusion XL adds to its time embedding. Raises `LdmError`."""
    name = "label_emb.0.0.weight" if part.layout == "compvis" else "add_embedding.linear_1.weight"
    width = dimension(part.shapes, name, 1)
    sinusoids, rest = divmod(width - pooled_width, numbers)
    if sinusoids < 2 or sinusoids % 2 or rest:
        raise LdmError(
            f"{part.source}: its U-Net adds {width} values to the time embedding; expected a pooled text of "
            f"{pooled_width} and {numbers} numbers, each as sinusoids; do its text encoders belong to it?"
        )
    return AddedConfig(pooled_width, numbers, sinusoids)


def _heads(width: int, version: str, source: Path) -> int:
    if version == "sd1":
        return 8
    if width % HEAD_WIDTH:
        raise LdmError(
            f"{source}: {width} channels are no multiple of {HEAD_WIDTH}, so the number of heads is not known; "
            "give a config that says it"
        )
    return width // HEAD_WIDTH


def _depth(block: str, shapes: Shapes) -> int:
    return len(indices(f"{block}.transformer_blocks.{{}}.norm1.weight", shapes))


def vae_config(part: Part) -> VAEConfig:
    """The config of a VAE. Raises `LdmError`."""
    shapes = part.shapes
    level, block = {
        "compvis": ("encoder.down.{}", ".block.{}.conv1.weight"),
        "diffusers": ("encoder.down_blocks.{}", ".resnets.{}.conv1.weight"),
        "ours": ("encoder.down.{}", ".res.{}.conv_1.weight"),
    }[part.layout]
    levels = indices(first := level + block.format(0), shapes)
    if not levels:
        raise LdmError(f"{part.source}: the VAE has no encoder; is it another kind of model?")
    return VAEConfig(
        channels=tuple(dimension(shapes, first.format(i), 0) for i in levels),
        res_per_level=len(indices(level.format(0) + block, shapes)),
        latent_channels=dimension(shapes, "decoder." * (part.layout == "ours") + "post_quant_conv.weight", 0),
        scale=SD1.vae.scale,
    )


def text_config(part: Part, version: str, layers_given: bool = False) -> TextConfig:
    """`version` is a key of `TEXTS`. Version 2 does not read the last layer, which a file may have or have left off.

    `layers_given`: JSON says how many layers the file has, all of which are read, as by transformers.
    """
    shapes = {name.removeprefix("text_model."): shape for name, shape in part.shapes.items()}
    if part.layout == "compvis":
        tokens, positions = "token_embedding.weight", "positional_embedding"
        layers = len(indices("transformer.resblocks.{}.ln_1.weight", shapes))
    else:
        tokens, positions = "embeddings.token_embedding.weight", "embeddings.position_embedding.weight"
        layers = len(indices("encoder.layers.{}.layer_norm1.weight", shapes))
    family, width = TEXTS[version], dimension(shapes, tokens, 1)
    pooled = None
    if family.pooled_width:
        name, axis = ("text_projection", 1) if part.layout == "compvis" else ("text_projection.weight", 0)
        pooled = dimension(shapes, name, axis)
    return replace(
        family,
        vocab_size=dimension(shapes, tokens, 0),
        context_length=dimension(shapes, positions, 0),
        width=width,
        layers=_with_unread_layer(part, width, layers, layers_given) if version == "sd2" else layers,
        heads=max(1, width // HEAD_WIDTH),
        pooled_width=pooled,
    )


def _with_unread_layer(part: Part, width: int, layers: int, layers_given: bool) -> int:
    """How many layers a text encoder of version 2 was trained with, the last of which nothing reads.

    `layers` are in the file. Notes what is assumed if it is not an encoder of the published size and nothing tells.
    """
    if layers_given:
        return layers + 1
    known = SD2_BASE.text
    if width == known.width and layers in (known.layers, known.layers - 1):
        return known.layers
    # These follow the last layer, so whoever cut that off left them off, too. Without them, it may still be there.
    if "text_projection" in part.shapes or "logit_scale" in part.shapes:
        return layers
    log.warning(
        f"{part.source}: nothing tells whether the {layers} layers of its text encoder include the last one, which "
        "Stable Diffusion 2 does not read; taking it as left out. If prompts are followed poorly, give a "
        "config that says it"
    )
    return layers + 1


def whole_folder(source: Path) -> str:
    """What to do about a network alone if it is one of those in a diffusers folder; else nothing."""
    folder = source.parent.parent
    return f": give the whole folder, {folder}" if (folder / "model_index.json").is_file() else ""


def sized_config(family: str, parts: dict[str, Part], layers_given: bool = False) -> Config:
    """The config of a whole model of a supported family; `layers_given` as for `text_config`.

    Raises `LdmError` if a part is missing or not a model's.
    """
    preset = PRESETS[family]
    needed = ["text", *(["text_2"] if preset.text_2 else []), "vae", "unet"]
    missing = [PART_NAMES[name] for name in needed if name not in parts]
    if missing:
        source = next(iter(parts.values())).source
        remedy = f"a model needs all {'four' if preset.text_2 else 'three'}" + whole_folder(source)
        if missing == ["VAE"]:
            remedy = "give one with vae=... (--vae FILE)"
        if list(parts) == ["unet"]:
            remedy += ", or give it to a whole model with unet=... (--unet FILE)"
        raise LdmError(f"{source}: there is no {' and no '.join(missing)} in it; {remedy}")
    version = family.partition("-")[0]
    text = text_config(parts["text"], "sdxl_2" if family == "sdxl-refiner" else version, layers_given)
    text_2 = text_config(parts["text_2"], "sdxl_2", layers_given) if preset.text_2 else None
    unet = unet_config(parts["unet"], version)
    if preset.unet.added:
        pooled = (text_2 or text).pooled_width or 0
        unet = replace(unet, added=added_config(parts["unet"], pooled, preset.unet.added.numbers))
    vae = replace(vae_config(parts["vae"]), scale=preset.vae.scale, float16=preset.vae.float16)
    return Config(family, text, vae, unet, preset.noise, preset.defaults, text_2)
