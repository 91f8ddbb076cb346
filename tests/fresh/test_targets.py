r"""What CI and `make fresh` run is what the README tells a newcomer to type."""

import re
import subprocess

import pytest

from tests.conftest import REPOSITORY
from tests.fresh.run import QUICK, command, environment, main, targets

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
CI = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")


def calls(text: str) -> list[str]:
    r"""The calls of make in a text, each without its comment."""
    return [line.strip() for line in re.findall(r"^ *(make [^#\n]+)", text, flags=re.MULTILINE)]


def printed(*call: str) -> str:
    r"""What a command prints, also when a `make` with variables of its own runs these tests."""
    options = {"env": environment(), "capture_output": True, "text": True, "check": True}
    return subprocess.run(call, cwd=REPOSITORY, **options).stdout


def test_ci_begins_with_the_first_two_commands_of_the_readme_and_installs_nothing_before_them():
    assert calls(CI)[:2] == calls(README)[:2] == ["make demo", "make test"]
    before = CI[: CI.index("\nmake test\n")]
    assert not re.findall(r"\b(?:pip|apt-get|apt|conda|uv)\b", re.sub(r"#.*", "", before))
    assert calls(CI)[-1] == CI.splitlines()[-1] == "make test-long"  # pytest's summary is the last line


def test_the_readme_clones_without_the_history():
    [clone] = re.findall(r"^git clone .*", README, flags=re.MULTILINE)
    assert "--depth 1" in clone and README.index(clone) < README.index("\nmake demo")


def test_the_readme_names_targets_that_there_are_and_the_quick_forms_are_of_those():
    named = targets(README)
    there = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, flags=re.MULTILINE))
    assert (
        {"demo", "docs", "test", "train"} <= set(named) and set(named) <= there and set(QUICK) <= set(named)
    )


@pytest.mark.parametrize("target", sorted(QUICK))
def test_a_quick_form_reaches_what_the_target_runs(target):
    def lines(call: str) -> set[str]:
        return set(printed("sh", "-c", f"{call} --dry-run").splitlines())

    assert lines(command(target)) != lines(f"make {target}")


def test_make_test_runs_on_all_cores_unless_a_component_is_chosen():
    def asked(*arguments: str) -> str:
        return printed("make", "--dry-run", "test", *arguments)

    assert " -n auto " in asked() and " -n " not in asked("C=attention")


def test_a_target_that_the_readme_does_not_name_is_an_error():
    with pytest.raises(SystemExit, match="the README names no target nothing; it names demo, "):
        main(["nothing"])
