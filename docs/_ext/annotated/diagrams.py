r"""The tour's diagrams, drawn while the site is built: tokens, the noise schedule, the way from prompt to picture.

Those of single networks are in `networks.py`. Each takes `say`, which says its labels in the page's language.
"""

from collections.abc import Callable

import torch

from annotated.drawing import arrow, axes, box, curve, legend, lines, svg, text
from annotated.languages import Say
from annotated.networks import attention, unet, vae
from annotated.shapes import ROOT, measure, times
from ldm.config import NoiseConfig
from ldm.diffusion.schedule import make_alpha_bar
from ldm.text.tokenizer import Tokenizer


def pipeline(say: Say) -> str:
    """The four steps with the shapes of Stable Diffusion 1 (above) and of the tiny model (below)."""
    sd1, tiny = measure("sd1"), measure("tiny")
    steps = {name: shapes.config.defaults.steps for name, shapes in (("sd1", sd1), ("tiny", tiny))}
    key = ["upper numbers: Stable Diffusion 1", "lower numbers: the tiny model", "shaded: a network"]

    def both(field: str) -> list[str]:
        return [times(getattr(sd1, field)), times(getattr(tiny, field))]

    parts = [
        box(10, 20, 216, 56, say("prompt"), [say("“a dog with glasses”")]),
        arrow((226, 48), (252, 48)),
        box(252, 20, 100, 56, say("tokenizer")),
        arrow((352, 48), (440, 48)),
        lines(394, 40, [say("ids")], "small"),
        lines(394, 66, both("ids")),
        box(440, 20, 150, 56, say("text encoder"), [], "net"),
        arrow((475, 76), (475, 174)),
        lines(485, 112, [say("context, for cross-attention")], "small", "start"),
        lines(485, 127, both("context"), "shape", "start"),
        box(10, 174, 130, 70, say("noise"), [say("drawn from a seed")]),
        arrow((140, 209), (250, 209)),
        lines(192, 200, ["x_T"], "small"),
        lines(192, 226, both("latent")),
        box(
            250,
            174,
            300,
            70,
            say("U-Net and sampler"),
            [say("what is the noise? take some of it away")],
            "net",
        ),
        arrow((520, 244), (520, 276), (280, 276), (280, 248)),
        text(400, 292, say("t = T … 0: {sd1} steps, {tiny} for tiny").format(**steps), "small", size=11),
        arrow((550, 209), (640, 209)),
        lines(594, 200, ["x_0"], "small"),
        lines(594, 226, both("latent")),
        box(640, 174, 130, 70, say("VAE decoder"), [], "net"),
        arrow((705, 244), (705, 292)),
        box(630, 292, 150, 66, say("image"), both("picture")),
        lines(10, 300, [say(line) for line in key], "small", "start"),
    ]
    return svg(790, 366, say("From prompt to image, with the shape of each tensor"), parts)


def architecture(say: Say) -> str:
    """All of painting with Stable Diffusion 1's shapes, the parts numbered as in the tour's list."""
    sd1 = measure("sd1")
    (tokens, width), latent = sd1.context, times(sd1.latent)
    parts = [
        box(10, 14, 216, 44, "① " + say("prompt"), [say("“a dog with glasses”")]),
        box(10, 70, 216, 44, say("empty prompt"), [say("“”")]),
        arrow((226, 36), (258, 54)),
        arrow((226, 92), (258, 74)),
        box(258, 40, 96, 48, say("tokenizer")),
        arrow((354, 64), (384, 64)),
        box(384, 40, 160, 48, "② " + say("text encoder"), [], "net"),
        arrow((410, 88), (410, 178)),
        lines(402, 138, ["c, ∅", f"2 × {tokens} × {width}"], "shape", "end"),
        box(760, 40, 120, 48, "④ " + say("timesteps"), ["t"]),
        arrow((760, 64), (734, 64)),
        box(578, 40, 156, 48, say("time embedding"), [times(sd1.unet["time_embedding"][0])], "net"),
        arrow((656, 88), (656, 132), (460, 132), (460, 178)),
        box(10, 186, 116, 56, "③ " + say("noise"), [latent]),
        arrow((126, 214), (170, 214)),
        lines(147, 206, ["x_T"], "small"),
        box(170, 186, 116, 56, "x_t", [latent]),
        arrow((286, 214), (345, 214)),
        box(345, 180, 160, 68, "⑤ U-Net", [say("with c, and with ∅")], "net"),
        arrow((505, 214), (570, 214)),
        lines(536, 206, ["ε_c, ε_∅"], "small"),
        box(570, 186, 130, 56, say("guidance"), ["ε_∅ + g(ε_c−ε_∅)"]),
        arrow((700, 214), (736, 214)),
        lines(717, 206, ["ε̂"], "small"),
        box(736, 186, 144, 56, "⑥ " + say("sampler")),
        arrow((760, 242), (760, 276), (228, 276), (228, 246)),
        lines(494, 292, [say("again from 5, for the next t")], "small"),
        arrow((830, 242), (830, 322)),
        lines(822, 312, [say("after the last t: x_0")], "small", "end"),
        box(722, 322, 158, 52, "⑦ " + say("VAE decoder"), [], "net"),
        arrow((722, 348), (660, 348)),
        box(510, 322, 150, 52, say("image"), [times(sd1.picture)]),
    ]
    return svg(890, 384, say("Seven numbered stations from prompt to image"), parts)


def tokens(say: Say, prompt: str) -> str:
    """How the shipped model's tokenizer cuts a prompt, with the id of each piece."""
    tokenizer = Tokenizer.load(ROOT / "weights" / "tiny" / "tokenizer")
    pieces = [piece.removesuffix("</w>") for piece in tokenizer.tokens(prompt)]
    marks = [
        say("begin"),
        *pieces,
        say("end"),
        "…",
        say("end, up to {length}").format(length=tokenizer.context_length),
    ]
    ids = [tokenizer.bos, *tokenizer.encode(prompt), tokenizer.eos, "", tokenizer.pad_id]
    parts, x, y = [], 10.0, 8
    for piece, number in zip(marks, ids, strict=True):
        w = max(36, 7.4 * len(piece) + 13)
        if x + w > 758:
            x, y = 10.0, y + 56
        style = "net" if piece in pieces else "box"
        parts.append(
            box(x, y, w, 46, piece, [str(number)], style) if number != "" else text(x + w / 2, y + 26, piece)
        )
        x += w + 5
    return svg(760, y + 54, say("A prompt, cut into pieces, with their ids"), parts)


def schedule(say: Say) -> str:
    """How much is picture and how much noise at each t; and the signal-to-noise ratio of three schedules."""
    left, top, w, h = 46, 26, 300, 210
    alpha_bar = make_alpha_bar(NoiseConfig()).double()
    t = torch.arange(len(alpha_bar)).double() / (len(alpha_bar) - 1)
    ticks = {0.0: "0", 0.5: "500", 1.0: "999"}
    parts = [
        axes(left, top, w, h, ticks, {0.0: "0", 0.5: "0.5", 1.0: "1"}, "t"),
        curve((left + t * w).tolist(), (top + h - alpha_bar.sqrt() * h).tolist(), "a"),
        curve((left + t * w).tolist(), (top + h - (1 - alpha_bar).sqrt() * h).tolist(), "b"),
        legend(
            left + 60,
            top + 180,
            [("a", say("√ᾱ: share of the latent")), ("b", say("√(1−ᾱ): share of noise"))],
        ),
        text(left + w / 2, 14, say("Stable Diffusion's x_t"), size=12),
    ]
    left, low, high = 440, -4.0, 4.0
    parts += [
        axes(left, top, w, h, ticks, {(n - low) / (high - low): f"{n:g}" for n in (-4, -2, 0, 2, 4)}, "t"),
        text(left + w / 2, 14, say("log₁₀ of signal to noise, ᾱ / (1 − ᾱ)"), size=12),
    ]
    kinds = [
        ("a", "scaled_linear", NoiseConfig()),
        ("b", "linear", NoiseConfig(schedule="linear", beta_start=1e-4, beta_end=0.02)),
        ("c", "cosine", NoiseConfig(schedule="cosine")),
    ]
    for style, _, config in kinds:
        a = make_alpha_bar(config).double()
        height = ((a / (1 - a)).log10().clamp(low, high) - low) / (high - low)
        parts.append(curve((left + t * w).tolist(), (top + h - height * h).tolist(), style))
    parts.append(legend(left + 14, top + 168, [(style, name) for style, name, _ in kinds]))
    title = say("The noise schedule: shares of latent and noise, and the signal-to-noise ratio")
    return svg(760, 284, title, parts)


DIAGRAMS: dict[str, Callable[..., str]] = {
    "pipeline": pipeline, "tokens": tokens, "schedule": schedule, "unet": unet, "attention": attention, "vae": vae,
    "architecture": architecture,
}  # fmt: skip
