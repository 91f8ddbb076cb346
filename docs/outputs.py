r"""The pictures on the annotated pages: what the code beside them puts out, made anew whenever the site is built.

Each function answers with rows of tiles. They all look at one run of the model that ships, so another model needs
nothing but `make docs`. `python -m docs.outputs unet_levels FOLDER` writes the tiles of one function as files.
"""

import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from docs.answers import PROMPT, model, pictures
from docs.tiles import Tile, heat, principal, shape, signed
from ldm.diffusion.schedule import add_noise, make_alpha_bar
from ldm.images.pixels import to_images
from ldm.lab.trace.heat import overlay
from ldm.lab.trace.recorder import Recording, record
from ldm.nn.hooks import hooks
from ldm.plane.mixture import join
from ldm.plane.shapes import SHAPES
from ldm.unet.embedding import timestep_embedding

SEED = 42
MIDDLE = 0.55  # how far along the run the U-Net is looked into: the image is there, and so is much noise


# --- one run of the model ------------------------------------------------------------------------------------


@cache
def run(**options: object) -> tuple[Recording, Image.Image]:
    with record(model(), PROMPT) as recording:
        [image] = model().generate(PROMPT, seed=SEED, progress=recording.watch(), **options)
    return recording, image


def middle() -> int:
    return round(MIDDLE * (len(run()[0].steps) - 1))


def watched(network: nn.Module, names: Sequence[str], *inputs: Tensor) -> list[tuple[str, Tensor]]:
    """What these parts of a network put out for an input."""
    seen: dict[str, Tensor] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, out: Tensor | tuple) -> None:
            seen[name] = out[0] if isinstance(out, tuple) else out

        return hook

    with torch.no_grad(), hooks([(network.get_submodule(name), note(name)) for name in names]):
        network(*inputs)
    return [(name, seen[name]) for name in names]


@cache
def evaluation() -> tuple[Tensor, Tensor, Tensor]:
    """What the U-Net reads in the middle of the run: x_t, t and the prompt's context."""
    step = run()[0].steps[middle()]
    return step.x_t, torch.tensor(step.t), model().encode_text([PROMPT]).context


# --- the outputs ---------------------------------------------------------------------------------------------


def unet_levels() -> list[list[Tile]]:
    """The features at each level of the U-Net, on the way down and on the way up."""
    unet, count = model().unet, len(model().unet.down)
    down = ["conv_in", *(f"down.{i}.res.0" for i in range(count))]
    up = ["mid", *(f"up.{i}" for i in range(count)), "conv_out"]
    rows = [watched(unet, names, *evaluation()) for names in (down, up)]
    x_t = Tile(principal(evaluation()[0]), "x_t", shape(evaluation()[0]))
    tiles = [[Tile(principal(x), name.removesuffix(".res.0"), shape(x)) for name, x in row] for row in rows]
    return [[x_t, *tiles[0]], tiles[1]]


def cross_attention() -> list[list[Tile]]:
    """Where each word of the prompt was read, over all steps."""
    recording, image = run()
    tiles = [Tile(image, "the image")]
    for word in recording.words:
        share = recording.heat_map(word)
        tiles.append(
            Tile(
                overlay(image, share), f"“{word.text}”", f"{100 * float(share.mean()):.1f} % of the attention"
            )
        )
    return [tiles]


def causal_weights() -> list[list[Tile]]:
    """The attention weights of the text encoder's second layer, one head after the other."""
    count = len(model().tokenizer.encode(PROMPT)) + 2
    attention = model().text.layers[1].attn
    attention.by_hand = True
    try:
        [(_, weights)] = watched(model().text, ["layers.1.attn.weights_probe"], model().tokenizer(PROMPT))
    finally:
        attention.by_hand = False
    heads = weights[0, :, :count, :count]
    return [[Tile(heat(head), f"head {i}", f"{count} × {count}") for i, head in enumerate(heads)]]


def denoising(recording: Recording | None = None) -> list[list[Tile]]:
    """The latents of the run, decoded, and below them what the U-Net believes the image to be."""
    recording = recording or run()[0]
    steps = sorted({round(i * (len(recording.steps) - 1) / 5) for i in range(6)})
    rows = [recording.decode(which, steps=steps) for which in ("x_t", "x0")]
    names = [f"step {i}, t = {float(recording.steps[i].t):.0f}" for i in steps]
    return [
        [Tile(image, name, label) for image, name in zip(row, names, strict=True)]
        for row, label in zip(rows, ("x_t, decoded", "the estimate of x_0"), strict=True)
    ]


def ddim_steps() -> list[list[Tile]]:
    """The same, with twelve steps of DDIM."""
    return denoising(run(sampler="ddim", steps=12)[0])


def encoding() -> list[list[Tile]]:
    """A drawing on its way through the encoder."""
    vae, pixels = model().vae, pictures(1)
    names = ["conv_in", *(f"down.{i}" for i in range(len(vae.encoder.down))), "mid"]
    with torch.no_grad():
        latent = vae.encode(pixels)[0]
    tiles = [Tile(principal(x), name, shape(x)) for name, x in watched(vae.encoder, names, pixels)]
    return [
        [
            Tile(to_images(pixels)[0], "pixels", shape(pixels)),
            *tiles,
            Tile(principal(latent), "mean", shape(latent)),
        ]
    ]


def decoding() -> list[list[Tile]]:
    """The latent of the run on its way through the decoder."""
    vae, latent = model().vae, run()[0].steps[-1].x_prev
    names = ["conv_in", "mid", *(f"up.{i}" for i in range(len(vae.decoder.up)))]
    tiles = [
        Tile(principal(x), name, shape(x)) for name, x in watched(vae.decoder, names, latent / vae.scale)
    ]
    return [
        [
            Tile(principal(latent), "z", shape(latent)),
            *tiles,
            Tile(run()[1], "pixels", f"3 × {run()[1].height} × {run()[1].width}"),
        ]
    ]


def round_trip() -> list[list[Tile]]:
    """A drawing, the channels of its latent, what the decoder makes of them, and the error. Labels are symbols: the
    French tour shows it, too."""
    pixels = pictures(2)[1:]
    with torch.no_grad():
        latent = model().vae.encode(pixels)[0]
        again = model().vae.decode(latent).clamp(-1, 1)
    channels = [Tile(signed(x), f"z[{i}]", f"σ = {x.std():.2f}") for i, x in enumerate(latent[0])]
    error = (again - pixels).abs()
    difference = Tile(
        to_images((4 * error).clamp(max=2) - 1)[0],
        "4 |D(z) − x|",
        f"PSNR {-10 * float((error / 2).square().mean().log10()):.1f} dB",
    )
    return [
        [
            Tile(to_images(pixels)[0], "x", shape(pixels)),
            *channels,
            Tile(to_images(again)[0], "D(z)", shape(again)),
            difference,
        ]
    ]


def guidance_scales() -> list[list[Tile]]:
    """The same noise, guided more and more."""
    tiles = []
    for scale in (1.0, 2.0, 4.0, 8.0, 16.0):
        [image] = model().generate(PROMPT, seed=SEED, guidance=scale, steps=12, sampler="ddim")
        tiles.append(Tile(image, f"g = {scale:g}", "no guidance" if scale == 1 else ""))
    return [tiles]


def noising() -> list[list[Tile]]:
    """A drawing's latent with more and more noise, decoded."""
    alpha_bar = make_alpha_bar(model().config.noise)
    with torch.no_grad():
        x0 = model().vae.encode(pictures(1))[0]
        eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
        times = (0, 100, 250, 400, 600, 999)
        x_t = torch.cat([add_noise(x0, eps, alpha_bar[t]) for t in times])
        images = to_images(model().vae.decode(x_t))
    shares = [f"{alpha_bar[t].sqrt():.2f} of the latent" for t in times]
    return [[Tile(image, f"t = {t}", share) for image, t, share in zip(images, times, shares, strict=True)]]


def time_embedding() -> list[list[Tile]]:
    """The sinusoids of every tenth timestep: a row is a timestep, a column a frequency."""
    table = timestep_embedding(torch.arange(0, 1000, 10), 128)
    return [
        [Tile(signed(table), "t from 0 (above) to 990, width 128", "left half cosines, right half sines")]
    ]


def image_to_image() -> list[list[Tile]]:
    """A drawing as the init image of another prompt, at growing strength."""
    init = to_images(pictures(1))[0]
    tiles = [Tile(init, "the init image")]
    for strength in (0.25, 0.5, 0.75, 1.0):
        [image] = model().generate(PROMPT, seed=SEED, init=init, strength=strength, steps=12)
        tiles.append(Tile(image, f"strength {strength:g}"))
    return [tiles]


def inpainting() -> list[list[Tile]]:
    """The image of the run, a mask over the upper part of it, and what another prompt puts there."""
    before = run()[1]
    mask = Image.new("L", before.size)
    ImageDraw.Draw(mask).ellipse([round(n * before.width / 128) for n in (30, 0, 98, 45)], fill=255)
    [after] = model().generate("a dog with a hat", seed=SEED, init=before, mask=mask, keep_pixels=True)
    return [
        [
            Tile(before, "before"),
            Tile(mask.convert("RGB"), "white: may change"),
            Tile(after, "“a dog with a hat”"),
        ]
    ]


def token_similarity() -> list[list[Tile]]:
    """The cosine of each token's final state with each other's."""
    count = len(model().tokenizer.encode(PROMPT)) + 2
    states = nn.functional.normalize(model().encode_text([PROMPT]).context[0, :count], dim=-1)
    return [[Tile(heat(states @ states.T), "cosine of each two tokens", f"{count} × {count}")]]


def drawings() -> list[list[Tile]]:
    """Points drawn from each of the shapes in the plane."""
    tiles = []
    for name, make in SHAPES.items():
        points = join(*make()).draw(20_000, torch.Generator().manual_seed(0)).numpy()
        counts, *_ = np.histogram2d(-points[:, 1], points[:, 0], bins=72, range=[[-2.4, 2.4]] * 2)
        tiles.append(Tile(heat(torch.from_numpy(np.sqrt(counts))), name))
    return [tiles]


def chapters(count: int) -> list[Image.Image]:
    """The image of the run as it forms, from noise to the finished one: one for each chapter."""
    recording, image = run()
    last, first = len(recording.steps) - 1, 0.35  # before that, one noise looks like another
    shares = [0.0, *(first + (1 - first) * i / (count - 2) for i in range(count - 2))]
    return [*recording.decode("x_t", steps=[round(last * share) for share in shares]), image]


if __name__ == "__main__":
    for i, row in enumerate(globals()[sys.argv[1]]()):
        for j, tile in enumerate(row):
            tile.image.save(Path(sys.argv[2]) / f"{sys.argv[1]}-{i}{j}.png")
            print(tile.label, tile.small, tile.image.size)
