r"""What is in this file? Which model, or what else that is often taken for one.

The shapes of a few tensors tell the families of Stable Diffusion apart: how many channels the U-Net takes, whether the
projections around its transformers are convolutions (version 1) or linear (version 2), and whether it has a place for a
pooled text (XL; its refiner comes with one text encoder instead of two). A latent consistency model has one tensor
more, which reads the guidance scale.
They cannot tell what the U-Net predicts: versions 2 base and 2 for 768 pixels have the same shapes.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ldm.checkpoints.checkpoint import Checkpoint
from ldm.errors import LdmError
from ldm.notes import log

Shapes = Mapping[str, tuple[int, ...]]

NAMES = {
    "sd1": "Stable Diffusion 1",
    "sd1-inpaint": "Stable Diffusion 1, inpainting",
    "sd1-pix2pix": "InstructPix2Pix",
    "sd1-lcm": "a latent consistency model of Stable Diffusion 1",
    "sd2": "Stable Diffusion 2",
    "sd2-base": "Stable Diffusion 2 base (predicts eps)",
    "sd2-v": "Stable Diffusion 2 for 768 pixels (predicts v)",
    "sd2-inpaint": "Stable Diffusion 2, inpainting",
    "sd2-depth": "Stable Diffusion 2, depth to image",
    "sdxl": "Stable Diffusion XL",
    "sdxl-inpaint": "Stable Diffusion XL, inpainting",
    "sdxl-pix2pix": "InstructPix2Pix of Stable Diffusion XL",
    "sdxl-lcm": "a latent consistency model of Stable Diffusion XL",
    "sdxl-refiner": "Stable Diffusion XL, refiner",
    "tiny": "the tiny model",  # never in others' files; but LoRAs and ControlNets may be made for it
}
SUPPORTED = (
    *("sd1", "sd1-inpaint", "sd1-lcm", "sd2", "sd2-base", "sd2-v", "sd2-inpaint"),
    *("sdxl", "sdxl-inpaint", "sdxl-lcm", "sdxl-refiner"),
)

LARGEST = 2**20  # no dimension of Stable Diffusion's tensors comes near


def dimension(shapes: Shapes, name: str, axis: int) -> int:
    """One number of a tensor's shape. Raises `LdmError` if there is no such tensor, or it has another form."""
    if name not in shapes:
        raise LdmError(f"there is no tensor {name}, which tells its size; is it another kind of model?")
    shape = shapes[name]
    if axis >= len(shape) or not 0 < shape[axis] <= LARGEST:
        raise LdmError(f"{name} has the shape {list(shape)}; expected a model's")
    return shape[axis]


def family(checkpoint: Checkpoint) -> str | None:
    """A key of `NAMES`, or None if there is no U-Net. "sd2": either base or for 768 pixels.

    Raises `LdmError` for a U-Net that is none of Stable Diffusion's.
    """
    if "unet" not in checkpoint.parts:
        return None
    part = checkpoint.parts["unet"]
    shapes = part.shapes
    entry = "input_blocks.0.0.weight" if part.layout == "compvis" else "conv_in.weight"
    channels = dimension(shapes, entry, 1)
    # Beside the latent, which has 4 channels in Stable Diffusion and 16 in the tiny model, some read more.
    plain = {_latent_channels(checkpoint): ""}
    more = {4: "", 9: "-inpaint", 8: "-pix2pix", 5: "-depth"}
    variant = (more | plain).get(channels, f" with {channels} channels")
    if "time_embedding.cond_proj.weight" in shapes:
        variant += "-lcm"
    if any(name.startswith(("label_emb.", "add_embedding.")) for name in shapes):
        encoders = {"text", "text_2"} & checkpoint.parts.keys()
        found = "sdxl-refiner" if len(encoders) == 1 and channels == 4 else "sdxl" + variant
        return _checked(found, channels, part.source)
    rank = next((len(shape) for name, shape in shapes.items() if name.endswith(".proj_in.weight")), None)
    if rank not in (2, 4):
        raise LdmError(f"{part.source}: the U-Net has no spatial transformer; is it another kind of model?")
    return _checked(("sd1" if rank == 4 else "sd2") + variant, channels, part.source)


def _latent_channels(checkpoint: Checkpoint) -> int | None:
    """How many channels the latents of the VAE have that comes with the U-Net, or None if none does."""
    vae = checkpoint.parts.get("vae")
    shape = vae.shapes.get("decoder.conv_in.weight", ()) if vae else ()
    return shape[1] if len(shape) > 1 else None


def _checked(found: str, channels: int, source: Path) -> str:
    if found not in NAMES:
        expected = "4, or 9 to inpaint"
        if found.endswith("-lcm"):
            expected = (
                "4 of version 1 or XL, since it also reads a guidance scale (a latent consistency model)"
            )
        raise LdmError(f"{source}: the U-Net takes {channels} channels; expected {expected}")
    return found


# The libraries' classes that Stable Diffusion is made of, by the part of a diffusers folder; "" is the pipeline.
CLASSES = {
    "": r"StableDiffusion(XL)?(Inpaint|Img2Img)?Pipeline(Legacy|Safe)?|LatentConsistencyModel(Img2Img)?Pipeline",
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "text_encoder": r"CLIPTextModel(WithProjection)?|CLIPModel",
    "text_encoder_2": "CLIPTextModelWithProjection",
    "tokenizer": r"CLIPTokenizer(Fast)?",
    "tokenizer_2": r"CLIPTokenizer(Fast)?",
    # All that use the same noise schedule; which sampler to take is up to `sampler=`.
    "scheduler": r"(DDIM|DDPM|PNDM|LMS|Heun|Euler|KDPM2|DPMSolver|DEIS|UniPC|SASolver|LCM|TCD)\w*Scheduler",
}
# Classes around a whole Stable Diffusion, which opens without what they add.
AROUND = {
    "": r"StableDiffusion(XL)?(ControlNet|Adapter|PAG|SAG|Panorama|DiffEdit|AttendAndExcite)\w*Pipeline",
}
# Whose classes these are, where that says more than the class.
FAMILIES = {
    r"^Flux": "a Flux model",
    r"^(StableDiffusion3|SD3)": "a Stable Diffusion 3 model",
    r"^StableDiffusionXLInstructPix2Pix": "InstructPix2Pix of Stable Diffusion XL",
    r"^StableDiffusionInstructPix2Pix": "InstructPix2Pix",
    r"^(AltDiffusion|Roberta|XLMRoberta)": "AltDiffusion, which has another text encoder",
}


def classes_of(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each part of a diffusers folder with the class that its JSON names; the pipeline, which is "", first."""
    for part in CLASSES:
        table = settings.get(part, {})
        if table.get("_class_name") is not None:
            yield part, str(table["_class_name"])
        if isinstance(table.get("architectures"), list):
            yield from ((part, str(name)) for name in table["architectures"])
    for part in CLASSES:
        pair = settings.get("", {}).get(part)  # ["diffusers", "UNet2DConditionModel"]
        if isinstance(pair, list) and len(pair) == 2 and pair[1] is not None:
            yield part, str(pair[1])


def foreign_class(settings: Mapping[str, Any]) -> str | None:
    """What a folder is, in words, if its JSON names a class that Stable Diffusion is not made of.

    Notes classes around a whole Stable Diffusion, of which only that is opened.
    """
    for part, name in classes_of(settings):
        if re.fullmatch(CLASSES[part], name):
            continue
        if part in AROUND and re.fullmatch(AROUND[part], name):
            where = part or "model_index.json"
            log.warning(f"its {where} names {name[:80]}: the Stable Diffusion in it is opened, without that")
            continue
        known = next((words for pattern, words in FAMILIES.items() if re.search(pattern, name)), None)
        where = f"its {part}'s config" if part else "its model_index.json"
        return f"{known or 'another kind of model'} ({where} names {name[:80]})"
    return None


def foreign_metadata(metadata: Mapping[str, str]) -> str | None:
    """What a file is, as `modelspec.architecture` in its metadata says, if that is not Stable Diffusion."""
    said = metadata.get("modelspec.architecture", "")
    ours = r"stable-diffusion-(v[12]|xl)(?![/\w]*/(lora|textual|control))[-/\w]*"
    if not said or re.fullmatch(ours, said.lower()):
        return None
    return f"{said[:80]!r}, as its metadata says (modelspec.architecture)"
