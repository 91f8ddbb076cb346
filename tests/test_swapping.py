r"""Exchanging a function in the running program."""

import sys

import pytest

from tests.swapping import swapped

SOURCE = """
FACTOR = 2

def scaled(x, by=FACTOR):
    return x * by

class Parent:
    def name(self):
        return "parent"

class Child(Parent):
    def name(self):
        return "child of " + super().name()
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "swapped_module.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import swapped_module

    yield swapped_module
    del sys.modules["swapped_module"]


def test_whoever_holds_the_function_meets_the_other_code_and_afterwards_the_old_one(module):
    held = module.scaled
    with swapped("swapped_module", "scaled", SOURCE.replace("x * by", "x + by").replace("= 2", "= 5")):
        assert held(1) == 6 and held is module.scaled  # with its own default
        assert module.FACTOR == 2
    assert held(1) == 2


def test_helpers_come_along_and_go_again(module):
    source = (
        SOURCE.replace("x * by", "FACTOR * helper(x)").replace("= 2", "= 3")
        + "\ndef helper(x):\n    return x\n"
    )
    with swapped("swapped_module", "scaled", source, also=("helper", "FACTOR")):
        assert module.scaled(5) == 15
    assert module.FACTOR == 2 and not hasattr(module, "helper")


@pytest.mark.parametrize("call", ["super().name()", "super(Child, self).name()", "Parent.name(self)"])
def test_a_method_may_find_its_parent_in_any_way(module, call):
    child = module.Child()
    with swapped(
        "swapped_module",
        "Child.name",
        SOURCE.replace("child of ", "CHILD OF ").replace("super().name()", call),
    ):
        assert child.name() == "CHILD OF parent"
    assert child.name() == "child of parent"


def test_after_an_error_the_old_code_is_back(module):
    with (
        pytest.raises(ZeroDivisionError),
        swapped("swapped_module", "scaled", SOURCE.replace("x * by", "x / 0")),
    ):
        module.scaled(1)
    assert module.scaled(1) == 2
