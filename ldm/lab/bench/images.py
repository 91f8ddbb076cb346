"""Cases of the whole: an image from a prompt, loading, the tokenizer, and the program from the shell."""

import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ldm.backend.memory_format import rearrange_kernels
from ldm.lab.bench.fresh import Numbers
from ldm.lab.bench.networks import Change, evaluation, int8_unet, memory, no_change, operations
from ldm.lab.bench.stopwatch import DEVICE, matmul_flops, memory_in_use, peak_memory, read_through, seconds
from ldm.lab.bench.workload import PROMPT, Sizes
from ldm.loading import load
from ldm.text.tokenizer import Tokenizer

# For the tiny model: with random weights, no image is decided, and rounding changes little.
TINY_PROMPTS = [
    *(
        "a dog with glasses",
        "a red bird on a branch",
        "a lighthouse at night",
        "a cat with a hat in the snow",
    ),
    *("a green tree on a hill", "a portrait of a woman", "two blue flowers", "a house by the sea"),
]


def text_to_image(folder: Path, sizes: Sizes, dtype: torch.dtype, change: Change = no_change) -> Numbers:
    """A whole image: the seconds of generation, and the memory of loading and generation."""
    size = sizes.side, sizes.side
    with peak_memory(memory_in_use) as peak:
        model = load(folder, dtype, DEVICE)
        change(model)
        took = seconds(
            partial(model.generate, PROMPT.format(0), seed=0, sampler="ddim", steps=sizes.steps, size=size)
        )
    return {"seconds": took} | memory(0, peak.bytes)


def rounding(folder: Path, sizes: Sizes) -> Numbers:
    """The mean difference, out of 255, between an image generated in bfloat16 and in float32, at half the side."""

    def generate(dtype: torch.dtype) -> np.ndarray:
        model, size = load(folder, dtype, DEVICE), (sizes.side // 2, sizes.side // 2)
        [image] = model.generate(PROMPT.format(0), seed=0, sampler="ddim", steps=sizes.steps, size=size)
        return np.asarray(image, dtype=np.float64)

    return {"difference": float(np.abs(generate(torch.bfloat16) - generate(torch.float32)).mean())}


def rounding_int8(folder: Path, sizes: Sizes) -> Numbers:
    """The mean difference, out of 255, between the tiny model's images and float32's: in bfloat16, and in 8 bits."""
    prompts = TINY_PROMPTS[: sizes.batches[-1]]
    seeds = range(0, 4 * len(prompts), len(prompts))  # of sets of images, since single ones differ a lot

    def generate(dtype: torch.dtype, change: Change = no_change) -> np.ndarray:
        model = load("tiny", dtype, DEVICE)
        change(model)
        sets = [model.generate(prompts, seed=seed, sampler="ddim", steps=sizes.steps) for seed in seeds]
        return np.asarray([np.asarray(image, dtype=np.float64) for images in sets for image in images])

    exact = generate(torch.float32)
    changes = {"bfloat16": no_change, "int8": int8_unet}
    return {
        name: float(np.abs(generate(torch.bfloat16, change) - exact).mean())
        for name, change in changes.items()
    }


@torch.no_grad()
def load_and_evaluate(folder: Path, sizes: Sizes, dtype: torch.dtype | None = torch.float32) -> Numbers:
    """Seconds to the loaded model and to the end of its first evaluation. `dtype` None: the one that `load` picks."""
    read_through(folder)
    begin = time.perf_counter()
    model = load(folder, dtype, DEVICE)
    loaded = time.perf_counter()
    seconds(evaluation(model, sizes))
    return {"object": loaded - begin, "step": time.perf_counter() - begin}


def tokenize(folder: Path, sizes: Sizes) -> Numbers:
    tokenizer = Tokenizer.load(folder / "tokenizer")
    prompts = [PROMPT.format(i) for i in range(sizes.prompts)]
    tokenizer(prompts[0])
    return {"rate": len(prompts) / seconds(lambda: [tokenizer(prompt) for prompt in prompts])}


def shell(*arguments: str) -> float:
    """The seconds that an `ldm` command takes."""
    command = [sys.executable, "-m", "ldm", *arguments]
    return seconds(partial(subprocess.run, command, check=True, capture_output=True))


def generate_command(folder: Path, sizes: Sizes) -> Numbers:
    with tempfile.TemporaryDirectory() as place:
        options = ["--model", "tiny", "--seed", "0", "--out", f"{place}/dog.png"]
        return {"seconds": shell("generate", "a dog with glasses", *options)}


def four_steps(folder: Path, sizes: Sizes) -> Numbers:
    """A whole image by the program, with as few evaluations as a latent consistency model needs."""
    few = ["--sampler", "lcm", "--steps", "4", "--guidance", "1", "--size", f"{sizes.side}x{sizes.side}"]
    with tempfile.TemporaryDirectory() as place:
        options = ["--model", str(folder), *few, "--seed", "0", "--out", f"{place}/image.png"]
        return {"seconds": shell("generate", PROMPT.format(0), *options)}


def start(folder: Path, sizes: Sizes) -> Numbers:
    timed = "import time; begin = time.perf_counter(); import ldm; print(time.perf_counter() - begin)"
    done = subprocess.run([sys.executable, "-c", timed], check=True, capture_output=True, text=True)
    return {"import": float(done.stdout), "help": shell("--help")}


def throughput(folder: Path, sizes: Sizes) -> Numbers:
    """Images of the tiny model per second, at several batch sizes, with the model as the program loads it.

    And "share": the FLOP/s of the largest batch, of the operations that the plain networks need, as a percentage of a
    matrix product's.
    """
    model = load("tiny", device=DEVICE)
    rearrange_kernels(model.unet)
    model.generate("a dog", seed=0, steps=1)
    rates = {
        str(batch): batch / seconds(partial(model.generate, "a dog with glasses", seed=0, batch=batch))
        for batch in sizes.batches
    }
    tiny = Sizes(model.config, model.config.defaults.size)
    image = model.config.defaults.steps * operations(tiny) + operations(tiny, "decode")
    return rates | {"share": 100 * rates[str(sizes.batches[-1])] * image / matmul_flops(model.dtype)}
