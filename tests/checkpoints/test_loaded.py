r"""LoRAs in a whole model: every spelling against diffusers' outputs; in and out again, to the last bit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import ldm
from ldm.backend import fused_upsample
from ldm.checkpoints.key_map import text_rows, unet_rows
from ldm.checkpoints.loaded import LoadedModel, find_beside, find_lora
from ldm.checkpoints.names import rename
from ldm.config import Config
from ldm.errors import LdmError
from ldm.unet import embedding
from tests.backend.slower import plain
from tests.checkpoints.made import FAMILIES, random_tensors, save, single_file
from tests.golden import loras
from tests.golden.compare import assert_same, filled, golden
from tests.small import CONFIG, TOKENIZER
from tests.text.test_golden import TEXT
from tests.unet.test_golden import SIZES as UNETS

ALPHA = 2.0
TEXT_CONFIG = replace(TEXT, activation="quick_gelu")


def names_and_shapes(model: LoadedModel, kind: str):
    r"""The parameters of both networks under diffusers' names, in the shapes of a file."""
    rows = unet_rows(model.config.unet, linear_projection=kind == "sd2")
    net = {name: t.shape for name, t in rename(model.unet.state_dict(), rows, "diffusers").items()}
    text = rename(model.text.state_dict(), text_rows(model.config.text), "diffusers")
    return net, {name: t.shape for name, t in text.items()}


@pytest.fixture(scope="module")
def models() -> dict[str, LoadedModel]:
    r"""Small models whose weights are those of the golden outputs."""
    made = {}
    for kind in ("sd1", "sd2"):
        model = LoadedModel(replace(CONFIG, text=TEXT_CONFIG, unet=UNETS[kind]), TOKENIZER)
        filled(model.unet, unet_rows(UNETS[kind], linear_projection=kind == "sd2"))
        filled(model.text, text_rows(TEXT_CONFIG))
        made[kind] = model.requires_grad_(False)
    return made


def written(path: Path, file: dict, metadata: dict | None = None) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in file.items()}, path, metadata)
    return path


def assert_is_golden(model: LoadedModel, kind: str, case: str, monkeypatch) -> None:
    expected = golden("lora")
    monkeypatch.setattr(embedding, "timestep_embedding", lambda t, width: expected[f"{kind}/sinusoids"])
    out = model.unet(expected[f"{kind}/x_t"], expected["t"], expected[f"{kind}/context"])
    assert_same(out, expected[f"{kind}/{case}/out"])
    if case != "dora":
        assert_same(model.text(expected["ids"]), expected[f"{case}/states"])


def original_names(lora: dict, config: Config) -> dict:
    r"""The same LoRA with the original code's names of modules, as SDXL's files have them."""
    names = {row.diffusers: row.compvis for row in unet_rows(config.unet)}
    return {names[f"{module}.weight"].removesuffix(".weight"): factors for module, factors in lora.items()}


SPELLINGS = {
    "kohya": lambda net, text, config: (
        loras.kohya(net, "lora_unet_", ALPHA) | loras.kohya(text, "lora_te_", ALPHA)
    ),
    "kohya, original names": lambda net, text, config: (
        loras.kohya(original_names(net, config), "lora_unet_", ALPHA) | loras.kohya(text, "lora_te1_", ALPHA)
    ),
    "PEFT": lambda net, text, config: (
        loras.peft(loras.scaled(net, ALPHA)) | loras.peft(loras.scaled(text, ALPHA), "text_encoder.")
    ),
    "PEFT without text_model": lambda net, text, config: (
        loras.peft(loras.scaled(net, ALPHA), "base_model.model.unet.", ("A.default", "B.default"))
        | loras.peft(
            {n.removeprefix("text_model."): f for n, f in loras.scaled(text, ALPHA).items()}, "text_encoder."
        )
    ),
    "diffusers, 2023": lambda net, text, config: (
        loras.peft(loras.scaled(net, ALPHA), "unet.")
        | loras.processors(loras.scaled(net, ALPHA))
        | loras.linear_layers(loras.scaled(text, ALPHA), "text_encoder.")
    ),
}


@pytest.mark.parametrize(
    ("kind", "spelling"), [*(("sd1", spelling) for spelling in SPELLINGS), ("sd2", "kohya")]
)
def test_a_lora_in_every_spelling_computes_what_diffusers_computes(
    models, tmp_path, monkeypatch, kind, spelling
):
    model = models[kind]
    net, text = (loras.make_lora(shapes) for shapes in names_and_shapes(model, kind))
    file = SPELLINGS[spelling](net, text, model.config)
    if spelling == "diffusers, 2023":  # the attention under its old names, and nothing twice
        file = {
            name: t for name, t in file.items() if ".lora_" not in name or not loras.ATTENTION.search(name)
        } | {name: t for name, t in file.items() if "_lora." in name or "lora_linear_layer" in name}
    lora = model.load_lora(written(tmp_path / "a.safetensors", file))
    assert lora.unused == ()
    assert_is_golden(model, kind, "lora", monkeypatch)
    model.unload()


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_half_the_strength_and_dora_compute_what_diffusers_computes(models, tmp_path, monkeypatch, kind):
    model = models[kind]
    net_shapes, text_shapes = names_and_shapes(model, kind)
    net, text = loras.make_lora(net_shapes), loras.make_lora(text_shapes)
    file = loras.kohya(net, "lora_unet_", ALPHA) | loras.kohya(text, "lora_te_", ALPHA)
    model.load_lora(written(tmp_path / "a.safetensors", file), 0.5)
    assert_is_golden(model, kind, "half", monkeypatch)
    model.unload()
    dora = loras.make_lora(net_shapes, dora=True)
    for file in (loras.peft(dora), loras.kohya(dora)):
        model.load_lora(written(tmp_path / "b.safetensors", file))
        assert_is_golden(model, kind, "dora", monkeypatch)
        model.unload()


# --- in and out ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    r"""A small Stable Diffusion 1 in one file, and two LoRAs beside it: `ink` of the U-Net, `pose` of both networks."""
    folder = tmp_path_factory.mktemp("weights")
    config = FAMILIES["sd1"]
    tensors = random_tensors(config)
    tensors = {part: {n: 0.2 * t for n, t in named.items()} for part, named in tensors.items()}
    save(folder / "m.safetensors", config, single_file(config, tensors))
    model = ldm.load(folder / "m.safetensors", "float32", "cpu")
    shapes, texts = names_and_shapes(model, "sd1")
    some = {
        name: shape for name, shape in shapes.items() if name.startswith(("mid_block", "up_blocks.1.resnets"))
    }
    written(folder / "ink.safetensors", loras.kohya(loras.make_lora(some), alpha=1.5))
    (folder / "loras").mkdir()
    few = {name: shape for name, shape in shapes.items() if name.startswith("up_blocks.1")}
    text = loras.make_lora({name: shape for name, shape in texts.items() if ".0." in name})
    file = loras.kohya(loras.make_lora(few, rank=2), alpha=2.0) | loras.kohya(text, "lora_te_", 1.0)
    written(folder / "loras/pose.safetensors", file)
    return folder


LOADED: dict[tuple[Path, str], LoadedModel] = {}


def load(folder: Path, dtype: str = "float32", again: bool = False) -> LoadedModel:
    r"""The model in this dtype, as one test leaves it to the next: without its LoRAs, which restores every bit."""
    if again:
        return ldm.load(folder / "m.safetensors", dtype, "cpu")
    if (folder, dtype) not in LOADED:
        LOADED[folder, dtype] = load(folder, dtype, again=True)
    LOADED[folder, dtype].unload()
    return LOADED[folder, dtype]


def weights(model: LoadedModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def assert_equal(model: LoadedModel, before: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_unloading_restores_every_bit_in_every_dtype(folder, dtype):
    model = load(folder, dtype)
    before = weights(model)
    ink = model.load_lora("ink", 0.8)
    pose = model.load_lora("pose", -1.5)
    assert sum(not torch.equal(before[n], p) for n, p in model.named_parameters()) == len(
        ink.changes.keys() | pose.changes
    )
    model.unload(ink)
    assert [one.lora for one in model.loras] == [pose]
    model.unload()
    assert_equal(model, before)
    assert model.loras == ()
    model.load_lora("ink", 0.0)
    assert_equal(model, before)


def test_two_loras_can_be_merged_in_any_order_and_add_up(folder):
    model = load(folder, "float64")
    before = weights(model)
    name = "unet.up.1.res.0.conv_1.weight"
    sums = []
    for names in (("ink", "pose"), ("pose", "ink")):
        for lora in names:
            model.load_lora(lora, {"ink": 0.7, "pose": 0.3}[lora])
        sums.append(weights(model))
        model.unload()
    assert_equal(model, sums[0] | before)
    assert all(torch.equal(sums[0][name], sums[1][name]) for name in before)
    alone = {}
    for lora in ("ink", "pose"):
        model.load_lora(lora)
        alone[lora] = weights(model)[name] - before[name]
        model.unload()
    expected = before[name] + 0.7 * alone["ink"] + 0.3 * alone["pose"]
    torch.testing.assert_close(sums[0][name], expected, rtol=0, atol=1e-14)


def test_ranks_and_alphas_may_differ_from_module_to_module(folder, tmp_path):
    r"""diffusers scales the modules of the rarer alpha with that of the others, so this is against the formula."""
    model = load(folder, "float64")
    before = weights(model)
    shapes, _ = names_and_shapes(model, "sd1")
    names = {row.diffusers: row.ours for row in unet_rows(model.config.unet)}
    file, expected = {}, {}
    for i, name in enumerate(name for name in shapes if "attn" in name and name.endswith(".weight")):
        rank, alpha = 1 + i % 4, [0.5, 1.0, 3.0, None][i % 3]
        lora = loras.make_lora({name: shapes[name]}, rank)
        file |= loras.kohya(lora, alpha=alpha)
        for module, factors in lora.items():
            own = f"unet.{names[f'{module}.weight']}"
            expected[own] = before[own] + loras.delta(factors, alpha).reshape(before[own].shape)
    model.load_lora(written(tmp_path / "x.safetensors", file))
    assert len(expected) > 20
    for name, weight in expected.items():
        torch.testing.assert_close(model.get_parameter(name).data, weight, rtol=0, atol=1e-13)


def test_the_text_encoder_may_have_a_strength_of_its_own(folder):
    model = load(folder, "float64")
    before = weights(model)
    model.load_lora("pose", 0.0, text_strength=1.0)
    changed = {
        name.partition(".")[0] for name, p in model.named_parameters() if not torch.equal(before[name], p)
    }
    assert changed == {"text"}
    model.unload()
    model.load_lora("pose", 1.0, text_strength=0.0)
    changed = {
        name.partition(".")[0] for name, p in model.named_parameters() if not torch.equal(before[name], p)
    }
    assert changed == {"unet"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merged_model_computes_the_same_with_and_without_the_backend(folder, dtype, draw, monkeypatch):
    r"""The faster modules read the weights when they run, and keep the order in which these are stored."""
    model = load(folder, dtype, again=True)
    convolutions = [n for n, p in model.named_parameters() if p.ndim == 4 and n.startswith("unet.")]
    strides = {name: model.get_parameter(name).stride() for name in convolutions}
    model.load_lora("ink")
    assert {name: model.get_parameter(name).stride() for name in convolutions} == strides
    monkeypatch.setattr(fused_upsample, "THRESHOLD", 1)
    x, context = draw(1, 4, 8, 8).to(model.dtype), draw(1, 7, 8).to(model.dtype)
    with torch.no_grad():
        fast = model.unet(x, torch.tensor(500), context)
        plain(model)
        tolerance = {"float32": 1e-4, "bfloat16": 0.1}[dtype]
        assert_same(fast.double(), model.unet(x, torch.tensor(500), context).double(), tolerance)


def test_a_model_that_moves_to_another_dtype_takes_its_loras_along(folder):
    model = load(folder, again=True)
    model.load_lora("ink")
    model.double()
    exact = load(folder, "float64")
    before = weights(exact)
    exact.load_lora("ink")
    model.load_lora("pose")
    exact.load_lora("pose")
    assert_equal(model, weights(exact))
    model.unload()
    assert_equal(model, before)


def test_a_compiled_or_copied_module_sees_the_merged_weights(folder):
    r"""The parameters stay the same objects, so whoever holds them sees the change."""
    model = load(folder)
    held = dict(model.named_parameters())
    model.load_lora("ink")
    assert all(parameter is held[name] for name, parameter in model.named_parameters())
    assert not any(parameter.requires_grad for parameter in model.parameters())


# --- in a prompt ---


def test_a_tag_in_a_prompt_merges_a_lora_for_these_images_alone(folder):
    model = load(folder)
    before = weights(model)
    options = {"steps": 1, "size": (16, 16), "seed": 1, "output": "latent"}
    plain = model.generate("red dog", **options)
    tagged = model.generate("red dog<lora:ink:0.8>", **options)
    assert_equal(model, before)
    model.load_lora("ink", 0.8)
    assert torch.equal(model.generate("red dog", **options), tagged) and not torch.equal(plain, tagged)
    two = model.generate(["red <lora:pose>", "dog <lora:pose:1>"], **options)
    assert len(two) == 2 and [one.strength for one in model.loras] == [0.8]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("a <lora:none:1>", r"no LoRA 'none' in .*loras; expected the name of a file there"),
        ("a <lora:../ink:1>", r"no LoRA '\.\./ink'"),
        ("a <lora:ink:strong>", "expected a name and a strength"),
        ("a <lora::1>", "expected a name and a strength"),
        (["a <lora:ink:1>", "b"], "ask for different LoRAs"),
    ],
)
def test_a_tag_that_names_no_lora_is_an_error_and_changes_nothing(folder, prompt, message):
    model = load(folder)
    before = weights(model)
    with pytest.raises(LdmError, match=message):
        model.generate(prompt, steps=1, size=(16, 16), seed=1)
    assert_equal(model, before)


def test_names_are_found_beside_a_file_and_in_and_beside_a_folder(folder, tmp_path):
    assert find_beside("ink", folder / "m.safetensors") == folder / "ink.safetensors"
    assert find_beside("pose", folder) == folder / "loras/pose.safetensors"
    assert find_lora(folder / "ink.safetensors", None) == folder / "ink.safetensors"
    with pytest.raises(LdmError, match="this model is from no file"):
        find_lora("ink", None)
    with pytest.raises(LdmError, match="there is no LoRA"):
        load(folder).load_lora(tmp_path / "none.safetensors")


# --- what cannot be merged ---


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
def test_a_strength_is_a_finite_number(folder, strength):
    with pytest.raises(LdmError, match="strength of (nan|inf); expected a number"):
        load(folder).load_lora("ink", strength)


def test_weights_that_overflow_are_an_error_and_leave_the_model_as_it_was(folder):
    model = load(folder, "float16")
    model.load_lora("pose")
    before = weights(model)
    with pytest.raises(LdmError, match="has NaN or infinity in it .*; lower their strengths"):
        model.load_lora("ink", 1e30)
    assert_equal(model, before)
    assert len(model.loras) == 1


def test_only_what_is_merged_can_be_taken_out(folder):
    model = load(folder)
    lora = model.load_lora("ink")
    model.unload()
    with pytest.raises(LdmError, match="is not merged into this model"):
        model.unload(lora)


def test_a_file_with_nan_is_refused_and_named(folder, tmp_path):
    file = load_file(folder / "ink.safetensors")
    name = next(name for name in file if name.endswith("lora_up.weight"))
    file[name][0, 0] = float("nan")
    model = load(folder)
    before = weights(model)
    with pytest.raises(LdmError, match="has NaN or infinity in it"):
        model.load_lora(written(tmp_path / "nan.safetensors", file))
    assert_equal(model, before)


def test_a_lora_for_stable_diffusion_xl_changes_both_text_encoders_under_its_original_names(tmp_path):
    config = FAMILIES["sdxl"]
    save(tmp_path / "xl.safetensors", config, single_file(config, random_tensors(config)))
    model = ldm.load(tmp_path / "xl.safetensors", "float64", "cpu")
    before = weights(model)
    file, expected = {}, {}
    parts = (("unet", unet_rows(config.unet), "lora_unet_"), ("text", text_rows(config.text), "lora_te1_"),
             ("text_2", text_rows(config.text_2), "lora_te2_"))  # fmt: skip
    for part, rows, prefix in parts:
        for row in rows:
            own = f"{part}.{row.ours}"
            if "attn." in row.ours and row.ours.endswith(".weight") and own in before and "norm" not in own:
                name = (row.compvis if part == "unet" else row.diffusers).removesuffix(".weight")
                lora = loras.make_lora({f"attentions.{name}.weight": before[own].shape}, rank=2)
                [factors] = lora.values()
                file |= loras.kohya({name: factors}, prefix, 1.0)
                expected[own] = before[own] + loras.delta(factors, 1.0).reshape(before[own].shape)
    lora = model.load_lora(written(tmp_path / "a.safetensors", file))
    assert lora.unused == () and {name.partition(".")[0] for name in expected} == {"unet", "text", "text_2"}
    for name, weight in expected.items():
        torch.testing.assert_close(model.get_parameter(name).data, weight, rtol=0, atol=1e-12)
    model.unload()
    assert_equal(model, before)
