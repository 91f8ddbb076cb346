r"""The measurements under [the questions](questions.md), made anew whenever the site is built.

Each function answers with a table in Markdown. `python docs/answers.py latent_scale` prints one of them, without a
name all. What they look at is the model that ships, and Stable Diffusion's sizes and schedule.
"""

import copy
import csv
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ldm.checkpoints.folder import read_clip
from ldm.config import PRESETS, NoiseConfig
from ldm.diffusion.level import vp_level
from ldm.diffusion.schedule import add_noise, make_alpha_bar
from ldm.diffusion.spacing import spaced_levels, spaced_timesteps
from ldm.images.pixels import to_pixels
from ldm.loading import load
from ldm.pipeline import LatentDiffusion
from ldm.postcards import postcard
from ldm.text.clip import contrastive_loss
from ldm.text.image import preprocess_pixels
from ldm.text.tokenizer import Tokenizer
from tests.backend.slower import plain

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "weights" / "tiny"
PROMPT = "a dog with glasses"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def power(x: object) -> str:
    """A small number by its order: 3e-7."""
    return f"{float(x):.0e}".replace("e-0", "e-") if float(x) else "0"


@cache
def model() -> LatentDiffusion:
    return plain(load(TINY, dtype="float32", device="cpu")).requires_grad_(False)


@cache
def pictures(count: int) -> Tensor:
    """Drawings of combinations that training never saw, in [-1, 1]."""
    size = model().config.defaults.size
    return to_pixels([postcard(i, size=size, split="held_out").image for i in range(count)])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def noisy_latent(t: int) -> tuple[Tensor, Tensor]:
    """A drawing's latent under the noise of timestep t; and t."""
    x0 = model().vae.encode(pictures(1))[0]
    return add_noise(x0, noise(*x0.shape), model().alpha_bar()[t]), torch.tensor(t)


def relative(a: Tensor, b: Tensor) -> float:
    """How far a is from b, as a share of b's length."""
    return ((a - b).norm() / b.norm()).item()


# --- the latent space --------------------------------------------------------------------------------------


def latent_scale() -> str:
    """How spread out the encoder's latents are, and at which timestep picture and noise are equally strong."""
    vae = model().vae
    ours = (vae.encode(pictures(64))[0] / vae.scale).std().item()
    rows = []
    for name, std, scale in (
        ("the tiny model, 64 drawings", ours, vae.scale),
        ("Stable Diffusion, by its scale", 1 / PRESETS["sd1"].vae.scale, PRESETS["sd1"].vae.scale),
    ):
        equal = [equal_at(s) for s in (std * scale, std)]
        rows.append([name, f"{std:.3f}", f"{1 / std:.5f}", f"{scale:.5f}", *equal])
    head = [
        "",
        "standard deviation of raw latents",
        "1 / that",
        "`scale`",
        "t at SNR 1",
        "the same, scale forgotten",
    ]
    return table(head, rows)


def equal_at(std: float) -> int:
    """The first timestep of Stable Diffusion's schedule at which latents of this deviation are below the noise."""
    alpha_bar = make_alpha_bar(NoiseConfig())
    return int((std**2 * alpha_bar / (1 - alpha_bar) < 1).nonzero()[0])


def encoder_padding() -> str:
    """Reconstructions with the padding that the VAE was trained with and with padding on all sides, and their shift."""
    pixels, rows = pictures(4), []
    for name, pad in (("right and bottom, as trained", (0, 1, 0, 1)), ("all four sides", (1, 1, 1, 1))):
        vae = copy.deepcopy(model().vae)
        for level in vae.encoder.down:
            if level.downsample is not None:
                level.downsample.pad = pad
        painted = vae.decode(vae.encode(pixels)[0])
        x, y = shift(pixels, painted)
        rows.append(
            [
                name,
                f"{decibels(pixels, painted, 0, 0):.1f} dB",
                f"{x}, {y}",
                f"{decibels(pixels, painted, x, y):.1f} dB",
            ]
        )
    halvings = len(model().config.vae.channels) - 1
    counted = " + ".join(str(2**i) for i in range(halvings))
    rows.append(["*counted: one pixel at each level*", "", f"{counted} = {2**halvings - 1}", ""])
    return table(["the encoder pads", "PSNR", "moved right, down (pixels)", "PSNR, moved back"], rows)


def shift(a: Tensor, b: Tensor, far: int = 9) -> tuple[int, int]:
    """By how many pixels to the right and downwards b is a, best."""
    places = [(x, y) for x in range(-far, far + 1) for y in range(-far, far + 1)]
    return max(places, key=lambda place: decibels(a, b, *place))


def decibels(a: Tensor, b: Tensor, x: int, y: int, far: int = 9) -> float:
    """PSNR of b, moved back by (x, y), without the margin that may come from outside."""
    height, width = a.shape[-2:]
    inner = b[..., far + y : height - far + y, far + x : width - far + x]
    return (10 * (4 / (a[..., far:-far, far:-far] - inner).square().mean()).log10()).item()


# --- text --------------------------------------------------------------------------------------------------


def padding() -> str:
    """What another padding does to the context, and to what the U-Net predicts from it."""
    text, tokenizer = model().text, model().tokenizer
    ids, empty = tokenizer([PROMPT]), text(tokenizer([""]))
    end = ids[0].tolist().index(tokenizer.eos) + 1
    zeros = torch.cat([ids[:, :end], torch.zeros_like(ids[:, end:])], dim=1)
    trained = text(ids)
    latent, t = noisy_latent(500)
    seen = model().unet(latent, t, trained)
    prompt = (model().unet(latent, t, empty) - seen).norm().item()
    rows = []
    for name, context in (("eos, as trained", trained), ("0", text(zeros)), ("left out", text(ids[:, :end]))):
        words = (context[:, :end] - trained[:, :end]).abs().max().item()
        rest = f"{relative(context[:, end:], trained[:, end:]):.0%}" if context.shape[1] > end else "gone"
        moved = (model().unet(latent, t, context) - seen).norm().item()
        rows.append([name, power(words) if words > 1e-5 else "0", rest, f"{moved / prompt:.0%}"])
    changes = "prediction changes by (100%: as by an empty prompt)"
    head = ["padding", "words' states change by", "padding's states change by", changes]
    return table(head, rows)


def lengths(count: int = 2000) -> str:
    """How long the captions of our world are, counted by two tokenizers."""
    captions = [postcard_caption(i) for i in range(count)]
    rows = []
    for name, tokenizer, config in (
        ("tiny", model().tokenizer, model().config),
        ("Stable Diffusion's CLIP", Tokenizer.clip(), PRESETS["sd1"]),
    ):
        tokens = [len(tokenizer.encode(caption)) for caption in captions]
        positions = config.text.context_length
        rows.append([name, positions, positions - 2, f"{np.mean(tokens):.1f}", max(tokens)])
    return table(
        ["text encoder", "positions", "room for words", f"mean of {count} captions", "the longest"], rows
    )


def postcard_caption(index: int) -> str:
    from ldm.postcards import caption, sample_scene

    rng = np.random.default_rng([0, index])
    return caption(sample_scene(rng), rng)


def supervision() -> str:
    """How much CLIP's loss asks of each state: the gradient at the output of each layer, squared, by kind of token."""
    clip, tokenizer = read_clip(TINY)
    cards = [postcard(i, size=64) for i in range(16)]
    ids = tokenizer([card.caption for card in cards])
    end = ids.argmax(dim=1, keepdim=True)
    place = torch.arange(ids.shape[1])[None, :]
    kinds = {"words": place < end, "eos": place == end, "padding": place > end}
    states: list[Tensor] = []
    for layer in clip.text.layers:
        layer.register_forward_hook(lambda layer, inputs, output: states.append(output))
    texts = clip.embed_text(ids)
    images = clip.embed_image(preprocess_pixels(to_pixels([card.image for card in cards]), clip.image_size))
    gradients = torch.autograd.grad(contrastive_loss(images, texts, clip.logit_scale), states)
    rows = []
    for i, gradient in enumerate(gradients, start=1):
        total = gradient.square().sum().item()
        shares = [gradient[mask.expand_as(ids)].square().sum().item() / total for mask in kinds.values()]
        name = (
            f"{i}, the last"
            if i == len(states)
            else f"{i}, the penultimate"
            if i == len(states) - 1
            else str(i)
        )
        rows.append([name, *(f"{share:.0%}" if share else "0" for share in shares)])
    return table(["after layer", *(f"share of {kind}" for kind in kinds)], rows)


# --- guidance, norms, steps --------------------------------------------------------------------------------


def guidance_forms() -> str:
    """Both formulas on the tiny model's own two predictions."""
    latent, t = noisy_latent(500)
    cond, uncond = (model().unet(latent, t, model().encode_text([text]).context) for text in (PROMPT, ""))
    rows = []
    for g in (0.0, 1.0, 3.0, 7.5):
        w = g - 1
        ours, theirs = uncond + g * (cond - uncond), (1 + w) * cond - w * uncond
        rows.append([f"{g:g}", f"{w:g}", f"{ours.std():.3f}", power((ours - theirs).abs().max())])
    head = [
        "g",
        "w = g - 1",
        "standard deviation of the guided prediction",
        "largest difference of the two forms",
    ]
    return table(head, rows)


def norm_eps() -> str:
    """What the other small number in the denominators does to the output, beside what rounding does to it."""
    latent, t = noisy_latent(500)
    clean, context = model().vae.encode(pictures(1))[0], model().encode_text([PROMPT]).context

    def paint(vae: nn.Module) -> Tensor:
        return vae.decode(clean.to(vae.decoder.conv_out.weight.dtype))

    def look(unet: nn.Module) -> Tensor:
        dtype = unet.conv_in.weight.dtype
        return unet(latent.to(dtype), t, context.to(dtype))

    rows = []
    for name, module, run, here, there in (
        ("the VAE's decoder", model().vae, paint, 1e-6, 1e-5),
        ("spatial transformers, at their head", model().unet, look, 1e-6, 1e-5),
        ("all other norms of the U-Net", model().unet, look, 1e-5, 1e-6),
    ):
        output = run(module)
        changed = relative(run(with_eps(module, here, there)), output)
        rounded = relative(output, run(copy.deepcopy(module).double()))
        smallest = smallest_variance(module, here, run)
        rows.append([name, *map(power, (here, smallest, changed, rounded))])
    head = [
        "norms",
        "eps",
        "smallest variance met",
        "output changes by, with the other eps",
        "by rounding in float32",
    ]
    return table(head, rows)


def with_eps(module: nn.Module, old: float, new: float) -> nn.Module:
    """A copy in which every norm with one eps has the other."""
    module = copy.deepcopy(module)
    for part in norms(module, old):
        part.eps = new
    return module


def norms(module: nn.Module, eps: float) -> list[nn.GroupNorm | nn.LayerNorm]:
    return [p for p in module.modules() if isinstance(p, nn.GroupNorm | nn.LayerNorm) and p.eps == eps]


def smallest_variance(module: nn.Module, eps: float, run: Callable[[nn.Module], Tensor]) -> float:
    """The smallest variance that a norm with this eps divides by."""
    seen: list[float] = []

    def note(part: nn.GroupNorm | nn.LayerNorm, inputs: tuple[Tensor], output: Tensor) -> None:
        x = inputs[0]
        x = x.unflatten(1, (part.num_groups, -1)).flatten(2) if isinstance(part, nn.GroupNorm) else x
        seen.append(x.var(dim=-1).min().item())

    hooks = [part.register_forward_hook(note) for part in norms(module, eps)]
    run(module)
    for hook in hooks:
        hook.remove()
    return min(seen)


def last_step() -> str:
    """With and without the offset: where 20 steps begin, and what the last of them takes away."""
    alpha_bar, rows = make_alpha_bar(NoiseConfig()), []
    for offset, spacing in enumerate(("leading_from_0", "leading")):
        t = spaced_timesteps(20, 1000, spacing)
        before, after = (vp_level(last, alpha_bar).sigma for last in (t[-1], 0))
        times = f"{t[0]}, {t[1]}, ..., {t[-2]}, {t[-1]}"
        rows.append([offset, times, f"{before:.4f}", f"{after:.4f}", f"{before - after:.4f}"])
    return table(["offset", "timesteps", "noise before the last step", "after it", "taken away"], rows)


def spacings(count: int = 30) -> str:
    """The timesteps of `count` steps, and pictures from one seed along each of them."""
    model_bar, sd_bar, size = model().alpha_bar(), make_alpha_bar(NoiseConfig()), model().config.defaults.size
    denoise = model().denoiser(
        model().encode_text([PROMPT]), model().encode_text([""]), model().config.defaults.guidance
    )
    rows, first = [], None
    for name, spacing in (
        ("`leading`, offset 1 (Stable Diffusion's)", "leading"),
        ("`leading`, offset 0", "leading_from_0"),
        ("`trailing`", "trailing"),
        ("`linspace`", "linspace"),
    ):
        times = [round(t) for t in spaced_timesteps(count, 1000, spacing)]
        levels = [*spaced_levels(times, model_bar), vp_level(0, model_bar)]
        noise_fn = model().noise_source([42], (size, size))
        x = noise_fn()
        for step in model().sample("ddim", denoise, x, levels, noise_fn):
            x = step.x_prev
        picture = model().vae.decode(x).clamp(-1, 1)
        first = picture if first is None else first
        moved = 127.5 * (picture - first).abs().mean().item()
        shown = ", ".join(str(t) for t in times[:3]) + ", ..., " + ", ".join(str(t) for t in times[-2:])
        rows.append([name, shown, f"{sd_bar[times[0]].sqrt():.1%}", f"{moved:.1f}"])
    left = "picture left at the first, in Stable Diffusion"
    head = ["spacing", "timesteps", left, "mean change of our picture (of 255)"]
    return table(head, rows)


def losses() -> str:
    """The recorded curves in a few numbers: where they begin, where they get, and how much single values jump."""
    rows = []
    for stage in ("clip", "vae", "diffusion"):
        with open(ROOT / "docs" / "curves" / f"{stage}.csv", encoding="utf-8") as file:
            entries = [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]
        values = np.array([loss for _, loss in entries])
        tenth = max(1, len(values) // 10)
        means = [
            values[i - tenth // 2 : i + tenth // 2 + 1].mean() for i in (len(values) // 10, len(values) // 2)
        ]
        end = values[-tenth:]
        rows.append(
            [
                stage,
                f"{entries[-1][0]:,}",
                f"{values[0]:.3f}",
                *(f"{m:.3f}" for m in means),
                f"{end.mean():.3f}",
                f"±{end.std() / end.mean():.0%}",
            ]
        )
    head = [
        "stage",
        "steps",
        "first entry",
        "after a tenth",
        "halfway",
        "last tenth",
        "its entries differ by",
    ]
    return table(head, rows)


if __name__ == "__main__":
    names = sys.argv[1:] or [
        *("latent_scale", "encoder_padding", "padding", "lengths", "supervision", "guidance_forms"),
        *("norm_eps", "last_step", "spacings", "losses"),
    ]
    for name in names:
        print(f"{name}\n\n{globals()[name]()}\n")
