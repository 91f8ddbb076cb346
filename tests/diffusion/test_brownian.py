r"""Noise that belongs to the way between two levels."""

import math

import pytest
import torch

from ldm.diffusion.brownian import DEPTH, HIGHEST, LOWEST, bridge, brownian, increment, with_paths
from ldm.diffusion.level import CLEAN, Level, vp_level_of
from tests.diffusion.made import one

SHAPE, MANY = (3, 4), (20_000,)
A, B, C, D = (vp_level_of(0, sigma) for sigma in (14.0, 3.0, 0.7, 0.1))  # from noisy to nearly clean


def unlike(x, y):
    r"""The correlation of many numbers."""
    return torch.corrcoef(torch.stack([x, y]))[0, 1].item()


def test_a_bridge_by_hand():
    # From B(1) = 2 to B(5) = 10, at 2: r = 1/4, so 2 + 8/4 + sqrt(1/4 * 3) z.
    assert bridge(one(2), one(10), 1.0, 2.0, 5.0, one(0)).item() == 4
    assert bridge(one(2), one(10), 1.0, 2.0, 5.0, one(2)).item() == pytest.approx(4 + math.sqrt(3), abs=1e-12)


def test_a_path_is_the_same_whatever_was_asked_before():
    first, u = brownian(7, SHAPE, 0.3)
    brownian(7, SHAPE, -2.0)
    again, _ = brownian(7, SHAPE, 0.3)
    assert torch.equal(first, again) and u == pytest.approx(math.exp(0.6), rel=1e-4)
    assert not torch.equal(first, brownian(8, SHAPE, 0.3)[0])


def test_these_numbers_stay_the_same_so_that_records_can_be_replayed():
    got = increment(42, (2, 2), A, B).flatten().tolist()
    assert got == pytest.approx(
        [-0.349610544129104, -0.434256946445092, -1.456643754160045, -0.726136640923436], abs=1e-12
    )


def test_a_path_begins_with_nothing_at_pure_noise_and_ends_where_the_tree_does():
    assert brownian(7, SHAPE, -math.inf)[1] == 0 and not brownian(7, SHAPE, -math.inf)[0].any()
    end, u = brownian(7, SHAPE, math.inf)
    assert u == pytest.approx(math.exp(2 * HIGHEST), rel=1e-3) and end.isfinite().all()
    assert increment(7, SHAPE, D, CLEAN).isfinite().all()
    assert increment(7, SHAPE, Level(999, 0.0, 1.0), A).isfinite().all()


def test_the_noise_of_a_step_is_standard_normal():
    for level, next_level in ((A, B), (B, C), (A, D), (Level(999, 0.0, 1.0), A)):
        z = increment(1, MANY, level, next_level)
        assert z.mean().item() == pytest.approx(0, abs=0.03) and z.std().item() == pytest.approx(1, abs=0.03)
        assert z.pow(4).mean().item() == pytest.approx(3, abs=0.2)


def test_steps_that_follow_one_another_have_independent_noise():
    assert abs(unlike(increment(1, MANY, A, B), increment(1, MANY, B, C))) < 0.03
    # The first half of a step is a part of it: the correlation is the root of its share of u.
    share = (B.alpha / B.sigma) ** 2 - (A.alpha / A.sigma) ** 2
    share /= (C.alpha / C.sigma) ** 2 - (A.alpha / A.sigma) ** 2
    assert unlike(increment(1, MANY, A, B), increment(1, MANY, A, C)) == pytest.approx(share**0.5, abs=0.03)


def test_two_short_steps_use_the_piece_of_the_path_that_a_long_one_uses():
    u = [brownian(5, SHAPE, level.half_log_snr)[1] for level in (A, B, C)]
    short = [
        math.sqrt(u[1] - u[0]) * increment(5, SHAPE, A, B),
        math.sqrt(u[2] - u[1]) * increment(5, SHAPE, B, C),
    ]
    long = math.sqrt(u[2] - u[0]) * increment(5, SHAPE, A, C)
    torch.testing.assert_close(sum(short), long, rtol=0, atol=1e-12)


def test_levels_too_close_to_be_told_apart_have_no_noise_between_them():
    cell = (HIGHEST - LOWEST) / 2**DEPTH
    near = vp_level_of(0, B.ve_sigma * math.exp(-cell / 1000))
    assert not increment(5, SHAPE, near, near).any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_seed_has_the_same_noise_in_any_batch_and_dtype_after_any_steps(dtype):
    calls = []

    def fresh():
        calls.append(1)
        return torch.zeros(2, *SHAPE, dtype=dtype)

    source = with_paths(fresh, [3, 8], SHAPE, dtype, "cpu")
    source(A, B), source()
    z = source(B, C)
    assert calls == [1] and z.dtype == dtype and z.shape == (2, *SHAPE)
    expected = increment(8, SHAPE, B, C).float().to(dtype)
    assert torch.equal(z[1], expected)
    assert torch.equal(with_paths(lambda: None, [8], SHAPE, dtype, "cpu")(B, C)[0], expected)
