r"""Which noise levels a sampler visits."""

import numpy as np
import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.level import CLEAN, vp_level
from ldm.diffusion.samplers import SAMPLERS, find_spacing
from ldm.diffusion.samplers.table import SPACING_LABELS
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.sigmas import SIGMA_SCHEDULES, karras_sigmas, sigma_table, time_of
from ldm.diffusion.spacing import (
    SPACINGS,
    beta_cdf,
    sampler_levels,
    spaced_levels,
    spaced_timesteps,
)
from ldm.errors import LdmError

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()
PURE = make_alpha_bar(NoiseConfig(prediction="v", zero_snr=True)).double()
IN_SIGMAS = [name for name, row in SAMPLERS.items() if row.spacing.startswith(("linspace", "karras"))]
DIFFERENT_COUNTS = (
    "ddim_uniform",
    "beta",
)  # as in ComfyUI: more steps where the stride is rounded; no duplicates
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
    for count in range(1, 51 if spacing == "lcm" else 100):
        times = spaced_timesteps(count, 100, spacing)
        assert times[-1] >= 0 and times[0] <= 99
        assert len(times) == count or spacing in DIFFERENT_COUNTS
        assert all(a > b for a, b in zip(times, times[1:]))
        if not spacing.startswith(("leading", "ddim_uniform")):
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


def test_comfyuis_spacings_of_twenty_steps():
    assert spaced_timesteps(20, 1000, "simple") == list(range(999, 0, -50))
    assert spaced_timesteps(20, 1000, "ddim_uniform") == list(range(951, 0, -50))
    assert spaced_timesteps(20, 1000, "beta")[:4] == [999, 986, 959, 922]


def test_where_strides_are_no_whole_numbers_simple_rounds_up_and_ddim_uniform_goes_on():
    # 1000 / 3 = 333.3, 666.7: trailing has 999, 666, 332.
    assert spaced_timesteps(3, 1000, "simple") == [999, 666, 333]
    uniform = spaced_timesteps(30, 1000, "ddim_uniform")
    assert len(uniform) == 31 and uniform[0] == 991
    assert uniform[1:] == spaced_timesteps(30, 1000, "leading")


def test_the_beta_distributions_quantiles_by_hand():
    # Beta(1/2, 1/2) is the arcsine distribution, Beta(1, 1) uniform; Beta(0.6, 0.6) at 0.1 is from mpmath.
    x = np.linspace(0, 1, 11)
    assert beta_cdf(x, 0.5) == pytest.approx(2 / np.pi * np.arcsin(np.sqrt(x)), abs=1e-14)
    assert beta_cdf(x, 1.0) == pytest.approx(x, abs=1e-14)
    assert beta_cdf(np.array([0.1]))[0] == pytest.approx(0.1760472543460378, abs=1e-14)


def test_beta_spaces_timesteps_densely_at_both_ends_and_drops_duplicates():
    # 999 times the median, 499.5, is rounded to the even 500.
    times = spaced_timesteps(8, 1000, "beta")
    assert times == [999, 942, 823, 670, 500, 329, 176, 57]
    assert len(spaced_timesteps(500, 1000, "beta")) < 500


def test_lcms_steps_are_on_the_grid_of_its_distillation():
    assert spaced_timesteps(4, 1000, "lcm") == [999, 759, 499, 259]
    assert spaced_timesteps(8, 1000, "lcm") == [999, 879, 759, 639, 499, 379, 259, 139]
    assert spaced_timesteps(50, 1000, "lcm") == list(range(999, 0, -20))
    for count in range(1, 51):
        assert all(t % 20 == 19 for t in spaced_timesteps(count, 1000, "lcm"))
    with pytest.raises(LdmError, match="51 sampling steps; the spacing 'lcm' has at most 50"):
        spaced_timesteps(51, 1000, "lcm")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Karras", "karras"), ("SGM Uniform", "sgm_uniform"), ("DDIM", "ddim_uniform"), ("KL Optimal", "kl_optimal"),
        ("normal", "linspace"), ("Uniform", "linspace"), ("ddim_uniform", "ddim_uniform"), ("Beta", "beta"),
    ],
)  # fmt: skip
def test_other_programs_names_of_spacings_are_understood(theirs, ours):
    assert find_spacing(theirs) == ours


def test_every_spacing_has_a_name_and_the_nearest_one_is_suggested():
    assert set(SPACING_LABELS) == {*SPACINGS, *SIGMA_SCHEDULES}
    with pytest.raises(LdmError, match=r"'karas'; did you mean 'karras'\? Or one of leading, "):
        find_spacing("karas")
    with pytest.raises(LdmError, match="'xyzzy'; expected one of leading, .*kl_optimal"):
        levels("euler", 5, spacing="xyzzy")


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
    if name in ("dpmpp_2m_karras", "dpmpp_2m_sde_karras", "unipc_karras"):  # as in the reference
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


@pytest.mark.parametrize("spacing", SPACING_LABELS)
def test_any_spacing_goes_with_any_sampler_and_tells_the_network_the_time_of_its_level(spacing):
    table = sigma_table(ALPHA_BAR)
    for name in ("ddim", "euler"):
        *path, end = levels(name, 7, spacing=spacing)
        assert end == levels(name, 7)[-1] and len(path) == (8 if spacing == "ddim_uniform" else 7)
        assert all(a.ve_sigma > b.ve_sigma for a, b in zip(path, path[1:]))
        assert [level.t for level in path] == pytest.approx(time_of(np.array(sigmas(path)), table), abs=0.01)


@pytest.mark.parametrize("schedule", SIGMA_SCHEDULES)
@pytest.mark.parametrize("count", [0, 1001])
def test_a_sigma_schedule_wants_as_many_steps_as_there_are_timesteps(schedule, count):
    with pytest.raises(LdmError, match=f"{count} sampling steps; expected 1 to 1000"):
        levels("euler", count, spacing=schedule)


def test_levels_know_their_schedule_which_gives_any_other_level():
    here = levels("euler", 5)[2]
    assert here.schedule is not None
    assert here.schedule.at_time(123) == vp_level(123, ALPHA_BAR)
    table = sigma_table(ALPHA_BAR)
    between = here.schedule.at_ratio(np.sqrt(table[3] * table[4]))
    assert between.t == pytest.approx(3.5) and between.ve_sigma == pytest.approx(np.sqrt(table[3] * table[4]))


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
