r"""The program that runs the graphs in a browser: onnxruntime-web, in the version that was tried.

It comes as an npm package (`npm pack onnxruntime-web@1.30.0` fetches it, without installing or running anything). Three
of its files are needed: a script, some glue, and the program itself in WebAssembly, which every browser can run.
"""

import base64
import hashlib
import tarfile
from dataclasses import dataclass
from pathlib import Path

from ldm.errors import LdmError
from ldm.files.read_write import read_bounded

VERSION = "1.30.0"
# As npm writes it.
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
LARGEST = 64_000_000  # bytes; the package has 33 million


@dataclass(frozen=True)
class Runtime:
    """The three files."""

    script: str
    glue: str
    wasm: bytes


def read_runtime(path: Path) -> Runtime:
    """The runtime from its package. Raises `LdmError` if the package is not exactly the expected one."""
    digest = hashlib.sha512(read_bounded(path, LARGEST)).digest()
    found = f"sha512-{base64.b64encode(digest).decode()}"
    if found != INTEGRITY:
        raise LdmError(
            f"{path} is not onnxruntime-web {VERSION}: got {found[:20]}..., expected {INTEGRITY[:20]}...; "
            f"fetch it with `npm pack onnxruntime-web@{VERSION}`"
        )
    with tarfile.open(path) as package:
        script, glue, wasm = (
            _member(package, name)
            for name in ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
        )
    return Runtime(script.decode(), glue.decode(), wasm)


def _member(package: tarfile.TarFile, name: str) -> bytes:
    file = package.extractfile(f"package/dist/{name}")
    if file is None:
        raise LdmError(f"onnxruntime-web {VERSION} has no file {name}")
    return file.read()
