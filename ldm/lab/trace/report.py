r"""A recording, written down: what `ldm generate --trace DIR` leaves in the folder.

    film.png        the strip: moments from noise to picture, x_t and the guess of x0
    film.gif        the same, moving
    attention.png   where each word was read, over the finished picture
    latent.png      the latent's channels, from noise to the finished ones
    steps.csv       a line a step: t, alpha_bar, signal-to-noise ratio, size and angle of the guidance vector

For a batch, each picture has a folder of its own inside, 0, 1, 2, ...
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ldm.errors import LdmError
from ldm.files.read_write import atomic_path
from ldm.lab.trace.film import decode_frames, film_scenes, film_strip
from ldm.lab.trace.heat import attention_sheet
from ldm.lab.trace.latents import latent_sheet
from ldm.lab.trace.recorder import Recording

COLUMNS = ("step", "t", "alpha_bar", "snr", "guidance_size", "guidance_angle")


def steps_csv(recording: Recording, picture: int = 0) -> str:
    """The numbers of each step as comma-separated values, with a head line; no guidance, no number there."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for i, m in enumerate(recording.moments):
        size = "" if m.guidance_size is None else f"{m.guidance_size[picture]:.6g}"
        angle = "" if m.guidance_angle is None else f"{m.guidance_angle[picture]:.6g}"
        writer.writerow((i, f"{m.t:g}", f"{m.alpha_bar:.6g}", f"{m.snr:.6g}", size, angle))
    return file.getvalue()


def write_report(recording: Recording, images: Sequence[Image.Image], folder: Path | str) -> list[Path]:
    """Write the five files of each picture, each whole or not at all, and return their paths.

    `images` are what `generate` returned. Everything of a picture is drawn before any of it is written. Raises
    `LdmError` for an empty recording, or one of another number of pictures.
    """
    if not recording.moments:
        raise LdmError("the recording is empty; give `generate` its `progress=recording.watch()`")
    pictures = len(recording.moments[0].x_t)
    if len(images) != pictures:
        raise LdmError(f"{len(images)} images and a recording of {pictures}; expected those of one painting")
    folder = Path(folder)
    written = []
    for i, image in enumerate(images):
        written += _write_one(recording, i, image, folder if pictures == 1 else folder / str(i))
    return written


def _write_one(recording: Recording, picture: int, image: Image.Image, folder: Path) -> list[Path]:
    frames = decode_frames(recording, picture)
    sheets = {
        "film.png": film_strip(recording.prompt, frames, image),
        "attention.png": attention_sheet(recording, picture, image),
        "latent.png": latent_sheet(recording, picture, image),
    }
    # Dithered, the noise would take twice the bytes.
    scenes = [scene.quantize(dither=Image.Dither.NONE) for scene in film_scenes(frames, image)]
    numbers = steps_csv(recording, picture)
    for name, sheet in sheets.items():
        with atomic_path(folder / name) as path:
            sheet.save(path, format="PNG")
    with atomic_path(folder / "film.gif") as path:
        times = [100] * (len(scenes) - 1) + [2500]  # milliseconds; the finished picture stays a while
        scenes[0].save(path, "GIF", save_all=True, append_images=scenes[1:], duration=times, loop=0)
    with atomic_path(folder / "steps.csv") as path:
        path.write_text(numbers, encoding="utf-8")
    return [folder / name for name in (*sheets, "film.gif", "steps.csv")]
