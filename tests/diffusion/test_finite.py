r"""Where the first NaN came from."""

import pytest
import torch
from torch import nn

from ldm.diffusion.finite import finite, finite_steps, first_bad_module
from ldm.diffusion.level import Level
from ldm.diffusion.sample import Step
from ldm.errors import LdmError


class Divide(nn.Module):
    """1 / x: infinite at 0."""

    def forward(self, x):
        return 1 / x


def network() -> nn.Sequential:
    r"""Doubles x, then (in a block) divides 1 by it, then takes the infinite ones from themselves."""
    first, last = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(first.weight, 2.0)
    nn.init.constant_(last.weight, 1.0)
    return nn.Sequential(first, nn.Sequential(nn.Identity(), Divide()), last)


@pytest.mark.parametrize(("x", "expected"), [(1.0, None), (0.0, "1.1"), (float("nan"), "0")])
def test_the_innermost_module_is_named(x, expected):
    model = network()
    assert first_bad_module(model, lambda: model(torch.tensor([[x]]))) == expected


def test_a_module_whose_own_arithmetic_fails_is_named_when_its_parts_are_well():
    class Overflow(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = nn.Identity()

        def forward(self, x):
            return [torch.zeros(1), self.part(x) * 1e38]

    model = nn.Sequential(Overflow())
    assert first_bad_module(model, lambda: model(torch.tensor([1e38]))) == "0"


def test_listening_leaves_no_hooks_behind_even_after_an_error():
    model = network()
    first_bad_module(model, lambda: model(torch.zeros(1, 1)))
    with pytest.raises(RuntimeError):
        first_bad_module(model, lambda: model(torch.zeros(1, 7)))
    assert not any(module._forward_hooks for module in model.modules())


def test_what_is_finite_is_computed_once_and_handed_on():
    calls = []
    out = torch.ones(2)
    assert finite(lambda: (calls.append(1), out)[1], nn.Identity(), "here") is out
    assert calls == [1]


def test_the_error_names_place_module_and_way_out():
    model = network()
    with pytest.raises(LdmError) as caught:
        finite(lambda: model(torch.zeros(1, 1)), model, "in the text's context")
    assert str(caught.value) == (
        "NaN or infinite numbers in the text's context, first from 1.1; expected finite ones: try float32, less "
        "guidance, or other weights"
    )


def test_weights_that_are_not_finite_are_told_apart():
    model = network()
    nn.init.constant_(model[2].weight, torch.nan)
    with pytest.raises(LdmError, match=r"first from 2, whose weights are not finite themselves"):
        finite(lambda: model(torch.ones(1, 1)), model, "here")


def test_arithmetic_outside_of_all_modules_is_said_to_be_it():
    with pytest.raises(LdmError, match="first from arithmetic outside all modules"):
        finite(lambda: torch.tensor([torch.inf]), network(), "here")


def sampling_of(*points):
    r"""Steps with two evaluations, at x_t and at 10 x_t; what the second one says is where the step ends."""

    def sampling(denoise):
        for t, x in points:
            x_t = torch.tensor([[x]])
            denoise(x_t, Level(t, 0.6, 0.8))
            x0, _ = denoise(10 * x_t, Level(t - 1, 0.8, 0.6))
            yield Step(Level(t, 0.6, 0.8), x_t, x0, x0)

    return sampling


def test_steps_pass_through_until_one_is_not_finite():
    model, seen = network(), []
    denoise = lambda x, level: (model(x), x)  # noqa: E731
    steps = finite_steps(sampling_of((9, 1.0), (6, 2.0), (3, 0.0)), denoise, model, 4)
    with pytest.raises(LdmError, match=r"numbers at step 3 of 4 \(t = 3\), first from 1\.1;"):
        for step in steps:
            seen.append(step.level.t)
    assert seen == [9, 6]


def test_only_the_evaluations_of_the_bad_step_are_repeated_and_the_second_one_may_be_the_culprit():
    model, evaluated = network(), []

    def denoise(x, level):
        evaluated.append(level.t)
        return model(x) if level.t != 5 else model(0 * x), x

    with pytest.raises(LdmError, match=r"step 2 of 2 \(t = 6\), first from 1\.1;"):
        list(finite_steps(sampling_of((9, 1.0), (6, 1.0)), denoise, model, 2))
    assert evaluated == [9, 8, 6, 5, 6, 5]


def test_when_nothing_is_wrong_nothing_is_evaluated_twice():
    model, evaluated = network(), []
    denoise = lambda x, level: (evaluated.append(level.t), (model(x), x))[1]  # noqa: E731
    assert len(list(finite_steps(sampling_of((9, 1.0), (6, 1.0)), denoise, model, 2))) == 2
    assert evaluated == [9, 8, 6, 5]
