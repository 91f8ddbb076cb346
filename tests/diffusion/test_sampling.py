r"""The loop that samplers share."""

from functools import partial

import pytest
import torch

from ldm.diffusion.ddim import ddim
from ldm.diffusion.ddpm import ddpm
from ldm.diffusion.sampling import Step, reverse_process, strides, unchanged

ALPHA_BAR = torch.tensor([0.9, 0.8, 0.6, 0.3], dtype=torch.float64)
FINAL = torch.tensor(1.0, dtype=torch.float64)
PATH = strides([(3, 1), (1, -1)], ALPHA_BAR, FINAL)


def walk(update, denoise, x, project=unchanged):
    return reverse_process(update, denoise, x, PATH, project)


def test_a_path_has_the_levels_of_its_timesteps_and_the_end_for_a_negative_one():
    got = [(stride.t, stride.alpha_bar.item(), stride.alpha_bar_prev.item()) for stride in PATH]
    assert got == [(3, 0.3, 0.8), (1, 0.8, 1.0)]


def test_two_steps_by_hand():
    r"""The guess of x0 is x + t, of eps 10 x; the update is x0 + eps + level.

    x = 1, t = 3: x0 = 4, eps = 10, level alpha_bar[1] = 0.8, so 14.8.
    x = 14.8, t = 1: x0 = 15.8, eps = 148, level 1 (the end), so 164.8.
    """
    x = torch.ones(1, dtype=torch.float64)
    first, last = walk(lambda x_t, x0, eps, a, b: x0 + eps + b, lambda x, t, level: (x + t, 10 * x), x)
    assert (first.t, first.alpha_bar.item(), first.x_t.item(), first.x0.item()) == (3, 0.3, 1, 4)
    assert first.x_prev.item() == pytest.approx(14.8)
    assert (last.t, last.x_t.item(), last.x0.item()) == (1, first.x_prev.item(), pytest.approx(15.8))
    assert last.x_prev.item() == pytest.approx(164.8)


def test_the_update_is_given_the_level_it_is_at_and_the_one_it_goes_to():
    seen = []
    update = lambda x_t, x0, eps, at, to: (seen.append((at.item(), to.item())), x_t)[1]  # noqa: E731
    list(walk(update, lambda x, t, level: (x, x), torch.zeros(1).double()))
    assert seen == [(0.3, 0.8), (0.8, 1.0)]


def test_what_the_projection_returns_is_where_the_next_step_starts():
    levels = []

    def project(x, level):
        levels.append(level.item())
        return x + 100

    update = lambda x_t, x0, eps, at, to: x_t + 1  # noqa: E731
    first, last = walk(update, lambda x, t, level: (x, x), torch.zeros(1).double(), project)
    assert levels == [0.8, 1.0]  # the new level, after the update
    assert first.x_prev.item() == 101 and last.x_t is first.x_prev and last.x_prev.item() == 202


@pytest.mark.parametrize("sampler", [ddim, ddpm])
def test_both_samplers_hand_the_projection_on(sampler, draw):
    levels = []

    def project(x, level):
        levels.append(level.item())
        return torch.full_like(x, 7.0)

    noise = partial(draw, 2, 3)
    steps = list(sampler(lambda x, t, level: (x, x), noise(), PATH, noise, project))
    assert levels == [0.8, 1.0]
    assert all((step.x_prev == 7).all() for step in steps)


def test_nothing_is_computed_before_it_is_asked_for():
    calls = []
    path = walk(
        lambda x, *_: x,
        lambda x, t, level: (calls.append((t, level.item())), (x, x))[1],
        torch.zeros(1).double(),
    )
    assert calls == []
    next(path)
    assert calls == [(3, 0.3)]


@pytest.mark.parametrize("sampler", [ddim, ddpm])
def test_whoever_consumes_a_sampler_keeps_their_gradients(sampler, draw):
    noise, modes = partial(draw, 2, 3), []
    denoise = torch.no_grad()(lambda x, t, level: (x, x))
    for step in sampler(denoise, noise(), PATH, noise):
        modes.append(torch.is_grad_enabled())
        assert isinstance(step, Step) and not step.x_prev.requires_grad
    assert modes == [True, True]


@pytest.mark.parametrize("sampler", [partial(ddim, eta=1.0), ddim, ddpm])
def test_samplers_change_no_latent_they_have_handed_out(sampler, draw):
    x, noise = draw(2, 3), partial(draw, 2, 3)
    before, kept = x.clone(), []
    for step in sampler(lambda x, t, level: (x / 2, x / 3), x, PATH, noise):
        kept.append((step.x_t, step.x_t.clone(), step.x0, step.x0.clone(), step.x_prev, step.x_prev.clone()))
    assert torch.equal(x, before)
    for a, a_then, b, b_then, c, c_then in kept:
        assert torch.equal(a, a_then) and torch.equal(b, b_then) and torch.equal(c, c_then)


def test_a_step_cannot_be_changed():
    step = Step(1, torch.tensor(0.5), torch.zeros(1), torch.zeros(1), torch.zeros(1))
    with pytest.raises(AttributeError):
        step.t = 2


def test_a_timestep_outside_the_schedule_is_an_error():
    with pytest.raises(IndexError):
        strides([(9, 8)], ALPHA_BAR, FINAL)
