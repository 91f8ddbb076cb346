r"""The hires fix: an image larger than the model was trained for, with one subject in it and not four.

Noise hides detail first and composition last (`image_to_image.py`). So whatever is decided at the first, noisiest steps
may be decided at the size that the model knows:

    generate at 512 x 512            the composition: one horse, in one place
    enlarge it                       nothing new, only larger, and blurred
    add noise, up to some level      what is blurred disappears in it, the horse does not
    remove it at 1024 x 1024         detail

There are two ways to enlarge:

- *pixels*: decode, resize the image (Lanczos), encode. The result is a latent as the VAE makes them, only of a blurred
  image, and a strength of 0.3 to 0.4 is enough.
- *latent*: interpolate between the latent's positions, which costs nothing. But the mean of two latents is no latent
  of anything, its variance is too low, and decoded at once it looks like mist. Only noise on top, at a strength of 0.5
  and more, lets the model put something real in its place; and the more strength, the more may change.

With pixels, the second pass is image to image (`image_to_image.py`), to the last bit; `strength` means the same here.
Its noise is drawn from the same seeds. With a `window`, the U-Net works on pieces of the image (`windows.py`), which
saves memory; but each piece is drawn to the whole prompt.

All this helps a model that has seen its subjects from near and far, as Stable Diffusion has. The tiny model has not:
its largest dog fills 128 pixels. Enlarged to 256, the dog's face is taken for several small ones, at a strength of 0.4
in part, at 0.6 altogether (`ldm generate "a dog with glasses" --hires 2x --seed 42`).

The name and the recipe are those of AUTOMATIC1111's web interface; there is no paper.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ldm.arguments import checked
from ldm.diffusion.conditioning import count_images
from ldm.diffusion.noise import latent_shape, pick_seeds
from ldm.errors import LdmError
from ldm.image_to_image import last_levels
from ldm.images.pixels import to_pixels
from ldm.pipeline import LatentDiffusion
from ldm.prompts import Prompt
from ldm.vae.tiles import must_tile

Mode = Literal["pixels", "latent"]
STRENGTHS = {"pixels": 0.4, "latent": 0.6}  # by default
# Options of `generate` that the second pass has for itself.
NOT_HERE = ("init", "mask", "keep_pixels", "latents", "start", "stop")


@checked
@torch.no_grad()
def generate_large(
    model: LatentDiffusion,
    prompt: Prompt,
    negative: Prompt = "",
    *,
    scale: float = 2.0,
    mode: Mode = "pixels",
    strength: float | None = None,
    size: tuple[int, int] | None = None,
    window: int | None = None,
    seed: int | Sequence[int] | None = None,
    batch: int | None = None,
    generate: Callable[..., Any] | None = None,
    **options: Any,
) -> Any:
    """Generate images of `size`, enlarge them `scale` times, and add the detail that they then lack.

    `strength` is that of the second pass (default: 0.4 for pixels, 0.6 for latents), and `window` the side of its
    windows, in pixels (default: none). Everything else goes to `LatentDiffusion.generate` (or to the
    function `generate`, with the same arguments), for both passes, which returns what this function does.

    Raises `LdmError` for a scale that is not above 1 or too large, a strength outside (0, 1), and options of the second
    pass.
    """
    generate = generate or model.generate
    strength = STRENGTHS[mode] if strength is None else strength
    if not 1 < scale < float("inf") or not 0 < strength < 1:
        raise LdmError(
            f"hires with scale {scale} and strength {strength}; expected a scale above 1, such as 2, and a strength "
            "between 0 (unchanged) and 1 (all new)"
        )
    if given := [name for name in NOT_HERE if options.get(name) not in (None, False)]:
        raise LdmError(f"hires with {', '.join(given)}; it begins with an image of its own: leave that out")
    defaults, factor = model.defaults, model.vae.factor
    size = size or (defaults.size, defaults.size)
    large = large_size(size, float(scale), factor)
    latent_shape(large, model.config.vae.latent_channels, factor)  # raises for a size that is too large
    seeds = pick_seeds(seed, count_images(batch, prompts=prompt, negatives=negative, seeds=seed))

    # 1. The composition, small.
    small = generate(prompt, negative, size=size, seed=seeds, **options | {"output": "latent"})
    # 2. Enlarged, and noised to the first level of the second pass.
    latent = enlarged(model, small, large, mode, options.get("tile"))
    sampler = options.get("sampler") or defaults.sampler
    steps = options.get("steps") or model.default_steps(sampler)
    levels = model.levels(sampler, steps, spacing=options.get("spacing"))
    left = last_levels(levels, strength)
    before = levels[-len(left) - 1]  # the noisiest level that is left out
    x = left[0].mix(latent, model.noise_source(seeds, large)())
    # 3. The detail.
    return generate(
        prompt,
        negative,
        latents=x,
        start=1 - (before.t + left[0].t) / 2 / model.config.noise.steps,
        size=large,
        seed=seeds,
        window=window,
        **options,
    )


def large_size(size: tuple[int, int], scale: float, factor: int) -> tuple[int, int]:
    """The size (width, height) times `scale`, in whole latent positions of `factor` pixels."""
    width, height = (factor * round(side * scale / factor) for side in size)
    return width, height


def enlarged(
    model: LatentDiffusion,
    latent: Float[Tensor, "b z h w"],
    size: tuple[int, int],
    mode: Mode,
    tile: bool | None = None,
) -> Float[Tensor, "b z h2 w2"]:
    """The latents of the same images at `size` (width, height), as `mode` says; `tile` is that of `generate`."""
    width, height = size
    if mode == "latent":
        shape = (height // model.vae.factor, width // model.vae.factor)
        return F.interpolate(latent, shape, mode="bilinear")
    small = (latent.shape[-1] * model.vae.factor, latent.shape[-2] * model.vae.factor)
    images = model.decode(latent, tile=must_tile(small, model.device))
    resized = [image.resize(size, Image.Resampling.LANCZOS) for image in images]
    tile = must_tile(size, model.device) if tile is None else tile
    return model.encode_image(to_pixels(resized).to(model.device), tile)
