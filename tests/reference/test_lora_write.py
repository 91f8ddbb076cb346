r"""LoRAs that are written in kohya's spelling, as diffusers reads them."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from diffusers.loaders.lora_pipeline import (
    StableDiffusionLoraLoaderMixin,
    StableDiffusionXLLoraLoaderMixin,
)

from ldm.checkpoints.lora_write import export_lora

pytestmark = pytest.mark.reference

BLOCKS = ("unet.down_blocks.1.attentions.0.proj_in", "text_encoder.text_model.encoder.layers.3.mlp.fc1")
XL_BLOCKS = (*BLOCKS, "unet.up_blocks.0.attentions.2.transformer_blocks.7.attn1.to_q",
             "text_encoder_2.text_model.encoder.layers.3.mlp.fc2")  # fmt: skip


@pytest.mark.parametrize(
    ("loader", "modules", "config"),
    [
        (StableDiffusionLoraLoaderMixin, BLOCKS, {}),
        (StableDiffusionXLLoraLoaderMixin, XL_BLOCKS, {"unet_config": SimpleNamespace(layers_per_block=2)}),
    ],
)
def test_what_is_written_in_kohyas_spelling_is_known_there(draw, tmp_path, loader, modules, config):
    file = {f"{name}.lora_A.weight": draw(3, 5) for name in modules}
    file |= {f"{name}.lora_B.weight": draw(6, 3) for name in modules}
    save_file(file, tmp_path / "a.safetensors")
    export_lora(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    found, _ = loader.lora_state_dict(tmp_path / "b.safetensors", **config)
    assert len(found) == len(file)
    for name, tensor in found.items():
        [module] = [one for one in modules if name.startswith(one.rpartition(".")[0])]
        kind = "A" if name.endswith((".down.weight", ".lora_A.weight")) else "B"
        assert torch.equal(tensor, file[f"{module}.lora_{kind}.weight"]), name
