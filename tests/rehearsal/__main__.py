r"""Write checkpoints of the real size, inspect, convert and load them, and paint with them: what does each stage cost?

    make rehearsal        (or: python -m tests.rehearsal [--folder DIR] [--small])

Each stage runs in a process of its own, so that none pays for another's memory. The files (15 GB for the real size) go
to a temporary folder, or to DIR, and are removed at the end. `--small` takes narrow models, to try the script out.
A stage that costs more than its goal says is the only reason to fail.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from ldm.config import SD1, SDXL, Config
from tests.rehearsal.memory import Cost, cost
from tests.rehearsal.stages import PAINT, PAINT_XL, STAGES
from tests.rehearsal.synthetic import narrow, narrow_xl, numbers_of

HEAD = """\
# A rehearsal at full size

`make rehearsal` writes checkpoints of the full sizes of Stable Diffusion 1 and XL, with random weights, then reads
them, converts one and generates images with both. Each stage runs in a process of its own, so that its memory can be
measured alone. "The same" and "with ..." are `ldm generate`, with 512x512 pixels and 2 steps.
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


def goals(sd1: Config, sdxl: Config) -> dict[str, Goal]:
    r"""Mapped tensors that keep their dtype take no memory; others are converted one by one, and none is held twice."""

    def converted(config: Config) -> Goal:
        count, largest = numbers_of(config)
        return Goal(anonymous=round(2 * (count + largest) / 1e6 + SLACK))

    return {
        "inspect": Goal(seconds=2),
        "load float32": Goal(seconds=0.25, anonymous=500),
        "load bfloat16": converted(sd1),
        PAINT: Goal(resident=8000),
        "Stable Diffusion XL: load bfloat16": converted(sdxl),
        PAINT_XL: Goal(anonymous=round(12_000 - 2 * numbers_of(sdxl)[0] / 1e6)),
    }


def run_stage(name: str, folder: Path, small: bool) -> None:
    r"""One stage, in this process; its cost goes to stdout as JSON. Imports are paid before the clock starts."""
    import ldm.checkpoints.write
    import ldm.loading  # noqa: F401

    os.environ["XDG_CACHE_HOME"] = str(folder)  # where the commands keep the hashes of large files
    print(json.dumps(cost(lambda: STAGES[name](folder, small)).as_dict()))


def measured(name: str, folder: Path, small: bool) -> Cost:
    r"""What a stage costs in a process of its own."""
    command = [sys.executable, "-m", "tests.rehearsal", "--stage", name, "--folder", str(folder)]
    done = subprocess.run(command + ["--small"] * small, stdout=subprocess.PIPE, text=True, check=True)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def rehearse(folder: Path, small: bool) -> bool:
    r"""Print the table; returns whether every goal was kept."""
    limits, kept = goals(*((narrow(), narrow_xl()) if small else (SD1, SDXL))), True
    print(HEAD)
    print(
        "| stage | processor seconds | peak resident MB | peak anonymous MB above the start | limit | notes |"
    )
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
