r"""Windows: the average by hand, what it is under a sampler, and what cannot be cut up."""

import pytest
import torch

from ldm.diffusion.conditioning import Conditioning
from ldm.diffusion.level import CLEAN, Level
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers.ddim import ddim, ddim_step
from ldm.errors import LdmError
from ldm.windows import in_windows, windowed

LEVEL = Level(500, 0.6, 0.8)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def by_place(x, level):
    r"""An answer that depends on the place in the window: a ramp, and the mean of what it sees."""
    ramp = torch.arange(x.shape[-1], dtype=x.dtype).expand_as(x)
    eps = ramp + x.mean()
    return (x - level.sigma * eps) / level.alpha, eps


def test_the_average_by_hand():
    # Six columns in windows of four: they begin at 0 and 2, so columns 2 and 3 are seen twice.
    x = torch.zeros(1, 1, 4, 6, dtype=torch.float64)
    _, eps = in_windows(by_place, 4)(x, LEVEL)
    assert eps[0, 0, 0].tolist() == [0, 1, (2 + 0) / 2, (3 + 1) / 2, 2, 3]


def test_windows_overlap_by_half_at_least_in_both_directions_and_cover_everything():
    seen = []

    def denoise(x, level):
        seen.append(x.shape[-2:])
        return x, x

    x = noise(2, 3, 20, 13)
    x0, eps = in_windows(denoise, 8)(x, LEVEL)
    torch.testing.assert_close(x0, x, rtol=0, atol=1e-15)  # each place is the mean of equal answers
    assert len(seen) == 4 * 3 and set(seen) == {(8, 8)}
    assert torch.equal(eps, x0)


@pytest.mark.parametrize(("side", "shape"), [(8, (8, 8)), (8, (5, 7)), (64, (8, 20))])
def test_a_latent_no_larger_than_a_window_is_seen_once_and_as_it_is(side, shape):
    seen = []

    def denoise(x, level):
        seen.append(x)
        return x, 2 * x

    x = noise(1, 2, *shape)
    x0, eps = in_windows(denoise, side)(x, LEVEL)
    assert len(seen) == 1 and torch.equal(seen[0], x) and torch.equal(eps, 2 * x) and torch.equal(x0, x)


def test_both_estimates_still_belong_to_the_same_latent():
    x = noise(1, 2, 9, 14)
    x0, eps = in_windows(by_place, 6)(x, LEVEL)
    torch.testing.assert_close(LEVEL.alpha * x0 + LEVEL.sigma * eps, x, rtol=0, atol=1e-14)


def test_under_ddim_it_is_the_papers_average_of_latents():
    r"""Bar-Tal et al. 2023, eq. 5: each window takes its step, then the latents are averaged."""
    x, next_level = noise(1, 2, 8, 20), Level(400, 0.8, 0.6)
    total, count = torch.zeros_like(x), torch.zeros(20, dtype=x.dtype)
    for left in (0, 4, 8, 12):
        piece = x[..., left : left + 8]
        total[..., left : left + 8] += ddim_step(*by_place(piece, LEVEL), LEVEL, next_level)
        count[left : left + 8] += 1
    [step] = sample(ddim, in_windows(by_place, 8), x, [LEVEL, next_level], lambda: x)
    torch.testing.assert_close(step.x_prev, total / count, rtol=0, atol=1e-14)


def test_it_ends_at_a_clean_level_too():
    steps = list(sample(ddim, in_windows(by_place, 8), noise(1, 1, 8, 12), [LEVEL, CLEAN], lambda: None))
    assert steps[-1].x_prev.isfinite().all()


@pytest.mark.parametrize("window", [0, -16, 8, 15, 17])
def test_a_window_that_is_too_small_or_no_multiple_is_refused(window):
    with pytest.raises(LdmError, match=f"windows of {window} pixels; expected a multiple of 2, at least 16"):
        windowed(by_place, window, 2, [])


def test_what_belongs_to_places_of_the_image_is_not_cut_up():
    context = torch.zeros(1, 2, 4)
    for cond in (
        Conditioning(context, channels=torch.zeros(1, 5, 8, 8)),
        Conditioning(context, residuals=lambda *_: []),
    ):
        with pytest.raises(LdmError, match="windows with an inpainting model or a network beside the U-Net"):
            windowed(by_place, 16, 2, [cond])
