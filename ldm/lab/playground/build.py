r"""Everything the page needs, in one folder: the scripts, the graphs, the weights and the runtime.

    index.html                       the page by itself
    playground.js, playground.css    what it shows and does, and the pieces of the tour (`page.py`)
    settings.js                      what the scripts have to know about the model: sizes, noise schedule, merges, and
                                     the list of the files below
    worker.js                        the worker's source as one string: runtime, tokenizer, noise, sampling, painter
    server/                          graphs, each network's .safetensors, the runtime: what a worker fetches
    file/                            the same with weights in 8 bits, in scripts of base64: a page that was opened from
                                     a disk (file://) may fetch nothing, but it may load scripts

`playground.js` asks for `worker.js` and the large files only when somebody wants to paint.
"""

import base64
import gzip
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ldm.checkpoints.finding import find
from ldm.checkpoints.safetensors_file import map_tensors, write_safetensors
from ldm.diffusion.samplers import find_sampler
from ldm.errors import LdmError
from ldm.files.read_write import atomic_path
from ldm.lab.playground.graphs import make_graphs
from ldm.lab.playground.page import HERE, MATHEMATICS, read_sources, write_page
from ldm.lab.playground.runtime import Runtime
from ldm.lab.playground.weights import point_to, read_slices, write_eight_bits
from ldm.loading import load
from ldm.pipeline import LatentDiffusion

WORKER = (*MATHEMATICS, "painter.js")
SAMPLERS = ("euler_ancestral", "dpmpp_2m")  # those that sampling.js has
# The networks; for each, where its weights are: a part of a model folder, and what the names there begin with.
NETWORKS = {
    "text": ("text", ""),
    "unet": ("unet", ""),
    "decoder": ("vae", "decoder."),
    "encoder": ("vae", "encoder."),
}
LATER = {"encoder"}  # is loaded when somebody wants to encode an image; the others are loaded together
PIECE = 3_000_000  # bytes in a script of base64: a multiple of 3, so that each can be decoded by itself


@dataclass(frozen=True)
class Listed:
    """A file for the worker, as settings.js lists it."""

    name: str  # what the worker calls it
    urls: list[str]  # one address, or one for each piece
    size: int  # bytes to load
    packed: bool  # by gzip


def write_playground(model_path: str | Path, runtime: Runtime, out: Path) -> None:
    """Write the playground of a model folder into the folder `out`; takes about a minute.

    Raises `LdmError` for a model that is not in this project's own layout, or that needs more than a prompt.
    """
    folder = find(model_path)
    if not (folder / "unet.safetensors").is_file():
        raise LdmError(f"{folder} is no model folder of ours; make one of it with `ldm convert`")
    model = load(folder, dtype=torch.float32, device="cpu")
    settings = read_settings(model)
    graphs = make_graphs(model)
    for name in ("server", "file"):
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).mkdir(parents=True)
    server, disk = (
        [on_server(out, "runtime.wasm", runtime.wasm)],
        [on_disk(out, "runtime.wasm", runtime.wasm)],
    )
    later: dict[str, dict[str, list[Listed]]] = {}
    for network, (part, prefix) in NETWORKS.items():
        far, near = list_network(out, network, graphs[network], folder / f"{part}.safetensors", prefix)
        if network in LATER:
            later[network] = {"server": far, "disk": near}
        else:
            server += far
            disk += near
    first = {"server": server, "disk": disk}
    settings["files"] = {name: [asdict(file) for file in files] for name, files in first.items()}
    settings["later"] = {
        network: {name: [asdict(file) for file in files] for name, files in places.items()}
        for network, places in later.items()
    }
    write_script(out / "settings.js", "settings", settings)
    source = f"{runtime.script}\n{read_sources(*WORKER)}"
    write_script(out / "worker.js", "worker", {"source": source, "glue": runtime.glue})
    write_page(out)
    shutil.copyfile(HERE / "index.html", out / "index.html")


def list_network(
    out: Path, network: str, graph: Any, weights: Path, prefix: str
) -> tuple[list[Listed], list[Listed]]:
    """Write a network's graph and weights, for a server and for a disk. Names of its weights begin with `prefix`."""
    part, own = weights.stem, f"{network}.safetensors"
    mapped = map_tensors(weights)
    tensors = {key: mapped[key] for key in mapped if key.startswith(prefix)}
    whole, small = out / "server" / own, out / "file" / own
    write_safetensors(whole, tensors)
    write_eight_bits(small, tensors)
    graphs = [point_to(graph, part, own, read_slices(path)).SerializeToString() for path in (whole, small)]
    far = [
        on_server(out, f"{network}.onnx", graphs[0]),
        Listed(own, [f"server/{own}"], whole.stat().st_size, packed=False),
    ]
    near = [on_disk(out, f"{network}.onnx", graphs[1]), on_disk(out, own, small.read_bytes())]
    small.unlink()
    return far, near


def read_settings(model: LatentDiffusion) -> dict[str, Any]:
    """What the scripts have to know about a model. Raises `LdmError` for one that the page cannot use."""
    config, tokenizer = model.config, model.tokenizer
    if config.unet.in_channels != config.vae.latent_channels:
        raise LdmError("an inpainting model needs an image and a mask; the page has a prompt only")
    if config.text_2 is not None or config.unet.added is not None:
        raise LdmError(
            "the model reads more than one context (Stable Diffusion XL); the page knows one text encoder"
        )
    if tokenizer.clean != "openai":
        raise LdmError(f"the tokenizer cleans texts as {tokenizer.clean!r}; the page knows only 'openai'")
    defaults = config.defaults
    side = defaults.size // model.vae.factor
    return {
        "name": config.name,
        "tokenizer": {
            "merges": [f"{left} {right}" for left, right in tokenizer.merges],
            "contextLength": tokenizer.context_length,
            "pad": tokenizer.pad,
        },
        "alphaBar": model.alpha_bar().tolist(),
        "prediction": config.noise.prediction,
        "latent": [config.vae.latent_channels, side, side],
        "size": defaults.size,
        "steps": defaults.steps,
        "guidance": defaults.guidance,
        "guidanceRescale": defaults.guidance_rescale,
        "samplers": {name: find_sampler(name).label for name in SAMPLERS},
        "sampler": defaults.sampler if defaults.sampler in SAMPLERS else "dpmpp_2m",
    }


def on_server(out: Path, name: str, data: bytes) -> Listed:
    """Write a file for a worker to fetch."""
    packed = gzip.compress(data, mtime=0)
    url = f"server/{name}.packed"  # not .gz: some servers would unpack that on the way
    with atomic_path(out / url) as path:
        path.write_bytes(packed)
    return Listed(name, [url], len(packed), packed=True)


def on_disk(out: Path, name: str, data: bytes) -> Listed:
    """Write a file as scripts of base64."""
    packed = gzip.compress(data, mtime=0)
    urls: list[str] = []
    size = 0
    for begin in range(0, len(packed), PIECE):
        urls.append(f"file/{name}.{len(urls)}.js")
        piece = base64.b64encode(packed[begin : begin + PIECE]).decode()
        size += write_script(out / urls[-1], "piece", piece)
    return Listed(name, urls, size, packed=True)


def write_script(path: Path, name: str, value: Any) -> int:
    """Write a script that hands a value to the page, which keeps it as `PLAYGROUND.name`. Returns its size in bytes."""
    text = f"(window.PLAYGROUND ??= {{}}).{name} = {json.dumps(value)};\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return len(text)
