r"""What the tests of the command line share: a small model, and an empty folder to work in."""

from pathlib import Path

import pytest

from tests.small import write_small_model


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> str:
    return str(write_small_model(tmp_path_factory.mktemp("cli") / "small"))


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch) -> Path:
    r"""Every test runs in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
