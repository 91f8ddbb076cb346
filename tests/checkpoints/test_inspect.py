r"""`inspect`: what it says about good files and bad ones, from headers alone."""

import hashlib
import json
import os
import re
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from ldm.checkpoints import inspect as module
from ldm.checkpoints.inspect import inspect
from ldm.checkpoints.known import KnownFile
from ldm.checkpoints.pickle_file import REFUSED, TENSORS
from ldm.checkpoints.write import convert, export
from ldm.errors import LdmError
from ldm.loading import load
from tests.checkpoints.made import (
    FAMILIES,
    Evil,
    evil_zip,
    random_tensors,
    raw_safetensors,
    save,
    single_file,
    with_ema,
)
from tests.checkpoints.test_detect import real
from tests.small import write_small_model

# With all of CLIP's words: what comes without a tokenizer of its own is read by CLIP's.
CONFIG = replace(FAMILIES["sd1"], text=replace(FAMILIES["sd1"].text, vocab_size=49408, context_length=77))
PARTS = random_tensors(CONFIG)
FILE = single_file(CONFIG, PARTS)


def hollow(path, tensors: dict[str, torch.Tensor]):
    r"""A safetensors file of the real size with nothing but zeros in it, which take no room on the disk."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + 2 * tensor.numel()
        header[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    data = raw_safetensors(header)
    path.write_bytes(data)
    os.truncate(path, len(data) + end)
    return path


def test_a_whole_file_is_told_with_exact_counts(tmp_path):
    torch.save({"state_dict": with_ema(FILE)}, tmp_path / "x.ckpt")
    report = inspect(tmp_path / "x.ckpt")
    assert (report.family, report.checkpoint.form, report.supported) == ("sd1", "single file (CompVis)", True)
    for part, name in (("unet", "U-Net"), ("vae", "VAE"), ("text", "text encoder")):
        numbers = sum(t.numel() for t in PARTS[part].values())
        assert report.parameters[name] == numbers
    assert report.checkpoint.ema and ", float16" in report.text()
    assert report.compared.missing == report.compared.ignored == report.compared.misshapen == ()
    assert report.globals["torch.HalfStorage"] == TENSORS and REFUSED not in report.globals.values()
    digest = hashlib.sha256((tmp_path / "x.ckpt").read_bytes()).hexdigest()
    assert report.hashes == {str(tmp_path / "x.ckpt"): digest}
    for line in (
        "Stable Diffusion 1",
        f"{report.parameters['VAE']:,}",
        "both averaged (EMA) and live",
        digest,
        "opens it",
    ):
        assert line in report.text()


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "family", "total"),
    [
        ("sd1", "sd1", 1_066_235_307),
        # Both unused tensors and the last layer are in the file.
        ("sd2_inpaint", "sd2-inpaint", 1_303_611_628),
        # With its second text encoder's temperature.
        ("sdxl_base", "sdxl", 3_468_837_867 + 1),
        ("sdxl_refiner", "sdxl-refiner", 3_037_840_363 + 1),
    ],
)
def test_a_file_of_the_real_size_is_told_without_reading_it(tmp_path, name, family, total):
    report = inspect(hollow(tmp_path / "x.safetensors", real(name)), hash=False)
    assert report.family == family and sum(report.parameters.values()) == total and report.hashes == {}
    assert report.supported


def test_a_pickle_that_asks_for_more_gets_a_report_and_nothing_is_run(tmp_path):
    report = inspect(evil_zip(tmp_path / "x.ckpt", Evil(os.system, f"touch {tmp_path / 'it_ran'}")))
    assert report.globals == {"posix.system": REFUSED} and not report.supported and not report.checkpoint
    assert "pickle asks for posix.system: REFUSED" in report.text() and "does not open it" in report.text()
    assert not (tmp_path / "it_ran").exists()


def test_what_is_missing_left_over_and_misshapen_is_named(tmp_path):
    file = dict(FILE) | {"novelty": torch.ones(1)}
    del file["first_stage_model.quant_conv.bias"]
    file["model.diffusion_model.out.2.bias"] = torch.ones(5)
    save_file(file, tmp_path / "x.safetensors")
    report = inspect(tmp_path / "x.safetensors", hash=False)
    assert report.compared.missing == ("first_stage_model.quant_conv.bias",) and report.compared.ignored == (
        "novelty",
    )
    [misshapen] = report.compared.misshapen
    assert (
        misshapen.startswith("model.diffusion_model.out.2.bias [5] instead of [4]") or "conv_out" in misshapen
    )
    assert not report.supported and "first_stage_model.quant_conv.bias" in report.text()


@pytest.mark.parametrize(
    ("prefix", "kind"),
    [("first_stage_model.", "VAE alone"), ("cond_stage_model.transformer.", "text encoder alone")],
)
def test_a_network_alone_is_told(tmp_path, prefix, kind):
    own = {name.removeprefix(prefix): t for name, t in FILE.items() if name.startswith(prefix)}
    save_file(own, tmp_path / "x.safetensors")
    report = inspect(tmp_path / "x.safetensors", hash=False)
    assert report.kind == kind and len(report.parameters) == 1
    assert (
        report.compared.missing == report.compared.ignored == report.compared.misshapen == ()
        and "load_" in report.trouble
    )


def test_a_lora_is_told(tmp_path):
    save_file({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, tmp_path / "x.safetensors")
    report = inspect(tmp_path / "x.safetensors", hash=False)
    assert report.kind.startswith("a LoRA") and not report.supported


def test_a_folder_of_ours_is_told(tmp_path):
    report = inspect(write_small_model(tmp_path / "small"))
    assert report.checkpoint.form == "folder of this project" and report.supported and len(report.hashes) == 4
    assert "model 'small' of this project" in report.text()


def test_a_damaged_file_is_an_error(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"\x01")
    with pytest.raises(LdmError, match="damaged"):
        inspect(tmp_path / "x.safetensors")


def test_a_well_known_file_is_known_by_its_hash(tmp_path, monkeypatch):
    save_file(FILE, tmp_path / "x.safetensors")
    digest = hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()
    assert "not a well-known file" in inspect(tmp_path / "x.safetensors").text()
    monkeypatch.setattr(module, "lookup", {digest: KnownFile("x", "somebody/x", "sd1", digest)}.get)
    assert "known: x of somebody/x" in inspect(tmp_path / "x.safetensors").text()


def drop_tensor(folder, name="unet"):
    path = next(file for file in folder.rglob("*.safetensors") if name in str(file.relative_to(folder)))
    tensors = load_file(path)
    tensors.pop(next(key for key in tensors if key.endswith("conv_in.bias")))
    save_file(tensors, path, {"format": "pt"})


def add_tensor(folder):
    path = next(file for file in folder.rglob("*.safetensors") if "unet" in str(file.relative_to(folder)))
    save_file(load_file(path) | {"conv_in.novelty": torch.ones(1)}, path, {"format": "pt"})


def edit(name, **changes):
    def change(folder):
        path = next(folder.rglob(name))
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def edit_config(**changes):
    def change(folder):
        path = (
            folder / "config.json"
            if (folder / "config.json").exists()
            else folder / "text_encoder/config.json"
        )
        table = json.loads(path.read_text())
        table.get("text", table).update(changes)
        path.write_text(json.dumps(table))

    return change


DAMAGES = {
    "nothing": lambda folder: None,
    "no tokenizer": lambda folder: shutil.rmtree(folder / "tokenizer"),
    "an empty tokenizer": lambda folder: [file.unlink() for file in (folder / "tokenizer").iterdir()],
    "no merges": lambda folder: (folder / "tokenizer/merges.txt").unlink(),
    "other merges": lambda folder: (folder / "tokenizer/merges.txt").write_text("#version: 0.2\nd o\n"),
    "another padding": edit("special_tokens_map.json", pad_token="!"),
    "another length": edit("tokenizer_config.json", model_max_length=9),
    "an unknown padding": edit("special_tokens_map.json", pad_token="<pad>"),
    "a word more": edit_config(vocab_size=600),
    "a tensor less": drop_tensor,
    "a tensor more": add_tensor,
    "no weights": lambda folder: [
        file.unlink() for file in folder.rglob("*.safetensors") if "vae" in str(file)
    ],
    "a cut file": lambda folder: [
        os.truncate(file, 200) for file in folder.rglob("*.safetensors") if "vae" in str(file)
    ],
}


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    place = tmp_path_factory.mktemp("layouts")
    config = FAMILIES["sd1"]
    save(place / "one.safetensors", config, single_file(config, random_tensors(config)))
    convert(place / "one.safetensors", place / "ours")
    export(place / "one.safetensors", place / "diffusers", "diffusers")
    return place


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("layout", ["ours", "diffusers"])
def test_what_inspect_says_opens_is_just_what_load_opens(tmp_path, layouts, layout, damage):
    shutil.copytree(layouts / layout, tmp_path / "model")
    DAMAGES[damage](tmp_path / "model")
    try:
        load(tmp_path / "model", device="cpu")
        refused = None
    except LdmError as error:
        refused = str(error)
    try:
        said = inspect(tmp_path / "model", hash=False).trouble
    except LdmError as error:
        said = str(error)  # it cannot even be looked into
    assert said == refused
    assert (damage in ("nothing", "another padding")) >= (refused is None)


def test_one_file_whose_words_are_not_clips_is_not_said_to_open(tmp_path):
    config = FAMILIES["sd1"]
    save_file(
        single_file(config, random_tensors(config)), tmp_path / "x.safetensors"
    )  # without its tokenizer
    report = inspect(tmp_path / "x.safetensors", hash=False)
    assert not report.supported and "the tokenizer (49408, 77)" in report.trouble


def test_nan_is_found_where_numbers_are_read_and_it_is_said_where_they_are_not(tmp_path):
    file = dict(FILE)
    name = "model.diffusion_model.out.2.bias"
    file[name] = torch.full_like(file[name], float("nan"))
    save_file(file, tmp_path / "x.safetensors")
    report = inspect(tmp_path / "x.safetensors")
    assert not report.supported and "conv_out.bias has NaN" in report.trouble
    with pytest.raises(LdmError, match="conv_out.bias has NaN"):
        load(tmp_path / "x.safetensors", device="cpu")
    report = inspect(tmp_path / "x.safetensors", hash=False)
    assert report.supported and "not looked at" in report.text()


def test_nan_in_full_precision_is_noted_because_load_may_use_it_as_it_is(tmp_path):
    file = {name: tensor.float() for name, tensor in FILE.items()}
    file["model.diffusion_model.out.2.bias"].fill_(float("nan"))
    path = tmp_path / "x.safetensors"
    save_file(file, path)
    report = inspect(path)
    assert report.supported and "conv_out.bias has NaN" in report.text() and "opens it" in report.text()
    load(path, dtype="float32", device="cpu")
    with pytest.raises(LdmError, match="conv_out.bias has NaN"):
        load(path, dtype="float64", device="cpu")
    for write in (
        lambda: convert(path, tmp_path / "ours"),
        lambda: export(path, tmp_path / "d", "diffusers"),
    ):
        with pytest.raises(LdmError, match="conv_out.bias has NaN"):
            write()


def test_what_was_assumed_stands_in_the_report_and_is_not_logged(tmp_path, caplog):
    second = FAMILIES["sd2-base"]
    save(tmp_path / "mine.safetensors", second, single_file(second, random_tensors(second)))
    report = inspect(tmp_path / "mine.safetensors", hash=False)
    assert any("nothing tells whether this Stable Diffusion 2" in line for line in report.notes)
    assert "note        " in report.text() and "taking eps" in report.text() and not caplog.records


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v1-5-pruned-emaonly", "averaged .EMA. by the file's name"),
        ("v2-1_512-ema-pruned", "averaged .EMA. by the file's name"),
        ("v2-1_512-nonema-pruned", "live by the file's name"),
        ("schema", "nothing says whether they are averaged .EMA. or live"),
    ],
)
def test_whether_one_set_of_weights_is_averaged_is_told_by_its_name_or_not_at_all(tmp_path, name, said):
    save_file(FILE, tmp_path / f"{name}.safetensors")
    text = inspect(tmp_path / f"{name}.safetensors", hash=False).text()
    assert re.search(f"weights     one set, .*{said}", text)


def test_a_part_beside_tensors_of_an_unknown_kind_is_not_called_a_part(tmp_path):
    own = {name: t for name, t in FILE.items() if name.startswith("first_stage_model.")}
    save_file(own | {"generator.0.weight": torch.ones(1)}, tmp_path / "x.safetensors")
    report = inspect(tmp_path / "x.safetensors", hash=False)
    assert "holds a VAE and 1 tensors of an unknown kind (generator.0.weight)" in report.trouble
