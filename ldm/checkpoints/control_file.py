r"""A ControlNet's file: its tensors under our names, checked against the model that it will steer.

A ControlNet is the first half of the model's own U-Net, so its names and sizes follow from the model's config:

    ours            in the original files             in diffusers
    hint.*          input_hint_block.{0, 2, ..., 14}  controlnet_cond_embedding.*
    zero.{i}        zero_convs.{i}.0                  controlnet_down_blocks.{i}
    zero_mid        middle_block_out.0                controlnet_mid_block
    all others      as in the U-Net                   as in the U-Net

Original files put `control_model.` before the names; some hold the whole model that it was trained with as well. Files
marked `difference` hold what training changed: the U-Net's own weights have to be added first.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ldm.adapters.controlnet import ControlNet, skip_widths
from ldm.adapters.hints import expected_image
from ldm.checkpoints.checkpoint import Part, layout_of
from ldm.checkpoints.detect import NAMES
from ldm.checkpoints.diffusers_folder import read_part
from ldm.checkpoints.foreign import foreign
from ldm.checkpoints.formats import read_file
from ldm.checkpoints.key_map import unet_rows
from ldm.checkpoints.locating import locate
from ldm.checkpoints.lora_fit import BASES
from ldm.checkpoints.names import Row, match
from ldm.checkpoints.validate import on_meta
from ldm.config import UNetConfig
from ldm.errors import LdmError, shown, some
from ldm.files.paths import expanded
from ldm.files.read_write import read_table
from ldm.notes import log
from ldm.pipeline import LatentDiffusion

PREFIX = "control_model."
DIFFERENCE = "difference"
COPIED = ("time_embedding.", "added_embedding.", "conv_in.", "down.", "mid.")  # of the U-Net
HINT_IN = {"compvis": "input_hint_block.0.weight", "diffusers": "controlnet_cond_embedding.conv_in.weight"}
# Relatives with other inputs or another structure, by a part of a tensor's name.
RELATIVES = {
    "lora_controlnet": "a Control-LoRA",
    "lllite_": "a ControlNet-LLLite",
    "task_embedding": "a ControlNet Union",
    "control_add_embedding": "a ControlNet Union",
    "ctrl_": "a ControlNet-XS",
}
MOST_HINT_LEVELS = 6


@dataclass(frozen=True)
class ControlFile:
    """An open file, mapped and not yet read."""

    path: Path
    part: Part
    pool: bool = False
    is_difference: bool = False

    @property
    def context_width(self) -> int | None:
        """Of the text that it reads, which tells its base."""
        part = self.part
        return next(
            (s[1] for n, s in part.shapes.items() if n.endswith("attn2.to_k.weight") and len(s) == 2), None
        )

    @property
    def base(self) -> str | None:
        """The key of `BASES` that it was made for; None for another model."""
        return next((b for b, c in BASES.items() if c.unet.context_width == self.context_width), None)


@dataclass(frozen=True)
class FoundControl:
    """A ControlNet on the meta device, and its tensors under our names."""

    file: ControlFile
    network: ControlNet
    tensors: dict[str, Tensor]


def open_control(path: str | Path) -> ControlFile:
    """Open a file, or a folder of diffusers. Raises `LdmError` for what is no ControlNet, naming what it is."""
    place = locate(expanded(path))
    if place is None:
        raise LdmError(f"there is no ControlNet {expanded(path)}; give its file, or a folder of diffusers")
    settings: dict[str, Any] = {}
    if place.is_dir():
        settings = read_table(place / "config.json") if (place / "config.json").is_file() else {}
        kind = settings.get("_class_name")
        if kind != "ControlNetModel":
            named = "no network" if kind is None else shown(str(kind))
            raise LdmError(
                f"{place} is no ControlNet (its config.json names {named}); expected a ControlNet's file or folder"
            )
        read = read_part(place, "unet", None)
        source, tensors = read.source, dict(read.tensors)
    else:
        source, tensors = place, read_file(place)
        beside = place.parent / "config.json"
        if place.name.startswith("diffusion_pytorch_model") and beside.is_file():
            settings = read_table(beside)
    if any(name.startswith(PREFIX) for name in tensors):
        prefix = PREFIX
        tensors = {
            n.removeprefix(PREFIX): t for n, t in tensors.items() if n.startswith(PREFIX) or n == DIFFERENCE
        }
    else:
        prefix = ""
    _refuse(place, tensors)
    is_difference = tensors.pop(DIFFERENCE, None) is not None
    pool = settings.get("global_pool_conditions", "shuffle" in place.name.lower())
    if settings.get("controlnet_conditioning_channel_order", "rgb") != "rgb":
        raise LdmError(f"{place} reads its image as BGR, which is not supported; take another ControlNet")
    return ControlFile(place, Part(tensors, layout_of(tensors), source, prefix), bool(pool), is_difference)


def _refuse(path: Path, tensors: Mapping[str, Tensor]) -> None:
    for mark, relative in RELATIVES.items():
        if any(mark in name for name in tensors):
            raise LdmError(f"{path} is {relative}: recognised, and not supported; take a full ControlNet")
    if not any(name in tensors for name in HINT_IN.values()):
        what = foreign(tensors) or f"a file of {len(tensors)} tensors, such as {some(list(tensors)[:3])}"
        raise LdmError(f"{path} is no ControlNet, but {what}; give one")


def about_control(path: Path) -> Iterator[tuple[str, str]]:
    """What `ldm inspect` says about a ControlNet, each fact with a heading."""
    try:
        file = open_control(path)
    except LdmError as error:
        yield "not used", str(error)
        return
    yield "made for", NAMES[file.base] if file.base else "a model that is not known here"
    expected = expected_image(path.name)
    yield "its image", expected or "of a kind that its name does not tell"
    if file.pool:
        yield "outputs", "averaged over the image: it steers colours and textures, not places"
    if file.is_difference:
        yield "weights", "the difference from the U-Net's, which are added when it is loaded"


def control_rows(config: UNetConfig, hint_levels: int = 4, linear_projection: bool = False) -> list[Row]:
    """`ControlNet`, diffusers' `ControlNetModel` of the same name, and the original's `ControlNet`."""
    copied = [r for r in unet_rows(config, linear_projection) if r.ours.startswith(COPIED)]
    return [*copied, *_own_rows(len(skip_widths(config)), hint_levels)]


def _own_rows(skips: int, hint_levels: int) -> Iterator[Row]:
    """What a ControlNet has besides the U-Net's modules: the encoder of its image, and the convolutions of zeros."""
    convs = ["conv_in", *(f"blocks.{i}" for i in range(2 * (hint_levels - 1))), "conv_out"]
    names = [
        *(
            (f"hint.{c}", f"controlnet_cond_embedding.{c}", f"input_hint_block.{2 * i}")
            for i, c in enumerate(convs)
        ),
        *((f"zero.{i}", f"controlnet_down_blocks.{i}", f"zero_convs.{i}.0") for i in range(skips)),
        ("zero_mid", "controlnet_mid_block", "middle_block_out.0"),
    ]
    for ours, diffusers, original in names:
        for kind in ("weight", "bias"):
            yield Row(f"{ours}.{kind}", f"{diffusers}.{kind}", f"{original}.{kind}")


def hint_channels(file: ControlFile) -> tuple[int, ...]:
    """The channels of the hint's encoder, by the shapes of its convolutions. Raises `LdmError` if one is missing."""
    shapes, layout = file.part.shapes, file.part.layout
    first = shapes[HINT_IN[layout]] if HINT_IN.get(layout) in shapes else ()
    widths = [first[0]] if first else []
    for i in range(MOST_HINT_LEVELS):  # each second convolution halves the resolution, and has more channels
        theirs = f"controlnet_cond_embedding.blocks.{2 * i + 1}.weight"
        original = f"input_hint_block.{4 * i + 4}.weight"
        shape = shapes.get(theirs if layout == "diffusers" else original)
        if not shape:
            break
        widths.append(shape[0])
    if not all(0 < width <= 2**16 for width in widths) or len(widths) < 2:
        raise LdmError(f"{file.path}: the encoder of its image is incomplete; fetch the file again")
    return tuple(widths)


def read_control(path: str | Path, model: LatentDiffusion) -> FoundControl:
    """Open a ControlNet and match it with a model. Raises `LdmError` if it was made for another base, or is damaged."""
    file = open_control(path)
    config = replace(
        model.config.unet, in_channels=model.config.vae.latent_channels, guidance_width=None
    )  # it is not told the guidance scale, whatever the model is
    if file.context_width not in (None, config.context_width):
        theirs = NAMES[file.base] if file.base else f"a model whose text is {file.context_width} wide"
        own = next(
            (NAMES[b] for b, c in BASES.items() if c.unet.context_width == config.context_width), "this model"
        )
        raise LdmError(f"{file.path} is a ControlNet for {theirs}; expected one for {own}")
    channels = hint_channels(file)
    network = on_meta("ControlNet", lambda: ControlNet(config, channels, file.pool))
    found = match(file.part.tensors, control_rows(config, len(channels)), file.part.layout)
    _check(file, found.missing, found.left_over, _misshapen(network, found.tensors))
    if 2 ** (len(channels) - 1) != model.vae.factor:
        raise LdmError(
            f"{file.path} reads images {2 ** (len(channels) - 1)} times as large as the latent; expected "
            f"{model.vae.factor} times: a ControlNet for this model"
        )
    if file.pool:
        log.info("%s: its outputs are averaged over the image, as its name or its config says", file.path)
    return FoundControl(file, network, found.tensors)


def _misshapen(network: ControlNet, tensors: Mapping[str, Tensor]) -> list[str]:
    shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
    return [
        f"{name} {list(tensor.shape)} instead of {list(shapes[name])}"
        for name, tensor in tensors.items()
        if tensor.shape != shapes[name] or not tensor.is_floating_point()
    ]


def _check(
    file: ControlFile, missing: Iterable[str], left_over: Iterable[str], misshapen: Iterable[str]
) -> None:
    """Raise an `LdmError` unless every tensor is there, in its shape, and no other."""
    troubles = {"missing": list(missing), "not of this model": list(left_over), "misshapen": list(misshapen)}
    wrong = [f"{len(names)} {what}: {some(names)}" for what, names in troubles.items() if names]
    if wrong:
        raise LdmError(
            f"{file.path} is no whole ControlNet for this model; {'; '.join(wrong)} (smaller copies of Stable "
            "Diffusion XL's are not supported)"
        )
