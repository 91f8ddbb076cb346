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
    SD1,
    SD2_BASE,
    Config,
    Defaults,
    NoiseConfig,
    TextConfig,
    UNetConfig,
    UNetLevel,
    VAEConfig,
)
from ldm.errors import LdmError
from ldm.notes import log

HEAD_WIDTH = 64  # of every head of Stable Diffusion 2, and of both text encoders


def indices(name: str, shapes: Shapes, start: int = 0, step: int = 1) -> list[int]:
    """The numbers i = start, start + step, ... with a tensor `name.format(i)`, up to the first that has none."""
    return list(takewhile(lambda i: name.format(i) in shapes, count(start, step)))


def unet_config(part: Part, version: str) -> UNetConfig:
    """`version`: "sd1" has eight heads at every level, "sd2" heads of width 64. Raises `LdmError`.

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
    )


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
    """Version 2 reads the state before the last layer; a file may have that layer, or may have left it off.

    `layers_given`: JSON says how many layers the file has, all of which are read, as by transformers.
    """
    shapes = {name.removeprefix("text_model."): shape for name, shape in part.shapes.items()}
    if part.layout == "compvis":
        tokens, positions = "token_embedding.weight", "positional_embedding"
        layers = len(indices("transformer.resblocks.{}.ln_1.weight", shapes))
    else:
        tokens, positions = "embeddings.token_embedding.weight", "embeddings.position_embedding.weight"
        layers = len(indices("encoder.layers.{}.layer_norm1.weight", shapes))
    family = SD1.text if version == "sd1" else SD2_BASE.text
    width = dimension(shapes, tokens, 1)
    return replace(
        family,
        vocab_size=dimension(shapes, tokens, 0),
        context_length=dimension(shapes, positions, 0),
        width=width,
        layers=layers if family.output == "last" else _with_unread_layer(part, width, layers, layers_given),
        heads=max(1, width // HEAD_WIDTH),
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
    missing = [PART_NAMES[name] for name in ("text", "vae", "unet") if name not in parts]
    if missing:
        source = next(iter(parts.values())).source
        remedy = "a model needs all three" + whole_folder(source)
        if missing == ["VAE"]:
            remedy = "give one with vae=... (--vae FILE)"
        raise LdmError(f"{source}: there is no {' and no '.join(missing)} in it; {remedy}")
    version = family.partition("-")[0]
    is_v = family == "sd2-v"
    return Config(
        name=family,
        text=text_config(parts["text"], version, layers_given),
        vae=vae_config(parts["vae"]),
        unet=unet_config(parts["unet"], version),
        noise=NoiseConfig(prediction="v" if is_v else "eps"),
        defaults=Defaults(size=768 if is_v else 512),
    )
