r"""The image that a ControlNet reads: made here where no second network is needed.

Each ControlNet was trained on hints of one kind. Some are simple functions of an image:

- *canny*: white edges on black, by Canny's method (below);
- *scribble*: white strokes on black, from a drawing with dark strokes on a light ground;
- *tile*: the image itself, of which the details are invented anew;
- *inpaint*: the image itself, with -1 in place of all three colours where it may change.

Others (depth, pose, normals, ...) are what another network says about an image; another program has to make those.
A hint is RGB in [0, 1], not in [-1, 1] as pixels are everywhere else in this package.

**Canny's edges** (Canny 1986, in OpenCV's form, which made the hints of the published weights). An edge is where the
brightness changes fast, and a line is thin, so three questions are asked of each pixel:

1. How fast does it change? Differences of the neighbours, smoothed across (Sobel), horizontally $g_x$ and vertically
   $g_y$, give the magnitude $m = |g_x| + |g_y|$, of the colour in which it is largest.
2. Does it change faster there than at both neighbours in the direction of the gradient? Only those pixels are kept.
3. Is m above the high threshold? Or above the low one, and connected with one that is above the high one?
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from ldm.errors import LdmError
from ldm.images.reading import fit_mask, fit_picture

Pixels = UInt8[np.ndarray, "h w 3"]

LOW, HIGH = 100, 200  # Canny's thresholds in ControlNet's own demo
DARK = 127  # a stroke of a scribble is darker than this in at least one colour
TAN_22 = 13573  # tan(22.5 degrees) * 2**15, in whole numbers as in OpenCV


def canny(image: Pixels, low: int = LOW, high: int = HIGH) -> Bool[np.ndarray, "h w"]:
    """The edges of an image. `low` and `high` are thresholds of the magnitude: larger ones find fewer edges."""
    gx, gy = sobel(image)
    strongest = (np.abs(gx) + np.abs(gy)).argmax(axis=2)[..., None]
    gx, gy = (np.take_along_axis(g, strongest, axis=2)[..., 0] for g in (gx, gy))
    magnitude = np.abs(gx) + np.abs(gy)
    thin = (magnitude > low) & is_ridge(magnitude, gx, gy)
    return connected(thin & (magnitude > high), thin)


def sobel(image: Pixels) -> tuple[np.ndarray, np.ndarray]:
    r"""The derivatives $g_x, g_y$ of each colour, with the weights 1, 2, 1 across; at the border, pixels repeat."""
    p = np.pad(image.astype(np.int64), ((1, 1), (1, 1), (0, 0)), mode="edge")
    down = p[:-2] + 2 * p[1:-1] + p[2:]
    right = p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]
    return down[:, 2:] - down[:, :-2], right[2:] - right[:-2]


def is_ridge(magnitude: np.ndarray, gx: np.ndarray, gy: np.ndarray) -> Bool[np.ndarray, "h w"]:
    """Where the magnitude is larger than at both neighbours in the direction of the gradient, to the next 45 degrees.

    Of two equal ones beside or above one another, the first is kept.
    """
    height, width = magnitude.shape
    m = np.pad(magnitude, 1)

    def beside(dy: int, dx: int) -> np.ndarray:
        return m[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    x, y = np.abs(gx), np.abs(gy) << 15
    flat = x * TAN_22  # below this, the gradient is within 22.5 degrees of horizontal
    steep = flat + (x << 16)  # tan(67.5) = 2 + tan(22.5)
    horizontal = (magnitude > beside(0, -1)) & (magnitude >= beside(0, 1))
    vertical = (magnitude > beside(-1, 0)) & (magnitude >= beside(1, 0))
    falling = (magnitude > beside(-1, -1)) & (magnitude > beside(1, 1))
    rising = (magnitude > beside(-1, 1)) & (magnitude > beside(1, -1))
    diagonal = np.where((gx < 0) == (gy < 0), falling, rising)
    return np.where(y < flat, horizontal, np.where(y > steep, vertical, diagonal))


def connected(sure: Bool[np.ndarray, "h w"], possible: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The `sure` pixels, and all `possible` ones that are connected with them, diagonally too."""
    width = sure.shape[1] + 2
    offsets = [dy * width + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    found, waiting = np.pad(sure, 1).ravel(), np.pad(possible & ~sure, 1).ravel()
    front = np.flatnonzero(found)
    while front.size:
        near = (front[:, None] + offsets).ravel()
        front = np.unique(near[waiting[near]])
        found[front], waiting[front] = True, False
    return found.reshape(-1, width)[1:-1, 1:-1]


def scribble(image: Pixels) -> Bool[np.ndarray, "h w"]:
    """White where the drawing has a dark stroke."""
    return image.min(axis=2) < DARK


LINES: dict[str, Callable[[Pixels], np.ndarray]] = {"canny": canny, "scribble": scribble}
PREPARED = (*LINES, "tile", "inpaint")
# What only another network can make, and what the ControlNet expects of it. (Words of file names, too.)
ELSEWHERE = {
    "depth": "a depth map, near is white",
    "openpose": "coloured sticks of a pose on black, as OpenPose draws them",
    "normal": "a map of surface normals as colours",
    "mlsd": "straight lines, white on black (M-LSD)",
    "lineart": "line art, white on black",
    "hed": "soft edges, white on black (HED)",
    "softedge": "soft edges, white on black (HED or PiDiNet)",
    "seg": "a segmentation in the colours of ADE20K",
    "shuffle": "an image whose parts were shuffled",
}
HERE = {
    "canny": "white edges on black",
    "scribble": "white strokes on black",
    "tile": "the image itself, which may be blurred or small",
    "inpaint": "the image itself, with what may change masked",
}


def expected_image(name: str) -> str | None:
    """What a ControlNet whose file has this name reads, as far as the name tells: "white edges on black"."""
    found = next((kind for kind in (*HERE, *ELSEWHERE) if kind in name.lower()), None)
    if found is None:
        return None
    here = found in HERE
    return (HERE | ELSEWHERE)[found] + (
        f" (--control-prepare {found} makes it)" if here else ", which another program has to make"
    )


def prepare_hint(
    kind: str | None, image: Image.Image, size: tuple[int, int], mask: Image.Image | None = None
) -> Float[Tensor, "1 3 h w"]:
    """The hint in [0, 1] for an image of `size` (width, height): resized and cropped to it, then prepared.

    Without a `kind`, the image is the hint already. Raises `LdmError` as `check_preparation` does.
    """
    check_preparation(kind, mask)
    pixels = np.asarray(fit_picture(image, size))
    if kind in LINES:
        pixels = np.repeat(LINES[kind](pixels)[..., None] * np.uint8(255), 3, axis=2)
    hint = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].double() / 255
    if mask is not None:
        hint = torch.where(torch.from_numpy(np.asarray(fit_mask(mask, size)) > 0), -1.0, hint)
    return hint.contiguous()


def check_preparation(kind: str | None, mask: Image.Image | None) -> None:
    """Raise an `LdmError` for a kind that cannot be made here, and for a mask that is missing or not needed."""
    if kind in ELSEWHERE:
        raise LdmError(
            f"{kind!r} needs a network that is not part of this package; let another program make the image "
            f"({ELSEWHERE[kind]}) and give that, with nothing to prepare"
        )
    if kind is not None and kind not in PREPARED:
        raise LdmError(f"cannot prepare {kind!r}; expected one of {', '.join(PREPARED)}, or nothing")
    if (kind == "inpaint") != (mask is not None):
        raise LdmError(
            f"a hint of the kind {kind!r} {'without' if mask is None else 'with'} a mask; 'inpaint' needs one, white "
            "where the image may change, and the others need none"
        )
