r"""SVG as text: boxes, arrows, curves. Colours are classes that `site.css` fills in, for light and for dark."""

from collections.abc import Iterable, Sequence
from html import escape

LINE = 15  # from one line of small text to the next


def svg(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """The whole picture; `title` is what a screen reader says."""
    arrow = '<path class="head" d="M0 0 L9 4 L0 8 z"/>'
    marker = (
        f'<marker id="arrow" viewBox="0 0 9 8" refX="8" refY="4" markerWidth="9" markerHeight="8" orient="auto" '
        f'markerUnits="userSpaceOnUse">{arrow}</marker>'
    )
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}" font-size="13">'
        f"<defs>{marker}</defs>{''.join(parts)}</svg>"
    )


def text(x: float, y: float, words: str, style: str = "", anchor: str = "middle", size: float = 13) -> str:
    kind = f' class="{style}"' if style else ""
    return (
        f'<text x="{x:g}" y="{y:g}"{kind} text-anchor="{anchor}" font-size="{size:g}">{escape(words)}</text>'
    )


def lines(x: float, y: float, words: Sequence[str], style: str = "shape", anchor: str = "middle") -> str:
    """Small lines of text below one another, the first on `y`."""
    return "".join(text(x, y + i * LINE, line, style, anchor, 11) for i, line in enumerate(words))


def box(
    x: float, y: float, w: float, h: float, title: str, below: Sequence[str] = (), style: str = "box"
) -> str:
    """A rectangle with a title and small lines under it, centred."""
    top = y + h / 2 - len(below) * LINE / 2 + 4
    return (
        f'<rect class="{style}" x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="6"/>'
        + text(x + w / 2, top, title)
        + lines(x + w / 2, top + LINE, below)
    )


def arrow(*points: tuple[float, float], style: str = "wire") -> str:
    """A line through the points, with a head at the last."""
    path = " L".join(f"{x:g} {y:g}" for x, y in points)
    return f'<path class="{style}" d="M{path}" marker-end="url(#arrow)"/>'


def curve(xs: Sequence[float], ys: Sequence[float], style: str) -> str:
    return f'<path class="{style}" d="M{" L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys))}"/>'


def axes(
    x: float, y: float, w: float, h: float, x_ticks: dict[float, str], y_ticks: dict[float, str], x_label: str
) -> str:
    """A frame of w by h; ticks are given as (share of the way along the axis: label)."""
    parts = [f'<path class="axis" fill="none" d="M{x:g} {y:g} v{h:g} h{w:g}"/>']
    for share, label in x_ticks.items():
        parts.append(text(x + share * w, y + h + 16, label, "small", size=11))
    for share, label in y_ticks.items():
        height = y + h - share * h
        parts.append(f'<path class="axis" d="M{x:g} {height:g} h{w:g}" stroke-dasharray="2 4"/>')
        parts.append(text(x - 7, height + 4, label, "small", "end", 11))
    return "".join([*parts, text(x + w / 2, y + h + 33, x_label, "small", size=12)])


def legend(x: float, y: float, entries: Sequence[tuple[str, str]]) -> str:
    """A short stroke and a name for each (class, name)."""
    return "".join(
        f'<path class="{style}" d="M{x:g} {y + i * 17:g} h22"/>'
        + text(x + 28, y + i * 17 + 4, name, "", "start", 12)
        for i, (style, name) in enumerate(entries)
    )
