r"""`make fresh`: does every `make` target that the README names work for somebody who has just cloned the repository?

    python3 tests/fresh/run.py                  all of them, one after the other
    python3 tests/fresh/run.py demo docs        those

Each target runs in a clone of its own (of what is committed) with an environment of its own, so that none can lean on
what another one has installed. Targets that take long by nature run in a quick form, or only collect their tests; the
report says which. Only Python is needed, and what pip downloads; nothing in this folder is touched.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What stands in for the whole of a long target: what is added to the call of make, and what that leaves out.
QUICK = {
    "train": ('PRESET=quick ARGS="--steps 2"', "two steps a stage, of the quick recipe"),
    "evaluate": ("ARGS=--quick", "a tenth of the images"),
    "notebooks": ("ARGS=03_noise.py", "one notebook"),
    "parity": ("ARGS=small", "the small models alone"),
    "fuzz": ("ARGS='--cases 500 --guided 14'", "500 cases, two seconds a target"),
    "bench": ("QUICK=--quick", "a narrow model, one process each"),
    "mutants": ("ARGS=5a", "one mistake, and the tests without one"),
    "museum": ("ARGS=2", "one mistake"),
    "rehearsal": ("ARGS=--small", "a narrow model"),
    "test-reference": ("ARGS='--collect-only -q'", "collected only"),
    "test-long": ("ARGS='--collect-only -q'", "collected only"),
}

# What an outer make, or an environment that is switched on, would hand to the inner make.
OURS = {
    "MAKEFLAGS",
    "MAKEOVERRIDES",
    "MAKELEVEL",
    "MFLAGS",
    "ARGS",
    "VENV",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "PYTHONHOME",
}


def targets(readme: str) -> list[str]:
    r"""The targets that the README names, in its order: in blocks of commands and between backquotes."""
    return list(dict.fromkeys(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", readme, flags=re.MULTILINE)))


def command(target: str) -> str:
    return f"make {target} {QUICK.get(target, ('', ''))[0]}".strip()


def environment() -> dict[str, str]:
    r"""This process's environment without what an outer make or an environment that is switched on would hand on."""
    return {name: value for name, value in os.environ.items() if name not in OURS}


def run(target: str) -> bool:
    r"""Run one target in a fresh clone, and report on it in a line, with the end of what it printed if it failed."""
    with tempfile.TemporaryDirectory(prefix="ldm-fresh-") as folder:
        clone = ["git", "clone", "--quiet", "--depth", "1", ROOT.as_uri(), f"{folder}/ldm"]
        subprocess.run(clone, check=True)
        started = time.monotonic()
        done = subprocess.run(
            ["sh", "-c", command(target)],
            cwd=f"{folder}/ldm",
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        seconds = time.monotonic() - started
    verdict = "ok" if done.returncode == 0 else "FAILED"
    print(
        f"{verdict:<7}{command(target):<45} {seconds:5.0f} s  {QUICK.get(target, ('', 'whole'))[1]}",
        flush=True,
    )
    if done.returncode:
        print("\n".join(f"       | {line}" for line in done.stdout.splitlines()[-15:]), flush=True)
    return done.returncode == 0


def main(wanted: list[str]) -> int:
    known = targets((ROOT / "README.md").read_text(encoding="utf-8"))
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"fresh: the README names no target {unknown[0]}; it names {', '.join(known)}")
    failed = [target for target in wanted or known if not run(target)]
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
