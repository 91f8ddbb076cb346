r"""`make mutants`: make each mistake of `ldm/lab/museum/` in a copy, and run the ordinary tests on it.

    python -m tests.mutants            all of them, as a table in Markdown
    python -m tests.mutants 5a 16      those with these numbers

A mistake that turns no test red has SURVIVED, and is the only reason to fail. The copy is made by Python alone: the
tests find their package in the current folder, and know nothing of the patch.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import ascii_lowercase

from ldm.errors import LdmError
from ldm.lab.museum.mistake import Mistake, patched
from ldm.lab.museum.rooms import MISTAKES

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", ".*_cache", "build", "outputs", "runs", "mine"
)
HEAD = """\
Each row is a mistake of the [museum](museum.md), made in a copy of the code, and the first tests that fail because
of it, three at most. Written by `make mutants`."""
# The quick tests of the components first: most mistakes fail there, within seconds.
FIRST = ("config", "text", "nn", "unet", "vae", "diffusion", "checkpoints", "pipeline")


def copy_package(folder: Path) -> None:
    """The repository into `folder`, which is empty: the package and all that its tests read."""
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT, dirs_exist_ok=True)


def make_mistake(folder: Path, mistake: Mistake) -> None:
    """Patch the copy. Raises `LdmError` unless the passage stands there exactly once."""
    path = folder / "ldm" / mistake.file
    path.write_text(patched(path.read_text(encoding="utf-8"), mistake), encoding="utf-8")


def ordinary_tests(folder: Path) -> list[str]:
    """All ordinary test files, the quick ones of the components first."""
    files = sorted(path.relative_to(folder) for path in folder.glob("tests/**/test_*.py"))
    rank = {name: i for i, name in enumerate(FIRST)}

    def key(path: Path) -> int:
        return rank.get(path.parts[1].removeprefix("test_").removesuffix(".py"), len(FIRST))

    # The tests of the mistakes themselves would always notice.
    return [str(path) for path in sorted(files, key=key) if not {"mutants", "museum"} & set(path.parts)]


def near(file: str, tests: list[str]) -> list[str]:
    """The tests in the folder that mirrors the patched file's, or of the file itself: the likeliest to notice."""
    part = Path(file).parts[0].removesuffix(".py")
    return [test for test in tests if Path(test).parts[1] in (part, f"test_{part}.py")]


def failures(folder: Path, tests: list[str]) -> list[str]:
    """The first of these tests that fail in `folder`; empty if all pass. Raises RuntimeError if pytest cannot run."""
    command = [sys.executable, "-m", "pytest", "-q", "--maxfail=3", "--no-header", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *tests], cwd=folder, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(
            f"pytest ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return [
        match[1] for match in re.finditer(r"^(?:FAILED|ERROR) (?:tests/)?(\S+)", done.stdout, re.MULTILINE)
    ]


def try_out(mistake: Mistake | None) -> list[str]:
    """The first tests that fail once the mistake is made; without one, as the package is."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        copy_package(place)
        tests, red = ordinary_tests(place), []
        if mistake:
            make_mistake(place, mistake)
            red = failures(place, near(mistake.file, tests))
        red = red or failures(place, tests)
    print(f"{mistake.name if mistake else 'no mistake'}: {len(red)} red", file=sys.stderr)
    return red


def main(wanted: list[str]) -> int:
    chosen = [
        m for m in MISTAKES if not wanted or m.number in wanted or m.number.rstrip(ascii_lowercase) in wanted
    ]
    if not chosen:
        raise ValueError(f"no mistake has the number {', '.join(wanted)}; `ldm museum` lists them")
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # of processes, in truth: each thread waits for its own
        results = pool.map(try_out, [*chosen, None])
        print(f"# Mistakes that the tests notice\n\n{HEAD}\n")
        print("| | mistake | tests that fail |\n|---|---|---|")
        survivors = 0
        for mistake, red in zip(chosen, results):
            survivors += not red
            cell = ", ".join(f"`{name}`" for name in red) or "**SURVIVED**"
            print(f"| {mistake.number} | {mistake.name} | {cell} |", flush=True)
        if unpatched := next(results):
            raise RuntimeError(f"tests are red without any mistake: {', '.join(unpatched)}; mend them first")
    print(f"\n{len(chosen)} mistakes, {survivors} survived. Without a mistake, all tests pass.")
    return 1 if survivors else 0


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except (ValueError, LdmError, RuntimeError) as error:
        print(f"mutants: {error}", file=sys.stderr)
        raise SystemExit(2) from error
