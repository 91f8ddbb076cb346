r"""A recording as files: what `ldm generate --trace DIR` leaves in the folder.

    film.png        the film strip: x_t and the prediction of x0, from noise to image
    film.gif        the same, animated
    attention.png   the cross-attention to each word, over the finished image
    latent.png      the latent's channels, from noise to the finished ones
    steps.csv       a line per step: t, alpha_bar, signal-to-noise ratio, size and angle of the guidance vector

For a batch, each image has a subfolder: 0, 1, 2, ...
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ldm.errors import LdmError
from ldm.files.read_write import atomic_path
from ldm.lab.trace.film import decode_frames, film_strip, gif_frames
from ldm.lab.trace.heat import attention_sheet
from ldm.lab.trace.latents import latent_sheet
from ldm.lab.trace.recorder import Recording

COLUMNS = ("step", "t", "alpha_bar", "snr", "guidance_size", "guidance_angle")


def steps_csv(recording: Recording, index: int = 0) -> str:
    """The numbers of each step as comma-separated values with a header; without guidance, its columns are empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for i, step in enumerate(recording.steps):
        guidance = (step.guidance_size, step.guidance_angle)
        numbers = (
            step.alpha_bar,
            step.snr,
            *(None if values is None else values[index] for values in guidance),
        )
        writer.writerow((i, f"{step.t:g}", *("" if x is None else f"{x:.6g}" for x in numbers)))
    return file.getvalue()


def write_report(recording: Recording, images: Sequence[Image.Image], folder: Path | str) -> list[Path]:
    """Write the five files of each image, each whole or not at all, and return their paths.

    `images` are what `generate` returned. All files of an image are drawn before any is written. Raises `LdmError` if
    the recording is empty or has another number of images.
    """
    if not recording.steps:
        raise LdmError("the recording is empty; give `generate` its `progress=recording.watch()`")
    recorded = len(recording.steps[0].x_t)
    if len(images) != recorded:
        raise LdmError(f"{len(images)} images and a recording of {recorded}; expected those of one call")
    folder = Path(folder)
    written = []
    for i, image in enumerate(images):
        written += _write_one(recording, i, image, folder if recorded == 1 else folder / str(i))
    return written


def _write_one(recording: Recording, index: int, image: Image.Image, folder: Path) -> list[Path]:
    frames = decode_frames(recording, index)
    sheets = {
        "film.png": film_strip(recording.prompt, frames, image),
        "attention.png": attention_sheet(recording, index, image),
        "latent.png": latent_sheet(recording, index, image),
    }
    # With dithering, the noise would take twice as many bytes.
    animation = [frame.quantize(dither=Image.Dither.NONE) for frame in gif_frames(frames, image)]
    numbers = steps_csv(recording, index)
    for name, sheet in sheets.items():
        with atomic_path(folder / name) as path:
            sheet.save(path, format="PNG")
    with atomic_path(folder / "film.gif") as path:
        times = [100] * (len(animation) - 1) + [2500]  # milliseconds; the finished image stays longer
        animation[0].save(path, "GIF", save_all=True, append_images=animation[1:], duration=times, loop=0)
    with atomic_path(folder / "steps.csv") as path:
        path.write_text(numbers, encoding="utf-8")
    return [folder / name for name in (*sheets, "film.gif", "steps.csv")]
