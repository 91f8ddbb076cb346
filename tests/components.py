r"""`make test C=attention`: which files test a component.

    python -m tests.components attention        prints tests/nn/test_attention.py
    python -m tests.components 3                prints the tests of chapter 3 (see ldm/chapters.py)
    python -m tests.components                  prints nothing: all tests

A component is a folder or a module of `ldm/`, and its tests have the same place under `tests/`; so there is no table. A
name that several modules bear means all of them; `unet/transformer` means one.
"""

import sys
from pathlib import Path, PurePosixPath

from ldm.chapters import CHAPTERS

ROOT = Path(__file__).resolve().parents[1]


def component_files(root: Path = ROOT) -> list[PurePosixPath]:
    r"""The test files of components: those under tests/ itself, and in folders that `ldm/` has too."""
    folders = [
        root / "tests",
        *sorted(
            folder
            for folder in (root / "tests").rglob("*")
            if folder.is_dir() and (root / "ldm" / folder.relative_to(root / "tests")).is_dir()
        ),
    ]
    return [
        PurePosixPath(file.relative_to(root).as_posix())
        for folder in folders
        for file in sorted(folder.glob("test_*.py"))
    ]


def names_of(file: PurePosixPath) -> list[str]:
    r"""What a test file answers to: tests/unet/test_transformer.py to unet, transformer and unet/transformer."""
    module = file.stem.removeprefix("test_")
    folder = file.parent.name
    return [module, f"ldm/{module}"] if folder == "tests" else [folder, module, f"{folder}/{module}"]


def find(name: str, root: Path = ROOT) -> list[PurePosixPath]:
    r"""The test files of a component: of the chapter of that number, of the folder, or of the modules of that name.

    Raises `LookupError` that names all components, if none is called so.
    """
    files = component_files(root)
    if name.isdecimal() and int(name) < len(CHAPTERS):
        return [
            file
            for module in CHAPTERS[int(name)].modules
            for file in files
            if names_of(file)[-1] in asked_of(module)
        ]
    in_folder = [file for file in files if file.parent.name == name != "tests"]
    found = in_folder or [file for file in files if name in names_of(file)]
    if not found:
        known = sorted(
            {shortest(file, files) for file in files} | {n for f in files for n in names_of(f)[:-2]}
        )
        raise LookupError(f"no component is called {name!r}; there are {', '.join(known)}")
    return found


def asked_of(module: str) -> tuple[str, str]:
    r"""What the test file of a module answers to last: "vae.mid" -> vae/mid; "config" -> ldm/config."""
    place = "/".join(module.split(".")[-2:])
    return place, f"ldm/{place}"


def shortest(file: PurePosixPath, files: list[PurePosixPath]) -> str:
    r"""The shortest name that means this test file and no other."""
    names = names_of(file)
    others = {name for other in files if other != file for name in names_of(other)}
    return next((name for name in names[-2:] if name not in others and name != file.parent.name), names[-1])


def count_tests(file: Path) -> int:
    r"""How many test functions a file has; with its parameters, one may run many times."""
    return sum(line.startswith("def test_") for line in file.read_text(encoding="utf-8").splitlines())


if __name__ == "__main__":
    try:
        print(*(file for name in sys.argv[1:] for file in find(name)))
    except LookupError as error:
        raise SystemExit(f"make test: {error.args[0]}") from None
