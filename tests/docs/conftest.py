r"""The site's extension lives beside its pages, not in a package of ours: put it where it can be imported."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "docs" / "_ext"))

if TYPE_CHECKING:
    from annotated.names import Names


@pytest.fixture(scope="session")
def names() -> "Names":
    r"""What every module defines. All of ldm/ is parsed for it, once."""
    from annotated.names import read_names

    return read_names(REPOSITORY)


@pytest.fixture(scope="session")
def build() -> Callable[[Path, Path], subprocess.CompletedProcess[str]]:
    r"""`build(source, out)`: what `make docs` does, with pages in out/site."""
    pytest.importorskip("sphinx", reason="building the site needs the `docs` extra: make test-docs")

    def run(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q"]
        folders = [
            "-c",
            str(REPOSITORY / "docs"),
            "-d",
            str(out / "doctrees"),
            str(source),
            str(out / "site"),
        ]
        environment = os.environ | {"NO_COLOR": "1"}
        return subprocess.run(command + folders, capture_output=True, text=True, env=environment)

    return run


@pytest.fixture(scope="session")
def site(build: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    r"""The whole site, built once; with the variable SITE, the one that `make docs` has just built there (as in CI)."""
    if "SITE" in os.environ:
        return REPOSITORY / os.environ["SITE"]
    out = tmp_path_factory.mktemp("site")
    result = build(REPOSITORY, out)
    assert result.returncode == 0, result.stderr
    return out / "site"
