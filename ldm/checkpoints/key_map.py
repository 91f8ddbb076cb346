r"""The table of names: what each tensor is called here, in diffusers and transformers, and in the original files.

The names differ, the numbers are the same (see `ldm.checkpoints.names`). So converting a checkpoint is a table of three
columns; it is generated from the config, by walking the model in the order in which it runs.
"""

from collections.abc import Iterator

from ldm.checkpoints.names import Layout, Row
from ldm.config import TextConfig, UNetConfig, VAEConfig

Names = dict[str, tuple[str, str]]
Conv = tuple[Layout, ...]  # the layouts that store a linear map as a 1x1 convolution

# Each of our names with that in diffusers or transformers, and that in the original files.
UNET_RES = {
    "norm_1": ("norm1", "in_layers.0"),
    "conv_1": ("conv1", "in_layers.2"),
    "time_proj": ("time_emb_proj", "emb_layers.1"),
    "norm_2": ("norm2", "out_layers.0"),
    "conv_2": ("conv2", "out_layers.3"),
    "skip": ("conv_shortcut", "skip_connection"),
}
VAE_RES = {
    "norm_1": ("norm1", "norm1"),
    "conv_1": ("conv1", "conv1"),
    "norm_2": ("norm2", "norm2"),
    "conv_2": ("conv2", "conv2"),
    "skip": ("conv_shortcut", "nin_shortcut"),
}
UNET_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}
VAE_ATTENTION = {"q": ("to_q", "q"), "k": ("to_k", "k"), "v": ("to_v", "v"), "out": ("to_out.0", "proj_out")}
CLIP_LAYER = {
    "norm_1": ("layer_norm1", "ln_1"),
    "attn.out": ("self_attn.out_proj", "attn.out_proj"),
    "norm_2": ("layer_norm2", "ln_2"),
    "mlp.fc_1": ("mlp.fc1", "mlp.c_fc"),
    "mlp.fc_2": ("mlp.fc2", "mlp.c_proj"),
}


def _layer(ours: str, diffusers: str, compvis: str, bias: bool = True, conv: Conv = ()) -> Iterator[Row]:
    """The weight of one layer, and its bias if it has one."""
    yield Row(f"{ours}.weight", f"{diffusers}.weight", f"{compvis}.weight", conv)
    if bias:
        yield Row(f"{ours}.bias", f"{diffusers}.bias", f"{compvis}.bias")


def _res(names: Names, ours: str, diffusers: str, compvis: str, widens: bool) -> Iterator[Row]:
    """A residual block. `widens`: the number of channels changes, so there is a skip convolution."""
    for name, (theirs, original) in names.items():
        if name != "skip" or widens:
            yield from _layer(f"{ours}.{name}", f"{diffusers}.{theirs}", f"{compvis}.{original}")


def _transformer(ours: str, diffusers: str, compvis: str, depth: int, conv: Conv) -> Iterator[Row]:
    """A spatial transformer. Inside it, diffusers kept the original names."""

    def layer(name: str, theirs: str, bias: bool = True, conv: Conv = ()) -> Iterator[Row]:
        return _layer(f"{ours}.{name}", f"{diffusers}.{theirs}", f"{compvis}.{theirs}", bias, conv)

    yield from layer("norm", "norm")
    yield from layer("proj_in", "proj_in", conv=conv)
    for k in range(depth):
        a, b = f"layers.{k}", f"transformer_blocks.{k}"
        for i, attn in enumerate(("self_attn", "cross_attn"), start=1):
            yield from layer(f"{a}.norm_{i}", f"{b}.norm{i}")
            for name, theirs in UNET_ATTENTION.items():
                yield from layer(f"{a}.{attn}.{name}", f"{b}.attn{i}.{theirs}", bias=name == "out")
        yield from layer(f"{a}.norm_3", f"{b}.norm3")
        yield from layer(f"{a}.feed_forward.proj_in", f"{b}.ff.net.0.proj")
        yield from layer(f"{a}.feed_forward.proj_out", f"{b}.ff.net.2")
    yield from layer("proj_out", "proj_out", conv=conv)


def _clip_layers(prefix: str, layers: range) -> Iterator[Row]:
    for i in layers:
        a, b, c = f"layers.{i}", f"{prefix}encoder.layers.{i}", f"transformer.resblocks.{i}"
        for third, name in enumerate("qkv"):
            for kind in ("weight", "bias"):
                theirs, stacked = f"{b}.self_attn.{name}_proj.{kind}", f"{c}.attn.in_proj_{kind}"
                yield Row(f"{a}.attn.{name}.{kind}", theirs, stacked, third=third)
        for name, (theirs, original) in CLIP_LAYER.items():
            yield from _layer(f"{a}.{name}", f"{b}.{theirs}", f"{c}.{original}")


def unet_rows(config: UNetConfig, linear_projection: bool = False) -> list[Row]:
    """`UNet`, diffusers' `UNet2DConditionModel`, and the original's `UNetModel`.

    `linear_projection`: whether a file stores the projections around a spatial transformer as linear maps
    (Stable Diffusion 2) or as 1x1 convolutions (Stable Diffusion 1). It matters for writing only.
    """
    return list(_unet(config, conv=() if linear_projection else ("diffusers", "compvis")))


def _unet(config: UNetConfig, conv: Conv) -> Iterator[Row]:
    count, last = config.res_per_level, len(config.levels) - 1
    yield from _layer("time_embedding.linear_1", "time_embedding.linear_1", "time_embed.0")
    yield from _layer("time_embedding.linear_2", "time_embedding.linear_2", "time_embed.2")
    if (
        config.guidance_width
    ):  # the original code has no such layer; in files of its layout it keeps diffusers' name
        theirs = "time_embedding.cond_proj.weight"
        yield Row("time_embedding.guidance.weight", theirs, theirs)
    if config.added:
        yield from _layer("added_embedding.linear_1", "add_embedding.linear_1", "label_emb.0.0")
        yield from _layer("added_embedding.linear_2", "add_embedding.linear_2", "label_emb.0.2")
    yield from _layer("conv_in", "conv_in", "input_blocks.0.0")

    n = 1  # the original numbers all blocks of the down path in one running index
    width = config.levels[0].channels
    skips = [width]  # the channels of each feature map that the down path hands to the up path
    for i, level in enumerate(config.levels):
        a, b = f"down.{i}", f"down_blocks.{i}"
        for j in range(count):
            c = f"input_blocks.{n}"
            yield from _res(UNET_RES, f"{a}.res.{j}", f"{b}.resnets.{j}", f"{c}.0", width != level.channels)
            if level.depth:
                yield from _transformer(f"{a}.attn.{j}", f"{b}.attentions.{j}", f"{c}.1", level.depth, conv)
            width = level.channels
            n += 1
        if i < last:
            yield from _layer(f"{a}.downsample.conv", f"{b}.downsamplers.0.conv", f"input_blocks.{n}.0.op")
            n += 1
        skips += [width] * (count + (i < last))

    yield from _res(UNET_RES, "mid.res_1", "mid_block.resnets.0", "middle_block.0", widens=False)
    yield from _transformer("mid.attn", "mid_block.attentions.0", "middle_block.1", config.mid_depth, conv)
    yield from _res(UNET_RES, "mid.res_2", "mid_block.resnets.1", "middle_block.2", widens=False)

    n = 0
    for i, level in enumerate(reversed(config.levels)):
        a, b = f"up.{i}", f"up_blocks.{i}"
        for j in range(count + 1):
            c = f"output_blocks.{n}"
            widens = width + skips.pop() != level.channels
            yield from _res(UNET_RES, f"{a}.res.{j}", f"{b}.resnets.{j}", f"{c}.0", widens)
            if level.depth:
                yield from _transformer(f"{a}.attn.{j}", f"{b}.attentions.{j}", f"{c}.1", level.depth, conv)
            width = level.channels
            n += 1
        if i < last:  # in the original part of the level's last block, after the attention if there is one
            c = f"output_blocks.{n - 1}.{2 if level.depth else 1}"
            yield from _layer(f"{a}.upsample.conv", f"{b}.upsamplers.0.conv", f"{c}.conv")

    yield from _layer("norm_out", "conv_norm_out", "out.0")
    yield from _layer("conv_out", "conv_out", "out.2")


def vae_rows(config: VAEConfig) -> list[Row]:
    """`VAE`, diffusers' `AutoencoderKL`, and the original's of the same name."""
    levels = range(len(config.channels))
    down = _vae_half(config.channels, config.res_per_level, "encoder", "down", "downsample", levels)
    # The original numbers the decoder's levels from the finest, though it runs them from the coarsest.
    up = _vae_half(config.channels[::-1], config.res_per_level + 1, "decoder", "up", "upsample", levels[::-1])
    quant = [
        *_layer("encoder.quant_conv", "quant_conv", "quant_conv"),
        *_layer("decoder.post_quant_conv", "post_quant_conv", "post_quant_conv"),
    ]
    return [*down, *up, *quant]


def _vae_half(
    channels: tuple[int, ...], blocks: int, half: str, way: str, resize: str, original: range
) -> Iterator[Row]:
    """Encoder or decoder. `original`: the number that each level has in the original code."""
    yield from _layer(f"{half}.conv_in", f"{half}.conv_in", f"{half}.conv_in")
    width = channels[0]
    for i, level in enumerate(channels):
        a, b, c = f"{half}.{way}.{i}", f"{half}.{way}_blocks.{i}", f"{half}.{way}.{original[i]}"
        for j in range(blocks):
            yield from _res(VAE_RES, f"{a}.res.{j}", f"{b}.resnets.{j}", f"{c}.block.{j}", width != level)
            width = level
        if i < len(channels) - 1:
            yield from _layer(f"{a}.{resize}.conv", f"{b}.{resize}rs.0.conv", f"{c}.{resize}.conv")
    a, b, c = f"{half}.mid", f"{half}.mid_block", f"{half}.mid"
    yield from _res(VAE_RES, f"{a}.res_1", f"{b}.resnets.0", f"{c}.block_1", widens=False)
    yield from _layer(f"{a}.attn.norm", f"{b}.attentions.0.group_norm", f"{c}.attn_1.norm")
    for name, (theirs, first) in VAE_ATTENTION.items():
        yield from _layer(
            f"{a}.attn.attn.{name}", f"{b}.attentions.0.{theirs}", f"{c}.attn_1.{first}", conv=("compvis",)
        )
    yield from _res(VAE_RES, f"{a}.res_2", f"{b}.resnets.1", f"{c}.block_2", widens=False)
    yield from _layer(f"{half}.norm_out", f"{half}.conv_norm_out", f"{half}.norm_out")
    yield from _layer(f"{half}.conv_out", f"{half}.conv_out", f"{half}.conv_out")


def text_rows(config: TextConfig) -> list[Row]:
    """`TextEncoder`, transformers' `CLIPTextModel` (with a projection: `CLIPTextModelWithProjection`), and OpenCLIP's.

    Stable Diffusion 2 has OpenCLIP's names in its original files, Stable Diffusion 1 those of transformers, and XL for
    each of its encoders the one or the other.
    """
    b = "text_model.embeddings"
    projection = Row(
        "projection.weight", "text_projection.weight", "text_projection", transposed=("compvis",)
    )
    return [
        Row("token_embedding.weight", f"{b}.token_embedding.weight", "token_embedding.weight"),
        Row("position_embedding.weight", f"{b}.position_embedding.weight", "positional_embedding"),
        *_clip_layers("text_model.", range(config.layers_built)),
        *_layer("norm_out", "text_model.final_layer_norm", "ln_final"),
        *([projection] if config.pooled_width else []),
    ]


def text_extras(config: TextConfig, layout: Layout = "diffusers") -> list[str]:
    """What a text encoder's file may have besides `text_rows`: an unused last layer, and what is never needed here."""
    unused = range(config.layers_built, config.layers)
    others = {
        "ours": [],
        "diffusers": ["text_model.embeddings.position_ids"],
        "compvis": ["text_projection", "logit_scale", "attn_mask"],
    }
    return [*others[layout], *dict.fromkeys(row.name(layout) for row in _clip_layers("text_model.", unused))]
