r"""The model in the forms that other people's files have: what the mistakes about checkpoints are shown with.

Each function writes one form of a model to an empty folder and returns the file or folder to open.
"""

import json
import pickle
import shutil
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ldm.checkpoints.folder import read_config
from ldm.checkpoints.key_map import text_rows
from ldm.checkpoints.names import rename
from ldm.checkpoints.safetensors_file import map_tensors, read_metadata, write_safetensors
from ldm.checkpoints.write import convert, export
from ldm.lab.museum.extended import few_steps, like_xl, told_guidance, with_control, with_lora, with_word
from ldm.lab.museum.linear_vae import with_tiny_vae

UNET, TEXT = "model.diffusion_model.", "cond_stage_model.transformer."
DRIFT = 0.04  # by how much of their deviation live weights differ from averaged ones here
FINE = 2e-4  # relative; what is lost when numbers are rounded to half precision is up to 5e-4


def ours(model: Path, place: Path) -> Path:
    """The model's own folder."""
    return model


def diffusers(model: Path, place: Path) -> Path:
    """A diffusers folder."""
    export(model, place / "diffusers", "diffusers")
    return place / "diffusers"


def compvis(model: Path, place: Path) -> Path:
    """One file in the original layout, as Stable Diffusion 1 was published."""
    export(model, place / "model.safetensors", "compvis")
    return place / "model.safetensors"


def like_xl_compvis(model: Path, place: Path) -> Path:
    """One file in the original layout with the further inputs of Stable Diffusion XL."""
    return compvis(like_xl(model, place), place)


def openclip(model: Path, place: Path) -> Path:
    """One file in the original layout with OpenCLIP's names for the text encoder, as of Stable Diffusion 2."""
    path = compvis(model, place)
    tensors = {name: t for name, t in map_tensors(path).items() if not name.startswith(TEXT)}
    text = rename(map_tensors(model / "text.safetensors"), text_rows(read_config(model).text), "compvis")
    tensors |= {f"cond_stage_model.model.{name}": tensor for name, tensor in text.items()}
    return _rewritten(path, tensors)


def averaged(model: Path, place: Path) -> Path:
    """A file with averaged weights beside live ones. The live ones are the average with some noise added."""
    path = compvis(model, place)
    tensors = map_tensors(path)
    unet = {name: t for name, t in tensors.items() if name.startswith(UNET)}
    average = {_averaged_name(name): t for name, t in unet.items()}
    return _rewritten(path, tensors | average | drifted(unet))


def half_averaged(model: Path, place: Path) -> Path:
    """A file with averaged weights beside live ones, where half of the averaged tensors are missing."""
    path = averaged(model, place)
    tensors = map_tensors(path)
    average = [name for name in tensors if name.startswith("model_ema.")]
    return _rewritten(path, {name: t for name, t in tensors.items() if name not in average[::2]})


def diffusers_averaged(model: Path, place: Path) -> Path:
    """A diffusers folder whose live weights are missing: only the averaged ones are there."""
    folder = diffusers(model, place)
    stray = folder / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    stray.write_bytes((folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes())
    return folder


def full_precision(model: Path, place: Path) -> Path:
    """Our layout in float32, with digits that half precision does not have."""
    convert(model, place / "full", dtype=torch.float32)
    for path in sorted((place / "full").glob("*.safetensors")):
        noise = torch.Generator().manual_seed(0)
        tensors = {
            name: t * (1 + FINE * torch.randn(t.shape, generator=noise))
            for name, t in map_tensors(path).items()
        }
        write_safetensors(path, tensors)
    return place / "full"


def incomplete(model: Path, place: Path) -> Path:
    """The original layout without one of the U-Net's tensors."""
    path = compvis(model, place)
    return _rewritten(path, {name: t for name, t in map_tensors(path).items() if name != f"{UNET}out.2.bias"})


def incomplete_clip(model: Path, place: Path) -> Path:
    """Our own folder, whose `clip.safetensors` lacks a tensor."""
    shutil.copytree(model, place / "clip")
    path = place / "clip" / "clip.safetensors"
    tensors = {name: t.clone() for name, t in map_tensors(path).items() if name != "logit_scale"}
    write_safetensors(path, tensors)
    return place / "clip"


def scaled(model: Path, place: Path) -> Path:
    """The original layout with the last convolution's weight stored with a scale beside it, as fp8 files do."""
    path, name = compvis(model, place), f"{UNET}out.2."
    tensors = map_tensors(path)
    scale = {f"{name}weight": tensors[f"{name}weight"] / 2, f"{name}scale_weight": torch.tensor(2.0)}
    return _rewritten(path, tensors | scale)


def bare_text(model: Path, place: Path) -> Path:
    """A diffusers folder whose text encoder's names lack the prefix `text_model.`, as transformers 5 writes them."""
    folder = diffusers(model, place)
    path = folder / "text_encoder" / "model.safetensors"
    tensors = {name.removeprefix("text_model."): t for name, t in map_tensors(path).items()}
    write_safetensors(path, tensors, {"format": "pt"})
    return folder


def lightning(model: Path, place: Path) -> Path:
    """A diffusers folder whose U-Net is a pickle with what Lightning leaves in it: a class of its own."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    with _stranger(name, "ModelCheckpoint") as callback:
        return _pickled(diffusers(model, place), {"callbacks": {callback: {"best_model_score": 0.1}}})


def stowaway(model: Path, place: Path) -> Path:
    """A diffusers folder whose U-Net is a pickle that asks for a function of the system."""
    return _pickled(diffusers(model, place), {"extra": _Asks()})


class _Asks:
    """Unpickled in the ordinary way, this would call `os.getcwd`: harmless here, but it might be any function."""

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        import os

        return os.getcwd, ()


@contextmanager
def _stranger(module: str, name: str) -> Any:
    """A class of a package that is not installed, for as long as it takes to pickle it."""
    parts = module.split(".")
    names = [".".join(parts[: i + 1]) for i in range(len(parts))]
    added = {n: ModuleType(n) for n in names if n not in sys.modules}
    sys.modules.update(added)
    made = type(name, (), {"__module__": module})
    setattr(sys.modules[module], name, made)
    try:
        yield made
    finally:
        for n in added:
            del sys.modules[n]


def _pickled(folder: Path, more: dict[str, Any]) -> Path:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = {name: t.clone() for name, t in map_tensors(path).items()}
    torch.save({"state_dict": tensors, **more}, path.with_suffix(".bin"), pickle_module=pickle)
    path.unlink()
    return folder


def drifted(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with noise of `DRIFT` of their own deviation, drawn from a fixed seed."""
    noise = torch.Generator().manual_seed(0)
    return {
        name: (t + DRIFT * t.float().std(correction=0) * torch.randn(t.shape, generator=noise)).to(t.dtype)
        for name, t in tensors.items()
    }


def _averaged_name(name: str) -> str:
    return "model_ema." + name.removeprefix("model.").replace(".", "")


def _rewritten(path: Path, tensors: dict[str, Tensor]) -> Path:
    ready = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    write_safetensors(path, ready, read_metadata(path))
    return path


FORMS: dict[str, Callable[[Path, Path], Path]] = {
    form.__name__: form
    for form in (
        *(ours, diffusers, compvis, openclip, averaged, half_averaged, diffusers_averaged),
        *(full_precision, incomplete, incomplete_clip, scaled, bare_text, lightning, stowaway),
        *(
            with_lora,
            few_steps,
            told_guidance,
            with_word,
            with_control,
            like_xl,
            like_xl_compvis,
            with_tiny_vae,
        ),
    )
}


def description(form: str) -> str:
    """What a form is, as its function says in one sentence; without the period."""
    return (FORMS[form].__doc__ or "").partition(".\n")[0].rstrip(".").partition(". ")[0]


def key(model: Path) -> str:
    """What the forms of a model depend on: its files' names and sizes, and its config."""
    files = {file.name: file.stat().st_size for file in sorted(model.glob("*.safetensors"))}
    return json.dumps([files, read_config(model).to_json()])
