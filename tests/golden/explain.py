r"""Why do two models differ? Which layer is the first, by how much, and which known mistake does just that.

A golden test compares what comes out at the end. If that is wrong, `explain` runs the model once more, watches its
layers, and compares them with those of the reference, which `make.py` recorded in `layers.npz`. `mistakes.json` says
what each porting mistake of `ldm/lab/museum/rooms/` does to the same models (`python -m tests.golden.make_mistakes`
made it), so that a difference can be looked up.
"""

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from ldm.checkpoints.names import Row
from ldm.lab.museum.rooms import MISTAKES
from tests.golden.compare import golden
from tests.golden.watching import unpacked, watched

MISTAKES_FILE = Path(__file__).parent / "mistakes.json"
TOLERANCE = 1e-9  # of a layer's largest number; what is equal agrees to 1e-14, a wrong eps shows at 1e-7
READ_DIRECTLY = "position_embedding"  # a table that the image encoder reads without calling the layer
SAME = 0.02  # two differences whose sizes are this close are the same


@dataclass(frozen=True)
class Difference:
    r"""The first layer in which two models differ."""

    layer: str  # our name for it
    theirs: str  # the reference's name
    absolute: float  # the largest difference; infinite if the layer runs in the reference and not here
    relative: float  # the same in units of the reference's largest number
    before: str | None  # the last layer that was still equal


def first_difference(
    ours: dict[str, Tensor], theirs: dict[str, Tensor], rows: Iterable[Row], tolerance: float = TOLERANCE
) -> Difference | None:
    r"""Compare samples of layers in the order in which the reference ran them; None if all are equal."""
    names = {row.diffusers.rpartition(".")[0]: row.ours.rpartition(".")[0] for row in rows}
    before = None
    for name, expected in theirs.items():
        layer = names.get(name)
        if layer is None or (layer.endswith(READ_DIRECTLY) and layer not in ours):
            continue
        if layer not in ours:
            return Difference(layer, name, math.inf, math.inf, before)
        largest = expected.abs().max().item()
        absolute = (ours[layer] - expected).abs().max().item()
        if not absolute <= tolerance * largest:  # not a number is a difference, too
            return Difference(layer, name, absolute, absolute / largest, before)
        before = layer
    return None


def recorded(case: str) -> dict[str, Tensor]:
    r"""The reference's layers in a golden case, such as "unet/sd1/even"."""
    arrays = golden("layers")
    return dict(zip(unpacked(arrays[f"{case}/names"]), arrays[f"{case}/samples"], strict=True))


def measure(case: str, model: nn.Module, rows: Iterable[Row], run: Callable[[], object]) -> Difference | None:
    with watched(model) as ours:
        run()
    return first_difference(ours, recorded(case), rows)


def explain(case: str, model: nn.Module, rows: Iterable[Row], run: Callable[[], object]) -> str:
    r"""What to print when `run`, a call of `model`, does not give the golden output of this case."""
    return told(measure(case, model, rows, run), case)


def told(found: Difference | None, case: str | None = None) -> str:
    r"""A difference in words, with the known mistakes that begin at its layer."""
    if found is None:
        return "Every layer that has weights is equal: the difference arises after the last one."
    size = f"by up to {found.absolute:.1e}, relative {found.relative:.1e}"
    lines = [
        f"The first layer that differs is {found.layer} (there: {found.theirs}),",
        f"    {'which never runs here' if found.absolute == math.inf else size}.",
    ]
    if found.before:
        lines.append(f"    Still equal before it: {found.before}.")
    same, near = known_mistakes(found, case)
    lines += [f"    It is what this mistake does: {mistake}." for mistake in same]
    lines += [f"    A mistake that begins at such a place, with another size: {mistake}." for mistake in near]
    if not same and not near:
        lines.append("    No known mistake begins there.")
    return "\n".join(lines)


def known_mistakes(found: Difference, case: str | None) -> tuple[list[str], list[str]]:
    r"""Numbers and names of the mistakes that give this very difference, and of others at such a place.

    In a golden case a difference can be looked up exactly; of another model (`case` None), only its place can.
    """
    titles = {mistake.number: f"{mistake.number}, {mistake.name}" for mistake in MISTAKES}
    same: list[str] = []
    near: list[str] = []
    for name, effects in json.loads(MISTAKES_FILE.read_text(encoding="utf-8")).items():
        for number, (layer, relative) in effects.items():
            is_same = relative == found.relative or abs(relative / found.relative - 1) < SAME
            if name == case and layer == found.layer and is_same:
                same.append(titles[number])
            elif place(layer) == place(found.layer):
                near.append(titles[number])
    unique = dict.fromkeys(near)
    return same, [] if same else [title for title in unique if title not in same]


def place(layer: str) -> str:
    r"""What kind of layer it is: its name without numbers, level and direction.

    up.1.attn.2.proj_in -> attn.proj_in; of the VAE: encoder.down.0.res.0.conv_1 -> vae.res.conv_1
    """
    name = re.sub(r"^(encoder|decoder)\.", "vae.", layer)
    name = re.sub(r"\b(down|up|mid)\.", "", name).replace("res_1.", "res.").replace("res_2.", "res.")
    return re.sub(r"\b\d+\.", "", name)
