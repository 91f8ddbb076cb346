r"""The shapes inside the networks, drawn: the U-Net and the VAE level by level, and attention."""

import torch

from annotated.drawing import arrow, box, lines, svg, text
from annotated.languages import Say
from annotated.shapes import measure, times
from ldm.nn.attention import attention_weights


def unet(say: Say, name: str) -> str:
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
            text(380, y + 22, say("{n} skips").format(n=per_level + 1), "small", size=11),
        ]
        if i < count - 1:
            parts += [
                arrow((120, y + 58), (120, y + step)),
                text(130, y + 78, say("downsample"), "small", "start", 11),
                arrow((640, y + step), (640, y + 60)),
                text(650, y + 78, say("upsample"), "small", "start", 11),
            ]
    y = 84 + (count - 1) * step + 58
    parts += [
        box(270, bottom, 220, 58, "mid", ["res_1, attn, res_2", times(shapes.unet["mid"][0])], "net"),
        arrow((120, y), (120, bottom + 29), (268, bottom + 29)),
        arrow((490, bottom + 29), (640, bottom + 29), (640, y + 2)),
    ]
    title = say("The U-Net of {name}: the shape of the features at every level").format(name=name)
    return svg(760, bottom + 68, title, parts)


def vae(say: Say, name: str) -> str:
    """A VAE of a preset: the encoder goes down on the left, the decoder up on the right; nothing is handed across."""
    shapes, step = measure(name), 68
    config = shapes.config.vae
    count, scale = len(config.channels), f"{config.scale:.5g}"
    bottom = 100 + count * step
    parts = [
        text(120, 16, say("encoder"), size=12),
        text(640, 16, say("decoder"), size=12),
        box(40, 26, 160, 40, say("image"), [times(shapes.picture)]),
        box(560, 26, 160, 40, say("image"), [times(shapes.picture)]),
        arrow((120, 66), (120, 100)),
        lines(130, 88, [f"conv_in  {times(shapes.encoder['conv_in'][0])}"], anchor="start"),
        arrow((640, 100), (640, 68)),
        lines(650, 88, ["norm_out, conv_out"], anchor="start"),
    ]
    for i in range(count):
        y, up = 100 + i * step, count - 1 - i
        parts += [
            box(40, y, 160, 38, f"down.{i}", [f"res × {config.res_per_level}"], "net"),
            box(560, y, 160, 38, f"up.{up}", [f"res × {config.res_per_level + 1}"], "net"),
            arrow((120, y + 38), (120, y + step)),
            lines(130, y + 57, [times(shapes.encoder[f"down.{i}"][0])], anchor="start"),
            arrow((640, y + step), (640, y + 40)),
            lines(
                650, y + 57, [times(shapes.decoder["mid" if up == 0 else f"up.{up - 1}"][0])], anchor="start"
            ),
        ]
    half, low = (shapes.encoder["quant_conv"][0][0] // 2, *shapes.latent[1:]), bottom + 76
    parts += [
        box(40, bottom, 160, 38, "mid", ["res_1, attn, res_2"], "net"),
        box(560, bottom, 160, 38, "mid", ["res_1, attn, res_2"], "net"),
        arrow((120, bottom + 38), (120, low)),
        lines(130, bottom + 60, ["norm_out, conv_out"], anchor="start"),
        arrow((640, low), (640, bottom + 40)),
        lines(650, bottom + 60, [f"conv_in  {times(shapes.decoder['conv_in'][0])}"], anchor="start"),
        box(30, low, 180, 44, say("mean, log-variance"), [f"2 × ({times(half)})"]),
        arrow((210, low + 22), (344, low + 22)),
        lines(276, low + 14, [say("a sample × {scale}").format(scale=scale)], "small"),
        box(346, low, 110, 44, say("latent"), [times(shapes.latent)]),
        arrow((456, low + 22), (576, low + 22)),
        lines(516, low + 14, [say("÷ {scale}").format(scale=scale)], "small"),
        box(578, low, 124, 44, "z", [times(shapes.latent)]),
    ]
    title = say("The VAE of {name}: the shape of the features at every level").format(name=name)
    return svg(800, low + 54, title, parts)


def attention(say: Say) -> str:
    """Cross-attention at the finest level of Stable Diffusion 1, with real sizes; and a causal mask's weights."""
    sd = measure("sd1")
    level, (tokens, width) = sd.config.unet.levels[0], sd.context
    pixels = sd.latent[1] * sd.latent[2]
    each = level.channels // level.heads
    heads = say("{heads} heads, each on its {each} of {all} channels")
    parts = [
        text(215, 16, say("cross-attention: positions read words"), size=12),
        box(10, 40, 120, 52, say("positions"), [times((pixels, level.channels))]),
        box(10, 160, 120, 52, say("words"), [times((tokens, width))]),
        box(170, 40, 80, 52, "Q", [times((pixels, each))], "net"),
        box(170, 130, 80, 52, "K", [times((tokens, each))], "net"),
        box(170, 196, 80, 52, "V", [times((tokens, each))], "net"),
        arrow((130, 66), (168, 66)),
        arrow((130, 180), (168, 160)),
        arrow((130, 192), (168, 218)),
        box(300, 76, 140, 70, "softmax(QKᵀ/√d)", [times((pixels, tokens)), say("each row sums to 1")]),
        arrow((250, 66), (298, 98)),
        arrow((250, 156), (298, 126)),
        box(300, 190, 140, 58, say("weights · V"), [times((pixels, each))]),
        arrow((370, 146), (370, 188)),
        arrow((250, 222), (298, 222)),
        text(215, 276, heads.format(heads=level.heads, each=each, all=level.channels), "small", size=11),
        text(620, 16, say("causal: a token sees itself and the past"), size=12),
    ]
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 1, 7, 8, generator=generator) for _ in range(2))
    for i, row in enumerate(attention_weights(q, k, causal=True)[0, 0].tolist()):
        for j, weight in enumerate(row):
            place = f'x="{530 + 26 * j}" y="{50 + 26 * i}" width="26" height="26"'
            parts.append(f'<rect class="cell" {place} fill-opacity="{weight:.3f}"/>')
    parts += [
        text(620, 42, say("looked at →"), "small", size=11),
        lines(520, 62, [say("looks ↓")], "small", "end"),
    ]
    parts.append(text(620, 256, "attention_weights(q, k, causal=True)", "shape", size=11))
    title = say("Cross-attention with its shapes, and the weights of causal self-attention")
    return svg(760, 290, title, parts)
