r"""A tiny VAE's file (TAESD, `ldm.vae.tiny`), in the two forms in which they are published:

    ours                    diffusers (both halves)        the original files (a half each)
    encoder.conv_in         encoder.layers.0               0      in taesd_encoder.safetensors or .pth
    encoder.res.0.0.conv_1  encoder.layers.1.conv.0        1.conv.0
    decoder.conv_in         decoder.layers.0               1      in taesd_decoder.safetensors or .pth
    decoder.res.0.0.conv_1  decoder.layers.2.conv.0        3.conv.0

Both count the layers as they run. In the original decoder the first is the function that bends the latent, which has no
weights and which diffusers does not count: hence the difference of one. Some programs put `taesd_encoder.` and
`taesd_decoder.` before the original names.

The sizes are those of one architecture, but for the latent's channels: 4 for Stable Diffusion 1, 2 and XL. The files of
XL have the same shapes as the others, so only their names tell.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ldm.checkpoints.diffusers_folder import read_part
from ldm.checkpoints.foreign import TINY, foreign
from ldm.checkpoints.formats import read_file
from ldm.checkpoints.locating import locate
from ldm.checkpoints.names import Layout, Row, match
from ldm.errors import LdmError, some
from ldm.files.paths import expanded
from ldm.files.read_write import read_table
from ldm.vae.tiny import DECODER_BLOCKS, ENCODER_BLOCKS, TinyVAE

HALVES = ("encoder", "decoder")


@dataclass(frozen=True)
class TinyFile:
    """A tiny VAE on the meta device, and its tensors under our names, mapped and not yet read."""

    path: Path
    network: TinyVAE
    tensors: dict[str, Tensor]

    @property
    def latent_channels(self) -> int:
        return self.network.decoder.conv_in.in_channels


def is_tiny(path: Path) -> bool:
    """Whether a file or folder is a tiny VAE, or half of one. Raises `LdmError` if it cannot be opened."""
    place = locate(expanded(path))
    if place is None or (place.is_dir() and not (place / "config.json").is_file()):
        return False
    if place.is_dir():
        return read_table(place / "config.json").get("_class_name") == "AutoencoderTiny"
    return foreign(_tensors(place)) == TINY


def tiny_files(path: Path) -> tuple[Path, ...]:
    """A file, and beside it the other half of the same tiny VAE, if one is there by its name."""
    for half, other in (HALVES, HALVES[::-1]):
        beside = path.with_name(path.name.replace(half, other))
        if half in path.name and beside.is_file():
            return path, beside
    return (path,)


def open_tiny(path: Path) -> TinyFile:
    """Open a file (with its other half beside it) or a folder of diffusers.

    Raises `LdmError` for what is none, has no decoder, or lacks tensors.
    """
    place = locate(expanded(path))
    if place is None:
        raise LdmError(f"there is no tiny VAE {path}; give its file, or a folder of diffusers")
    tensors = {name: tensor for file in tiny_files(place) for name, tensor in _tensors(file).items()}
    if foreign(tensors) != TINY:
        raise LdmError(f"{place} is no tiny VAE (TAESD), by the names of its tensors; give one")
    layout: Layout = "diffusers" if any(".layers." in name for name in tensors) else "compvis"
    first = tensors.get("decoder.layers.0.weight" if layout == "diffusers" else "decoder.1.weight")
    if first is None or first.ndim != 4:
        raise LdmError(
            f"{place} has no decoder; give the decoder's file, and let the encoder's lie beside it"
        )
    encodes = any(name.startswith("encoder.") for name in tensors)
    with torch.device("meta"):
        network = TinyVAE(first.shape[1], encodes)
    rows = [row for row in tiny_rows() if encodes or row.ours.startswith("decoder.")]
    found = match(tensors, rows, layout)
    misshapen = [
        f"{name} {list(found.tensors[name].shape)} instead of {list(parameter.shape)}"
        for name, parameter in network.named_parameters()
        if name in found.tensors and found.tensors[name].shape != parameter.shape
    ]
    wrong = {"missing": found.missing, "misshapen": misshapen, "of another kind": found.left_over}
    if said := [f"{len(names)} {what}: {some(names)}" for what, names in wrong.items() if names]:
        raise LdmError(f"{place} is no whole tiny VAE; {'; '.join(said)}")
    return TinyFile(place, network, found.tensors)


def _tensors(place: Path) -> Mapping[str, Tensor]:
    """The tensors of a file or folder; those of a lone half with its name before theirs."""
    tensors = read_part(place, "vae", None).tensors if place.is_dir() else read_file(place)
    alone = "encoder." if "0.weight" in tensors else "decoder."  # whose first layer has no weights
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = (alone if name[:1].isdigit() else "") + name.removeprefix("taesd_")
        if full in named:
            raise LdmError(f"{place} has the tensor {full} twice, once as {name}; remove one")
        named[full] = tensor
    return named


def tiny_rows() -> list[Row]:
    """`TinyVAE`, diffusers' `AutoencoderTiny`, and the original's."""
    encoder = _half("encoder", "down", ENCODER_BLOCKS, before=0, offset=0)
    # A ReLU follows the decoder's first convolution, and an upsampling comes before each of the others.
    decoder = _half("decoder", "up", DECODER_BLOCKS, before=1, offset=1)
    return [*encoder, *decoder]


def _half(half: str, way: str, counts: tuple[int, ...], before: int, offset: int) -> Iterator[Row]:
    """`before`: how many layers without weights come before each resolution. `offset`: of the original's numbers."""
    number = 0

    def layer(ours: str, inner: str = "", bias: bool = True) -> Iterator[Row]:
        for kind in ("weight", "bias") if bias else ("weight",):
            theirs, original = f"{half}.layers.{number}{inner}", f"{half}.{number + offset}{inner}"
            yield Row(f"{half}.{ours}.{kind}", f"{theirs}.{kind}", f"{original}.{kind}")

    yield from layer("conv_in")
    for i, count in enumerate(counts):
        number += before
        if i > 0:
            number += 1
            yield from layer(f"{way}.{i - 1}", bias=False)
        for j in range(count):
            number += 1
            for k in range(3):
                yield from layer(f"res.{i}.{j}.conv_{k + 1}", f".conv.{2 * k}")
    number += 1
    yield from layer("conv_out")


def about_tiny(path: Path) -> Iterator[tuple[str, str]]:
    """What `ldm inspect` says about a tiny VAE, each fact with a heading; what is wrong with it, too."""
    try:
        file = open_tiny(path)
    except LdmError as error:
        yield "not used", str(error)
        return
    latents = "Stable Diffusion XL" if "xl" in path.name.lower() else "Stable Diffusion 1 and 2, or XL"
    made_for = {4: latents, 16: "Stable Diffusion 3 or Flux, which are not known here"}
    channels = file.latent_channels
    yield "made for", f"latents of {channels} channels: {made_for.get(channels, 'of another model')}"
    yield "holds", "encoder and decoder" if file.network.encoder is not None else "the decoder alone"
