r"""Any file of weights: what format it is in, by its first bytes and not by its name, and its tensors.

What people give instead of a checkpoint is recognised too, so that they are told what they have.
"""

from pathlib import Path

from torch import Tensor

from ldm.checkpoints.pickle_file import read_pickled
from ldm.checkpoints.safetensors_file import map_tensors
from ldm.errors import LdmError
from ldm.files.read_write import open_regular

# First bytes of what is not a checkpoint, and what to do about it.
IMPOSTORS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`",
    b"GGUF": "a GGUF file of llama.cpp: take the .safetensors file of the model",
    b"\x89HDF": "an HDF5 file of Keras: take the .safetensors file of the model",
    b"\x89PNG": "an image: give the checkpoint that made it",
    b"\xff\xd8\xff": "an image: give the checkpoint that made it",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"Rar!": "a RAR archive: unpack it",
}
# Likewise for texts, by how they begin, in lower case.
_WEB_PAGE = "a web page or a server's message: the download saved that instead of the file"
TEXTS = {
    **dict.fromkeys(("<!doctype", "<html", "<head", "<?xml"), _WEB_PAGE),
    "{": "a JSON file, which has no weights in it: give the folder that it lies in",
}
# Formats that their first bytes do not always tell.
SUFFIXES = {
    ".onnx": "an ONNX file", ".msgpack": "a file of Flax", ".h5": "a file of Keras", ".tflite": "a TFLite file",
}  # fmt: skip


def is_pickled(path: Path) -> bool:
    """Whether it is a zip archive or a bare pickle. Raises `LdmError` for what is no checkpoint, or not readable."""
    with open_regular(path) as file:
        head = file.read(512)
    if not head:
        raise LdmError(f"{path} is empty; fetch it again")
    for first, what in IMPOSTORS.items():
        if head.startswith(first):
            raise LdmError(f"{path} is {what}")
    if kind := SUFFIXES.get(path.suffix.lower()):
        raise LdmError(f"{path} is {kind}: take the .safetensors file of the same model")
    # A text in UTF-8? (Files of weights soon have a zero byte.)
    text = head.decode("utf-8-sig", errors="ignore").strip()
    binary = len(head) < 16 or any(byte < 32 and byte not in b"\t\n\r\f" for byte in head)
    if text and not binary and len(text.encode()) >= len(head) // 2:
        known = next((what for begin, what in TEXTS.items() if text.lower().startswith(begin)), None)
        raise LdmError(
            f"{path} is {known or f'a text file, which begins with {text[:40]!r}'}; expected weights"
        )
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
