r"""The shapes of U-Net and VAE as a table and as an SVG drawing: the inputs and outputs of every level.

All shapes are measured (`ldm/lab/trace/summary.py`). In the drawing, a box's height stands for the height of its
features and its width for their channels. The colours follow the reader's preference for light or dark.
"""

from html import escape
from pathlib import Path
from string import Template

from torch import nn

from ldm.lab.trace.summary import ModuleSummary, Shape, meta_inputs, networks, summarize, table_modules
from ldm.nn.resnet import ResBlock
from ldm.pipeline import LatentDiffusion
from ldm.unet.transformer import SpatialTransformer

TITLES = {
    "unet": "U-Net: from a noisy latent, t and the text to the prediction",
    "encoder": "VAE encoder: from pixels to mean and log-variance of the latent",
    "decoder": "VAE decoder: from a latent to pixels",
}


def shapes_table(model: LatentDiffusion) -> str:
    """U-Net, encoder and decoder as text: a line per module in order of execution, with its shapes and parameters."""
    config, given = model.config, meta_inputs(model.config)
    size = config.defaults.size
    blocks = [f"{config.name}, one image of {size} x {size} pixels. A shape is channels x height x width."]
    for name, network in networks(model).items():
        rows, blank, before = [("module", "in", "out", "parameters")], ("", "", "", ""), ""
        for p in summarize(network, dict(table_modules(network)), *given[name]):
            level = _level_of(p.module)
            rows += [blank] * (level != before)
            before = level
            rows.append(
                (p.module, ", ".join(map(_shape, p.inputs)), _shape(p.outputs[0]), f"{p.parameters:,}")
            )
        rows += [blank, ("in all", "", "", f"{sum(p.numel() for p in network.parameters()):,}")]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join([x.ljust(w) for x, w in zip(row[:3], widths)] + [row[3].rjust(widths[3])])
            for row in rows
        ]
        blocks.append("\n".join([TITLES[name], "", *(line.rstrip() for line in lines)]))
    return "\n\n\n".join(blocks) + "\n"


def _level_of(module: str) -> str:
    """ "down.0.res.1" -> "down.0", "mid.attn" -> "mid"; "" before and after the levels."""
    first, _, rest = module.partition(".")
    return {"mid": "mid", "down": f"down.{rest[:1]}", "up": f"up.{rest[:1]}"}.get(first, "")


def _shape(shape: Shape) -> str:
    """(96, 16, 16) -> "96 x 16 x 16"; a single number is "1"."""
    return " x ".join(map(str, shape)) or "1"


WIDTH = 1000  # of the drawing
LEFT, RIGHT = 330, 670  # the centres of the U's arms


def shapes_svg(model: LatentDiffusion) -> str:
    """U-Net and VAE as a drawing: the text of an SVG file."""
    unet, middle = _draw_unet(model, top=126)
    vae, bottom = _draw_vae(model, top=middle + 60)
    template = Template((Path(__file__).parent / "shapes.svg").read_text(encoding="utf-8"))
    name, size, marks = escape(model.config.name), model.config.defaults.size, "\n".join([*unet, *vae])
    return template.substitute(width=WIDTH, height=bottom, name=name, size=size, marks=marks)


def _draw_unet(model: LatentDiffusion, top: int) -> tuple[list[str], int]:
    """The U: a row for each level, the finest first, and the middle below. Also returns its lower end."""
    unet, given = model.unet, meta_inputs(model.config)["unet"]
    levels = {f"down.{i}": x for i, x in enumerate(unet.down)} | {"mid": unet.mid}
    levels |= {f"up.{i}": x for i, x in enumerate(unet.up)}
    seen = {p.module: p for p in summarize(unet, levels, *given)}
    full = (max(p.outputs[0][0] for p in seen.values()), given[0].shape[-2])
    marks, y, above = _unet_ends(model, top), top, top - 22
    for i in range(len(unet.down)):
        down, up = seen[f"down.{i}"], seen[f"up.{len(unet.up) - 1 - i}"]
        w, h = _half(down, full)
        y += max(40, h)
        marks += _level(LEFT, y, down, levels[down.module], full)
        marks += _level(RIGHT, y, up, levels[up.module], full)
        marks += [_line(LEFT, above, LEFT, y - h - 4), _line(RIGHT, y - h - 4, RIGHT, above)]
        marks += _skips(y, down, up, full)
        above = y + h + 4
        y += max(40, h) + 30
    w, h = _half(seen["mid"], full)
    marks += _level(WIDTH // 2, y, seen["mid"], unet.mid, full)
    marks.append(_path(f"M{LEFT} {above} V{y} H{WIDTH // 2 - w - 4}"))
    marks.append(_path(f"M{WIDTH // 2 + w + 4} {y} H{RIGHT} V{above}"))
    note = f"every residual block reads t, every transformer the text ({_cross(given[2].shape[1:])})"
    marks.append(_text(WIDTH // 2, y + h + 106, note, "pale", "middle"))
    return marks, y + h + 106


def _skips(y: int, down: ModuleSummary, up: ModuleSummary, full: tuple[int, int]) -> list[str]:
    """The dashed arrow across, with the skips. (An up level's inputs are h, the skips, the time and the text.)"""
    channels = [shape[0] for shape in up.inputs[1:-2]]
    return [
        _line(LEFT + _half(down, full)[0] + 6, y, RIGHT - _half(up, full)[0] - 6, y, "line skip"),
        _text(WIDTH // 2, y - 8, f"{len(channels)} skips", "pale", "middle"),
        _text(WIDTH // 2, y + 18, " + ".join(map(str, channels)) + " channels", "pale", "middle"),
    ]


def _unet_ends(model: LatentDiffusion, top: int) -> list[str]:
    """The input above the left arm and the output above the right one."""
    unet = meta_inputs(model.config)["unet"][0].shape[1:]
    out = (model.config.unet.out_channels, *unet[1:])
    kind = {"eps": "the noise", "v": "v", "x0": "the clean latent"}[model.config.noise.prediction]
    return [
        _text(LEFT, top - 28, f"noisy latent, {_cross(unet)}", "", "middle"),
        _text(RIGHT, top - 28, f"{kind}, {_cross(out)}", "", "middle"),
        _text(LEFT + 12, top - 8, "conv_in", "pale", "start"),
        _text(RIGHT + 12, top - 8, "conv_out", "pale", "start"),
    ]


def _half(p: ModuleSummary, full: tuple[int, int]) -> tuple[int, int]:
    """Half the width and half the height of a level's box; `full` is the largest number of channels and rows."""
    return max(8, round(75 * p.outputs[0][0] / full[0])), max(8, round(60 * p.inputs[0][1] / full[1]))


def _level(x: int, y: int, p: ModuleSummary, module: nn.Module, full: tuple[int, int]) -> list[str]:
    """A level's box around (x, y), with its name, blocks, shapes and parameters on the outer side."""
    w, h = _half(p, full)
    way = p.module.partition(".")[0]
    anchor = {"down": "end", "mid": "middle", "up": "start"}[way]
    at = {"down": (x - w - 14, y - 20), "mid": (x, y + h + 22), "up": (x + w + 14, y - 20)}[way]
    res, attn = (
        sum(isinstance(m, kind) for m in module.modules()) for kind in (ResBlock, SpatialTransformer)
    )
    made_of = f"{res} residual block{'s' * (res > 1)}" + f", {attn} transformer{'s' * (attn > 1)}" * (
        attn > 0
    )
    change = f"{_cross(p.inputs[0])} → {_cross(p.outputs[0])}"
    lines = (
        (p.module, "name"),
        (made_of, "pale"),
        (change, ""),
        (f"{_millions(p.parameters)} parameters", "pale"),
    )
    words = [_text(at[0], at[1] + 17 * k, line, style, anchor) for k, (line, style) in enumerate(lines)]
    return [_box(x - w, y - h, 2 * w, 2 * h, way), *words]


def _draw_vae(model: LatentDiffusion, top: int) -> tuple[list[str], int]:
    """Pixels, encoder, latent, decoder and pixels in a row. Also returns its lower end."""
    vae, given = model.vae, meta_inputs(model.config)
    down = {f"down.{i}": level for i, level in enumerate(vae.encoder.down)} | {"mid": vae.encoder.mid}
    up = {"mid": vae.decoder.mid} | {f"up.{i}": level for i, level in enumerate(vae.decoder.up)}
    pixels, latent = (tuple(given[name][0].shape[1:]) for name in ("encoder", "decoder"))
    ends = [
        ModuleSummary(name, (shape,), (shape,), 0) for name, shape in (("pixels", pixels), ("latent", latent))
    ]
    columns = [ends[0], *summarize(vae.encoder, down, *given["encoder"]), ends[1]]
    columns += [*summarize(vae.decoder, up, *given["decoder"]), ends[0]]
    pitch, axis = (WIDTH - 80) / len(columns), top + 120
    text = "encoder, latent, decoder; under each level its channels, its side, its parameters"
    marks = [_text(40, top, "Its VAE", "title", "start"), _text(40, top + 22, text, "pale", "start")]
    left = None
    for i, p in enumerate(columns):
        x = round(40 + (i + 0.5) * pitch)
        (a, side_a, _), (b, side_b, _) = p.inputs[0], p.outputs[0]
        w = max(3, round(0.32 * pitch * b / max(model.config.vae.channels)))
        h = max(4, round(60 * side_a / pixels[1]))
        marks.append(_box(x - w, axis - h, 2 * w, 2 * h, p.module.partition(".")[0]))
        if left is not None:
            marks.append(_line(left + 3, axis, x - w - 3, axis))
        left = x + w
        lines = [_change(a, b), _change(side_a, side_b, "²"), _millions(p.parameters) if p.parameters else ""]
        marks.append(_text(x, axis + 86, p.module, "name", "middle"))
        marks += [
            _text(x, axis + 103 + 16 * k, line, "small", "middle") for k, line in enumerate(lines) if line
        ]
    return marks, axis + 170


def _cross(shape: Shape) -> str:
    return " × ".join(map(str, shape))


def _change(a: int, b: int, unit: str = "") -> str:
    return f"{a}{unit}" if a == b else f"{a}{unit} → {b}{unit}"


def _millions(n: int) -> str:
    """1234567 -> "1.2 M"."""
    return f"{n / 1e6:.1f} M" if n >= 1e6 else f"{n / 1e3:.0f} k"


def _text(x: int, y: int, text: str, style: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" class="{style}" text-anchor="{anchor}">{text}</text>'


def _box(x: int, y: int, width: int, height: int, style: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="3" class="{style}"/>'


def _line(x: int, y: int, x2: int, y2: int, style: str = "line") -> str:
    return _path(f"M{x} {y} L{x2} {y2}", style)


def _path(d: str, style: str = "line") -> str:
    return f'<path d="{d}" class="{style}" marker-end="url(#tip)"/>'
