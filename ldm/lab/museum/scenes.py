r"""Generate the image of a setting in this process, and record what every layer put out.

`python -m ldm.lab.museum.scenes` reads a job in JSON from its standard input and writes the result to a file. It is
started afresh for every image, because a mistake has to be made before the patched module is imported. So this module
imports nothing of the package at its top that could have a mistake.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ldm.errors import LdmError
from ldm.lab.museum.mistake import CONTROL, Mistake, Setting, Show

if TYPE_CHECKING:
    from ldm.pipeline import LatentDiffusion

DRAWING = 3  # the number of the drawing that image to image starts from, and that the VAE encodes
SEED = 42


def main() -> None:
    from ldm.lab.museum.patched_import import make

    job = json.load(sys.stdin)
    mistake = Mistake(**job["mistake"]) if job["mistake"] else None
    if mistake and not mistake.standin:
        make(mistake)
    arrays = run(Setting(**job["setting"]), Path(job["file"]), Path(job["model"]), mistake)
    with open(job["out"], "wb") as file:
        np.savez(file, **arrays)


def run(setting: Setting, file: Path, model: Path, mistake: Mistake | None) -> dict[str, Any]:
    """The image, or what was said instead of making one; and the layers' numbers, in their order.

    Any exception is a result here: most mistakes are about what is refused, or should be.
    """
    import torch

    from ldm.lab.museum.layers import recorded

    torch.set_num_threads(1)  # sums are then split alike in every run
    try:
        if setting.show == "similarity":
            return {"said": similarity(setting, file)}
        ready = open_model(setting, file, model, mistake)
        with torch.no_grad(), recorded(ready) as seen:
            result = SHOWS[setting.show](ready, setting, options_of(setting, model))
    except Exception as error:
        said = str(error).replace(f"{file.parent}/", "") if isinstance(error, LdmError) else str(error)
        kind = "" if isinstance(error, LdmError) else f"{type(error).__name__}: "
        return {"said": kind + said.replace(str(file), file.name)}
    if isinstance(result, str):
        return {"said": result}
    return {
        "image": np.asarray(result.convert("RGB")),
        "places": np.array(list(seen)),
        **{f"place {i}": numbers for i, numbers in enumerate(seen.values())},
    }


def open_model(setting: Setting, file: Path, model: Path, mistake: Mistake | None) -> "LatentDiffusion":
    """The model, as the file has it; with the mistake's stand-in if it has one. Its modules are the plain ones."""
    import tempfile

    from ldm.backend.accelerate import FASTER
    from ldm.checkpoints.write import export
    from ldm.loading import load

    with tempfile.TemporaryDirectory() as folder:
        if setting.convert:
            export(file, Path(folder) / "converted", setting.convert)
            file = Path(folder) / "converted"
        loading = {"dtype": "float32", "device": "cpu", **setting.loading}
        if setting.file == "with_tiny_vae":
            loading["vae"] = file / "taesd_decoder.safetensors"
        opened = load(file, **loading)
        ready: LatentDiffusion = opened
        slower = {faster: kind for kind, faster in FASTER.items()}
        for part in ready.modules():  # a mistake is made in a plain module
            part.__class__ = slower.get(type(part), type(part))
        if setting.file == "with_word":
            opened.load_embedding("learned")
        if mistake and mistake.standin:
            ready = with_standin(ready, mistake.standin)
    if setting.clean:
        ready.tokenizer.clean = setting.clean
    return ready


def with_standin(model: "LatentDiffusion", name: str) -> "LatentDiffusion":
    """The same weights under the changed config of a stand-in."""
    from ldm.lab.museum.standins import STANDINS
    from ldm.pipeline import LatentDiffusion
    from ldm.text.tokenizer import Tokenizer

    config, known = STANDINS[name](model.config), model.tokenizer
    tokenizer = Tokenizer(known.merges, known.context_length, config.text.pad, known.clean)
    changed = LatentDiffusion(config, tokenizer).eval().requires_grad_(False)
    wanted = changed.state_dict()
    changed.load_state_dict({key: value for key, value in model.state_dict().items() if key in wanted})
    return changed


def options_of(setting: Setting, model: Path) -> dict[str, Any]:
    """The model's own defaults, which files in other layouts have no place for, and the setting's options."""
    from ldm.checkpoints.folder import read_config

    defaults = read_config(model).defaults
    return {
        "seed": SEED,
        "sampler": defaults.sampler,
        "steps": defaults.steps,
        "guidance": defaults.guidance,
        "size": (defaults.size, defaults.size),
        **setting.options,
    }


def drawing(size: tuple[int, int], number: int = DRAWING) -> Image.Image:
    from ldm.postcards import postcard

    return postcard(number, size=size[0], split="held_out").image.resize(size)


def generated(model: "LatentDiffusion", setting: Setting, options: dict[str, Any]) -> Image.Image:
    """Text to image, or image to image; with ControlNets, if there are any."""
    init = drawing(options["size"]) if setting.init else None
    control = controls(model, setting, options["size"]) if setting.control else ()
    image: Image.Image = model.generate(setting.prompt, init=init, control=control, **options)[0]
    return image


def controls(model: "LatentDiffusion", setting: Setting, size: tuple[int, int]) -> list[Any]:
    """The ControlNet beside the model with a drawing, once for each entry of the setting."""
    from ldm.adapters.control import Control
    from ldm.checkpoints.loaded import LoadedModel
    from ldm.loading import load_control

    assert isinstance(model, LoadedModel) and model.path is not None
    network = load_control(model.path / CONTROL, model)
    made = [dict(options) for options in setting.control]
    return [Control(network, drawing(size, each.pop("drawing", DRAWING)), **each) for each in made]


def round_trip(model: "LatentDiffusion", setting: Setting, options: dict[str, Any]) -> Image.Image:
    """A drawing, encoded and decoded by the VAE."""
    from ldm.images.pixels import to_pixels

    return model.decode(model.encode_image(to_pixels([drawing(options["size"])])))[0]


def inpainting_input(model: "LatentDiffusion", setting: Setting, options: dict[str, Any]) -> Image.Image:
    """What an inpainting U-Net reads beside the latent: the mask and the masked image's channels, also decoded."""
    import math

    from PIL import ImageDraw

    from ldm.inpaint import prepare_init

    size = options["size"]
    mask = Image.new("L", size)
    third = size[0] // 3 + 5  # not a multiple of the VAE's factor, as no mask that somebody draws is
    ImageDraw.Draw(mask).ellipse((third, third, 2 * third, 2 * third), fill=255)
    init = prepare_init(drawing(size), mask, size, model.encode_image, model.vae.factor, True)
    assert init is not None and init.channels is not None
    channels = init.channels[0]
    tiles = [np.clip(128 + 48 * channel.numpy(), 0, 255) for channel in channels]
    side, columns = size[0] // 2, math.ceil(math.sqrt(len(tiles) + 1))
    sheet = Image.new("RGB", (columns * side, math.ceil((len(tiles) + 1) / columns) * side))
    cells = [Image.fromarray(tile.astype(np.uint8)) for tile in tiles]
    cells = [cell.resize((side, side), Image.Resampling.NEAREST) for cell in cells]
    decoded = model.decode(init.channels[:, -model.config.vae.latent_channels :])[0]
    for i, cell in enumerate([*cells, decoded.resize((side, side))]):
        sheet.paste(cell, (i % columns * side, i // columns * side))
    return sheet


def similarity(setting: Setting, file: Path) -> str:
    """How well CLIP finds that the drawing fits the prompt."""
    import torch

    from ldm.checkpoints.folder import read_clip
    from ldm.images.pixels import to_pixels
    from ldm.text.image import preprocess_pixels

    clip, tokenizer = read_clip(file)
    pixels = preprocess_pixels(to_pixels([drawing((128, 128))]), clip.image_size)
    with torch.no_grad():
        return f"similarity {clip.similarity(pixels, tokenizer(setting.prompts)).item():.3f}"


def tokens(model: "LatentDiffusion", setting: Setting, options: dict[str, Any]) -> str:
    """The tokens that CLIP's text encoder reads of the prompt, which is cut to fit."""
    known = {id_: token for token, id_ in model.tokenizer.vocab.items()}
    return " ".join(known[id_].removesuffix("</w>") for id_ in model.tokenizer(setting.prompts)[0].tolist())


SHOWS: dict[Show, Callable[["LatentDiffusion", Setting, dict[str, Any]], Image.Image | str]] = {
    "image": generated,
    "round trip": round_trip,
    "inpainting input": inpainting_input,
    "tokens": tokens,
}

if __name__ == "__main__":
    main()
