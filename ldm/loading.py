r"""`ldm.load`: one door for a model, given its name, its folder, or its file."""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from ldm.adapters.controlnet import ControlNet
from ldm.arguments import checked
from ldm.backend.accelerate import accelerate
from ldm.backend.choice import SMALL, pick_dtype, read_device, read_dtype
from ldm.backend.memory_format import converted
from ldm.checkpoints.checkpoint import Checkpoint
from ldm.checkpoints.collect import collect, collect_part
from ldm.checkpoints.control_file import read_control
from ldm.checkpoints.finding import find
from ldm.checkpoints.folder import read_clip
from ldm.checkpoints.loaded import LoadedModel
from ldm.checkpoints.opening import parameters
from ldm.checkpoints.tiny_file import TinyFile, is_tiny, open_tiny
from ldm.checkpoints.validate import check_finite
from ldm.config import Config
from ldm.errors import LdmError
from ldm.files.paths import expanded
from ldm.files.read_write import LARGEST_CONFIG, read_text
from ldm.notes import log
from ldm.pipeline import LatentDiffusion
from ldm.text.clip import CLIP
from ldm.text.encoder import TextEncoder
from ldm.text.tokenizer import Tokenizer
from ldm.vae.vae import VAE


@checked
def load(
    model: str | Path = "tiny",
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    config: Config | str | Path | None = None,
    weights: str | None = None,
    prediction: str | None = None,
    vae: str | Path | None = None,
    unet: str | Path | None = None,
) -> LoadedModel:
    """A model ready to generate, from a name under `weights/`, a folder (ours or diffusers'), or a single file.

    ldm.load("tiny").generate("a dog with glasses", seed=42)[0].show()
    ldm.load("v1-5-pruned-emaonly.safetensors").generate("an astronaut riding a horse")[0].show()

    Its parameters are frozen, so a step outside `torch.no_grad` keeps no graph; to train it, `requires_grad_(True)`.

    `dtype` (or its name, such as "bfloat16") and `device` are chosen if not given (`pick_dtype`, `pick_device`), and
    logged. `config`, or the path of a config.json, overrides what is detected; `prediction` ("eps" or "v") only what
    the U-Net is taken to predict. `weights` chooses between averaged ("ema") and "live" ones where a file has both.
    `vae` names a file or folder whose VAE replaces the model's own, for checkpoints that come without one; it may also
    be a tiny VAE (TAESD), for a checkpoint that has its own. `unet` likewise names one whose U-Net does: distilled ones
    are often published without the rest of the model.

    Files are mapped, not read: a tensor that keeps its dtype takes no memory of its own. On a CPU, therefore, a text
    encoder in float32 stays as it is, and only U-Net and VAE get another `dtype`. Raises `LdmError` for what is not
    such a model.
    """
    other, distilled = (None if part is None else find(part) for part in (vae, unet))
    tiny = None if other is None or not is_tiny(other) else open_tiny(other)
    made = collect(find(model), read_config(config), weights, prediction, None if tiny else other, distilled)
    dtype, device = _settle(made.checkpoint, dtype, device)
    if tiny is not None:
        own = made.model.config.vae
        if (tiny.latent_channels, tiny.network.factor) != (own.latent_channels, own.factor):
            raise LdmError(
                f"{tiny.path} decodes latents of {tiny.latent_channels} channels, {tiny.network.factor} pixels along a "
                f"side for each position; this model has {own.latent_channels} channels and {own.factor} pixels"
            )
        made.model.vae = _fill_tiny(tiny, dtype, device)
    for name, tensors in made.tensors.items():
        if name == "vae" and tiny is not None:
            continue
        kind = _part_dtype(name, made.model.config, tensors, dtype, device)
        _fill(getattr(made.model, name), tensors, made.checkpoint.parts[name].source, kind, device, name)
    return made.model.eval().requires_grad_(False)


def _fill_tiny(file: TinyFile, dtype: torch.dtype, device: torch.device) -> VAE:
    _fill(file.network, file.tensors, file.path, dtype, device, "vae")
    return file.network.eval().requires_grad_(False)


def _part_dtype(
    part: str, config: Config, tensors: dict[str, Tensor], dtype: torch.dtype, device: torch.device
) -> torch.dtype:
    """The dtype of one network, usually the one asked for.

    A VAE that would overflow in float16 is in float32. A text encoder is on a CPU in float32 rather than less, if that
    is what its file holds: it runs once an image, so its speed does not matter, and mapped from the file it takes no
    memory of its own. (In bfloat16, Stable Diffusion 1's would be a copy of 246 MB.)
    """
    if part == "vae":
        return torch.float32 if dtype == torch.float16 and not config.vae.float16 else dtype
    if part == "unet":
        return dtype
    full = {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    return torch.float32 if full and device.type == "cpu" and dtype.itemsize < 4 else dtype


def _fill(
    network: nn.Module,
    tensors: dict[str, Tensor],
    source: Path,
    dtype: torch.dtype,
    device: torch.device,
    part: str,
) -> None:
    """Give a network on the meta device its weights, one tensor at a time, so that none is held twice."""
    ready = {}
    for name, tensor in tensors.items():
        ready[name] = _aligned(converted(tensor, device, dtype))
        if ready[name].data_ptr() != tensor.data_ptr():  # read just now; what is only mapped stays unread
            check_finite({name: ready[name]}, source, part)
    network.load_state_dict(ready, assign=True)
    accelerate(network)


def _aligned(tensor: Tensor) -> Tensor:
    """A copy if the numbers do not start at a multiple of their size, as in some old files: kernels require that."""
    return tensor.clone() if tensor.data_ptr() % tensor.itemsize else tensor


def _settle(
    checkpoint: Checkpoint, dtype: torch.dtype | str | None, device: torch.device | str | None
) -> tuple[torch.dtype, torch.device]:
    """The dtype and device to compute in: as asked for, or chosen here and logged (for a small model as debug)."""
    place = read_device(device)
    numbers = sum(parameters(part.tensors) for part in checkpoint.parts.values())
    kind = pick_dtype(numbers, place) if dtype is None else read_dtype(dtype)
    if dtype is None or device is None:
        level = logging.INFO if numbers > SMALL else logging.DEBUG
        log.log(level, "%s: %s parameters in %s on %s", checkpoint.path, f"{numbers:,}", str(kind)[6:], place)
    return kind, place


def read_config(config: Config | str | Path | None) -> Config | None:
    """A config as it is, or out of a file in the form of config.json. Raises `LdmError` if that cannot be read."""
    if config is None or isinstance(config, Config):
        return config
    text = read_text(expanded(config), LARGEST_CONFIG)
    try:
        return Config.from_json(text)
    except LdmError as error:
        raise LdmError(f"{config} is not a model's config: {error}") from error


def _load_lone(
    path: str | Path, part: str, dtype: torch.dtype | str | None, device: torch.device | str | None
) -> nn.Module:
    found = collect_part(find(path), part)
    dtype, device = _settle(found.checkpoint, dtype, device)
    _fill(found.network, found.part.tensors, found.part.source, dtype, device, part)
    return found.network.eval().requires_grad_(False)


@checked
def load_vae(
    path: str | Path, dtype: torch.dtype | str | None = None, device: torch.device | str | None = None
) -> VAE:
    """The VAE of a file or folder, which may hold a whole model, or a tiny VAE; to use it: `load(..., vae=...)`."""
    place = find(path)
    if is_tiny(place):
        kind = torch.float32 if dtype is None else read_dtype(dtype)
        return _fill_tiny(open_tiny(place), kind, read_device(device))
    vae = _load_lone(path, "vae", dtype, device)
    assert isinstance(vae, VAE)
    return vae


@checked
def load_text(
    path: str | Path, dtype: torch.dtype | str | None = None, device: torch.device | str | None = None
) -> TextEncoder:
    """The text encoder of a file or folder, which may hold a whole model."""
    text = _load_lone(path, "text", dtype, device)
    assert isinstance(text, TextEncoder)
    return text


@checked
def load_control(path: str | Path, model: LatentDiffusion) -> ControlNet:
    """The ControlNet of a file, or of a folder of diffusers, for a model; in the dtype of its U-Net, and on its device.

    canny = load_control("control_v11p_sd15_canny.pth", model)
    model.generate("a bird", control=Control(canny, bird, prepare="canny"))  # bird: an image

    Raises `LdmError` for what is no ControlNet, and for one that was made for another base.
    """
    found = read_control(path, model)
    tensors = dict(found.tensors)
    if found.file.is_difference:
        own = {name: weight.data for name, weight in model.named_parameters()}
        if isinstance(model, LoadedModel):
            own = model.own_parameters()
        for name, change in tensors.items():
            if (base := own.get(f"unet.{name}")) is not None and base.shape == change.shape:
                tensors[name] = change.float() + base.to("cpu", torch.float32)
    _fill(found.network, tensors, found.file.part.source, model.dtype, model.device, "ControlNet")
    return found.network.eval().requires_grad_(False)


@checked
def load_clip(
    model: str | Path = "tiny",
    dtype: torch.dtype | str = torch.float32,
    device: torch.device | str | None = None,
) -> tuple[CLIP, Tokenizer]:
    """Both encoders of the model's CLIP, with their tokenizer: for similarity and zero-shot classification."""
    clip, tokenizer = read_clip(find(model), read_dtype(dtype))
    return clip.to(read_device(device)).requires_grad_(False), tokenizer
