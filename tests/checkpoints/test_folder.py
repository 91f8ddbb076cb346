r"""Our own layout of a model: written and read back, and what damaged folders say."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ldm.checkpoints import folder as module
from ldm.checkpoints.folder import fill, read_clip, read_config, read_tensors, write_config, write_tensors
from ldm.errors import LdmError
from ldm.loading import load
from ldm.pipeline import LatentDiffusion
from tests.small import CONFIG, TOKENIZER, write_small_model


def read_model(folder: Path, dtype: torch.dtype = torch.float32) -> LatentDiffusion:
    return load(folder, dtype=dtype, device="cpu")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("written"))


@pytest.fixture
def model_folder(written, tmp_path) -> Path:
    r"""A model folder that a test may damage."""
    for path in written.rglob("*"):
        if path.is_file():
            copy = tmp_path / "model" / path.relative_to(written)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return tmp_path / "model"


def test_tensors_come_back_rounded_to_half_precision(tmp_path):
    # Half precision has 11 binary digits: 2049 lies between 2048 and 2050, and 1/3 becomes 1365 / 4096.
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.tensor([1 / 3, 2049.0, -0.5]), "b": torch.ones(2, 3).T})
    assert load_file(path)["a"].dtype == torch.float16
    tensors = read_tensors(path)
    assert tensors["a"].tolist() == [1365 / 4096, 2048.0, -0.5] and tensors["a"].dtype == torch.float32
    assert torch.equal(tensors["b"], torch.ones(3, 2))
    assert read_tensors(path, torch.bfloat16)["a"].dtype == torch.bfloat16


def test_a_file_may_be_written_in_full_precision(tmp_path):
    path, third = tmp_path / "x.safetensors", torch.tensor([1 / 3])
    write_tensors(path, {"a": third}, torch.float32)
    assert torch.equal(read_tensors(path)["a"], third)


def test_a_config_comes_back_as_it_was(tmp_path):
    config = replace(CONFIG, image=None, embedding_width=None)
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config


def test_a_model_comes_back_whole(written):
    model = read_model(written)
    assert model.config == CONFIG and model.tokenizer.vocab == TOKENIZER.vocab and not model.training
    for name in ("text", "vae", "unet"):
        tensors = load_file(written / f"{name}.safetensors")
        own = getattr(model, name).state_dict()
        assert own.keys() == tensors.keys()
        assert all(torch.equal(own[key], tensor.float()) for key, tensor in tensors.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_number_is_left_without_a_place_and_all_have_the_dtype_asked_for(written, dtype):
    for read in (read_model(written, dtype), read_clip(written, dtype)[0]):
        for name, tensor in [*read.named_parameters(), *read.named_buffers()]:
            assert tensor.device == torch.device("cpu") and tensor.dtype == dtype, name
            assert tensor.isfinite().all(), name


def test_reading_a_model_draws_no_random_numbers(written):
    state = torch.get_rng_state()
    read_model(written), read_clip(written)
    assert torch.equal(torch.get_rng_state(), state)


def test_clip_shares_the_text_encoder_with_the_painter(written):
    (clip, tokenizer), model = read_clip(written), read_model(written)
    ids = tokenizer(["red dog"])
    with torch.no_grad():
        assert torch.equal(clip.text(ids), model.text(ids))
    assert not any(name.startswith("text.") for name in load_file(written / "clip.safetensors"))


def test_a_model_without_an_image_encoder_paints_but_has_no_clip(model_folder):
    write_config(model_folder, replace(CONFIG, image=None))
    read_model(model_folder)
    with pytest.raises(LdmError, match="without CLIP's image encoder"):
        read_clip(model_folder)


def test_a_folder_without_a_config_is_no_model(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(LdmError, match="no config.json; expected a model folder"):
            read_clip(folder)


@pytest.mark.parametrize("name", ["text", "vae", "unet"])
def test_a_missing_file_is_named(model_folder, name):
    (model_folder / f"{name}.safetensors").unlink()
    with pytest.raises(LdmError, match=f"{name}.safetensors is missing; the model folder is incomplete"):
        read_model(model_folder)


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "header"])
def test_a_damaged_file_is_named(model_folder, damage):
    path = model_folder / "unet.safetensors"
    data = path.read_bytes()
    broken = {
        "cut": data[:-1],
        "empty": b"",
        "noise": b"\x00" * 100,
        "header": data[:8] + b"[" + data[9:],
    }
    path.write_bytes(broken[damage])
    with pytest.raises(LdmError, match=r"unet.safetensors is damaged \(.+\); fetch or train it again"):
        read_model(model_folder)


def test_a_missing_tokenizer_is_named(model_folder):
    (model_folder / "tokenizer/merges.txt").unlink()
    with pytest.raises(LdmError, match="merges.txt"):
        read_model(model_folder)


def change(path: Path, edit) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("conv_in.bias"), "is no whole model; 1 missing: conv_in.bias"),
        (lambda t: t.update(extra=torch.ones(1)), "ignoring extra would give wrong images"),
        (lambda t: t.update({"conv_in.bias": torch.ones(9)}), r"1 misshapen: conv_in.bias \[9\] instead of"),
        (
            lambda t: t.update({"extra": t.pop("conv_in.bias"), "conv_out.bias": torch.ones(9)}),
            "1 missing: conv_in.bias; 1 misshapen: conv_out.bias",
        ),
    ],
)
def test_keys_that_do_not_fit_are_named(model_folder, edit, message):
    change(model_folder / "unet.safetensors", edit)
    with pytest.raises(LdmError, match=message):
        read_model(model_folder)


def test_of_many_keys_ten_are_named_and_the_others_counted():
    many = {f"k{i:02}": torch.ones(1) for i in range(13)}
    with pytest.raises(
        LdmError, match=r"x has, but the model has not, k00, .*, k09 and 3 more\. It"
    ) as caught:
        fill(nn.Module(), many, Path("x"))
    assert "k10" not in str(caught.value)
    with pytest.raises(LdmError, match=r"k00, .*, k09\. It"):
        fill(nn.Module(), dict(list(many.items())[:10]), Path("x"))


@pytest.mark.parametrize(
    "text", [{"vocab_size": 600}, {"context_length": 20}, {"pad": "zero"}], ids=lambda text: [*text][0]
)
def test_a_tokenizer_whose_ids_the_text_encoder_does_not_know_is_an_error(model_folder, text):
    write_config(model_folder, replace(CONFIG, text=replace(CONFIG.text, **text)))
    with pytest.raises(LdmError, match=r"the tokenizer has .*, 32, 'eos'\), config.json says .* fetch both"):
        read_clip(model_folder)
    with pytest.raises(LdmError, match="model's own tokenizer|padded with 'zero', its tokenizer 'eos'"):
        read_model(model_folder)


def test_weights_of_another_config_do_not_fit(model_folder):
    write_config(model_folder, replace(CONFIG, unet=replace(CONFIG.unet, context_width=24)))
    with pytest.raises(LdmError, match="they belong to different models|misshapen: .*cross_attn"):
        read_model(model_folder)


def test_what_fits_not_leaves_the_module_as_it_was():
    linear = nn.Linear(2, 2)
    before = {name: t.clone() for name, t in linear.state_dict().items()}
    with pytest.raises(LdmError):
        fill(linear, {"weight": torch.zeros(2, 2)}, Path("x"))
    assert all(torch.equal(t, before[name]) for name, t in linear.state_dict().items())


@pytest.mark.parametrize("name", ["unet.safetensors", "config.json"])
def test_writing_that_fails_leaves_the_old_file_and_no_other(model_folder, monkeypatch, name):
    path = model_folder / name
    before, names = path.read_bytes(), sorted(os.listdir(model_folder))

    def half(target, *_, **__):
        target.write_bytes(b"half")
        raise OSError("no space left on device")

    if name == "config.json":
        monkeypatch.setattr(module.Path, "write_text", half)
        with pytest.raises(OSError, match="no space"):
            write_config(model_folder, CONFIG)
    else:

        class Full(torch.Tensor):  # the header is written already when its numbers are asked for
            def detach(self):
                raise OSError("no space left on device")

        with pytest.raises(LdmError, match="no space"):
            write_tensors(path, {"a": torch.ones(1).as_subclass(Full)})
    assert path.read_bytes() == before and sorted(os.listdir(model_folder)) == names
