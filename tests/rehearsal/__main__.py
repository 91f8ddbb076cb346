r"""Write a checkpoint of the real size, inspect, convert and load it, and paint with it: what does each stage cost?

    make rehearsal        (or: python -m tests.rehearsal [--folder DIR] [--small])

Each stage runs in a process of its own, so that none pays for another's memory. The files (12 GB for the real size) go
to a temporary folder, or to DIR, and are removed at the end. `--small` takes a narrow model, to try the script out.
A stage that costs more than its goal says is the only reason to fail.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ldm.config import SD1, Config
from tests.rehearsal.memory import Cost, cost
from tests.rehearsal.synthetic import narrow, numbers_of

CKPT, CONTROL, OURS = "synthetic.ckpt", "control.safetensors", "converted"
PAINT, STEER = "paint 2 steps, bfloat16", "the same with a ControlNet, as a command"


def write(folder: Path, small: bool) -> str:
    from tests.rehearsal.synthetic import write_checkpoint

    count = write_checkpoint(folder / CKPT, narrow() if small else SD1)
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


def load(folder: Path, dtype: str) -> str:
    import torch

    import ldm

    model = ldm.load(folder / OURS, dtype=getattr(torch, dtype), device="cpu")
    return f"{sum(p.numel() for p in model.parameters()):,} parameters"


def warm(folder: Path, small: bool) -> str:
    r"""Read the files once, so that what follows finds them in the system's memory."""
    read = 0
    for path in sorted((folder / OURS).glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(2**24):
                read += len(block)
    return f"{read / 1e6:,.0f} MB read"


def paint(folder: Path, small: bool) -> str:
    import torch

    import ldm

    model = ldm.load(folder / OURS, dtype=torch.bfloat16, device="cpu")
    size = (64, 64) if small else (512, 512)
    [image] = model.generate("a photograph of an astronaut riding a horse", steps=2, seed=0, size=size)
    return f"{image.width}x{image.height}, loading included"


def steer(folder: Path, small: bool) -> str:
    from PIL import Image, ImageDraw

    from ldm.cli import main
    from tests.rehearsal.synthetic import write_control

    count = write_control(folder / CONTROL, narrow() if small else SD1)
    side = 64 if small else 512
    image = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(image).ellipse((side // 4, side // 4, side // 2, side // 2), fill="black")
    image.save(folder / "circle.png")
    command = f"generate circle --dtype bfloat16 --steps 2 --seed 0 --size {side}x{side}".split()
    files = {"model": OURS, "control": CONTROL, "control-image": "circle.png", "out": "steered.png"}
    command += ["--control-prepare", "canny"]
    command += [word for name, file in files.items() for word in (f"--{name}", str(folder / file))]
    if code := main(command):
        raise SystemExit(code)
    return f"{count:,} parameters more, written and read"


STAGES: dict[str, Callable[[Path, bool], str]] = {
    "write": write,
    "inspect": inspect,
    "convert": convert,
    "warm the files": warm,
    "load float32": lambda folder, small: load(folder, "float32"),
    "load bfloat16": lambda folder, small: load(folder, "bfloat16"),
    PAINT: paint,
    STEER: steer,
}

HEAD = """\
# A rehearsal at full size

`make rehearsal` writes a checkpoint of Stable Diffusion 1's full size, with random weights, then reads it, converts it
and generates an image with it. Each stage runs in a process of its own, so that its memory can be measured alone.
"""

TRIES = 3  # for a stage with a goal: other programs may have been in its way
SLACK = 60.0  # MB that any work takes: modules that are imported late, the allocator's pools


@dataclass(frozen=True)
class Goal:
    r"""What a stage may cost at most, in the units of `Cost`."""

    seconds: float = math.inf
    resident: float = math.inf
    anonymous: float = math.inf

    def missed(self, found: Cost) -> bool:
        return any(getattr(found, name) > limit for name, limit in asdict(self).items())

    def __str__(self) -> str:
        units = {"seconds": "s", "resident": "MB resident", "anonymous": "MB anonymous"}
        limits = asdict(self).items()
        return ", ".join(f"{limit:,.10g} {units[name]}" for name, limit in limits if limit < math.inf)


def goals(config: Config) -> dict[str, Goal]:
    r"""Mapped tensors that keep their dtype take no memory; others are converted one by one, and none is held twice."""
    count, largest = numbers_of(config)
    return {
        "inspect": Goal(seconds=2),
        "load float32": Goal(seconds=0.25, anonymous=500),
        "load bfloat16": Goal(anonymous=round(2 * (count + largest) / 1e6 + SLACK)),
        PAINT: Goal(resident=8000),
    }


def run_stage(name: str, folder: Path, small: bool) -> None:
    r"""One stage, in this process; its cost goes to stdout as JSON. Imports are paid before the clock starts."""
    import ldm.checkpoints.write
    import ldm.loading  # noqa: F401

    print(json.dumps(cost(lambda: STAGES[name](folder, small)).as_dict()))


def measured(name: str, folder: Path, small: bool) -> Cost:
    r"""What a stage costs in a process of its own."""
    command = [sys.executable, "-m", "tests.rehearsal", "--stage", name, "--folder", str(folder)]
    done = subprocess.run(command + ["--small"] * small, stdout=subprocess.PIPE, text=True, check=True)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def rehearse(folder: Path, small: bool) -> bool:
    r"""Print the table; returns whether every goal was kept."""
    limits, kept = goals(narrow() if small else SD1), True
    print(HEAD)
    print("| stage | seconds | peak resident MB | peak anonymous MB above the start | limit | notes |")
    print("|---|---|---|---|---|---|", flush=True)
    for name in STAGES:
        goal = limits.get(name, Goal())
        for _ in range(TRIES):
            found = measured(name, folder, small)
            if not goal.missed(found):
                break
        figures = f"{found.seconds:.2f} | {found.resident:,.0f} | {found.anonymous:,.0f}"
        said = f"{goal}{': **MISSED**' * goal.missed(found)}"
        print(f"| {name} | {figures} | {said} | {found.note} |", flush=True)
        kept = kept and not goal.missed(found)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.rehearsal", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the files go (default: a temporary folder)")
    parser.add_argument("--small", action="store_true", help="a narrow model, to try the script out")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        run_stage(options.stage, options.folder, options.small)
        return
    with tempfile.TemporaryDirectory(prefix="rehearsal-", dir=options.folder) as folder:
        if not rehearse(Path(folder), options.small):
            raise SystemExit(1)


if __name__ == "__main__":
    main()
