r"""A model with the VAE of another file, and one network taken out of a whole checkpoint."""

import json
import logging
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import ldm
from ldm.checkpoints.inspect import inspect
from ldm.checkpoints.names import rename
from ldm.checkpoints.validate import part_rows
from ldm.checkpoints.write import convert, export
from ldm.errors import LdmError
from ldm.loading import load_text, load_vae
from tests.checkpoints.made import FAMILIES, random_tensors, save, single_file
from tests.small import write_small_model

CONFIG = FAMILIES["sd1"]
FILE = single_file(CONFIG, random_tensors(CONFIG))
OTHER = single_file(CONFIG, random_tensors(CONFIG, seed=1))
VAE = {n.removeprefix("first_stage_model."): t for n, t in OTHER.items() if n.startswith("first_stage")}
BIAS = OTHER["first_stage_model.decoder.conv_out.bias"].float()


@pytest.fixture
def bare(tmp_path):
    r"""A checkpoint without a VAE."""
    file = {n: t for n, t in FILE.items() if not n.startswith("first_stage_model.")}
    return save(tmp_path / "novae.safetensors", CONFIG, file)


def forms(tmp_path):
    r"""The same VAE in every form in which people have one."""
    whole = save(tmp_path / "whole.safetensors", CONFIG, OTHER)
    save_file(VAE, tmp_path / "vae-ft-mse.safetensors")
    save_file({f"first_stage_model.{n}": t for n, t in VAE.items()}, tmp_path / "prefixed.safetensors")
    torch.save({"state_dict": VAE | {"loss.logvar": torch.zeros(1)}}, tmp_path / "anime.vae.pt")
    convert(whole, tmp_path / "ours")
    export(whole, tmp_path / "theirs", "diffusers")
    names = ("whole.safetensors", "vae-ft-mse.safetensors", "prefixed.safetensors", "anime.vae.pt", "ours")
    part = tmp_path / "theirs" / "vae"
    return [tmp_path / name for name in names] + [
        part.parent, part, part / "diffusion_pytorch_model.safetensors",
    ]  # fmt: skip


def test_a_checkpoint_without_a_vae_names_the_remedy_and_opens_with_a_vae_of_any_form(tmp_path, bare):
    with pytest.raises(
        LdmError, match=r"novae.safetensors: there is no VAE in it; give one with vae=.* \(--vae"
    ):
        ldm.load(bare)
    assert "--vae FILE" in inspect(bare, hash=False).trouble
    for form in forms(tmp_path):
        model = ldm.load(bare, device="cpu", vae=form)
        assert model.config == CONFIG and torch.equal(model.vae.decoder.conv_out.bias, BIAS)
        alone = load_vae(form, device="cpu")
        assert torch.equal(alone.decoder.conv_out.bias, BIAS)


def of_unet(config, seed):
    r"""The tensors of a U-Net alone, as a diffusers folder names them."""
    return rename(random_tensors(config, seed)["unet"], part_rows("unet", config.unet, True), "diffusers")


def test_a_unet_that_was_published_alone_takes_the_place_of_the_models_and_says_how_to_sample(
    tmp_path, caplog
):
    config, distilled = FAMILIES["sdxl"], tmp_path / "sdxl_lightning_2step_unet.safetensors"
    base = save(tmp_path / "base.safetensors", config, single_file(config, random_tensors(config)))
    save_file(tensors := of_unet(config, 1), distilled)
    with pytest.raises(LdmError, match=r"or give it to a whole model with unet=... .--unet FILE."):
        ldm.load(distilled)
    with caplog.at_level(logging.INFO):
        model = ldm.load(base, device="cpu", unet=distilled)
    assert torch.equal(model.unet.conv_out.bias, tensors["conv_out.bias"].float())
    assert (model.defaults.sampler, model.defaults.steps) == ("euler_trailing", 2)
    assert "is SDXL-Lightning, by its U-Net's name: by default 2 steps of euler_trailing" in caplog.text
    plain = ldm.load(base, device="cpu")
    assert torch.equal(model.vae.decoder.conv_out.bias, plain.vae.decoder.conv_out.bias)
    assert model.path == base and plain.defaults.steps == 30
    one = tmp_path / "sdxl_lightning_1step_unet_x0.safetensors"
    save_file(tensors, one)
    assert ldm.load(base, device="cpu", unet=one).config.noise.prediction == "x0"
    # In a folder of diffusers', as latent-consistency/lcm-sdxl is, and told the guidance.
    told = tmp_path / "lcm-sdxl"
    told.mkdir()
    save_file(of_unet(FAMILIES["sdxl-lcm"], 2), told / "diffusion_pytorch_model.safetensors")
    (told / "config.json").write_text('{"_class_name": "UNet2DConditionModel", "time_cond_proj_dim": 256}')
    model = ldm.load(base, device="cpu", unet=told)
    assert model.config == FAMILIES["sdxl-lcm"] and model.defaults.guidance == 8


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("vae", "holds a VAE; expected a U-Net, alone or in a whole model"),
        ("sd2-base", "has a U-Net of another kind than .*; take one made for this model"),
        ("ours", "is in this project's layout; another U-Net goes with a model as it was published"),
    ],
)
def test_what_is_no_unet_of_the_models_kind_is_refused(tmp_path, given, message):
    base = save(tmp_path / "base.safetensors", CONFIG, FILE)
    other = tmp_path / "other.safetensors"
    if given == "vae":
        save_file(VAE, other)
    elif given == "ours":
        convert(base, other := tmp_path / "ours")
    else:
        save_file(of_unet(FAMILIES[given], 1), other)
    with pytest.raises(LdmError, match=message):
        ldm.load(base, device="cpu", unet=other)


@pytest.mark.parametrize("layout", ["single", "ours", "diffusers"])
def test_the_vae_takes_the_place_of_the_models_own_in_every_layout_and_is_written_along(tmp_path, layout):
    model = save(tmp_path / "model.safetensors", CONFIG, FILE)
    if layout != "single":
        export(model, tmp_path / "theirs", "diffusers")
        convert(tmp_path / "theirs", tmp_path / "ours")
        model = tmp_path / {"ours": "ours", "diffusers": "theirs"}[layout]
    save_file(VAE, tmp_path / "vae.safetensors")
    loaded = ldm.load(model, device="cpu", vae=tmp_path / "vae.safetensors")
    assert torch.equal(loaded.vae.decoder.conv_out.bias, BIAS)
    convert(model, tmp_path / "new", vae=tmp_path / "vae.safetensors")
    assert torch.equal(ldm.load(tmp_path / "new", device="cpu").vae.decoder.conv_out.bias, BIAS)


def test_the_scale_of_the_latents_stays_the_models_unless_the_vaes_file_says_one(tmp_path):
    own = replace(CONFIG, vae=replace(CONFIG.vae, scale=0.5))
    save(tmp_path / "model.safetensors", CONFIG, FILE)
    convert(tmp_path / "model.safetensors", tmp_path / "ours", config=own)
    export(tmp_path / "ours", tmp_path / "theirs", "diffusers")
    save_file(VAE, tmp_path / "vae.safetensors")
    for base in ("ours", "theirs"):
        assert ldm.load(tmp_path / base, device="cpu", vae=tmp_path / "vae.safetensors").config == own
    table = json.loads((tmp_path / "theirs/vae/config.json").read_text())
    (tmp_path / "theirs/vae/config.json").write_text(json.dumps(table | {"scaling_factor": 0.25}))
    for base in ("ours", "model.safetensors"):
        model = ldm.load(tmp_path / base, device="cpu", vae=tmp_path / "theirs" / "vae")
        assert model.config.vae.scale == 0.25


def test_a_vae_of_other_latents_and_what_is_no_vae_are_refused(tmp_path, bare):
    wide = replace(CONFIG, vae=replace(CONFIG.vae, latent_channels=16))
    save(tmp_path / "wide.safetensors", wide, single_file(wide, random_tensors(wide)))
    with pytest.raises(LdmError, match="latents of 16 channels, but its U-Net predicts 4"):
        ldm.load(bare, vae=tmp_path / "wide.safetensors")
    with pytest.raises(
        LdmError, match="holds a text encoder and a U-Net; expected a VAE, alone or in a whole"
    ):
        ldm.load(bare, vae=bare)
    save_file({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(LdmError, match="is a LoRA"):
        ldm.load(bare, vae=tmp_path / "lora.safetensors")
    with pytest.raises(LdmError, match="there is no "):
        ldm.load(bare, vae=tmp_path / "gone.safetensors")
    broken = {name: t for name, t in VAE.items() if name != "quant_conv.bias"}
    save_file(broken, tmp_path / "broken.safetensors")
    with pytest.raises(LdmError, match="broken.safetensors is no whole VAE; 1 missing: quant_conv.bias"):
        ldm.load(bare, vae=tmp_path / "broken.safetensors")


def test_the_vae_of_stable_diffusion_xl_is_of_other_latents_though_its_names_are_the_same(tmp_path, bare):
    config = FAMILIES["sdxl"]
    xl = save(tmp_path / "xl.safetensors", config, single_file(config, random_tensors(config)))
    assert load_vae(xl).scale == 0.13025
    with pytest.raises(LdmError, match="one of the two is Stable Diffusion XL; take a VAE that was made for"):
        ldm.load(bare, vae=xl)
    with pytest.raises(LdmError, match="xl.safetensors is Stable Diffusion XL; expected a text encoder of"):
        load_text(xl)


def test_an_xl_model_computes_its_vae_in_float32_beside_a_unet_in_float16(tmp_path):
    config = FAMILIES["sdxl"]
    xl = save(tmp_path / "xl.safetensors", config, single_file(config, random_tensors(config)))
    model = ldm.load(xl, dtype="float16", device="cpu")
    assert model.unet.conv_in.weight.dtype == model.text_2.norm_out.weight.dtype == torch.float16
    assert model.vae.decoder.conv_in.weight.dtype == torch.float32
    assert ldm.load(xl, dtype="bfloat16", device="cpu").vae.decoder.conv_in.weight.dtype == torch.bfloat16
    # What is published as "fp16-fix" says so in its JSON.
    export(xl, tmp_path / "theirs", "diffusers")
    path = tmp_path / "theirs" / "vae" / "config.json"
    path.write_text(path.read_text().replace('"force_upcast": true', '"force_upcast": false'))
    for fixed in (ldm.load(tmp_path / "theirs", dtype="float16"), ldm.load(xl, "float16", vae=path.parent)):
        assert fixed.vae.decoder.conv_in.weight.dtype == torch.float16


@pytest.mark.parametrize("family", ["sd1", "sd2-base"])
def test_the_text_encoder_of_a_whole_checkpoint_is_taken_out_of_it(tmp_path, family):
    config = FAMILIES[family]
    path = save(tmp_path / "512-base.safetensors", config, single_file(config, random_tensors(config)))
    convert(path, tmp_path / "ours")
    expected = ldm.load(path, device="cpu").text.state_dict()
    for form in (path, tmp_path / "ours"):
        text = load_text(form, device="cpu")
        assert len(text.layers) == config.text.layers - (config.text.output == "penultimate")
        assert all(torch.equal(tensor, expected[name]) for name, tensor in text.state_dict().items())


def test_nan_in_a_vae_names_another_vae_as_the_remedy(tmp_path):
    spoilt = FILE["first_stage_model.decoder.conv_out.weight"].clone()
    spoilt[0, 0, 0, 0] = float("nan")
    file = FILE | {"first_stage_model.decoder.conv_out.weight": spoilt}
    half = save(tmp_path / "half.safetensors", CONFIG, file)
    for read in (lambda: ldm.load(half), lambda: convert(half, tmp_path / "ours")):
        with pytest.raises(
            LdmError, match=r"decoder.conv_out.weight has NaN .*another VAE .* \(--vae FILE\)"
        ):
            read()
    full = save(tmp_path / "full.safetensors", CONFIG, {n: t.float() for n, t in file.items()})
    model = ldm.load(full, device="cpu")  # mapped, and not read until it is used
    with pytest.raises(LdmError, match=r"from vae.decoder.conv_out, .*another VAE \(vae=..., --vae FILE\)"):
        model.decode(torch.zeros(1, 4, 8, 8))
    save_file(VAE, tmp_path / "vae.safetensors")
    assert (
        ldm.load(half, device="cpu", vae=tmp_path / "vae.safetensors")
        .vae.decoder.conv_out.weight.isfinite()
        .all()
    )


def test_a_model_of_this_project_with_its_vae_in_a_file_paints_the_same(tmp_path):
    folder = write_small_model(tmp_path / "small")
    tensors = load_file(folder / "vae.safetensors")
    save_file({n: t * 2 for n, t in tensors.items()}, folder / "vae.safetensors")
    twice = ldm.load(folder, device="cpu")
    save_file(tensors, folder / "vae.safetensors")
    convert(folder, tmp_path / "other")
    with_own = ldm.load(folder, device="cpu", vae=tmp_path / "other")
    plain = ldm.load(folder, device="cpu")
    image = [m.generate("red dog", seed=1)[0].tobytes() for m in (with_own, plain, twice)]
    assert image[0] == image[1] != image[2]
