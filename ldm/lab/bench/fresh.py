"""One measurement in a process of its own: nothing that was measured before has warmed it, or filled its memory.

    python -m ldm.lab.bench.ours unet-float32 FOLDER [--quick]

measures one case and prints, as the last line, a JSON object: names and numbers. This file is both ends of that.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ldm.errors import LdmError
from ldm.lab.bench.rows import on_card
from ldm.lab.bench.sizes import FULL, QUICK, Sizes

Numbers = dict[str, float]
Case = Callable[[Path, Sizes], Numbers]  # the model's folder, and how much


def answer(cases: Mapping[str, Case]) -> None:
    """The inner end: measure the case that the command line names, and print what was found."""
    parser = argparse.ArgumentParser(description="Measure one case, and print JSON.")
    parser.add_argument("case", choices=cases)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    print(json.dumps(cases[options.case](options.folder, QUICK if options.quick else FULL)))


def measure(arm: str, case: str, folder: Path, quick: bool) -> Numbers:
    """The outer end: `arm` is the module that measures. Raises `LdmError` with the last line of what it said.

    Only the cases that are meant for a CUDA card get to see one.
    """
    command = [sys.executable, "-m", arm, case, str(folder), *(["--quick"] if quick else [])]
    hidden = {} if on_card(case) else {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | hidden)
    if done.returncode != 0:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise LdmError(
            f"measuring {case} failed (exit code {done.returncode}): {said}; run {' '.join(command)}"
        )
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: float(number) for name, number in found.items()}
