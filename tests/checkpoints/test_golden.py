r"""Names and folders as the reference libraries have them, recorded: our table of names was not asked.

What our own writers make, our readers open even if both are wrong in the same way. These names and files come from
diffusers and transformers (`tests/golden/make_layouts.py`).
"""

import gzip
import json
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ldm.checkpoints.collect import collect
from ldm.checkpoints.validate import configs_of, part_rows
from ldm.config import SD1, SD2_BASE, TextConfig, UNetConfig, UNetLevel, VAEConfig
from ldm.text.tokenizer import Tokenizer
from tests.small import MERGES

with gzip.open(Path(__file__).parents[1] / "golden" / "layouts.json.gz") as stored:
    LAYOUTS = json.load(stored)
VAE = VAEConfig((32, 64), res_per_level=1, latent_channels=4, scale=0.18215)
UNETS = {
    "sd1": UNetConfig((UNetLevel(64, 8, 1), UNetLevel(128, 8, 0)), context_width=16, res_per_level=1),
    "sd2": UNetConfig((UNetLevel(64, 1, 1), UNetLevel(128, 2, 0)), context_width=16, res_per_level=1),
}
TEXTS = {
    "sd1": TextConfig(518, 32, width=16, layers=2, heads=2, activation="quick_gelu"),
    # The last layer, which is not read, is not in such a folder either.
    "sd2": TextConfig(
        518, 32, width=16, layers=3, heads=2, activation="gelu", output="penultimate", pad="zero"
    ),
}
PREFIXES = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    ("sd1", "text"): "cond_stage_model.transformer.",
    ("sd2", "text"): "cond_stage_model.model.",
}


@pytest.mark.parametrize(("version", "config"), [("sd1", SD1), ("sd2", SD2_BASE)])
@pytest.mark.parametrize("part", ["unet", "vae", "text"])
def test_each_tensor_of_a_real_file_becomes_the_one_that_diffusers_makes_of_it(version, config, part):
    # Within an original file of version 1 the text encoder has transformers' names.
    layout = "diffusers" if (version, part) == ("sd1", "text") else "compvis"
    expected = {
        name: (source, third)
        for name, (source, third) in LAYOUTS["names"][version][part].items()
        if not name.endswith("position_ids")
    }
    rows = part_rows(part, getattr(config, part))
    prefix = PREFIXES[version, part] if part == "text" else PREFIXES[part]
    assert {
        row.diffusers: (prefix + row.name(layout), row.third if layout == "compvis" else None) for row in rows
    } == expected


def numbers(name: str, shape: list[int], half: bool) -> torch.Tensor:
    r"""Random ones, others for each name."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(shape, generator=generator).to(torch.float16 if half else torch.float32)


def write(folder: Path, files: dict, pad: str) -> dict[str, dict[str, torch.Tensor]]:
    r"""A folder as it was recorded, with numbers; returns those by network."""
    made: dict[str, dict[str, torch.Tensor]] = {}
    for file, table in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            path.write_text(json.dumps(table))
            continue
        tensors = {name: numbers(name, shape, "fp16" in file) for name, shape in table.items()}
        torch.save(tensors, path) if path.suffix == ".bin" else save_file(tensors, path)
        made.setdefault(path.parent.name, {}).update(tensors)
    Tokenizer(MERGES, context_length=32, pad=pad).save(folder / "tokenizer")
    return made


@pytest.mark.parametrize("name", LAYOUTS["folders"])
def test_a_folder_as_the_libraries_write_it_is_opened_whole(tmp_path, name):
    version = "sd2" if name == "sd2-v" else "sd1"
    made = write(tmp_path, LAYOUTS["folders"][name], "zero" if version == "sd2" else "eos")
    found = collect(tmp_path)
    config = found.model.config
    assert (config.name, config.noise.prediction) == (
        {"sd1": "sd1", "sd2": "sd2-v"}[version],
        "v" if version == "sd2" else "eps",
    )
    assert (config.text, config.vae, config.unet) == (TEXTS[version], VAE, UNETS[version])
    assert config.defaults.size == {"sd1": 64, "sd2": 96}[version] * 2  # two pixels a latent
    assert found.dropped == ()
    for part, sizes in configs_of(config).items():
        theirs = made["text_encoder" if part == "text" else part]
        rows = part_rows(part, sizes)
        assert len(theirs) == len(rows) == len(found.tensors[part])
        for row in rows:
            expected = theirs[row.diffusers.removeprefix("text_model.")]
            assert torch.equal(
                found.tensors[part][row.ours], expected.reshape(found.tensors[part][row.ours].shape)
            )
