r"""The files of tiny VAEs: both forms, half by half, under the published names; what is refused; as a VAE of models."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from ldm.checkpoints.collect import collect_part
from ldm.checkpoints.inspect import inspect
from ldm.checkpoints.names import rename
from ldm.checkpoints.tiny_file import is_tiny, open_tiny, tiny_files, tiny_rows
from ldm.errors import LdmError
from ldm.loading import load, load_vae
from ldm.vae.tiny import TinyVAE
from tests.golden.compare import filled, golden
from tests.small import CONFIG, write_small_model

# Where there is nothing but a weight, and where the layers of both halves are, in the original files.
NO_BIAS = {"encoder": (2, 6, 10), "decoder": (7, 12, 17)}
BLOCKS = {"encoder": (1, 3, 4, 5, 7, 8, 9, 11, 12, 13), "decoder": (3, 4, 5, 8, 9, 10, 13, 14, 15, 18)}
ENDS = {"encoder": (0, 14), "decoder": (1, 19)}


@pytest.fixture(scope="module")
def vae():
    return filled(TinyVAE(), tiny_rows()).float()


def named(vae, layout: str, half: str = "") -> dict[str, torch.Tensor]:
    state = rename(vae.state_dict(), tiny_rows(), layout)
    return {name: tensor.contiguous() for name, tensor in state.items() if name.startswith(half)}


def lone(vae, half: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(f"{half}."): t for name, t in named(vae, "compvis", half).items()}


def same(found: TinyVAE, vae: TinyVAE) -> bool:
    return all(torch.equal(tensor, vae.state_dict()[name]) for name, tensor in found.state_dict().items())


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_the_original_names_are_those_that_are_published(vae, half):
    expected = {f"{i}.weight" for i in NO_BIAS[half]}
    expected |= {f"{i}.{kind}" for i in ENDS[half] for kind in ("weight", "bias")}
    expected |= {
        f"{i}.conv.{k}.{kind}" for i in BLOCKS[half] for k in (0, 2, 4) for kind in ("weight", "bias")
    }
    assert lone(vae, half).keys() == expected and len(expected) == 67
    diffusers = named(vae, "diffusers", half)
    lower = int(half == "decoder")
    assert diffusers.keys() == {
        f"{half}.layers.{int(n.partition('.')[0]) - lower}.{n.partition('.')[2]}" for n in expected
    }


def test_each_form_gives_the_same_network(vae, tmp_path):
    save_file(named(vae, "diffusers"), tmp_path / "both.safetensors")
    save_file({f"taesd_{n}": t for n, t in named(vae, "compvis").items()}, tmp_path / "prefixed.safetensors")
    torch.save(lone(vae, "decoder"), tmp_path / "taesd_decoder.pth")
    assert same(load_vae(tmp_path / "both.safetensors"), vae)
    assert same(load_vae(tmp_path / "prefixed.safetensors"), vae)
    alone = load_vae(tmp_path / "taesd_decoder.pth")
    assert alone.encoder is None and same(alone, vae)
    torch.save(lone(vae, "encoder"), tmp_path / "taesd_encoder.pth")
    for half in ("encoder", "decoder"):  # either one finds the other
        found = load_vae(tmp_path / f"taesd_{half}.pth")
        assert found.encoder is not None and same(found, vae)
    assert [path.name for path in tiny_files(tmp_path / "taesd_decoder.pth")] == [
        "taesd_decoder.pth",
        "taesd_encoder.pth",
    ]


def test_a_folder_of_diffusers_is_opened_with_the_original_files_beside_it_or_without(vae, tmp_path):
    save_file(named(vae, "diffusers"), tmp_path / "diffusion_pytorch_model.safetensors")
    save_file(lone(vae, "decoder"), tmp_path / "taesd_decoder.safetensors")
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderTiny"}')
    assert is_tiny(tmp_path) and same(load_vae(tmp_path), vae)
    report = inspect(tmp_path, hash=False)
    assert report.kind.startswith("a TAESD") and ("holds", "encoder and decoder") in report.facts


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("taesd_decoder.safetensors", "Stable Diffusion 1 and 2, or XL"),
        ("taesdxl_decoder.safetensors", "Stable Diffusion XL"),
    ],
    ids=["sd", "sdxl"],
)
def test_inspect_says_what_it_is_and_what_it_holds(vae, tmp_path, name, expected):
    save_file(lone(vae, "decoder"), tmp_path / name)
    report = inspect(tmp_path / name, hash=False)
    assert "a TAESD: a tiny VAE that approximates another (--vae takes it)" in report.text()
    assert report.facts == (
        ("made for", f"latents of 4 channels: {expected}"),
        ("holds", "the decoder alone"),
    )


def changed(
    state: dict[str, torch.Tensor], name: str, tensor: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    rest = {key: value for key, value in state.items() if key != name}
    return rest if tensor is None else rest | {name: tensor}


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("3.conv.0.bias", None, "no whole tiny VAE; 1 missing: decoder.3.conv.0.bias"),
        ("7.weight", torch.ones(64, 32, 3, 3), r"1 misshapen: decoder.up.0.weight \[64, 32, 3, 3\] instead of "),
        ("20.weight", torch.ones(1), "1 of another kind: decoder.20.weight"),
        ("1.weight", None, "has no decoder; give the decoder's file"),
        ("1.weight", torch.ones(64), "has no decoder"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_named(vae, tmp_path, name, tensor, message):
    path = tmp_path / "a.safetensors"
    save_file(changed(lone(vae, "decoder"), name, tensor), path)
    with pytest.raises(LdmError, match=message):
        open_tiny(path)


def test_nan_in_it_is_named(vae, tmp_path):
    state = changed(lone(vae, "decoder"), "19.bias", torch.full((3,), torch.nan))
    save_file({name: tensor.half() for name, tensor in state.items()}, tmp_path / "a.safetensors")
    with pytest.raises(LdmError, match="the tensor conv_out.bias|decoder.conv_out.bias has NaN or infinity"):
        load_vae(tmp_path / "a.safetensors")


def test_an_encoder_alone_and_another_kind_of_file_are_refused(vae, tmp_path):
    save_file(lone(vae, "encoder"), tmp_path / "encoder_only.safetensors")
    with pytest.raises(LdmError, match="has no decoder"):
        load_vae(tmp_path / "encoder_only.safetensors")
    save_file({"emb_params": torch.ones(1, 768)}, tmp_path / "word.safetensors")
    assert not is_tiny(tmp_path / "word.safetensors")
    with pytest.raises(LdmError, match="is no tiny VAE"):
        open_tiny(tmp_path / "word.safetensors")


def test_a_tiny_vae_is_no_model_and_not_written_into_one(vae, tmp_path):
    path = tmp_path / "taesd_decoder.safetensors"
    save_file(lone(vae, "decoder"), path)
    with pytest.raises(LdmError, match=r"is a TAESD: .*--vae takes it"):
        load(path)
    with pytest.raises(LdmError, match="is a TAESD"):
        collect_part(path, "vae")


def test_it_is_the_vae_of_a_model_of_the_same_latents(vae, tmp_path):
    four = replace(CONFIG.vae, channels=(8, 8, 8, 8))
    model_path = write_small_model(tmp_path / "model", replace(CONFIG, vae=four))
    path = tmp_path / "taesd_decoder.safetensors"
    save_file(lone(vae, "decoder"), path)
    model = load(model_path, vae=path, dtype="float32", device="cpu")
    latent = golden("tiny")["latent"].float()
    assert torch.equal(model.decode_pixels(latent), vae.decode(latent))
    [image] = model.generate("red dog", size=(24, 40), steps=1, seed=1)
    assert image.size == (24, 40)
    with pytest.raises(LdmError, match="has no encoder, so no image can be encoded"):
        model.generate("red dog", init=image, size=(24, 40), steps=2, seed=1)
    shutil.move(path, tmp_path / "other.safetensors")
    small = write_small_model(tmp_path / "small")
    with pytest.raises(LdmError, match="4 channels, 8 pixels .*; this model has 4 channels and 2 pixels"):
        load(small, vae=tmp_path / "other.safetensors")
