r"""The other form of a noisy latent, and the paths in sigmas."""

import numpy as np
import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.sigmas import (
    faded,
    karras_sigmas,
    piled,
    sigma_of,
    sigma_path,
    sigma_table,
    time_of,
    whole_sigma_path,
)
from ldm.errors import LdmError

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()
PURE = make_alpha_bar(NoiseConfig(prediction="v", zero_snr=True)).double()
PATHS = [sigma_path, whole_sigma_path]


def number(x):
    return torch.tensor(float(x), dtype=torch.float64)


def sigmas(path):
    return [sigma_of(stride.alpha_bar).item() for stride in path]


def test_the_other_form_by_hand():
    # alpha_bar 0.64: x = 0.8 * 10 + 0.6 * 5 = 11, sigma = 0.6 / 0.8 = 0.75, y = 10 + 0.75 * 5 = 13.75.
    level = number(0.64)
    assert sigma_of(level).item() == pytest.approx(0.75, abs=1e-12)
    assert piled(number(11)[None], level).item() == pytest.approx(13.75, abs=1e-12)
    assert faded(number(13.75)[None], level).item() == pytest.approx(11, abs=1e-12)


def test_stable_diffusions_sigmas_have_their_published_ends():
    table = sigma_table(ALPHA_BAR)
    assert (table[0], table[-1]) == pytest.approx((0.0291672, 14.6146), abs=1e-4)
    assert (np.diff(table) > 0).all()


def test_karras_levels_by_hand():
    # From 128 = 2^7 to 1: the seventh roots are 2, 1.5 and 1, and 1.5^7 = 17.0859375. With rho 1 they are even.
    assert karras_sigmas(3, 1.0, 128.0) == pytest.approx([128, 17.0859375, 1], rel=1e-12)
    assert karras_sigmas(5, 1.0, 9.0, rho=1.0) == pytest.approx([9, 7, 5, 3, 1], rel=1e-12)
    assert karras_sigmas(1, 1.0, 128.0) == pytest.approx([128])


def test_the_time_of_a_level_is_read_in_logarithms():
    table = sigma_table(ALPHA_BAR)
    assert time_of(table, table) == pytest.approx(np.arange(1000), abs=1e-9)
    between = np.sqrt(table[3:4] * table[4:5])
    assert time_of(between, table) == pytest.approx([3.5], abs=1e-9)
    assert time_of(np.array([1e-5, 100.0]), table).tolist() == [0, 999]  # beyond the ends: the ends


def test_twenty_even_strides():
    path, table = sigma_path(20, ALPHA_BAR), sigma_table(ALPHA_BAR)
    assert [stride.t for stride in path] == pytest.approx([999 - i * 999 / 19 for i in range(20)])
    # 946.42 lies 0.42 of the way from timestep 946 to 947.
    share = path[1].t - 946
    assert sigmas(path)[1] == pytest.approx((1 - share) * table[946] + share * table[947], rel=1e-12)


def test_twenty_whole_strides():
    path = whole_sigma_path(20, ALPHA_BAR)
    assert [stride.t for stride in path][:3] == [999, 949, 899] and path[-1].t == 50
    assert all(isinstance(stride.t, int) for stride in path)
    torch.testing.assert_close(
        torch.stack([stride.alpha_bar for stride in path]), ALPHA_BAR[[stride.t for stride in path]]
    )


@pytest.mark.parametrize("make_path", PATHS)
def test_karras_strides_keep_the_ends_and_crowd_at_the_lower_one(make_path):
    path, table = make_path(10, ALPHA_BAR, karras=True), sigma_table(ALPHA_BAR)
    assert sigmas(path) == pytest.approx(karras_sigmas(10, table[0], table[-1]), rel=1e-9)
    assert (path[0].t, path[-1].t) == pytest.approx((999, 0), abs=1e-6)
    times = time_of(np.array(sigmas(path)), table)
    told = [stride.t for stride in path]
    if make_path is sigma_path:
        assert told == pytest.approx(times, abs=1e-6)
    else:
        assert told == times.round().tolist() and all(isinstance(t, int) for t in told)


@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("make_path", PATHS)
@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_a_path_is_a_chain_from_the_noisiest_level_to_0(make_path, count, karras):
    path = make_path(count, ALPHA_BAR, karras)
    assert len(path) == count and path[0].t == pytest.approx(999)
    assert sigmas(path)[0] == pytest.approx(sigma_table(ALPHA_BAR)[-1])
    assert all(a.alpha_bar_prev == b.alpha_bar for a, b in zip(path, path[1:]))
    assert all(stride.alpha_bar < stride.alpha_bar_prev for stride in path)
    assert path[-1].alpha_bar_prev == 1


@pytest.mark.parametrize("make_path", PATHS)
def test_a_schedule_that_ends_in_pure_noise_is_entered_there(make_path):
    # Trailing timesteps, as Lin et al. ask for; with one step, too.
    for count, times in ((4, [999, 749, 499, 249]), (1, [999])):
        path = make_path(count, PURE)
        assert [stride.t for stride in path] == times
        assert [stride.alpha_bar.item() for stride in path] == pytest.approx(PURE[times].tolist())
        assert path[0].alpha_bar == 0


@pytest.mark.parametrize("make_path", PATHS)
def test_karras_levels_of_a_schedule_that_ends_in_pure_noise_begin_at_the_references_4096(make_path):
    path = make_path(4, PURE, karras=True)
    assert sigmas(path)[0] == pytest.approx(4096, rel=1e-6) and path[0].t == pytest.approx(999)


@pytest.mark.parametrize("make_path", PATHS)
def test_a_path_is_as_precise_as_the_table_it_came_from(make_path):
    assert make_path(5, ALPHA_BAR)[2].alpha_bar.dtype == torch.float64
    assert make_path(5, ALPHA_BAR.float())[2].alpha_bar.dtype == torch.float32


@pytest.mark.parametrize(("make_path", "most"), [(sigma_path, 1000), (whole_sigma_path, 999)])
def test_too_few_or_too_many_strides_are_an_error(make_path, most):
    assert len(make_path(most, ALPHA_BAR)) == most
    for count in (0, -1, most + 1):
        with pytest.raises(LdmError, match=f"{count} sampling steps"):
            make_path(count, ALPHA_BAR)
