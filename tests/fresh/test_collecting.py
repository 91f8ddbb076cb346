r"""Tests are collected with nothing but the `test` extra installed, as in a fresh clone."""

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

import pytest

from tests.conftest import REPOSITORY

# A plugin that hides packages: it is imported before any test, and before what `tests/conftest.py` imports.
HIDE = """
import sys
from importlib.abc import MetaPathFinder
class Hidden(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
"""


def needed(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> set[str]:
    r"""The distributions that a distribution needs with these extras, itself included."""
    from packaging.requirements import Requirement  # pytest brings it

    if (name, extras) in seen:
        return set()
    seen.add((name, extras))
    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError:  # of another system
        return set()
    found = {name}
    for needs in map(Requirement, lines):
        if needs.marker is None or any(needs.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            found |= needed(canonical(needs.name), frozenset(needs.extras), seen)
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.long
def test_every_test_is_collected_with_nothing_but_the_test_extra(tmp_path):
    installed = packages_distributions()
    kept = needed("ldm-readable", frozenset({"test"}), set()) | {"pip", "setuptools"}
    hidden = {name for name, owners in installed.items() if not kept & set(map(canonical, owners))}
    assert hidden.isdisjoint({"torch", "pytest", "hypothesis", "numpy"})
    (tmp_path / "hide.py").write_text(HIDE.format(names=hidden), encoding="utf-8")
    plugins = ["-p", "hide", "-p", "xdist.plugin", "-p", "pytest_socket", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "--collect-only", "-q", "-m", ""],
        cwd=REPOSITORY,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)]),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert int(re.findall(r"^(\d+)(?:/\d+)? tests", done.stdout, flags=re.MULTILINE)[-1]) > 3000
