r"""Two models that share the sampling: one composes an image, the other finishes it.

    noise --base model, the first 80 % of the way--> a noisy latent --refiner, the rest--> latent --> image

Early steps decide what goes where, late ones on texture and fine detail. One network does both; two can each do one
better. The refiner of Stable Diffusion XL was trained on the last fifth of the noise levels only, where most of the
image is there already. The latent is handed over as it is, with its noise: both models have the same latents and the
same noise schedule, so to the second it looks like one of its own.

Source: Podell et al. 2024, section 2.5; specialists for parts of the noise levels: Balaji et al. 2022 (eDiff-I).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from ldm.adapters.tags import split_prompts
from ldm.arguments import checked
from ldm.diffusion.conditioning import count_images
from ldm.diffusion.micro_conditioning import MicroConditioning
from ldm.diffusion.noise import image_size, pick_seeds
from ldm.errors import LdmError
from ldm.images.pixels import to_images
from ldm.pipeline import LatentDiffusion
from ldm.vae.tiles import must_tile

SWITCH_AT = 0.8  # of the way
OTHER_NOISE = 2**31  # between an image's seed and that of its refiner
NOT_SHARED = {
    "init",
    "mask",
    "strength",
    "keep_pixels",
    "latents",
    "output",
    "start",
    "stop",
}  # of `generate`


@checked
def generate_refined(
    model: LatentDiffusion,
    refiner: LatentDiffusion,
    prompt: str | Sequence[str],
    negative: str | Sequence[str] = "",
    switch_at: float = SWITCH_AT,
    seed: int | Sequence[int] | None = None,
    batch: int | None = None,
    micro: MicroConditioning | None = None,
    control: Any = (),
    tile: bool | None = None,
    **options: Any,
) -> list[Image.Image]:
    """Generate images with `model` up to the share `switch_at` of the way, and with `refiner` from there on.

    The arguments are those of `generate`, and hold for both models, with these exceptions: ControlNets and LoRAs act on
    the first alone. Of `micro`, each model is told what it was trained to read: the sizes or the aesthetic score.
    Samplers that add noise draw it from another seed for the refiner, so that none is added twice. The first model's
    VAE decodes. Raises `LdmError` for a refiner with other latents or another noise schedule, and as `generate` does.
    """
    check_refiner(model, refiner)
    if given := sorted(options.keys() & NOT_SHARED):
        raise LdmError(
            f"{', '.join(given)} with a refiner, which refines what begins as pure noise; leave it out"
        )
    shared = options | {"output": "latent"}
    if shared.get("sampler") is None:  # the first model's, as the steps are: both must visit the same levels
        shared["sampler"] = model.defaults.sampler
    if shared.get("steps") is None:
        shared["steps"] = model.default_steps(shared["sampler"])
    seeds = pick_seeds(seed, count_images(batch, prompts=prompt, negatives=negative, seeds=seed))
    told = micro or MicroConditioning()
    sizes, score = replace(told, aesthetic_score=None), replace(told, target_size=None)
    x = model.generate(prompt, negative, seed=seeds, micro=sizes, control=control, stop=switch_at, **shared)
    plain, _ = split_prompts([prompt] if isinstance(prompt, str) else prompt)  # without LoRAs
    shared |= {"seed": [seed ^ OTHER_NOISE for seed in seeds], "latents": x, "start": switch_at}
    x = refiner.generate(plain * (len(seeds) // len(plain)), negative, micro=score, **shared)
    tile = must_tile(image_size(x, model.vae.factor), model.device) if tile is None else tile
    return to_images(model.decode_pixels(x, tile=tile))


def check_refiner(model: LatentDiffusion, refiner: LatentDiffusion) -> None:
    """Raise an `LdmError` unless the second model can go on where the first stops."""
    first, second = model.config, refiner.config
    if second.unet.added is None or second.unet.added.numbers != 5:
        raise LdmError(
            f"{second.name} is no refiner; expected Stable Diffusion XL's, which is told an aesthetic score"
        )
    latents = [(c.vae.latent_channels, c.vae.factor, c.vae.scale) for c in (first, second)]
    schedules = [replace(c.noise, prediction="eps") for c in (first, second)]
    if first.unet.added is None or latents[0] != latents[1] or schedules[0] != schedules[1]:
        raise LdmError(
            f"{second.name} cannot refine what {first.name} generates: its latents or its noise schedule differ; "
            "expected the refiner of the same model, Stable Diffusion XL"
        )
