r"""The naming table: complete, unambiguous, reversible, and strict about what it is given."""

from dataclasses import replace

import pytest
import torch

from ldm.checkpoints.key_map import text_extras, text_rows, unet_rows, vae_rows
from ldm.checkpoints.names import Row, match, rename
from ldm.config import CLIP_L_TEXT, PRESETS, SD1, SD2_BASE, TINY, Config
from ldm.errors import LdmError, some
from ldm.text.clip import CLIP
from ldm.text.encoder import TextEncoder
from ldm.unet.unet import UNet
from ldm.vae.vae import VAE
from tests.golden.clip_rows import clip_rows, from_diffusers, to_diffusers


def parts(config: Config):
    r"""Every network of a config, without memory, and its rows."""
    with torch.device("meta"):
        yield UNet(config.unet), unet_rows(config.unet)
        yield VAE(config.vae), vae_rows(config.vae)
        yield TextEncoder(config.text), text_rows(config.text)
        if config.image:
            yield CLIP(config.text, config.image, config.embedding_width), clip_rows(config)


def file_of(rows):
    r"""A file with one number a tensor, each another one."""
    return {row.diffusers: torch.full((1, 1, 1, 1), i) for i, row in enumerate(rows)}


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_the_table_names_every_tensor_of_a_model_once_and_nothing_else(config):
    for model, rows in parts(config):
        ours = [row.ours for row in rows]
        assert len(set(ours)) == len(ours) == len({row.diffusers for row in rows})
        assert set(ours) == set(model.state_dict())


def test_a_middle_without_transformer_layers_still_has_its_norm_and_projections():
    config = replace(TINY.unet, mid_depth=0)
    with torch.device("meta"):
        assert {row.ours for row in unet_rows(config)} == set(UNet(config).state_dict())


def test_the_tables_have_as_many_rows_as_the_published_checkpoints_have_tensors():
    assert len(unet_rows(SD1.unet)) == len(unet_rows(SD2_BASE.unet)) == 686
    assert len(vae_rows(SD1.vae)) == 248
    assert len(text_rows(SD1.text)) == 196
    assert len(text_rows(SD2_BASE.text)) == 372  # 23 of the 24 layers
    assert len(clip_rows(SD1)) == 590


def test_three_names_known_by_heart():
    names = {row.ours: row.diffusers for row in unet_rows(SD1.unet)}
    assert names["down.0.res.1.conv_1.weight"] == "down_blocks.0.resnets.1.conv1.weight"
    query = "down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_q.weight"
    assert names["down.0.attn.1.layers.0.cross_attn.q.weight"] == query
    assert names["up.2.upsample.conv.bias"] == "up_blocks.2.upsamplers.0.conv.bias"


@pytest.mark.parametrize("linear", [False, True])
def test_to_the_file_and_back_is_the_identity(linear):
    state, rows = UNet(TINY.unet).state_dict(), unet_rows(TINY.unet, linear_projection=linear)
    file = to_diffusers(state, rows)
    assert file["mid_block.attentions.0.proj_in.weight"].ndim == (2 if linear else 4)
    back = from_diffusers(file, rows)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_a_linear_map_is_read_from_either_form():
    row, matrix = Row("a.weight", "b.weight", conv=("diffusers",)), torch.randn(3, 2)
    for stored in (matrix, matrix[:, :, None, None]):
        assert torch.equal(from_diffusers({"b.weight": stored}, [row])["a.weight"], matrix)
    with pytest.raises(LdmError, match=r"\[3, 2, 3, 3\]; expected \[out, in, 1, 1\]"):
        from_diffusers({"b.weight": torch.zeros(3, 2, 3, 3)}, [row])


def test_a_missing_and_a_left_over_tensor_are_named():
    rows = vae_rows(TINY.vae)
    file = file_of(rows)
    del file["quant_conv.bias"]
    file["encoder.novelty"] = torch.zeros(1)
    found = match(file, rows, "diffusers")
    assert (found.missing, found.left_over) == (["quant_conv.bias"], ["encoder.novelty"])


def test_ten_names_are_named_and_the_others_counted():
    names = [f"k{i}" for i in range(13)]
    assert some(names) == ", ".join(names[:10]) + " and 3 more" and some(names[:2]) == "k0, k1"


def test_a_text_encoder_is_read_with_and_without_its_prefix():
    rows = text_rows(CLIP_L_TEXT)
    file = file_of(rows)
    bare = {name.removeprefix("text_model."): tensor for name, tensor in file.items()}
    assert from_diffusers(bare, rows) == from_diffusers(file, rows)
    with pytest.raises(LdmError, match="twice"):
        from_diffusers(file | {"final_layer_norm.bias": torch.zeros(1)}, rows)


def test_a_layer_that_is_not_read_and_the_stored_positions_are_known_extras():
    config = replace(TINY.text, output="penultimate")
    rows, extras = text_rows(config), text_extras(config)
    file = file_of(text_rows(TINY.text)) | {"text_model.embeddings.position_ids": torch.arange(32)}
    assert len(from_diffusers(file, rows, extras)) == len(rows)
    assert "text_model.encoder.layers.3.self_attn.q_proj.weight" in match(file, rows, "diffusers").left_over
    assert text_extras(TINY.text) == ["text_model.embeddings.position_ids"]


def test_openclip_stacks_query_key_and_value_in_this_order():
    config = replace(TINY.text, layers=1, width=2)
    rows = text_rows(config)
    name = "transformer.resblocks.0.attn.in_proj_weight"
    state = {row.compvis: torch.zeros(2, 2) for row in rows} | {name: torch.arange(12.0).reshape(6, 2)}
    found = match(state, rows, "compvis").tensors
    expected = {"q": [[0, 1], [2, 3]], "k": [[4, 5], [6, 7]], "v": [[8, 9], [10, 11]]}
    for part, numbers in expected.items():
        assert found[f"layers.0.attn.{part}.weight"].tolist() == numbers
    assert torch.equal(rename(found, rows, "compvis")[name], state[name])


def test_transformers_do_not_stack_them_even_where_a_third_would_be_whole():
    rows = text_rows(replace(TINY.text, layers=1, width=3))
    state = {row.diffusers: torch.zeros(3, 3) for row in rows}
    found = match(state, rows, "diffusers").tensors
    assert found["layers.0.attn.k.weight"].shape == (3, 3)


def test_the_original_names_are_those_of_real_files():
    names = {row.ours: row.compvis for row in unet_rows(SD1.unet)}
    assert names["down.1.downsample.conv.weight"] == "input_blocks.6.0.op.weight"
    assert names["up.0.upsample.conv.weight"] == "output_blocks.2.1.conv.weight"  # no attention before it
    assert names["up.1.upsample.conv.weight"] == "output_blocks.5.2.conv.weight"
    names = {row.ours: row.compvis for row in vae_rows(SD1.vae)}
    assert names["decoder.up.0.res.0.conv_1.weight"] == "decoder.up.3.block.0.conv1.weight"
    assert names["encoder.mid.attn.attn.out.bias"] == "encoder.mid.attn_1.proj_out.bias"


def test_two_spellings_of_one_tensor_are_one_if_their_numbers_are_the_same():
    # Merging files that other programs wrote leaves both; they are then equal.
    row = Row("norm.weight", "text_model.norm.weight")
    file = {"text_model.norm.weight": torch.ones(3), "norm.weight": torch.ones(3)}
    found = match(file, [row], "diffusers")
    assert (found.left_over, found.dropped) == ([], ["norm.weight"])
    assert torch.equal(found.tensors["norm.weight"], torch.ones(3))
    for other in (torch.zeros(3), torch.ones(3, dtype=torch.float16), torch.ones(3, 1)):
        with pytest.raises(
            LdmError, match="text_model.norm.weight is in the file twice, with other numbers as norm"
        ):
            match(file | {"norm.weight": other}, [row], "diffusers")
