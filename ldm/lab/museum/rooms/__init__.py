r"""The list of mistakes. Each module of this folder is a room with those of one part of the model.

They are those that people who port Stable Diffusion make again and again, and some of our own.
"""

from string import ascii_lowercase as LETTERS

from ldm.errors import LdmError
from ldm.lab.museum.mistake import Mistake
from ldm.lab.museum.rooms import (
    adapters,
    basics,
    controlnet,
    inpainting,
    later,
    loading,
    names,
    ours,
    sampling,
    text,
    unet,
    vae,
    xl,
)

ROOMS = (
    *(basics, text, unet, vae, sampling, names, loading, inpainting, xl, adapters, controlnet, later, ours),
)
MISTAKES = tuple(sorted((m for room in ROOMS for m in room.MISTAKES), key=lambda mistake: mistake.order))


def find_mistake(number: str) -> Mistake:
    """The mistake of this number. Raises `LdmError` if there is none."""
    found = {mistake.number: mistake for mistake in MISTAKES}
    if number not in found:
        near = [
            known for known in found if number[:1].isdigit() and known.strip(LETTERS) == number.strip(LETTERS)
        ]
        hint = f"did you mean {' or '.join(near)}?" if near else "`ldm museum` lists them"
        raise LdmError(f"no mistake has the number {number!r}; {hint}")
    return found[number]
