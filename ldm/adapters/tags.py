r"""`<lora:name:0.8>` in a prompt: which LoRAs an image wants, and how strongly.

The notation is that of AUTOMATIC1111's web interface, which many published prompts use. A tag is an instruction and
not a description: it is taken out of the prompt before the text is encoded. Without a number the strength is 1.

    split_tags("a cat <lora:ink:0.8>")  ->  ("a cat ", [("ink", 0.8)])

A name is that of a file without its suffix, beside the model or in `loras/` beside it. Prompts get copied from
strangers, so it can be no path.
"""

import re
from collections.abc import Sequence

from ldm.errors import LdmError, shown

_TAG = re.compile(r"<lora:([^<>]{0,300})>")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,6}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})")


def split_tags(prompt: str) -> tuple[str, list[tuple[str, float]]]:
    """The prompt without its tags, and the name and strength of each. Raises `LdmError` for a tag of another form."""
    return _TAG.sub("", prompt), [_read(match[1]) for match in _TAG.finditer(prompt)]


def split_prompts(prompts: Sequence[str]) -> tuple[list[str], list[tuple[str, float]]]:
    """As `split_tags`, for prompts of one batch. Raises `LdmError` if they differ in their tags: weights are shared."""
    plain, tags = zip(*map(split_tags, prompts)) if prompts else ((), ())
    if any(other != tags[0] for other in tags[1:]):
        raise LdmError("the prompts of a batch ask for different LoRAs; generate them one after another")
    return list(plain), tags[0] if tags else []


def _read(inside: str) -> tuple[str, float]:
    name, colon, number = inside.partition(":")
    if not name.strip() or (colon and not _NUMBER.fullmatch(number.strip())):
        raise LdmError(
            f"the prompt has {shown(f'<lora:{inside}>')}; expected a name and a strength: <lora:ink:0.8>"
        )
    return name.strip(), float(number) if colon else 1.0


def split_strength(text: str) -> tuple[str, float]:
    """A file and its strength as the command line takes them: "ink.safetensors:0.8" -> ("ink.safetensors", 0.8).

    Raises `LdmError` for a file of weights with anything but a number behind it.
    """
    name, colon, number = text.rpartition(":")
    if colon and name and _NUMBER.fullmatch(number):
        return name, float(number)
    if colon and name.endswith((".safetensors", ".pt", ".ckpt", ".bin")):
        raise LdmError(
            f"{shown(text)}: a strength of {shown(number)}; expected a decimal number, as in {name}:0.8"
        )
    return text, 1.0
