r"""The table of names: what each tensor is called here, and what diffusers and transformers call it.

The names differ, the numbers are the same. So converting a checkpoint is no computation but a table of two
columns; it is generated from the config, by walking the model in the order in which it runs.

Nearly all tensors need nothing but the other name. The exception: a convolution that looks at one pixel is a
linear map, and files of Stable Diffusion 1 store some linear maps in that form, as [out, in, 1, 1].
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from ldm.config import Config, ImageConfig, TextConfig, UNetConfig, VAEConfig
from ldm.errors import LdmError


@dataclass(frozen=True)
class Row:
    """One tensor under its names."""

    ours: str
    diffusers: str
    conv: bool = False  # the file has this linear map as a 1x1 convolution


# --- reading and writing -----------------------------------------------------------------------------------

# What some writers leave off the names of CLIP's tensors (transformers from version 5 on, for one).
OPTIONAL_PREFIXES = ("text_model.", "vision_model.")


def from_diffusers(
    state: Mapping[str, Tensor], rows: Iterable[Row], extras: Iterable[str] = ()
) -> dict[str, Tensor]:
    """A file's tensors under our names; they share memory with the file's.

    `extras` names what a file may have and we do not need (see `text_extras`). Every other tensor is used
    exactly once: raises `LdmError` for a tensor that is missing, left over, or there twice. What should be a
    1x1 convolution is also accepted as the linear map that it is.
    """
    by_name = {row.diffusers: row for row in rows}
    known = {*by_name, *extras}
    found: dict[str, Tensor] = {}
    strange = []
    for name, tensor in state.items():
        full = next((n for n in (name, *(p + name for p in OPTIONAL_PREFIXES)) if n in known), None)
        if full is None:
            strange.append(name)
        elif full in found:
            raise LdmError(f"the tensor {full} is in the file twice, once without its prefix")
        else:
            found[full] = tensor
    _complain(missing=[name for name in by_name if name not in found], strange=strange)
    return {row.ours: _as_linear(found[name], row) for name, row in by_name.items()}


def to_diffusers(state: Mapping[str, Tensor], rows: Iterable[Row]) -> dict[str, Tensor]:
    """The inverse of `from_diffusers`. Raises `LdmError` unless `state` has just the rows' tensors."""
    rows = list(rows)
    ours = {row.ours for row in rows}
    _complain(
        missing=[row.ours for row in rows if row.ours not in state],
        strange=[name for name in state if name not in ours],
    )
    return {r.diffusers: state[r.ours][:, :, None, None] if r.conv else state[r.ours] for r in rows}


def _as_linear(tensor: Tensor, row: Row) -> Tensor:
    if row.conv and tensor.ndim == 4:
        if tensor.shape[2:] != (1, 1):
            raise LdmError(f"{row.diffusers} has the shape {list(tensor.shape)}; expected [out, in, 1, 1]")
        return tensor[:, :, 0, 0]
    return tensor


def some(names: list[str]) -> str:
    """At most ten of the names, and how many more there are."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _complain(missing: list[str], strange: list[str]) -> None:
    wrong = [
        f"{what}: {some(names)}" for what, names in (("missing", missing), ("left over", strange)) if names
    ]
    if wrong:
        raise LdmError(f"the tensors do not fit the model; {'; '.join(wrong)}. Is it another kind of model?")


# --- the pieces --------------------------------------------------------------------------------------------

RES_BLOCK = {
    "norm_1": "norm1",
    "conv_1": "conv1",
    "time_proj": "time_emb_proj",
    "norm_2": "norm2",
    "conv_2": "conv2",
    "skip": "conv_shortcut",
}
ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}
CLIP_ATTENTION = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}
CLIP_LAYER = {"norm_1": "layer_norm1", "norm_2": "layer_norm2", "mlp.fc_1": "mlp.fc1", "mlp.fc_2": "mlp.fc2"}


def _layer(ours: str, theirs: str, bias: bool = True, conv: bool = False) -> Iterator[Row]:
    """The weight of one layer, and its bias if it has one."""
    yield Row(f"{ours}.weight", f"{theirs}.weight", conv)
    if bias:
        yield Row(f"{ours}.bias", f"{theirs}.bias")


def _res(ours: str, theirs: str, widens: bool, time: bool = False) -> Iterator[Row]:
    """A residual block. `widens`: the number of channels changes, so there is a skip convolution."""
    for name, their_name in RES_BLOCK.items():
        if (name != "skip" or widens) and (name != "time_proj" or time):
            yield from _layer(f"{ours}.{name}", f"{theirs}.{their_name}")


def _attention(ours: str, theirs: str, names: dict[str, str], qkv_bias: bool = True) -> Iterator[Row]:
    for name, their_name in names.items():
        yield from _layer(f"{ours}.{name}", f"{theirs}.{their_name}", bias=qkv_bias or name == "out")


def _spatial_transformer(ours: str, theirs: str, depth: int, conv: bool) -> Iterator[Row]:
    yield from _layer(f"{ours}.norm", f"{theirs}.norm")
    yield from _layer(f"{ours}.proj_in", f"{theirs}.proj_in", conv=conv)
    for k in range(depth):
        a, b = f"{ours}.layers.{k}", f"{theirs}.transformer_blocks.{k}"
        yield from _layer(f"{a}.norm_1", f"{b}.norm1")
        yield from _attention(f"{a}.self_attn", f"{b}.attn1", ATTENTION, qkv_bias=False)
        yield from _layer(f"{a}.norm_2", f"{b}.norm2")
        yield from _attention(f"{a}.cross_attn", f"{b}.attn2", ATTENTION, qkv_bias=False)
        yield from _layer(f"{a}.norm_3", f"{b}.norm3")
        yield from _layer(f"{a}.feed_forward.proj_in", f"{b}.ff.net.0.proj")
        yield from _layer(f"{a}.feed_forward.proj_out", f"{b}.ff.net.2")
    yield from _layer(f"{ours}.proj_out", f"{theirs}.proj_out", conv=conv)


def _clip_layers(ours: str, theirs: str, count: int) -> Iterator[Row]:
    for i in range(count):
        a, b = f"{ours}layers.{i}", f"{theirs}encoder.layers.{i}"
        yield from _attention(f"{a}.attn", f"{b}.self_attn", CLIP_ATTENTION)
        for name, their_name in CLIP_LAYER.items():
            yield from _layer(f"{a}.{name}", f"{b}.{their_name}")


# --- the models --------------------------------------------------------------------------------------------


def unet_rows(config: UNetConfig, linear_projection: bool = False) -> list[Row]:
    """`UNet` and diffusers' `UNet2DConditionModel`.

    `linear_projection`: whether a file stores the maps around a spatial transformer as linear maps (Stable
    Diffusion 2) or as 1x1 convolutions (Stable Diffusion 1). It matters for writing only.
    """
    return list(_unet(config, conv=not linear_projection))


def _unet(config: UNetConfig, conv: bool) -> Iterator[Row]:
    count, last = config.res_per_level, len(config.levels) - 1
    yield from _layer("time_embedding.linear_1", "time_embedding.linear_1")
    yield from _layer("time_embedding.linear_2", "time_embedding.linear_2")
    yield from _layer("conv_in", "conv_in")

    width = config.levels[0].channels
    skips = [width]  # the channels of each feature map that the way down hands to the way up
    for i, level in enumerate(config.levels):
        a, b = f"down.{i}", f"down_blocks.{i}"
        for j in range(count):
            yield from _res(f"{a}.res.{j}", f"{b}.resnets.{j}", width != level.channels, time=True)
            if level.depth:
                yield from _spatial_transformer(f"{a}.attn.{j}", f"{b}.attentions.{j}", level.depth, conv)
            width = level.channels
        if i < last:
            yield from _layer(f"{a}.downsample.conv", f"{b}.downsamplers.0.conv")
        skips += [width] * (count + (i < last))

    yield from _res("mid.res_1", "mid_block.resnets.0", widens=False, time=True)
    yield from _spatial_transformer("mid.attn", "mid_block.attentions.0", config.mid_depth, conv)
    yield from _res("mid.res_2", "mid_block.resnets.1", widens=False, time=True)

    for i, level in enumerate(reversed(config.levels)):
        a, b = f"up.{i}", f"up_blocks.{i}"
        for j in range(count + 1):
            widens = width + skips.pop() != level.channels
            yield from _res(f"{a}.res.{j}", f"{b}.resnets.{j}", widens, time=True)
            if level.depth:
                yield from _spatial_transformer(f"{a}.attn.{j}", f"{b}.attentions.{j}", level.depth, conv)
            width = level.channels
        if i < last:
            yield from _layer(f"{a}.upsample.conv", f"{b}.upsamplers.0.conv")

    yield from _layer("norm_out", "conv_norm_out")
    yield from _layer("conv_out", "conv_out")


def vae_rows(config: VAEConfig) -> list[Row]:
    """`VAE` and diffusers' `AutoencoderKL`."""
    down = _vae_half(config.channels, config.res_per_level, "encoder", "down", "downsample")
    up = _vae_half(config.channels[::-1], config.res_per_level + 1, "decoder", "up", "upsample")
    quant = [
        *_layer("encoder.quant_conv", "quant_conv"),
        *_layer("decoder.post_quant_conv", "post_quant_conv"),
    ]
    return [*down, *up, *quant]


def _vae_half(channels: tuple[int, ...], blocks: int, half: str, way: str, resize: str) -> Iterator[Row]:
    """Encoder or decoder: they differ in the order of running, and not at all in their names."""
    yield from _layer(f"{half}.conv_in", f"{half}.conv_in")
    width = channels[0]
    for i, level in enumerate(channels):
        a, b = f"{half}.{way}.{i}", f"{half}.{way}_blocks.{i}"
        for j in range(blocks):
            yield from _res(f"{a}.res.{j}", f"{b}.resnets.{j}", width != level)
            width = level
        if i < len(channels) - 1:
            yield from _layer(f"{a}.{resize}.conv", f"{b}.{resize}rs.0.conv")
    yield from _res(f"{half}.mid.res_1", f"{half}.mid_block.resnets.0", widens=False)
    yield from _layer(f"{half}.mid.attn.norm", f"{half}.mid_block.attentions.0.group_norm")
    yield from _attention(f"{half}.mid.attn.attn", f"{half}.mid_block.attentions.0", ATTENTION)
    yield from _res(f"{half}.mid.res_2", f"{half}.mid_block.resnets.1", widens=False)
    yield from _layer(f"{half}.norm_out", f"{half}.conv_norm_out")
    yield from _layer(f"{half}.conv_out", f"{half}.conv_out")


def text_rows(config: TextConfig) -> list[Row]:
    """`TextEncoder` and transformers' `CLIPTextModel`."""
    return [
        Row("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
        Row("position_embedding.weight", "text_model.embeddings.position_embedding.weight"),
        *_clip_layers("", "text_model.", config.layers - (config.output == "penultimate")),
        *_layer("norm_out", "text_model.final_layer_norm"),
    ]


def text_extras(config: TextConfig) -> list[str]:
    """What a text encoder's file may have beside `text_rows`: numbered positions, an unused layer."""
    full = [row.diffusers for row in _clip_layers("", "text_model.", config.layers)]
    used = {row.diffusers for row in text_rows(config)}
    return ["text_model.embeddings.position_ids", *(name for name in full if name not in used)]


def image_rows(config: ImageConfig) -> list[Row]:
    """`ImageEncoder` and transformers' `CLIPVisionModel`."""
    return [
        Row("class_embedding", "vision_model.embeddings.class_embedding"),
        Row("patch_embedding.weight", "vision_model.embeddings.patch_embedding.weight"),
        Row("position_embedding.weight", "vision_model.embeddings.position_embedding.weight"),
        *_layer("norm_in", "vision_model.pre_layrnorm"),  # spelt so
        *_clip_layers("", "vision_model.", config.layers),
        *_layer("norm_out", "vision_model.post_layernorm"),
    ]


IMAGE_EXTRAS = ["vision_model.embeddings.position_ids"]


def clip_rows(config: Config) -> list[Row]:
    """`CLIP` and transformers' `CLIPModel`. Raises `LdmError` if the config describes no image encoder."""
    if config.image is None:
        raise LdmError(
            f"the config {config.name!r} has no image encoder, so there is no whole CLIP to convert"
        )
    return [
        *(Row(f"text.{row.ours}", row.diffusers) for row in text_rows(config.text)),
        *(Row(f"image.{row.ours}", row.diffusers) for row in image_rows(config.image)),
        *_layer("text_projection", "text_projection", bias=False),
        *_layer("image_projection", "visual_projection", bias=False),
        Row("logit_scale", "logit_scale"),
    ]
