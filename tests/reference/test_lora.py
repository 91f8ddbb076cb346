r"""LoRAs live: what diffusers and PEFT make of a file in each spelling, and ours."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from ldm.checkpoints.key_map import text_rows, unet_rows
from ldm.checkpoints.loaded import LoadedModel
from tests.checkpoints.test_loaded import TEXT_CONFIG
from tests.golden import loras, make
from tests.golden.clip_rows import from_diffusers
from tests.golden.compare import assert_same, golden
from tests.small import CONFIG, TOKENIZER
from tests.unet.test_golden import SIZES as UNETS

pytestmark = pytest.mark.reference


def ours(kind: str, pipeline) -> LoadedModel:
    model = LoadedModel(replace(CONFIG, text=TEXT_CONFIG, unet=UNETS[kind]), TOKENIZER).double()
    rows = unet_rows(UNETS[kind], linear_projection=kind == "sd2")
    model.unet.load_state_dict(from_diffusers(pipeline.unet.state_dict(), rows))
    text = {
        f"text_model.{n.removeprefix('text_model.')}": t
        for n, t in pipeline.text_encoder.state_dict().items()
    }
    model.text.load_state_dict(
        from_diffusers(text, text_rows(TEXT_CONFIG), ["text_model.embeddings.position_ids"])
    )
    return model.eval().requires_grad_(False)


def same(model: LoadedModel, pipeline, kind: str) -> None:
    x_t, t = make.numbers(6, 2, 4, 8, 12), torch.tensor([7, 981])
    context, ids = make.numbers(5, 2, 6, make.UNET_SIZES[kind]["context"]), torch.tensor(make.IDS)
    assert_same(model.unet(x_t, t, context), pipeline.unet(x_t, t, context).sample.detach())
    assert_same(model.text(ids), pipeline.text_encoder(ids).last_hidden_state.detach())


SPELLINGS = {
    "kohya": lambda net, text: loras.kohya(net, "lora_unet_", 2.0) | loras.kohya(text, "lora_te_", 2.0),
    "no alpha": lambda net, text: loras.kohya(net, "lora_unet_"),
    "PEFT": lambda net, text: loras.peft(net),
    "processors": lambda net, text: loras.processors(net),
}


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("strength", [1.0, 0.5, -1.0])
def test_a_file_that_diffusers_loads_computes_the_same_here(tmp_path, kind, spelling, strength):
    pipeline = make.lora_pipeline(kind)
    model = ours(kind, pipeline)
    net, text = (loras.make_lora(shapes) for shapes in make.lora_shapes(pipeline))
    file = SPELLINGS[spelling](net, text)
    make.with_lora(pipeline, file, strength)
    save_file({name: tensor.contiguous() for name, tensor in file.items()}, tmp_path / "a.safetensors")
    assert model.load_lora(tmp_path / "a.safetensors", strength).unused == ()
    same(model, pipeline, kind)


def test_two_loras_of_different_ranks_add_up_as_in_diffusers(tmp_path):
    pipeline = make.lora_pipeline("sd1")
    model = ours("sd1", pipeline)
    shapes, _ = make.lora_shapes(pipeline)
    for name, rank, strength in (("a", 3, 0.7), ("b", 2, 0.3)):
        file = loras.kohya(loras.make_lora(shapes, rank), alpha=1.0)
        save_file(
            {key: tensor.contiguous() for key, tensor in file.items()}, tmp_path / f"{name}.safetensors"
        )
        model.load_lora(tmp_path / f"{name}.safetensors", strength)
        pipeline.load_lora_weights(file, adapter_name=name)
    pipeline.set_adapters(["a", "b"], [0.7, 0.3])
    pipeline.unet.double()
    same(model, pipeline, "sd1")


def test_what_diffusers_writes_with_its_settings_in_the_header_is_read_with_them(tmp_path):
    r"""A rank and an alpha of PEFT's own, which the tensors do not tell."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = make.lora_pipeline("sd1")
    model = ours("sd1", pipeline)
    config = LoraConfig(r=4, lora_alpha=10, target_modules=["to_q", "to_v"], alpha_pattern={"attn2.to_v": 3})
    pipeline.unet.add_adapter(config)
    for i, (name, parameter) in enumerate(pipeline.unet.named_parameters()):
        if "lora_" in name:
            parameter.data = (0.1 * make.numbers(i, *parameter.shape)).float()
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipeline.unet))
    StableDiffusionPipeline.save_lora_weights(
        tmp_path, unet_lora_layers=layers, unet_lora_adapter_metadata=config.to_dict()
    )
    pipeline.unet.double()
    lora = model.load_lora(tmp_path)
    assert {change.alpha for change in lora.changes.values()} == {10.0, 3.0}
    same(model, pipeline, "sd1")


def test_the_golden_file_is_what_the_reference_answers_now():
    stored, made = golden("lora"), make.make_lora_outputs()
    assert stored.keys() == made.keys()
    for key in stored:
        assert_same(made[key].double(), stored[key].double(), 1e-4)
