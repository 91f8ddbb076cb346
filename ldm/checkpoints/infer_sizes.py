r"""A model's sizes, inferred from the shapes of its tensors: a checkpoint of any width opens, not only the known ones.

What shapes cannot tell (numbers of heads, activation, prediction) is the family's, unless JSON that came with the
checkpoint says it (`ldm.checkpoints.settings`), or the caller.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from ldm.checkpoints.checkpoint import PART_NAMES, Part
from ldm.checkpoints.detect import Shapes, dimension
from ldm.checkpoints.notes import note
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

HEAD_WIDTH = 64  # of every head of Stable Diffusion 2, and of both text encoders


def count(name: Callable[[int], str], shapes: Shapes) -> int:
    """How many of name(0), name(1), ... there are before the first that is missing."""
    number = 0
    while name(number) in shapes:
        number += 1
    return number


def unet_config(part: Part, version: str) -> UNetConfig:
    """`version`: "sd1" has eight heads at every level, "sd2" heads of width 64. Raises `LdmError`."""
    shapes, compvis = part.shapes, part.layout == "compvis"
    blocks = list(_compvis_blocks(shapes) if compvis else _diffusers_blocks(shapes))
    sizes = [(dimension(shapes, conv, 0), depth) for conv, depth, _ in blocks]
    levels = [level for _, _, level in blocks]
    per_level = {levels.count(level) for level in levels}
    if len(per_level) != 1 or len({(level, *size) for level, size in zip(levels, sizes)}) != len(set(levels)):
        raise LdmError(f"{part.source}: the U-Net's levels are not built alike; is it another kind of model?")
    ending = "attn2.to_k.weight"
    to_k = next((name for name in shapes if name.endswith(f"transformer_blocks.0.{ending}")), ending)
    return UNetConfig(
        tuple(
            UNetLevel(width, _heads(width, version, part.source), depth)
            for _, (width, depth) in dict(zip(levels, sizes)).items()
        ),
        context_width=dimension(shapes, to_k, 1),
        in_channels=dimension(shapes, "input_blocks.0.0.weight" if compvis else "conv_in.weight", 1),
        out_channels=dimension(shapes, "out.2.weight" if compvis else "conv_out.weight", 0),
        res_per_level=per_level.pop(),
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
    return count(lambda k: f"{block}.transformer_blocks.{k}.norm1.weight", shapes)


def _diffusers_blocks(shapes: Shapes) -> Iterable[tuple[str, int, int]]:
    """Each residual block of the down path: the name of a convolution, the transformer's depth after it, its level."""
    i = j = 0
    while True:
        conv = f"down_blocks.{i}.resnets.{j}.conv1.weight"
        if conv in shapes:
            yield conv, _depth(f"down_blocks.{i}.attentions.{j}", shapes), i
            j += 1
        elif j:
            i, j = i + 1, 0
        else:
            return


def _compvis_blocks(shapes: Shapes) -> Iterable[tuple[str, int, int]]:
    """The same from the original names, where a block that halves the resolution ends a level."""
    n, level = 1, 0
    while True:
        conv = f"input_blocks.{n}.0.in_layers.2.weight"
        if conv in shapes:
            yield conv, _depth(f"input_blocks.{n}.1", shapes), level
        elif f"input_blocks.{n}.0.op.weight" in shapes:
            level += 1
        else:
            return
        n += 1


def vae_config(part: Part) -> VAEConfig:
    """The config of a VAE. Raises `LdmError`."""
    shapes = part.shapes
    name = {
        "compvis": "encoder.down.{}.block.{}.conv1.weight",
        "diffusers": "encoder.down_blocks.{}.resnets.{}.conv1.weight",
        "ours": "encoder.down.{}.res.{}.conv_1.weight",
    }[part.layout]
    levels = count(lambda i: name.format(i, 0), shapes)
    if not levels:
        raise LdmError(f"{part.source}: the VAE has no encoder; is it another kind of model?")
    return VAEConfig(
        channels=tuple(dimension(shapes, name.format(i, 0), 0) for i in range(levels)),
        res_per_level=count(lambda j: name.format(0, j), shapes),
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
        layers = count(lambda i: f"transformer.resblocks.{i}.ln_1.weight", shapes)
    else:
        tokens, positions = "embeddings.token_embedding.weight", "embeddings.position_embedding.weight"
        layers = count(lambda i: f"encoder.layers.{i}.layer_norm1.weight", shapes)
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
    note(
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
