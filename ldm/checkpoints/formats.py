r"""Any file of weights: what format it is in, by its first bytes and not by its name, and its tensors.

What people give instead of a checkpoint is recognised too, so that they are told what they have.
"""

from pathlib import Path

from torch import Tensor

from ldm.checkpoints.pickle_file import read_pickled
from ldm.checkpoints.safetensors_file import map_tensors
from ldm.errors import LdmError
from ldm.files.read_write import open_regular

# First bytes of what is no checkpoint, and what to do about it.
IMPOSTORS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`",
    b"GGUF": "a GGUF file of llama.cpp: take the .safetensors file of the model",
    b"\x89HDF": "an HDF5 file of Keras: take the .safetensors file of the model",
    b"\x89PNG": "a picture: give the checkpoint that painted it",
    b"\xff\xd8\xff": "a picture: give the checkpoint that painted it",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"Rar!": "a RAR archive: unpack it",
}
WEB_PAGE = "a web page or a server's message: the download saved that instead of the file"
# Likewise for texts, by how they begin, in small letters.
TEXTS = {
    "<!doctype": WEB_PAGE,
    "<html": WEB_PAGE,
    "<head": WEB_PAGE,
    "<?xml": WEB_PAGE,
    "{": "a JSON file, which has no weights in it: give the folder that it lies in",
}
# Formats that do not always tell themselves by their first bytes.
SUFFIXES = {
    ".onnx": "an ONNX file",
    ".msgpack": "a file of Flax",
    ".h5": "a file of Keras",
    ".tflite": "a TFLite file",
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
    if path.suffix.lower() in SUFFIXES:
        raise LdmError(
            f"{path} is {SUFFIXES[path.suffix.lower()]}: take the .safetensors file of the same model"
        )
    text = _as_text(head)
    if text:
        known = next((what for begin, what in TEXTS.items() if text.lower().startswith(begin)), None)
        raise LdmError(
            f"{path} is {known or f'a text file, which begins with {text[:40]!r}'}; expected a file of weights"
        )
    if head[257:262] == b"ustar":
        raise LdmError(
            f"{path} is a tar archive, the format of torch before version 0.1.10, which cannot be opened safely; "
            "take the .safetensors file of the same model"
        )
    # A safetensors file begins with the length of its header: for that to look like a pickle's first two bytes it
    # would have to be 640 bytes and some multiples of 65,536, and the header's brace in byte 8 tells them apart.
    return head.startswith(b"PK") or (head[0] == 0x80 and head[8:9] != b"{")


def _as_text(head: bytes) -> str:
    """The beginning of a text in UTF-8; empty if the file is no text. (Files of weights soon have a zero byte.)"""
    text = head.decode("utf-8-sig", errors="ignore").strip()
    binary = len(head) < 16 or any(byte < 32 and byte not in b"\t\n\r\f" for byte in head)
    return "" if binary or not text or len(text.encode()) < len(head) // 2 else text


def read_file(path: Path) -> dict[str, Tensor]:
    """The tensors of one file of weights, mapped into memory. Raises `LdmError` for anything else."""
    return read_pickled(path) if is_pickled(path) else map_tensors(path)
