r"""The checks that are made once find what checks at every call would find."""

from dataclasses import dataclass

import beartype
import jaxtyping
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from tests.shape_checks import check_once

checked = check_once(typechecker=beartype.beartype)


@checked
def plus(a: Float[Tensor, "b c"], b: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    return a + b


def test_a_wrong_shape_or_dtype_is_an_error_however_often_the_function_was_right():
    right = torch.ones(2, 3)
    for wrong in (torch.ones(3, 3), torch.ones(3), torch.ones(2, 3).long(), None):
        assert torch.equal(plus(right, right), 2 * right)
        for _ in range(2):
            with pytest.raises(jaxtyping.TypeCheckError, match="the parameters of"):
                plus(right, wrong)


def test_a_result_of_another_shape_for_the_same_arguments_is_an_error_each_time():
    outs = [torch.ones(2), torch.ones(2), torch.ones(3), torch.ones(3), torch.ones(2)]

    @checked
    def returns(x: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return outs.pop(0)

    for right in (True, True, False, False, True):
        if right:
            assert len(returns(torch.zeros(2))) == 2
        else:
            with pytest.raises(jaxtyping.TypeCheckError, match="the return value of"):
                returns(torch.zeros(2))


def test_a_size_that_is_given_as_a_number_is_looked_at():
    @checked
    def square(x: Tensor, size: int) -> Float[Tensor, "{size} {size}"]:
        return x

    assert len(square(torch.ones(2, 2), 2)) == 2
    for _ in range(2):
        with pytest.raises(jaxtyping.TypeCheckError, match="the return value of"):
            square(torch.ones(2, 2), 3)


def test_the_tensors_of_a_list_and_the_fields_of_a_dataclass_are_looked_at():
    @checked
    @dataclass
    class Pair:
        both: list[Float[Tensor, "b"]]

    assert len(Pair([torch.ones(2)] * 2).both) == 2
    for wrong in ([torch.ones(2, 2)] * 2, [torch.ones(2).long()] * 2, [1, 2]):
        with pytest.raises(jaxtyping.TypeCheckError):
            Pair(wrong)


def test_errors_and_defaults_are_the_functions_own():
    @checked
    def reciprocal(x: float, by: float = 2.0) -> float:
        r"""One over x."""
        return by / x

    assert reciprocal.__doc__ == "One over x." and reciprocal(4.0) == reciprocal(4.0) == 0.5
    with pytest.raises(ZeroDivisionError):
        reciprocal(0.0)
    with pytest.raises(TypeError, match="missing"):
        reciprocal()
