r"""Words on pictures: the letters, and where the lines break."""

from pathlib import Path

from PIL import ImageFont

INK, PAPER = "black", "white"
PALE = "#707070"  # for what is said in passing; dark enough to be read on white (contrast 5 to 1)


def font(size: int) -> ImageFont.FreeTypeFont:
    r"""DejaVu Sans, which comes with matplotlib: Pillow's own font has no accents, and half our prompts are French."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def wrapped(text: str, width: int, face: ImageFont.FreeTypeFont) -> list[str]:
    r"""The text in lines of at most `width` pixels, broken at spaces; a single longer word stays whole."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and face.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def shortened(text: str, width: int, face: ImageFont.FreeTypeFont) -> str:
    r"""The text on one line of at most `width` pixels, with an ellipsis where it had to be cut.

    Line ends become spaces; half a surrogate pair, which no font can draw, becomes a question mark.
    """
    text = " ".join(
        text[: width + 1].encode(errors="replace").decode().split()
    )  # no letter is below a pixel wide
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"
