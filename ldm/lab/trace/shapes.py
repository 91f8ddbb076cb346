r"""The shapes of U-Net and VAE, as a table and as a drawing: what goes in and out at every level.

Measured, not listed: see `ldm/lab/trace/passes.py`. In the drawing a box is as high as its features have rows, and as
wide as they have channels, within what can be drawn. Its colours follow the reader's preference for light or dark, and
it brings its own background.
"""

from html import escape

from torch import nn

from ldm.lab.trace.passes import Pass, Shape, inputs, networks, parts, passes
from ldm.nn.resnet import ResBlock
from ldm.pipeline import LatentDiffusion
from ldm.unet.transformer import SpatialTransformer

TITLES = {
    "unet": "U-Net: a noisy latent, t and the text in, the noise out",
    "encoder": "VAE encoder: pixels in, mean and log-variance of the latent out",
    "decoder": "VAE decoder: a latent in, pixels out",
}


def table(model: LatentDiffusion) -> str:
    """U-Net, encoder and decoder as text: a line for each part, in order of execution, with its shapes and size."""
    config, given = model.config, inputs(model.config)
    blocks = [f"{config.name}, one picture of {config.defaults.size} x {config.defaults.size} pixels."]
    blocks[0] += " A shape is channels x height x width."
    for name, network in networks(model).items():
        rows, blank, before = [("module", "in", "out", "parameters")], ("", "", "", ""), ""
        for p in passes(network, dict(parts(network)), *given[name]):
            level = _level_of(p.module)
            rows += [blank] * (level != before)
            before = level
            rows.append((p.module, ", ".join(map(_text, p.inputs)), _text(p.outputs[0]), f"{p.parameters:,}"))
        rows += [blank, ("in all", "", "", f"{sum(p.numel() for p in network.parameters()):,}")]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join([x.ljust(w) for x, w in zip(row[:3], widths)] + [row[3].rjust(widths[3])])
            for row in rows
        ]
        blocks.append("\n".join([TITLES[name], "", *(line.rstrip() for line in lines)]))
    return "\n\n\n".join(blocks) + "\n"


def _level_of(module: str) -> str:
    """ "down.0.res.1" -> "down.0", "mid.attn" -> "mid"; what stands before and after the levels: ""."""
    first, _, rest = module.partition(".")
    return {"mid": "mid", "down": f"down.{rest[:1]}", "up": f"up.{rest[:1]}"}.get(first, "")


def _text(shape: Shape) -> str:
    """(96, 16, 16) -> "96 x 16 x 16"; a single number is "1"."""
    return " x ".join(map(str, shape)) or "1"


WIDTH = 1000  # of the drawing
LEFT, RIGHT = 330, 670  # the middles of the U's arms
STYLE = """
.sheet { --paper: #ffffff; --ink: #1d2733; --pale: #556270; --line: #8997a5;
         --down: #9cc3e6; --mid: #c3b1e1; --up: #f5bf8e; font-family: system-ui, "DejaVu Sans", sans-serif }
@media (prefers-color-scheme: dark) {
  .sheet { --paper: #14191f; --ink: #e8edf2; --pale: #a3b3c3; --line: #6d7f92;
           --down: #2f6391; --mid: #66529a; --up: #a3622a } }
.paper { fill: var(--paper) } .down { fill: var(--down) } .mid { fill: var(--mid) } .up { fill: var(--up) }
.sheet text { fill: var(--ink); font-size: 12px } .sheet .pale { fill: var(--pale); font-size: 11px }
.sheet .name { font-weight: 600; font-size: 13px } .sheet .title { font-weight: 600; font-size: 19px }
.sheet .small { fill: var(--pale); font-size: 10px } .pixels, .latent { fill: var(--line) }
.line { stroke: var(--line); stroke-width: 1.5; fill: none } .skip { stroke-dasharray: 5 4 } .tip { fill: var(--line) }
"""
TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto" '
    'markerUnits="userSpaceOnUse"><path class="tip" d="M0 0 L8 4 L0 8 Z"/></marker></defs>'
)


def svg(model: LatentDiffusion) -> str:
    """U-Net and VAE as a drawing: the text of an SVG file."""
    name, size = escape(model.config.name), model.config.defaults.size
    unet, middle = _draw_unet(model, top=126)
    vae, bottom = _draw_vae(model, top=middle + 60)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="sheet" viewBox="0 0 {WIDTH} {bottom}" width="{WIDTH}" '
        f'height="{bottom}" role="img">\n<title>The U-Net and the VAE of {name}</title>'
    )
    marks = [
        f"<style>{STYLE}</style>",
        TIP,
        f'<rect class="paper" width="{WIDTH}" height="{bottom}" rx="8"/>',
        _say(40, 44, f"The U-Net of {name}", "title", "start"),
        _say(
            40, 66, f"for a picture of {size} × {size}; shapes are channels × height × width", "pale", "start"
        ),
    ]
    return "\n".join([head, *marks, *unet, *vae, "</svg>\n"])


def _draw_unet(model: LatentDiffusion, top: int) -> tuple[list[str], int]:
    """The U: a row for each level, the finest first, and the middle below. Returns its lower end, too."""
    unet, given = model.unet, inputs(model.config)["unet"]
    levels = {f"down.{i}": x for i, x in enumerate(unet.down)} | {"mid": unet.mid}
    levels |= {f"up.{i}": x for i, x in enumerate(unet.up)}
    seen = {p.module: p for p in passes(unet, levels, *given)}
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
    note = f"t goes into every residual block, the text ({_cross(given[2].shape[1:])}) into every transformer"
    marks.append(_say(WIDTH // 2, y + h + 106, note, "pale", "middle"))
    return marks, y + h + 106


def _skips(y: int, down: Pass, up: Pass, full: tuple[int, int]) -> list[str]:
    """The dashed arrow across, with what it carries: an up level's inputs are h, the skips, the time and the text."""
    channels = [shape[0] for shape in up.inputs[1:-2]]
    return [
        _line(LEFT + _half(down, full)[0] + 6, y, RIGHT - _half(up, full)[0] - 6, y, "line skip"),
        _say(WIDTH // 2, y - 8, f"{len(channels)} skips", "pale", "middle"),
        _say(WIDTH // 2, y + 18, " + ".join(map(str, channels)) + " channels", "pale", "middle"),
    ]


def _unet_ends(model: LatentDiffusion, top: int) -> list[str]:
    """What goes in over the left arm, and what comes out over the right one."""
    unet = inputs(model.config)["unet"][0].shape[1:]
    out = (model.config.unet.out_channels, *unet[1:])
    kind = {"eps": "the noise", "v": "v", "x0": "the clean latent"}[model.config.noise.prediction]
    return [
        _say(LEFT, top - 28, f"noisy latent, {_cross(unet)}", "", "middle"),
        _say(RIGHT, top - 28, f"{kind}, {_cross(out)}", "", "middle"),
        _say(LEFT + 12, top - 8, "conv_in", "pale", "start"),
        _say(RIGHT + 12, top - 8, "conv_out", "pale", "start"),
    ]


def _half(p: Pass, full: tuple[int, int]) -> tuple[int, int]:
    """Half the width and half the height of a level's box; `full` are the channels and rows of the largest."""
    return max(8, round(75 * p.outputs[0][0] / full[0])), max(8, round(60 * p.inputs[0][1] / full[1]))


def _level(x: int, y: int, p: Pass, module: nn.Module, full: tuple[int, int]) -> list[str]:
    """A level's box around (x, y), and on its outer side its name, its blocks, its shapes in and out, its size."""
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
        (f"{_count(p.parameters)} parameters", "pale"),
    )
    words = [_say(at[0], at[1] + 17 * k, line, style, anchor) for k, (line, style) in enumerate(lines)]
    return [_box(x - w, y - h, 2 * w, 2 * h, way), *words]


def _draw_vae(model: LatentDiffusion, top: int) -> tuple[list[str], int]:
    """Pixels, encoder, latent, decoder, pixels in a row. Returns its lower end, too."""
    vae, given = model.vae, inputs(model.config)
    down = {f"down.{i}": level for i, level in enumerate(vae.encoder.down)} | {"mid": vae.encoder.mid}
    up = {"mid": vae.decoder.mid} | {f"up.{i}": level for i, level in enumerate(vae.decoder.up)}
    pixels, latent = (tuple(given[name][0].shape[1:]) for name in ("encoder", "decoder"))
    ends = [Pass(name, (shape,), (shape,), 0) for name, shape in (("pixels", pixels), ("latent", latent))]
    columns = [ends[0], *passes(vae.encoder, down, *given["encoder"]), ends[1]]
    columns += [*passes(vae.decoder, up, *given["decoder"]), ends[0]]
    pitch, axis = (WIDTH - 80) / len(columns), top + 120
    text = "encoder, latent, decoder; under each level its channels, its side, its parameters"
    marks = [_say(40, top, "Its VAE", "title", "start"), _say(40, top + 22, text, "pale", "start")]
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
        lines = [_change(a, b), _change(side_a, side_b, "²"), _count(p.parameters) if p.parameters else ""]
        marks.append(_say(x, axis + 86, p.module, "name", "middle"))
        marks += [
            _say(x, axis + 103 + 16 * k, line, "small", "middle") for k, line in enumerate(lines) if line
        ]
    return marks, axis + 170


def _cross(shape: Shape) -> str:
    return " × ".join(map(str, shape))


def _change(a: int, b: int, unit: str = "") -> str:
    return f"{a}{unit}" if a == b else f"{a}{unit} → {b}{unit}"


def _count(n: int) -> str:
    """1234567 -> "1.2 M"."""
    return f"{n / 1e6:.1f} M" if n >= 1e6 else f"{n / 1e3:.0f} k"


def _say(x: int, y: int, text: str, style: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" class="{style}" text-anchor="{anchor}">{text}</text>'


def _box(x: int, y: int, width: int, height: int, style: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="3" class="{style}"/>'


def _line(x: int, y: int, x2: int, y2: int, style: str = "line") -> str:
    return _path(f"M{x} {y} L{x2} {y2}", style)


def _path(d: str, style: str = "line") -> str:
    return f'<path d="{d}" class="{style}" marker-end="url(#tip)"/>'
