r"""Names that only tests need: a whole CLIP's in transformers, and files read and written under diffusers' names."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from ldm.checkpoints.key_map import _clip_layers, _layer, text_rows
from ldm.checkpoints.names import Row, match, rename
from ldm.config import Config, ImageConfig


def from_diffusers(
    state: Mapping[str, Tensor], rows: Iterable[Row], extras: Iterable[str] = ()
) -> dict[str, Tensor]:
    r"""A file's tensors under our names; fails for a tensor that is missing, or left over and none of the `extras`."""
    found = match(state, rows, "diffusers", extras)
    assert (found.missing, found.left_over) == ([], [])
    return found.tensors


def to_diffusers(state: Mapping[str, Tensor], rows: Iterable[Row]) -> dict[str, Tensor]:
    r"""The inverse of `from_diffusers`."""
    rows = list(rows)
    assert state.keys() == {row.ours for row in rows}
    return rename(state, rows, "diffusers")


def image_rows(config: ImageConfig) -> list[Row]:
    """`ImageEncoder` and transformers' `CLIPVisionModel`. No file of Stable Diffusion has one."""
    prefix = "vision_model."
    return [
        Row("class_embedding", f"{prefix}embeddings.class_embedding"),
        Row("patch_embedding.weight", f"{prefix}embeddings.patch_embedding.weight"),
        Row("position_embedding.weight", f"{prefix}embeddings.position_embedding.weight"),
        *_layer("norm_in", f"{prefix}pre_layrnorm", ""),  # spelt so
        *_clip_layers(prefix, range(config.layers)),
        *_layer("norm_out", f"{prefix}post_layernorm", ""),
    ]


IMAGE_EXTRAS = ["vision_model.embeddings.position_ids"]


def clip_rows(config: Config) -> list[Row]:
    r"""`CLIP` and transformers' `CLIPModel`."""
    assert config.image is not None and config.embedding_width is not None
    return [
        *(Row(f"text.{row.ours}", row.diffusers) for row in text_rows(config.text)),
        *(Row(f"image.{row.ours}", row.diffusers) for row in image_rows(config.image)),
        *_layer("text_projection", "text_projection", "", bias=False),
        *_layer("image_projection", "visual_projection", "", bias=False),
        Row("logit_scale", "logit_scale"),
    ]
