r"""A terminal for tests: type a command, read what comes back, look at what lies in the folder."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from ldm.cli import main


def run(capsys, *arguments) -> tuple[int, str, list[str]]:
    r"""Exit code, standard output, and the lines on standard error without progress bars."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, [line for line in re.split(r"[\r\n]+", err) if line.strip() and "%|" not in line]


def wrong(capsys, *arguments) -> str:
    r"""What argparse says of a command that it does not take, which ends with exit code 2."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        out, err = capsys.readouterr()
        assert stop.code == 2 and out == "" and err.startswith("usage: ldm")
        return err.splitlines()[-1]
    raise AssertionError(f"{arguments} was taken")


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)
