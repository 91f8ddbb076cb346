r"""`make test C=...` finds the tests of a component by their place."""

import subprocess
import sys
from pathlib import Path

import pytest

from ldm.chapters import CHAPTERS, reading_order
from tests.components import ROOT, component_files, count_tests, find, names_of, shortest


def found(name, root=ROOT):
    return [str(file) for file in find(name, root)]


def test_a_module_a_folder_and_a_module_in_a_folder():
    assert found("attention") == ["tests/nn/test_attention.py"]
    assert found("pipeline") == ["tests/test_pipeline.py"]
    assert "tests/vae/test_vae.py" in found("vae") and "tests/vae/test_golden.py" in found("vae")
    assert found("vae/vae") == ["tests/vae/test_vae.py"]
    assert found("transformer") == ["tests/text/test_transformer.py", "tests/unet/test_transformer.py"]


def test_a_number_means_the_tests_of_a_chapter():
    assert [str(file) for file in find("3")] == ["tests/nn/test_attention.py"]
    for number in range(len(CHAPTERS)):
        assert find(str(number))
    with pytest.raises(LookupError):
        find(str(len(CHAPTERS)))


def test_an_unknown_component_is_answered_with_all_that_there_are():
    with pytest.raises(
        LookupError, match=r"called 'attenton'; there are .*attention.*, unet/unet.*, vae/vae"
    ):
        find("attenton")


def test_every_test_file_is_found_alone_by_its_shortest_name():
    files = component_files()
    assert all(find(shortest(file, files)) == [file] for file in files)


def test_only_folders_of_the_package_are_components():
    folders = {file.parent.name for file in component_files()} - {"tests"}
    assert folders <= {folder for module in reading_order() for folder in module.split(".")[1:-1]}
    with pytest.raises(LookupError):
        find("reference")


def test_a_new_component_needs_no_entry_anywhere(tmp_path):
    for name in ("ldm/new", "tests/new", "tests/other"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("new/test_thing", "other/test_thing", "test_alone"):
        (tmp_path / "tests" / f"{name}.py").write_text("def test_one():\n    pass\n", encoding="utf-8")
    assert found("thing", tmp_path) == found("new", tmp_path) == ["tests/new/test_thing.py"]
    assert names_of(find("alone", tmp_path)[0]) == ["alone", "ldm/alone"]
    assert count_tests(tmp_path / "tests/test_alone.py") == 1


def test_make_passes_the_files_on_and_fails_for_an_unknown_name():
    def asked(*names):
        command = [sys.executable, "-m", "tests.components", *names]
        return subprocess.run(command, cwd=Path(ROOT), capture_output=True, text=True)

    assert asked().stdout == "\n"
    assert asked("attention").stdout == "tests/nn/test_attention.py\n"
    wrong = asked("nothing")
    assert wrong.returncode == 1 and wrong.stderr.startswith(
        "make test: no component is called 'nothing'; there are"
    )
