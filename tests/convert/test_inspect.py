r"""`inspect`: what it says about good files and bad ones, from headers alone."""

import hashlib
import os

import pytest
import torch
from safetensors.torch import save_file

from ldm.convert import inspect as module
from ldm.convert.inspect import inspect
from ldm.convert.known import KnownFile
from ldm.convert.pickled import REFUSED, TENSORS
from ldm.errors import LdmError
from tests.convert.made import (
    FAMILIES,
    Evil,
    evil_zip,
    random_tensors,
    raw_safetensors,
    single_file,
    with_ema,
)
from tests.convert.test_kinds import real
from tests.small import write_small_model

CONFIG = FAMILIES["sd1"]
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
    assert (report.family, report.form, report.supported) == ("sd1", "single file (CompVis)", True)
    counts = {c.name: (c.parameters, c.dtypes) for c in report.components}
    for part, name in (("unet", "U-Net"), ("vae", "VAE"), ("text", "text encoder")):
        numbers = sum(t.numel() for t in PARTS[part].values())
        assert counts[name][0] == numbers
    assert counts["U-Net"][1] == ("float16",) and report.ema
    assert report.missing == report.left_over == report.misshapen == ()
    assert report.globals["torch.HalfStorage"] == TENSORS and REFUSED not in report.globals.values()
    digest = hashlib.sha256((tmp_path / "x.ckpt").read_bytes()).hexdigest()
    assert report.hashes == {str(tmp_path / "x.ckpt"): digest}
    for line in (
        "Stable Diffusion 1",
        f"{counts['VAE'][0]:,}",
        "both averaged (EMA) and live",
        digest,
        "opens it",
    ):
        assert line in report.text()


@pytest.mark.parametrize(
    ("name", "family", "total"),
    [
        ("sd1", "sd1", 1_066_235_307),
        (
            "sd2_inpaint",
            "sd2-inpaint",
            1_303_611_628,
        ),  # both unused tensors and the last layer are in the file
        ("sdxl_base", "sdxl", 3_468_837_867 + 1),  # its second text encoder's temperature
        ("sdxl_refiner", "sdxl-refiner", 3_037_840_363 + 1),
    ],
)
def test_a_file_of_the_real_size_is_told_without_reading_it(tmp_path, name, family, total):
    report = inspect(hollow(tmp_path / "x.safetensors", real(name)), hash=False)
    assert report.family == family and report.parameters == total and report.hashes == {}
    assert report.supported == (not family.startswith("sdxl"))
    assert ("not supported yet" in report.text()) != report.supported


def test_a_pickle_that_asks_for_more_gets_a_report_and_nothing_is_run(tmp_path):
    report = inspect(evil_zip(tmp_path / "x.ckpt", Evil(os.system, f"touch {tmp_path / 'it_ran'}")))
    assert report.globals == {"posix.system": REFUSED} and not report.supported and report.components == ()
    assert "pickle asks for posix.system: REFUSED" in report.text() and "does not open it" in report.text()
    assert not (tmp_path / "it_ran").exists()


def test_what_is_missing_left_over_and_misshapen_is_named(tmp_path):
    file = dict(FILE) | {"novelty": torch.ones(1)}
    del file["first_stage_model.quant_conv.bias"]
    file["model.diffusion_model.out.2.bias"] = torch.ones(5)
    save_file(file, tmp_path / "x.safetensors")
    report = inspect(tmp_path / "x.safetensors", hash=False)
    assert report.missing == ("first_stage_model.quant_conv.bias",) and report.left_over == ("novelty",)
    [misshapen] = report.misshapen
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
    assert report.kind == kind and len(report.components) == 1
    assert report.missing == report.left_over == report.misshapen == () and "load_" in report.trouble


def test_a_lora_is_told(tmp_path):
    save_file({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, tmp_path / "x.safetensors")
    report = inspect(tmp_path / "x.safetensors", hash=False)
    assert report.kind.startswith("a LoRA") and not report.supported


def test_a_folder_of_ours_is_told(tmp_path):
    report = inspect(write_small_model(tmp_path / "small"))
    assert report.form == "folder of this project" and report.supported and len(report.hashes) == 4
    assert "model 'small' of this project" in report.text()


def test_a_damaged_file_is_an_error(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"\x01")
    with pytest.raises(LdmError, match="damaged"):
        inspect(tmp_path / "x.safetensors")


def test_a_well_known_file_is_known_by_its_hash(tmp_path, monkeypatch):
    save_file(FILE, tmp_path / "x.safetensors")
    digest = hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()
    assert "not in the list of well-known files" in inspect(tmp_path / "x.safetensors").text()
    monkeypatch.setattr(module, "lookup", {digest: KnownFile("x", "somebody/x", "sd1", digest)}.get)
    assert "known: x of somebody/x" in inspect(tmp_path / "x.safetensors").text()
