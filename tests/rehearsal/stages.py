r"""The stages of the rehearsal: what is done in each, with the files that earlier ones left in a folder."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ldm.config import SD1, SDXL
from tests.rehearsal import synthetic

CKPT, OURS, XL = "synthetic.ckpt", "converted", "xl.safetensors"
PAINT, PAINT_XL = "paint 2 steps, bfloat16", "Stable Diffusion XL: paint 1 step, without the weights"
PROMPT = "a photograph of an astronaut riding a horse"
Stage = Callable[[Path, bool], str]  # (folder, whether to take narrow models) -> a note


def write(folder: Path, small: bool) -> str:
    count = synthetic.write_checkpoint(folder / CKPT, synthetic.narrow() if small else SD1)
    return f"{count:,} parameters, {(folder / CKPT).stat().st_size / 1e6:,.0f} MB"


def inspect(folder: Path, small: bool) -> str:
    from ldm.checkpoints.inspect import inspect

    report = inspect(folder / CKPT, hash=False)
    return f"{report.kind}, {'supported' if report.supported else report.trouble}"


def convert(folder: Path, small: bool) -> str:
    import torch

    from ldm.checkpoints.write import convert

    dropped = convert(folder / CKPT, folder / OURS, dtype=torch.float32)
    return f"float32; not kept: {', '.join(dropped)}"


def warm(folder: Path, small: bool) -> str:
    r"""Read the files once, so that what follows finds them in the system's memory."""
    read = 0
    for path in sorted((folder / OURS).glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(2**24):
                read += len(block)
    return f"{read / 1e6:,.0f} MB read"


def load(folder: Path, small: bool, model: str, dtype: str) -> str:
    import torch

    import ldm

    loaded = ldm.load(folder / model, dtype=getattr(torch, dtype), device="cpu")
    return f"{sum(p.numel() for p in loaded.parameters()):,} parameters"


def paint(folder: Path, small: bool) -> str:
    import torch

    import ldm

    loaded = ldm.load(folder / OURS, dtype=torch.bfloat16, device="cpu")
    size = (64, 64) if small else (512, 512)
    [image] = loaded.generate(PROMPT, steps=2, seed=0, size=size)
    return f"{image.width}x{image.height}, loading included"


# --- as commands: `ldm generate`, with what people add to a model ---------------------------------------------


def command(folder: Path, small: bool, *options: str) -> None:
    from ldm.cli import main

    side = 64 if small else 512
    words = f"--model {folder / OURS} --dtype bfloat16 --seed 0 --size {side}x{side} --out {folder / 'x.png'}"
    if code := main(["generate", PROMPT, *words.split(), *options]):
        raise SystemExit(code)


def alone(folder: Path, small: bool) -> str:
    command(folder, small, "--steps", "2")
    return "the sha256 of the files included, which is computed once"


def lora(folder: Path, small: bool, name: str, options: tuple[str, ...], note: str) -> str:
    count = synthetic.write_lora(folder / name, synthetic.narrow() if small else SD1)
    command(folder, small, "--lora", str(folder / name), *options)
    return f"{count:,} parameters more, written and read; {note}"


def word(folder: Path, small: bool) -> str:
    synthetic.write_word(folder / "toy.safetensors", synthetic.narrow() if small else SD1)
    command(folder, small, "--steps", "2", "--embedding", f"{folder / 'toy.safetensors'}=horse")
    return "four vectors"


def control(folder: Path, small: bool) -> str:
    from PIL import Image, ImageDraw

    file, image = folder / "control.safetensors", folder / "circle.png"
    count = synthetic.write_control(file, synthetic.narrow() if small else SD1)
    side = 64 if small else 512
    drawing = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(drawing).ellipse((side // 4, side // 4, side // 2, side // 2), fill="black")
    drawing.save(image)
    given = ("--control", str(file), "--control-image", str(image), "--control-prepare", "canny")
    command(folder, small, "--steps", "2", *given)
    return f"{count:,} parameters more, written and read"


def tiny(folder: Path, small: bool) -> str:
    count = synthetic.write_tiny(folder / "taesd.safetensors")
    given = (
        ("--vae", str(folder / "taesd.safetensors")) if not small else ()
    )  # a narrow VAE has another factor
    command(folder, small, "--steps", "2", "--preview", str(folder / "steps"), *given)
    return f"{count:,} parameters; it decodes the image and a preview at each step"


# --- Stable Diffusion XL ---------------------------------------------------------------------------------------


def write_xl(folder: Path, small: bool) -> str:
    count = synthetic.write_xl(folder / XL, synthetic.narrow_xl() if small else SDXL)
    return f"{count:,} parameters, {(folder / XL).stat().st_size / 1e6:,.0f} MB"


def paint_xl(folder: Path, small: bool) -> str:
    r"""What painting takes besides the weights, of which this model has none: all its tensors are parts of one."""
    import torch

    model = synthetic.without_weights(synthetic.narrow_xl() if small else SDXL, torch.bfloat16)
    side = 64 if small else 1024
    [image] = model.generate(PROMPT, steps=1, sampler="euler_trailing", seed=0, size=(side, side))
    weights = sum(parameter.numel() for parameter in model.parameters()) * 2 / 1e6
    return f"{image.width}x{image.height}, guided; with {weights:,.0f} MB of weights at most 12,000 MB"


STAGES: dict[str, Stage] = {
    "write": write,
    "inspect": inspect,
    "convert": convert,
    "warm the files": warm,
    "load float32": partial(load, model=OURS, dtype="float32"),
    "load bfloat16": partial(load, model=OURS, dtype="bfloat16"),
    PAINT: paint,
    "the same, as a command": alone,
    "with a LoRA of rank 16": partial(lora, name="lora.safetensors", options=("--steps", "2"), note="merged"),
    "with an LCM-LoRA": partial(
        lora, name="lcm-lora-sdv1-5.safetensors", options=(), note="4 steps without guidance, as it wants"
    ),
    "with a learned word": word,
    "with a ControlNet": control,
    "with a tiny VAE": tiny,
    "Stable Diffusion XL: write": write_xl,
    "Stable Diffusion XL: load bfloat16": partial(load, model=XL, dtype="bfloat16"),
    PAINT_XL: paint_xl,
}
