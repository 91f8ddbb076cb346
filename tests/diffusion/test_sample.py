r"""The loop that samplers share."""

import pytest
import torch

from ldm.diffusion.level import CLEAN, Level
from ldm.diffusion.sample import MEMORY, Step, sample
from tests.diffusion.made import one, silent, vp, wave

LEVELS = [vp(0.3, 3), vp(0.8, 1), CLEAN]


def test_two_steps_by_hand():
    r"""The estimate of x0 is x + t, of eps 10 x; the update is x0 + eps + t of the next level.

    x = 1, t = 3: x0 = 4, eps = 10, next t = 1, so 15.
    x = 15, t = 1: x0 = 16, eps = 150, next t = 0, so 166.
    """
    update = lambda past, ahead, *_: past[-1].x0 + past[-1].eps + ahead[0].t  # noqa: E731
    first, last = sample(update, lambda x, level: (x + level.t, 10 * x), one(1), LEVELS, silent)
    assert (first.level, first.x_t.item(), first.x0.item(), first.x_prev.item()) == (LEVELS[0], 1, 4, 15)
    assert (last.level, last.x_t.item(), last.x0.item(), last.x_prev.item()) == (LEVELS[1], 15, 16, 166)
    assert last.x_t is first.x_prev


def test_an_update_sees_the_levels_ahead_and_its_last_evaluations():
    levels, seen = [vp(0.1 * i, 10 - i) for i in range(1, 9)], []

    def update(past, ahead, denoise, noise_fn):
        seen.append(([e.level.t for e in past], [level.t for level in ahead]))
        assert all(torch.equal(e.x0, e.x_t + e.level.t) and torch.equal(e.eps, -e.x_t) for e in past)
        return past[-1].x_t + 1

    list(sample(update, lambda x, level: (x + level.t, -x), one(0), levels, silent))
    assert seen[0] == ([9], [8, 7, 6, 5, 4, 3, 2]) and seen[1] == ([9, 8], [7, 6, 5, 4, 3, 2])
    assert seen[-1] == ([6, 5, 4, 3], [2]) and len(seen[-1][0]) == MEMORY


def test_what_was_evaluated_at_pure_noise_is_not_remembered():
    seen = []

    def update(past, ahead, denoise, noise_fn):
        seen.append([e.level.t for e in past])
        return past[-1].x_t

    list(sample(update, lambda x, level: (x, x), one(0), [Level(9, 0.0, 1.0), *LEVELS], silent))
    assert seen == [[9], [3], [3, 1]]


def test_on_step_sees_each_new_level_and_what_it_returns_is_where_the_next_step_starts():
    levels = []

    def on_step(x, level):
        levels.append(level)
        return x + 100

    first, last = sample(
        lambda past, *_: past[-1].x_t + 1, lambda x, level: (x, x), one(0), LEVELS, silent, on_step
    )
    assert levels == LEVELS[1:]  # the new level, after the update
    assert first.x_prev.item() == 101 and last.x_t is first.x_prev and last.x_prev.item() == 202


def test_the_network_is_not_evaluated_at_the_last_level_and_nothing_before_it_is_asked_for():
    calls = []

    def denoise(x, level):
        calls.append(level)
        return x, x

    steps = sample(lambda past, *_: past[-1].x_t, denoise, one(0), LEVELS, silent)
    assert calls == []
    next(steps)
    assert calls == LEVELS[:1]
    list(steps)
    assert calls == LEVELS[:2]


def test_a_consumers_gradient_mode_is_its_own():
    modes = []
    for step in sample(lambda past, *_: past[-1].x0, torch.no_grad()(wave), one(1), LEVELS, silent):
        modes.append(torch.is_grad_enabled())
        assert isinstance(step, Step) and not step.x_prev.requires_grad
    assert modes == [True, True]


def test_a_step_cannot_be_changed():
    step = Step(CLEAN, torch.zeros(1), torch.zeros(1), torch.zeros(1))
    with pytest.raises(AttributeError):
        step.level = LEVELS[0]
