r"""A mistake: one passage of one file of `ldm/`, replaced by what people write in its place.

Most of these mistakes still load every checkpoint and still generate something. `make mutants` makes each of them in a
copy of the repository and checks that a test fails; the museum shows what it does to an image.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ldm.errors import LdmError

# What is shown: a generated image, an image that the VAE encoded and decoded, what an inpainting U-Net reads, the
# tokens of a prompt, or how similar CLIP finds an image and a prompt.
Show = Literal["image", "round trip", "inpainting input", "tokens", "similarity"]
CONTROL = "control.safetensors"  # the ControlNet in the folder of a model that has one


@dataclass(frozen=True)
class Setting:
    """How a mistake is shown. Mistakes with equal settings share their right image."""

    prompt: str | list[str] = "a dog with glasses"  # of several, the image of the first is shown
    options: Mapping[str, Any] = field(
        default_factory=dict
    )  # of `generate`; the model's defaults for the rest
    # A ControlNet with a drawing for each entry: the options of its `Control`, and the number of another drawing than
    # the usual one, if wanted. (`file` has to be "with_control".)
    control: Sequence[Mapping[str, Any]] = ()
    init: bool = False  # start from a drawing, at `strength` in the options
    show: Show = "image"
    file: str = "ours"  # the form of checkpoint that the model is read from: a function of `files.py`
    loading: Mapping[str, Any] = field(default_factory=dict)  # options of `load`
    clean: Literal["", "openai", "hf"] = ""  # another normalisation of the prompt than the model's
    convert: str = ""  # first convert the file to our layout ("ours"), or export it ("diffusers")

    @property
    def prompts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else list(self.prompt)


@dataclass(frozen=True)
class Mistake:
    """`before`, which stands exactly once in `file`, becomes `after`."""

    number: str  # equal but for the letter: variants of one mistake
    name: str
    file: str  # under ldm/
    before: str
    after: str
    why: str  # why it is easy to make, and what gives it away
    setting: Setting = Setting()
    # A change of the shown model's config (in `standins.py`) that is made instead of the replacement, where that is in
    # a preset of Stable Diffusion, whose weights are not here.
    standin: str = ""
    seen: tuple[tuple[str, str], ...] = ()  # where people met it: (address, what they saw)

    @property
    def module(self) -> str:
        return "ldm." + self.file.removesuffix(".py").replace("/", ".")

    @property
    def order(self) -> tuple[int, str]:
        digits = self.number.rstrip("abcdefghijklmnopqrstuvwxyz")
        return int(digits), self.number[len(digits) :]


def patched(source: str, mistake: Mistake) -> str:
    """A file's source with the mistake in it. Raises `LdmError` unless the passage occurs exactly once."""
    count = source.count(mistake.before)
    if count != 1:
        raise LdmError(
            f"mistake {mistake.number} no longer applies: {mistake.before!r} stands {count} times in "
            f"ldm/{mistake.file}, expected once; bring its entry in ldm/lab/museum/rooms/ up to date"
        )
    return source.replace(mistake.before, mistake.after)


def changed_lines(source: str, mistake: Mistake) -> list[str]:
    """The lines that the mistake removes ("- ...") and adds ("+ ..."), without their common indentation."""
    old, new = source.splitlines(), patched(source, mistake).splitlines()
    lines = list(difflib.unified_diff(old, new, n=0, lineterm=""))[2:]
    changed = [line for line in lines if not line.startswith("@@")]
    indent = min((len(line[1:]) - len(line[1:].lstrip()) for line in changed if line[1:].strip()), default=0)
    return [f"{line[0]} {line[1 + indent :]}".rstrip() for line in changed]
