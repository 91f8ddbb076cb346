r"""The tour's diagrams, drawn while the site is built: the pipeline, the U-Net, the noise schedule, attention."""

from collections.abc import Callable

import torch

from annotated.drawing import arrow, axes, box, curve, legend, lines, svg, text
from annotated.shapes import measure, times
from ldm.config import NoiseConfig
from ldm.diffusion.schedule import make_alpha_bar
from ldm.nn.attention import attention_weights


def pipeline() -> str:
    """The four steps with the shapes of Stable Diffusion 1 (above) and of the tiny model (below)."""
    sd, tiny = measure("sd1"), measure("tiny")

    def both(field: str) -> list[str]:
        return [times(getattr(sd, field)), times(getattr(tiny, field))]

    parts = [
        box(10, 20, 150, 56, "prompt", ["“a dog with glasses”"]),
        arrow((160, 48), (196, 48)),
        box(196, 20, 110, 56, "tokenizer"),
        arrow((306, 48), (400, 48)),
        lines(350, 40, ["ids"], "small"),
        lines(350, 66, both("ids")),
        box(400, 20, 150, 56, "text encoder", [], "net"),
        arrow((475, 76), (475, 174)),
        lines(485, 112, ["context, for cross-attention"], "small", "start"),
        lines(485, 127, both("context"), "shape", "start"),
        box(10, 174, 130, 70, "noise", ["drawn from a seed"]),
        arrow((140, 209), (250, 209)),
        lines(192, 200, ["x_T"], "small"),
        lines(192, 226, both("latent")),
        box(250, 174, 300, 70, "U-Net and sampler", ["what is the noise? take some of it away"], "net"),
        arrow((520, 244), (520, 276), (280, 276), (280, 248)),
        text(
            400,
            292,
            f"t = T … 0: {sd.config.defaults.steps} steps, {tiny.config.defaults.steps} for tiny",
            "small",
            size=11,
        ),
        arrow((550, 209), (650, 209)),
        lines(598, 200, ["x_0"], "small"),
        lines(598, 226, both("latent")),
        box(650, 174, 110, 70, "VAE decoder", [], "net"),
        arrow((705, 244), (705, 292)),
        box(630, 292, 150, 66, "picture", both("picture")),
        lines(
            10,
            300,
            ["upper numbers: Stable Diffusion 1", "lower numbers: the tiny model", "shaded: a network"],
            "small",
            "start",
        ),
    ]
    return svg(
        790,
        366,
        "Prompt to context, noise to latent, latent to picture, with the shape of each tensor",
        parts,
    )


def unet(name: str) -> str:
    """A U-Net of a preset, with the shape at every level; dashed: skips."""
    shapes = measure(name)
    levels = shapes.config.unet.levels
    count, per_level, step = len(levels), shapes.config.unet.res_per_level, 92
    bottom = 96 + count * step
    parts = [
        lines(120, 16, [f"x_t  {times(shapes.latent)}"]),
        box(50, 26, 140, 34, "conv_in"),
        lines(640, 16, [f"eps  {times(shapes.unet['conv_out'][0])}"]),
        box(570, 26, 140, 34, "norm_out, conv_out"),
        arrow((120, 60), (120, 84)),
        arrow((640, 84), (640, 62)),
    ]
    for i, level in enumerate(levels):
        y, up = 84 + i * step, count - 1 - i
        made = shapes.unet[f"down.{i}"]
        kind = "(res, attn)" if level.depth else "res"
        parts += [
            box(20, y, 200, 58, f"down.{i}", [f"{kind} × {per_level}", times(made[0])], "net"),
            box(540, y, 200, 58, f"up.{up}", [f"{kind} × {per_level + 1}", times(made[0])], "net"),
            arrow((220, y + 29), (538, y + 29), style="skip"),
            text(380, y + 22, f"{per_level + 1} skips", "small", size=11),
        ]
        if i < count - 1:
            parts += [
                arrow((120, y + 58), (120, y + step)),
                text(130, y + 78, "downsample", "small", "start", 11),
                arrow((640, y + step), (640, y + 60)),
                text(650, y + 78, "upsample", "small", "start", 11),
            ]
    y = 84 + (count - 1) * step + 58
    parts += [
        box(270, bottom, 220, 58, "mid", ["res_1, attn, res_2", times(shapes.unet["mid"][0])], "net"),
        arrow((120, y), (120, bottom + 29), (268, bottom + 29)),
        arrow((490, bottom + 29), (640, bottom + 29), (640, y + 2)),
    ]
    return svg(760, bottom + 68, f"The U-Net of {name}: the shape of the features at every level", parts)


def schedule() -> str:
    """How much is picture and how much noise at each t; and the signal-to-noise ratio of three schedules."""
    left, top, w, h = 46, 26, 300, 210
    alpha_bar = make_alpha_bar(NoiseConfig()).double()
    t = torch.arange(len(alpha_bar)).double() / (len(alpha_bar) - 1)
    ticks = {0.0: "0", 0.5: "500", 1.0: "999"}
    parts = [
        axes(left, top, w, h, ticks, {0.0: "0", 0.5: "0.5", 1.0: "1"}, "t"),
        curve((left + t * w).tolist(), (top + h - alpha_bar.sqrt() * h).tolist(), "a"),
        curve((left + t * w).tolist(), (top + h - (1 - alpha_bar).sqrt() * h).tolist(), "b"),
        legend(left + 60, top + 180, [("a", "√ᾱ: share of the latent"), ("b", "√(1−ᾱ): share of noise")]),
        text(left + w / 2, 14, "Stable Diffusion's x_t", size=12),
    ]
    left, low, high = 440, -4.0, 4.0
    parts += [
        axes(left, top, w, h, ticks, {(n - low) / (high - low): f"{n:g}" for n in (-4, -2, 0, 2, 4)}, "t"),
        text(left + w / 2, 14, "log₁₀ of signal to noise, ᾱ / (1 − ᾱ)", size=12),
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
    return svg(
        760, 284, "The noise schedule: shares of latent and noise, and the signal-to-noise ratio", parts
    )


def attention() -> str:
    """Cross-attention at the finest level of Stable Diffusion 1, with real sizes; and a causal mask's weights."""
    sd = measure("sd1")
    level, (tokens, width) = sd.config.unet.levels[0], sd.context
    pixels = sd.latent[1] * sd.latent[2]
    each = level.channels // level.heads
    parts = [
        text(215, 16, "cross-attention: pixels read words", size=12),
        box(10, 40, 120, 52, "pixels", [times((pixels, level.channels))]),
        box(10, 160, 120, 52, "words", [times((tokens, width))]),
        box(170, 40, 80, 52, "Q", [times((pixels, each))], "net"),
        box(170, 130, 80, 52, "K", [times((tokens, each))], "net"),
        box(170, 196, 80, 52, "V", [times((tokens, each))], "net"),
        arrow((130, 66), (168, 66)),
        arrow((130, 180), (168, 160)),
        arrow((130, 192), (168, 218)),
        box(300, 76, 130, 70, "softmax(QKᵀ/√d)", [times((pixels, tokens)), "each row sums to 1"]),
        arrow((250, 66), (298, 98)),
        arrow((250, 156), (298, 126)),
        box(300, 190, 130, 58, "weights · V", [times((pixels, each))]),
        arrow((365, 146), (365, 188)),
        arrow((250, 222), (298, 222)),
        text(
            215,
            276,
            f"{level.heads} heads, each on its {each} of {level.channels} channels",
            "small",
            size=11,
        ),
        text(620, 16, "causal: a token sees itself and the past", size=12),
    ]
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 1, 7, 8, generator=generator) for _ in range(2))
    for i, row in enumerate(attention_weights(q, k, causal=True)[0, 0].tolist()):
        for j, weight in enumerate(row):
            place = f'x="{530 + 26 * j}" y="{50 + 26 * i}" width="26" height="26"'
            parts.append(f'<rect class="cell" {place} fill-opacity="{weight:.3f}"/>')
    parts += [text(620, 42, "looked at →", "small", size=11), lines(520, 62, ["looks ↓"], "small", "end")]
    parts.append(text(620, 256, "attention_weights(q, k, causal=True)", "shape", size=11))
    return svg(760, 290, "Cross-attention with its shapes, and the weights of causal self-attention", parts)


DIAGRAMS: dict[str, Callable[..., str]] = {
    "pipeline": pipeline, "unet": unet, "schedule": schedule, "attention": attention,
}  # fmt: skip
