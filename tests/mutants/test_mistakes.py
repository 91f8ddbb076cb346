r"""The list of mistakes itself: each can still be made, and a stale one is an error, not a silent pass."""

from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase

import pytest

from ldm.errors import LdmError
from ldm.lab.museum.rooms import MISTAKES
from tests.mutants.__main__ import ROOT, copy_package, failures, main, make_mistake, near, ordinary_tests


def test_the_numbers_are_those_of_different_mistakes():
    assert len({mistake.number for mistake in MISTAKES}) == len(MISTAKES)


def test_no_number_is_left_out():
    numbers = {int(mistake.number.rstrip(ascii_lowercase)) for mistake in MISTAKES}
    assert numbers == {*range(1, max(numbers) + 1)}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.number)
def test_each_mistake_still_applies_and_is_still_python(mistake, tmp_path):
    target = tmp_path / "ldm" / mistake.file
    target.parent.mkdir(parents=True)
    target.write_text((ROOT / "ldm" / mistake.file).read_text(encoding="utf-8"), encoding="utf-8")
    make_mistake(tmp_path, mistake)
    compile(target.read_text(encoding="utf-8"), str(target), "exec")


def test_a_mistake_that_no_longer_applies_is_an_error(tmp_path):
    stale = replace(MISTAKES[0], before="what never stood there")
    target = tmp_path / "ldm" / stale.file
    target.parent.mkdir(parents=True)
    target.write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(LdmError, match=f"mistake {stale.number} no longer applies: .* stands 0 times"):
        make_mistake(tmp_path, stale)


@pytest.mark.long
def test_the_copy_has_the_files_that_tests_look_at_without_importing_them(tmp_path):
    copy_package(tmp_path)
    links = "tests/test_readme.py::test_what_the_readme_links_to_is_there"
    assert failures(tmp_path, [links, "tests/notebooks"]) == []


def test_a_number_that_no_mistake_has_is_an_error():
    with pytest.raises(ValueError, match="no mistake has the number 99"):
        main(["99"])


@pytest.mark.long
def test_tests_that_fail_are_named_and_tests_that_pass_are_not(tmp_path):
    (tmp_path / "tests").mkdir()
    good, bad = "def test_good():\n    pass\n", "def test_bad():\n    assert 0\n"
    (tmp_path / "tests/test_one.py").write_text(good, encoding="utf-8")
    assert failures(tmp_path, ordinary_tests(tmp_path)) == []
    (tmp_path / "tests/test_two.py").write_text(good + bad, encoding="utf-8")
    assert failures(tmp_path, ordinary_tests(tmp_path)) == ["test_two.py::test_bad"]


def test_the_tests_near_a_mistake_are_those_that_mirror_its_file():
    tests = ordinary_tests(ROOT)
    assert {Path(test).parts[1] for test in near("unet/unet.py", tests)} == {"unet"}
    assert near("pipeline.py", tests) == ["tests/test_pipeline.py"]
    assert all(near(mistake.file, tests) for mistake in MISTAKES)
