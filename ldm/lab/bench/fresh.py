"""One measurement in a fresh process, so that no earlier one has warmed caches or filled its memory.

    python -m ldm.lab.bench.cases unet-float32 FOLDER [--quick]

measures one case and prints, as its last line, a JSON object of names and numbers. Both ends are in this file.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ldm.errors import LdmError
from ldm.lab.bench.workload import FULL, QUICK, Sizes

Numbers = dict[str, float]
Case = Callable[[Path, Sizes], Numbers]  # called with the model's folder


def is_cuda(case: str) -> bool:
    """Whether a case runs on a CUDA device."""
    return case.startswith("cuda-")


def main(cases: Mapping[str, Case]) -> None:
    """The inner process: measure the case that the command line names and print its numbers."""
    parser = argparse.ArgumentParser(description="Measure one case and print JSON.")
    parser.add_argument("case", choices=cases)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    print(json.dumps(cases[options.case](options.folder, QUICK if options.quick else FULL)))


def measure(module: str, case: str, folder: Path, quick: bool) -> Numbers:
    """The outer process: run `module`, which calls `main`. Raises `LdmError` with the last line of its stderr.

    CUDA devices are hidden from all cases but those for CUDA.
    """
    command = [sys.executable, "-m", module, case, str(folder), *(["--quick"] if quick else [])]
    hidden = {} if is_cuda(case) else {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | hidden)
    if done.returncode != 0:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise LdmError(
            f"measuring {case} failed (exit code {done.returncode}): {said}; run {' '.join(command)}"
        )
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: float(number) for name, number in found.items()}
