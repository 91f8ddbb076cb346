r"""Records what the reference libraries call the tensors: in original files, and in the folders that they write.

`make.py` calls it (`make golden`). Like it, this imports the reference libraries and not `ldm`. The file has

- "names": for each network of a real file, the tensor of diffusers that each of its tensors becomes when diffusers'
  own conversion reads it: `{diffusers' name: [the file's name, which third of it or null]}`;
- "folders": small models as diffusers and transformers save them: `{file: its JSON, or {tensor: shape}}`.
"""

import gzip
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
import transformers
from diffusers.loaders import single_file_utils
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).resolve().parent
KEYS = FOLDER.parent / "convert" / "keys"  # the names and shapes of real files
FILE = FOLDER / "layouts.json.gz"

Table = dict[str, Any]
DOWN = {"down_block_types": (None,) * 4, "up_block_types": (None,) * 4}  # only their number is asked for


def labelled(number: int, shape: list[int]) -> Tensor:
    r"""A tensor that takes no memory and says which one it is: `number`, plus k/4 in its third k."""
    height = shape[0] if shape else 1
    thirds = torch.arange(height) * 3 // max(height, 1) if height % 3 == 0 else torch.zeros(height)
    column = (number + thirds / 4).reshape(shape[:1] + [1] * (len(shape) - 1))
    return column.expand(shape)


def names(version: str) -> dict[str, Table]:
    r"""How diffusers reads a real file, by network."""
    with gzip.open(KEYS / f"{version}.json.gz") as file:
        shapes = json.load(file)
    original = list(shapes)
    state = {name: labelled(i, shapes[name]) for i, name in enumerate(original)}
    if version == "sd2":
        width = SimpleNamespace(config=SimpleNamespace(hidden_size=1024))
        text = single_file_utils.convert_open_clip_checkpoint(width, dict(state))
    else:
        text = single_file_utils.convert_ldm_clip_checkpoint(dict(state))
    parts = {
        "unet": single_file_utils.convert_ldm_unet_checkpoint(dict(state), {"layers_per_block": 2}),
        "vae": single_file_utils.convert_ldm_vae_checkpoint(dict(state), DOWN),
        "text": text,
    }
    return {part: {name: source(t, original) for name, t in found.items()} for part, found in parts.items()}


def source(tensor: Tensor, original: list[str]) -> list[Any]:
    r"""Which tensor of the file this is, and which third of it if it is one."""
    first, last = tensor.flatten()[0].item(), tensor.flatten()[-1].item()
    third = (
        None
        if first != last or not original[int(first)].split(".")[-1].startswith("in_proj")
        else first % 1 * 4
    )
    return [original[int(first)], None if third is None else int(third)]


def save_small(folder: Path, version: str, **options: Any) -> None:
    r"""A small Stable Diffusion, saved by the libraries themselves."""
    second = version == "sd2"
    unet = diffusers.UNet2DConditionModel(
        sample_size=96 if second else 64,
        block_out_channels=(64, 128),
        attention_head_dim=(1, 2) if second else 8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        layers_per_block=1,
        use_linear_projection=second,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        layers_per_block=1,
    )
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=518,
            bos_token_id=516,
            eos_token_id=517,
            max_position_embeddings=32,
            hidden_size=16,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            hidden_act="gelu" if second else "quick_gelu",
        )
    )
    scheduler = diffusers.DDIMScheduler if second else diffusers.PNDMScheduler
    prediction = "v_prediction" if second else "epsilon"
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    unet.save_pretrained(folder / "unet", **options)
    vae.save_pretrained(folder / "vae", **options)
    # transformers from version 5 on has no unsafe way to write
    text.save_pretrained(folder / "text_encoder", **{k: v for k, v in options.items() if k == "variant"})
    scheduler(prediction_type=prediction, **betas).save_pretrained(folder / "scheduler")


def written(version: str, **options: Any) -> Table:
    r"""The files of `save_small`: JSON as it is, of weights only the names and shapes."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_small(folder, version, **options)
        table: Table = {}
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = path.relative_to(folder).as_posix()
            if path.suffix == ".json":
                table[name] = json.loads(path.read_text())
            else:
                tensors = (
                    load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
                )
                table[name] = {key: list(tensor.shape) for key, tensor in tensors.items()}
        return table


FOLDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sd1": ("sd1", {}),
    "sd2-v": ("sd2", {}),
    "variant": ("sd1", {"variant": "fp16"}),
    "shards": ("sd1", {"max_shard_size": "4MB"}),
    "shards of a variant": ("sd1", {"max_shard_size": "4MB", "variant": "fp16"}),
    "pickles": ("sd1", {"safe_serialization": False}),
}


def make_layouts() -> Table:
    return {
        "names": {version: names(version) for version in ("sd1", "sd2")},
        "folders": {name: written(version, **options) for name, (version, options) in FOLDERS.items()},
    }


def save_layouts() -> None:
    text = json.dumps(make_layouts(), separators=(",", ":"))
    FILE.write_bytes(gzip.compress(text.encode(), mtime=0))  # the same bytes at each run
    print(f"{FILE.name}: {FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    save_layouts()
