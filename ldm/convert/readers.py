r"""Any file of weights: what format it is in, by its first bytes and not by its name, and its tensors.

What people give instead of a checkpoint is recognised too, so that they are told what they have.
"""

from pathlib import Path

from torch import Tensor

from ldm.convert.pickled import read_pickled
from ldm.convert.safe import map_tensors
from ldm.errors import LdmError
from ldm.files import open_regular

# First bytes of what is no checkpoint, and what to do about it.
IMPOSTORS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`",
    b"<!DOCTYPE": "a web page: the download saved the page instead of the file",
    b"<html": "a web page: the download saved the page instead of the file",
    b"GGUF": "a GGUF file of llama.cpp: take the .safetensors file of the model",
    b"\x89HDF": "an HDF5 file of Keras: take the .safetensors file of the model",
    b"\x89PNG": "a picture: give the checkpoint that painted it",
    b"\xff\xd8\xff": "a picture: give the checkpoint that painted it",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"Rar!": "a RAR archive: unpack it",
}


def is_pickled(path: Path) -> bool:
    """Whether it is a zip archive or a bare pickle. Raises `LdmError` for what is no checkpoint, or not readable."""
    with open_regular(path) as file:
        head = file.read(512)
    if not head:
        raise LdmError(f"{path} is empty; fetch it again")
    for first, what in IMPOSTORS.items():
        if head.startswith(first):
            raise LdmError(f"{path} is {what}")
    if head[257:262] == b"ustar":
        raise LdmError(
            f"{path} is a tar archive, the format of torch before version 0.1.10, which cannot be opened safely; "
            "take the .safetensors file of the same model"
        )
    # A safetensors file begins with the length of its header: for that to look like a pickle's first two bytes it
    # would have to be 640 bytes and some multiples of 65,536, and the header's brace in byte 8 tells them apart.
    return head.startswith(b"PK") or (head[0] == 0x80 and head[8:9] != b"{")


def read_file(path: Path) -> dict[str, Tensor]:
    """The tensors of one file of weights, mapped into memory. Raises `LdmError` for anything else."""
    return read_pickled(path) if is_pickled(path) else map_tensors(path)
