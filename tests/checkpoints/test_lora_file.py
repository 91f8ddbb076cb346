r"""LoRA files: what is read from each kind, and what is wrong with a damaged one."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from ldm.checkpoints.lora_file import LoraFile, find_changes, open_lora
from ldm.errors import LdmError
from tests.checkpoints.made import FAMILIES

CONFIG = FAMILIES["sd1"]
PARTS = {"unet": CONFIG.unet, "text": CONFIG.text}
NAME, OURS = "lora_unet_mid_block_attentions_0_proj_in", "unet.mid.attn.proj_in.weight"
PEFT = "unet.mid_block.attentions.0.proj_in"
SHAPES = {OURS: (64, 32), OURS.replace("weight", "bias"): (64,)}  # not square, to see transposed factors


def lora(name=NAME, rank=4, **more):
    file = {"lora_up.weight": torch.ones(64, rank), "lora_down.weight": torch.ones(rank, 32)} | more
    return {f"{name}.{factor}": tensor for factor, tensor in file.items() if tensor is not None}


def changes(file, shapes=SHAPES, **about):
    return find_changes(LoraFile("x.safetensors", file, **about), PARTS, shapes)


def test_rank_and_alpha_are_the_files_own():
    [(name, change)] = changes(lora(alpha=torch.tensor(8.0))).changes.items()
    assert (name, change.kind, change.rank, change.alpha) == (OURS, "LoRA", 4, 8.0)
    assert changes(lora()).changes[OURS].alpha is None
    assert changes(lora(alpha=torch.tensor([3]))).changes[OURS].alpha == 3.0


def test_the_axis_of_a_magnitude_is_told_by_its_shape_and_pefts_always_has_outputs():
    for shape, per_output in (((64, 1), True), ((1, 32), False), ((64,), True), ((64, 1, 1, 1), True)):
        change = changes(lora(dora_scale=torch.ones(shape))).changes[OURS]
        assert change.per_output is per_output and change.magnitude.shape == shape
    for shape in ((64,), (1, 64, 1, 1)):
        change = changes(lora(**{"lora_magnitude_vector.weight": torch.ones(shape)})).changes[OURS]
        assert change.per_output and change.magnitude.numel() == 64


def test_whole_changes_of_weight_and_bias_are_read():
    file = {f"{NAME}.diff": torch.ones(64, 32), f"{NAME}.diff_b": torch.ones(64)}
    assert {name: change.kind for name, change in changes(file).changes.items()} == dict.fromkeys(
        SHAPES, "full"
    )


@pytest.mark.parametrize(
    ("settings", "alpha"),
    [
        ({"unet.r": 4, "unet.lora_alpha": 8}, 8.0),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attentions.0.proj_in": 2}}, 2.0),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"^mid_block.attentions.0.proj_in": 2}}, 2.0),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"proj_out": 2, "n": 3}}, 8.0),
        ({"unet.lora_alpha": 8, "unet.use_rslora": True}, 16.0),
        ({"text_encoder.lora_alpha": 8}, None),
        ({"lora_alpha": 8}, 8.0),
        ({}, None),
    ],
)
def test_without_an_alpha_in_the_file_pefts_settings_say_it(settings, alpha):
    assert changes(lora(PEFT), peft=settings).changes[OURS].alpha == alpha
    assert changes(lora(PEFT, alpha=torch.tensor(1.0)), peft=settings).changes[OURS].alpha == 1.0


def test_pefts_settings_are_in_the_header_or_beside_the_file(tmp_path):
    said = {"unet.lora_alpha": 8}
    save_file(lora(PEFT), tmp_path / "a.safetensors", {"lora_adapter_metadata": json.dumps(said)})
    assert open_lora(tmp_path / "a.safetensors").peft == said
    save_file(lora(PEFT), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 6}', encoding="utf-8")
    assert open_lora(tmp_path).peft == {"lora_alpha": 6}
    (tmp_path / "empty").mkdir()
    with pytest.raises(LdmError, match="is a folder without pytorch_lora_weights.safetensors"):
        open_lora(tmp_path / "empty")
    torch.save(lora(), tmp_path / "old.pt")
    assert open_lora(tmp_path / "old.pt").tensors.keys() == lora().keys()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (lora(**{"lora_up.weight": None}), "it has no up: half a LoRA"),
        (lora(**{"lora_down.weight": None, "alpha": torch.tensor(1.0)}), "it has no down: half a LoRA"),
        ({f"{NAME}.alpha": torch.tensor(1.0)}, "it has alpha and no factors"),
        (
            {f"{NAME}.hada_w1_a": torch.ones(64, 2)},
            "it has no hada_w1_b and no hada_w2_a and no hada_w2_b: half a LoHa",
        ),
        ({f"{NAME}.lokr_w1": torch.ones(4, 4)}, "it has no lokr_w2: half a LoKr"),
        ({f"{NAME}.lokr_w1": torch.ones(4, 4), f"{NAME}.lokr_w2_a": torch.ones(4, 4)}, "it has no lokr_w2"),
        (lora(rank=0), "its rank is 0"),
        (lora(alpha=torch.tensor(float("nan"))), "its alpha is nan"),
        (lora(alpha=torch.ones(2)), r"its alpha has the shape \[2\]; expected one number"),
        (lora(**{"lora_down.weight": torch.ones(3, 32)}), r"do not multiply: up \[64, 4\], down \[3, 32\]"),
        (lora(**{"lora_up.weight": torch.ones(64)}), "do not multiply"),
        (
            lora(**{"lora_up.weight": torch.ones(64, 4, dtype=torch.int8)}),
            "is in int8; expected floating point",
        ),
        (lora() | lora(PEFT), "twice, in two spellings"),
        (lora() | {f"{NAME}.diff": torch.ones(64, 32)}, "of several kinds"),
        (lora() | {f"{NAME}.oft_blocks": torch.ones(2, 2)}, "an OFT .*; expected a LoRA, LoHa, LoKr or DoRA"),
        ({f"{NAME}.on_input": torch.ones(2), f"{NAME}.weight": torch.ones(2)}, "an IA3"),
        ({f"{NAME}.a1.weight": torch.ones(2)}, "a GLoRA"),
    ],
)
def test_a_damaged_file_is_one_clear_line(file, message):
    with pytest.raises(LdmError, match=message):
        changes(file)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_alpha": "8"}, "lora_alpha is '8'; expected a number"),
        ({"lora_alpha": True}, "expected a number"),
        (
            {"lora_alpha": 1, "alpha_pattern": {"(a+)+b": 1}},
            "is a regular expression; expected modules' names",
        ),
        ({"lora_alpha": 10**400}, "its alpha is|too large|expected a number"),
    ],
)
def test_settings_of_peft_that_say_nonsense_are_one_clear_line(settings, message):
    with pytest.raises(LdmError, match=message):
        changes(lora(PEFT), peft=settings)


def test_what_belongs_to_no_module_is_unused_and_what_does_not_fit_a_misfit():
    found = changes(lora() | lora("lora_unet_nowhere") | {"odd": torch.ones(1)})
    assert list(found.changes) == [OURS] and len(found.unused) == 3 and not found.misfits
    transposed = {f"{NAME}.lora_up.weight": torch.ones(32, 4), f"{NAME}.lora_down.weight": torch.ones(4, 64)}
    [misfit] = changes(transposed).misfits
    assert re.search(r"proj_in \(up \[32, 4\], down \[4, 64\] for a weight of \[64, 32\]\)", misfit)
    # The last layer of Stable Diffusion 2's text encoder, which is not built.
    last = lora("lora_te_text_model_encoder_layers_1_mlp_fc1")
    assert changes(last).unused == tuple(last)


def test_factors_that_would_multiply_to_more_than_a_weight_are_never_multiplied():
    huge = torch.empty(1, 1).expand(100_000, 100_000)
    found = changes({f"{NAME}.lokr_w1": huge, f"{NAME}.lokr_w2": huge})
    assert len(found.misfits) == 1 and not found.changes
