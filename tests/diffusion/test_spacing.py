r"""Which noise levels a sampler visits."""

import numpy as np
import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.level import CLEAN, vp_level
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.spacing import (
    SPACINGS,
    karras_sigmas,
    sampler_levels,
    sigma_table,
    spaced_levels,
    spaced_timesteps,
    time_of,
)
from ldm.errors import LdmError

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()
PURE = make_alpha_bar(NoiseConfig(prediction="v", zero_snr=True)).double()
IN_SIGMAS = [name for name in SAMPLERS if name not in ("ddim", "ddpm", "plms")]
KARRAS = [name for name in SAMPLERS if name.endswith("_karras")]


def levels(name, count, alpha_bar=ALPHA_BAR, **options):
    return sampler_levels(SAMPLERS[name], count, alpha_bar, **options)


def sigmas(levels):
    return [level.ve_sigma for level in levels]


# --- spacings ----------------------------------------------------------------------------------------------


def test_twenty_steps_in_the_published_spacings():
    assert spaced_timesteps(20, 1000, "leading") == list(range(951, 0, -50))
    assert spaced_timesteps(20, 1000, "leading_from_0") == list(range(950, -1, -50))
    assert spaced_timesteps(20, 1000, "trailing") == list(range(999, 48, -50))
    assert spaced_timesteps(20, 1000, "linspace") == pytest.approx([999 - i * 999 / 19 for i in range(20)])
    inner = spaced_timesteps(20, 1000, "linspace_without_0")
    assert inner[:3] == [999, 949, 899] and inner[-1] == 50


def test_four_steps_of_ten_by_hand():
    # Every 2.5, rounded down. Trailing: 10, 7.5, 5, 2.5, rounded to even, less one. Inner: 9, 6.75, 4.5, 2.25.
    assert spaced_timesteps(4, 10, "leading_from_0") == [7, 5, 2, 0]
    assert spaced_timesteps(4, 10, "leading") == [8, 6, 3, 1]
    assert spaced_timesteps(4, 10, "trailing") == [9, 7, 4, 1]
    assert spaced_timesteps(4, 10, "linspace") == [9, 6, 3, 0]
    assert spaced_timesteps(4, 10, "linspace_without_0") == [9, 7, 4, 2]


def test_the_references_leading_steps_are_equally_long_unless_they_leave_out_an_eighth_of_the_schedule():
    assert spaced_timesteps(30, 1000, "leading") == [1 + 33 * i for i in reversed(range(30))]
    assert spaced_timesteps(7, 1000, "leading_from_0") == [142 * i for i in reversed(range(7))]
    even = spaced_timesteps(334, 1000, "leading_from_0")
    assert even[:2] == [997, 994] and even[-3:] == [5, 2, 0]


def test_as_many_steps_as_the_schedule_visit_every_timestep():
    for spacing in ("leading_from_0", "trailing", "linspace"):
        assert spaced_timesteps(50, 50, spacing) == list(reversed(range(50)))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_any_number_of_steps_falls_within_the_schedule(spacing):
    for count in range(1, 100):
        times = spaced_timesteps(count, 100, spacing)
        assert len(times) == count and times[-1] >= 0 and times[0] <= 99
        assert all(a > b for a, b in zip(times, times[1:]))
        if not spacing.startswith("leading"):
            assert times[0] == 99
        if spacing != "linspace":
            assert all(isinstance(t, int) for t in times)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("count", [0, -1, 1001])
def test_too_few_or_too_many_steps_are_an_error(spacing, count):
    with pytest.raises(LdmError, match=rf"{count} sampling steps; expected 1 to 1000"):
        spaced_timesteps(count, 1000, spacing)


def test_spacings_that_cannot_use_every_timestep_say_so():
    with pytest.raises(LdmError, match="starts its grid at 1.*at most 999"):
        spaced_timesteps(1000, 1000, "leading")
    with pytest.raises(LdmError, match="1000 sampling steps; .*at most 999"):
        spaced_timesteps(1000, 1000, "linspace_without_0")


def test_an_unknown_spacing_is_an_error():
    with pytest.raises(LdmError, match="'karras'; expected one of leading, "):
        spaced_timesteps(20, 1000, "karras")


# --- sigma schedules ---------------------------------------------------------------------------------------


def test_stable_diffusions_sigmas_have_their_published_ends():
    table = sigma_table(ALPHA_BAR)
    assert (table[0], table[-1]) == pytest.approx((0.0291672, 14.6146), abs=1e-4)
    assert (np.diff(table) > 0).all()


def test_where_a_formula_needs_a_finite_sigma_pure_noise_has_4096():
    assert sigma_table(PURE)[-1] == pytest.approx(4096, rel=1e-12)


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


# --- levels ------------------------------------------------------------------------------------------------


def test_whole_timesteps_have_the_levels_of_the_schedule():
    assert spaced_levels([999, 3], ALPHA_BAR) == [vp_level(999, ALPHA_BAR), vp_level(3, ALPHA_BAR)]
    with pytest.raises(IndexError):
        spaced_levels([1000], ALPHA_BAR)


def test_between_two_timesteps_sigma_is_linear():
    # 946.42 lies 0.42 of the way from timestep 946 to 947.
    path, table = levels("euler", 20), sigma_table(ALPHA_BAR)
    part = path[1].t - 946
    assert path[1].ve_sigma == pytest.approx((1 - part) * table[946] + part * table[947], rel=1e-12)


@pytest.mark.parametrize("name", KARRAS)
def test_karras_levels_keep_the_ends_and_crowd_at_the_lower_one(name):
    path, table = levels(name, 10)[:-1], sigma_table(ALPHA_BAR)
    assert sigmas(path) == pytest.approx(karras_sigmas(10, table[0], table[-1]), rel=1e-9)
    assert (path[0].t, path[-1].t) == pytest.approx((999, 0), abs=1e-6)
    times, told = time_of(np.array(sigmas(path)), table), [level.t for level in path]
    if name == "dpmpp_2m_karras":  # as in the reference
        assert told == times.round().tolist() and all(isinstance(t, int) for t in told)
    else:
        assert told == pytest.approx(times, abs=1e-6)


@pytest.mark.parametrize("name", IN_SIGMAS)
@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_levels_lead_from_the_noisiest_one_to_a_clean_latent(name, count):
    path = levels(name, count)
    assert len(path) == count + 1 and path[0].t == pytest.approx(999)
    assert path[0].ve_sigma == pytest.approx(sigma_table(ALPHA_BAR)[-1])
    assert all(a.half_log_snr < b.half_log_snr for a, b in zip(path, path[1:]))
    assert path[-1] == CLEAN


@pytest.mark.parametrize("name", ["ddim", "plms", "ddpm", "euler", "heun", "lms", "dpmpp_2m"])
def test_a_schedule_that_ends_in_pure_noise_is_entered_there(name):
    # At alpha = 0 itself, and with trailing timesteps, as Lin et al. ask for; with one step, too.
    for count, times in ((4, [999, 749, 499, 249]), (1, [999])):
        path = levels(name, count, PURE)
        assert path[:-1] == [vp_level(t, PURE) for t in times]
        assert (path[0].alpha, path[0].sigma) == (0, 1)


@pytest.mark.parametrize("name", KARRAS)
def test_karras_levels_of_a_schedule_that_ends_in_pure_noise_begin_at_the_references_4096(name):
    path = levels(name, 4, PURE)
    assert sigmas(path)[0] == pytest.approx(4096, rel=1e-6) and path[0].t == pytest.approx(999)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_spacing_may_replace_the_usual_one(name):
    path = levels(name, 4, spacing="trailing")
    assert [level.t for level in path[:-1]] == [999, 749, 499, 249] and path[-1] == levels(name, 4)[-1]
    assert path[1] == vp_level(749, ALPHA_BAR)


def test_levels_are_the_same_from_a_schedule_in_single_precision_up_to_its_rounding():
    for exact, rounded in zip(levels("euler", 9), levels("euler", 9, ALPHA_BAR.float())):
        assert (exact.alpha, exact.sigma) == pytest.approx((rounded.alpha, rounded.sigma), rel=1e-6)
    assert torch.tensor(levels("ddim", 9, ALPHA_BAR.float())[3].alpha, dtype=torch.float32).item() == (
        levels("ddim", 9, ALPHA_BAR.float())[3].alpha
    )
