r"""All samplers: their names, what each must do, and how fast their errors fall."""

import math
import subprocess
import sys
import warnings
from itertools import islice

import numpy as np
import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.level import CLEAN, vp_level, vp_level_of
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers import ALIASES, SAMPLERS, find_sampler
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.sigmas import karras_sigmas
from ldm.diffusion.spacing import initial_latents, sampler_levels
from ldm.errors import LdmError
from tests.diffusion.made import gaussian, perfect, wave

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()
ZERO_SNR = NoiseConfig(prediction="v", zero_snr=True)
PURE = make_alpha_bar(ZERO_SNR).double()  # ends in pure noise: alpha_bar 0
MEAN, STD, HIGH, LOW = 0.8, 0.5, 10.0, 0.1
NOISY = tuple(
    name
    for name in SAMPLERS
    if name.startswith(("ddpm", "lcm", "tcd")) or "ancestral" in name or "sde" in name
)
LOOSE = {"lcm": 1e-4}  # which mixes a hundred-thousandth of the latent into the image
TO_THE_FIRST = ("ddim", "plms", "tcd")  # whose last step ends at timestep 0, with a touch of noise


def fresh(draw):
    r"""Noise of the shape of these tests, for any levels."""
    return lambda *_: draw(2, 3)


every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def test_the_names_are_comfyuis_with_karras_where_levels_are_free():
    free = ("euler", "euler_ancestral", "heun", "lms", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_sde", "unipc")
    bound = ("ddim", "ddpm", "plms", "lcm", "tcd")
    assert set(SAMPLERS) == {*bound, *free, *(f"{name}_karras" for name in free)}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("DDIM", "ddim"),
        ("PLMS", "plms"),
        ("Euler", "euler"),
        ("Euler a", "euler_ancestral"),
        ("Heun", "heun"),
        ("LMS", "lms"),
        ("LMS Karras", "lms_karras"),
        ("DPM++ 2M", "dpmpp_2m"),
        ("DPM++ 2M Karras", "dpmpp_2m_karras"),
        ("dpmpp_2m_karras", "dpmpp_2m_karras"),
        ("DPM++ SDE Karras", "dpmpp_sde_karras"),
        ("DPM++ 2M SDE Karras", "dpmpp_2m_sde_karras"),
        ("LCM", "lcm"),
        ("TCD", "tcd"),
        ("UniPC", "unipc"),
        ("uni_pc_bh2", "unipc"),
        ("dpmpp_2m_sde_gpu", "dpmpp_2m_sde"),
    ],
)
def test_a1111s_names_are_understood(theirs, ours):
    assert find_sampler(theirs) is SAMPLERS[ours]


@pytest.mark.parametrize(
    ("name", "sampler", "spacing"),
    [
        ("DPM++ 2M SDE Exponential", "dpmpp_2m_sde", "exponential"),
        ("uni_pc_sgm_uniform", "unipc", "sgm_uniform"),
        ("DPM++ 2M SGM Uniform", "dpmpp_2m", "sgm_uniform"),
        ("Euler a KL Optimal", "euler_ancestral", "kl_optimal"),
        ("ddim_ddim_uniform", "ddim", "ddim_uniform"),
        ("lms_beta", "lms", "beta"),
    ],
)
def test_a_name_may_end_with_any_spacing(name, sampler, spacing):
    found = find_sampler(name)
    assert (found.spacing, found.update) == (spacing, SAMPLERS[sampler].update)
    assert (
        found.name == f"{sampler}_{spacing}"
        and find_sampler(found.name) == find_sampler(found.label) == found
    )
    assert sampler_levels(found, 7, ALPHA_BAR) == sampler_levels(SAMPLERS[sampler], 7, ALPHA_BAR, spacing)


@pytest.mark.parametrize("name", ["dpmpp_2m_karras_beta", "_karras", "karras", "eulerkarras"])
def test_a_name_may_end_with_one_spacing_only(name):
    with pytest.raises(LdmError, match="did you mean|expected"):
        find_sampler(name)


def test_every_alias_leads_to_a_sampler():
    assert all(find_sampler(alias) is SAMPLERS[name] for alias, name in ALIASES.items())


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("eulr", "euler"),
        ("dpmpp2m", "dpmpp_2m"),
        ("DPM++ 2M Karas", "dpmpp_2m_karras"),
        ("k_heun", "heun"),
        ("Euler b", "euler_ancestral"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_one(name, near):
    with pytest.raises(
        LdmError, match=rf"{name!r}; did you mean {near!r}\?.* one of ddim, ddpm, plms,".replace("+", r"\+")
    ):
        find_sampler(name)


@pytest.mark.parametrize("name", ["", "xyzzy"])
def test_a_name_that_is_near_to_none_is_answered_with_all(name):
    with pytest.raises(LdmError, match=f"sampler '{name}'; expected one of ddim, .*dpmpp_2m_karras"):
        find_sampler(name)


def test_each_sampler_is_described_and_named_once():
    assert all(name == row.name and row.description for name, row in SAMPLERS.items())
    labels = [row.label for row in SAMPLERS.values()]
    assert len(set(labels)) == len(labels) and {"Euler a", "DPM++ 2M Karras"} <= set(labels)


def test_the_table_is_read_without_waiting_for_torch():
    code = (
        "import sys, ldm.diffusion.samplers; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@every_sampler
def test_on_step_is_called_at_each_new_level_and_its_return_value_replaces_x(name, draw):
    sampler, seen = SAMPLERS[name], []
    levels = sampler_levels(sampler, 5, ALPHA_BAR)

    def on_step(x, level):
        seen.append(level)
        return torch.full_like(x, 7.0)

    steps = list(sample(sampler.update, wave, draw(2, 3), levels, fresh(draw), on_step))
    assert seen == levels[1:] and [step.level for step in steps] == levels[:-1]
    assert all((step.x_prev == 7).all() for step in steps)
    assert all(after.x_t is before.x_prev for before, after in zip(steps, steps[1:]))


@every_sampler
def test_levels_end_clean_but_for_stable_diffusions_own(name):
    last = sampler_levels(SAMPLERS[name], 7, ALPHA_BAR)[-1]
    assert last == (vp_level(0, ALPHA_BAR) if name in TO_THE_FIRST else CLEAN)


@every_sampler
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_perfect_network_leads_to_the_image(name, count, draw):
    x0, sampler = draw(2, 3), SAMPLERS[name]
    levels = sampler_levels(sampler, count, ALPHA_BAR)
    x = levels[0].mix(x0, draw(2, 3))
    *_, last = sample(sampler.update, perfect(x0), x, levels, fresh(draw))
    torch.testing.assert_close(last.x0, x0, rtol=0, atol=LOOSE.get(name, 1e-7))
    # DDIM and PLMS keep the touch of noise of alpha_bar_0.
    torch.testing.assert_close(
        last.x_prev, x0, rtol=0, atol=0.15 if name in TO_THE_FIRST else LOOSE.get(name, 1e-10)
    )


@every_sampler
def test_an_image_may_be_the_start_in_the_middle_of_the_levels(name, draw):
    # A perfect network's estimate at level.mix(x0, eps) is eps: it is right from the first step on.
    x0, eps, sampler = draw(2, 3), draw(2, 3), SAMPLERS[name]
    levels = sampler_levels(sampler, 8, ALPHA_BAR)[5:]
    x = levels[0].mix(x0, eps)
    evaluated = []

    def denoise(x_t, level):
        evaluated.append((x_t, level))
        return perfect(x0)(x_t, level)

    steps = list(sample(sampler.update, denoise, x, levels, fresh(draw)))
    assert len(steps) == 3 and steps[0].x_t is x and evaluated[0] == (x, levels[0])
    torch.testing.assert_close(denoise(x, levels[0])[1], eps, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        steps[-1].x_prev, x0, rtol=0, atol=0.15 if name in TO_THE_FIRST else LOOSE.get(name, 1e-10)
    )


@every_sampler
def test_only_the_noisy_ones_draw_noise_and_the_others_repeat_themselves(name, draw):
    sampler, drawn = SAMPLERS[name], []

    def noise_fn(*_):
        drawn.append(draw(2, 3))
        return drawn[-1]

    x, levels = draw(2, 3), sampler_levels(sampler, 6, ALPHA_BAR)
    runs = [[step.x_prev for step in sample(sampler.update, wave, x, levels, noise_fn)] for _ in range(2)]
    assert bool(drawn) == (name in NOISY)
    assert all(torch.equal(a, b) for a, b in zip(*runs)) == (name not in NOISY)


@every_sampler
def test_latents_that_were_handed_out_and_the_callers_gradients_are_left_alone(name, draw):
    sampler, kept, x = SAMPLERS[name], [], draw(2, 3)
    levels = sampler_levels(sampler, 6, ALPHA_BAR)
    denoise = torch.no_grad()(lambda x, level: (x / 2, x / 3))
    for step in sample(sampler.update, denoise, x, levels, fresh(draw)):
        assert torch.is_grad_enabled()
        kept += [(part, part.clone()) for part in (x, step.x_t, step.x0, step.x_prev)]
    assert all(torch.equal(now, then) for now, then in kept)


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_latents_keep_their_precision(name, dtype, draw):
    sampler, x = SAMPLERS[name], draw(2, 3).to(dtype)
    levels = sampler_levels(sampler, 6, ALPHA_BAR.float())
    denoise = lambda x_t, level: x0_and_eps("eps", x_t / 2, x_t, level)  # noqa: E731
    start = initial_latents(sampler, x, levels)
    *_, last = sample(sampler.update, denoise, start, levels, lambda *_: draw(2, 3).to(dtype))
    assert last.x_prev.dtype == dtype and last.x_prev.isfinite().all()


@every_sampler
def test_a_schedule_that_ends_in_pure_noise_starts_there_and_leads_to_the_image(name, draw):
    sampler, x0, noise_fn = SAMPLERS[name], draw(2, 3), fresh(draw)
    levels = sampler_levels(sampler, 10, PURE)
    # Karras's formula wants a finite number; the others start at alpha = 0 itself.
    assert levels[0].t == pytest.approx(999) and levels[0].alpha <= (
        2**-11.99 if sampler.spacing == "karras" else 0
    )

    def denoise(x, level):  # v that fits x0: (a x - x0) / s
        return x0_and_eps("v", (level.alpha * x - x0) / level.sigma, x, level)

    start = initial_latents(sampler, noise_fn(), levels)
    *_, last = sample(sampler.update, denoise, start, levels, noise_fn)
    torch.testing.assert_close(last.x_prev, x0, rtol=0, atol=0.15 if name in TO_THE_FIRST else 1e-6)


# (TCD keeps some of the noise, and adds some: see its own tests.)
@pytest.mark.parametrize("name", [name for name in SAMPLERS if not name.endswith("karras") and name != "tcd"])
def test_the_step_from_pure_noise_is_ddims_without_any_division(name, draw):
    # With eta 1 for the samplers that draw noise: all that is left of the noise is then new.
    sampler, x, z, x0 = SAMPLERS[name], draw(2, 3), draw(2, 3), draw(2, 3)
    levels = sampler_levels(sampler, 5, PURE)
    first = next(sample(sampler.update, lambda x, level: (x0, x), x, levels, lambda *_: z))
    expected = levels[1].mix(x0, z if name in NOISY else x)
    torch.testing.assert_close(first.x_prev, expected, rtol=0, atol=1e-7)
    assert first.x_t is x and first.level.alpha == 0


@every_sampler
@pytest.mark.parametrize(("network", "error"), [("float32", 1e-5), ("float16", 1e-3), ("bfloat16", 8e-3)])
def test_with_zero_terminal_snr_no_sampler_loses_more_than_the_network_rounds(name, network, error):
    r"""Data N(0.8, 0.5^2), for which v is known: rounded to `network`'s dtype, the sampler's state in float32."""
    sampler = SAMPLERS[name]

    def run(network, state):
        def denoise(x, level):
            seen = x.to(network).double()
            x0, eps = gaussian(MEAN, STD)(seen, level)
            v = (level.alpha * eps - level.sigma * x0).to(network)
            return x0_and_eps("v", v.to(x.dtype), x, level)

        generator = torch.Generator().manual_seed(0)
        levels = sampler_levels(sampler, 20, make_alpha_bar(ZERO_SNR).to(state))
        noise_fn = lambda *_: torch.randn(1, 500, generator=generator).to(state)  # noqa: E731
        start = initial_latents(sampler, noise_fn(), levels)
        *_, last = sample(sampler.update, denoise, start, levels, noise_fn)
        assert last.x_prev.dtype == state
        return last.x_prev.double()

    exact, got = run(torch.float64, torch.float64), run(getattr(torch, network), torch.float32)
    assert exact.mean().item() == pytest.approx(MEAN, abs=0.05)
    assert ((got - exact).norm() / exact.norm()).item() < error


# --- where sampling starts ---------------------------------------------------------------------------------

COUNTS = [*range(1, 31), 42, 50, 77, 99, 143, 334, 501, 600, 998]
GRIDS = ("ddim", "plms", "ddpm")


@every_sampler
@pytest.mark.parametrize("alpha_bar", [ALPHA_BAR, PURE], ids=["plain", "zero_snr"])
def test_sampling_starts_where_the_latent_is_nearly_noise_or_warns(name, alpha_bar):
    sampler, noise = SAMPLERS[name], torch.zeros(1, 2, dtype=torch.float64)
    for count in COUNTS:
        if sampler.spacing == "lcm" and count > 50:
            continue  # its grid has 50 timesteps
        levels = sampler_levels(sampler, count, alpha_bar)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            initial_latents(sampler, noise, levels)
        assert levels[0].alpha ** 2 <= 0.02 or len(said) == 1, count
        # Only steps that are too long to start later may not do so.
        assert not said or (count < 8 and name in GRIDS), count


def test_the_warning_names_the_level_and_what_to_do():
    noise = torch.zeros(1, 2)
    with pytest.warns(UserWarning, match=r"first of 3 .* t = 667, where 10% .* more steps, or .*euler"):
        initial_latents(SAMPLERS["ddim"], noise, sampler_levels(SAMPLERS["ddim"], 3, ALPHA_BAR))


@pytest.mark.parametrize("count", [1, 3, 10, 20, 25, 30, 35, 40, 50, 60, 75, 80, 99, 100, 142, 250, 500, 998])
def test_usual_numbers_of_steps_are_spaced_as_in_the_reference(count):
    stride = 1000 // count
    for name, offset in (("ddim", 1), ("plms", 1), ("ddpm", 0)):
        levels = sampler_levels(SAMPLERS[name], count, ALPHA_BAR)
        assert [level.t for level in levels[:-1]] == [i * stride + offset for i in reversed(range(count))]
        levels = sampler_levels(SAMPLERS[name], count, PURE)
        assert [level.t for level in levels[:-1]] == [
            round(1000 - i * 1000 / count) - 1 for i in range(count)
        ]


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("count", [143, 334, 501, 667])
@pytest.mark.parametrize("alpha_bar", [ALPHA_BAR, PURE], ids=["plain", "zero_snr"])
def test_numbers_of_steps_that_do_not_divide_cover_the_whole_schedule_without_gaps(name, count, alpha_bar):
    times, stride = [level.t for level in sampler_levels(SAMPLERS[name], count, alpha_bar)[:-1]], 1000 / count
    assert len(times) == count and times[0] >= 999 - stride and times[-1] <= stride
    assert all(stride - 1 < a - b < stride + 1 for a, b in zip(times, times[1:]))


def test_k_diffusions_samplers_begin_with_the_noise_of_their_first_level(draw):
    noise = draw(2, 3)
    for name, sampler in SAMPLERS.items():
        begun = initial_latents(sampler, noise, sampler_levels(sampler, 5, ALPHA_BAR))
        plain = ("dd", "plms", "dpmpp_2m", "unipc", "lcm", "tcd")
        scale = 1 if name.startswith(plain) else math.sqrt(1 - ALPHA_BAR[999].item())
        torch.testing.assert_close(begun, scale * noise)


# --- how fast errors fall ----------------------------------------------------------------------------------


def error_on_a_gaussian(name, count, last=()):
    r"""If the data are N(mean, std^2), the way from noise to image is known: y - mean = C sqrt(std^2 + s^2).

    For the best estimate is x0 = mean + std^2 / (std^2 + s^2) (y - mean), so dy/ds = s (y - mean) / (std^2 + s^2) in
    VE form. Here from s = 10 to 0.1, in `count` steps. With a further level in `last` they are all of full order: a
    sampler's last step may be Euler's.
    """
    levels = [vp_level_of(0, s) for s in karras_sigmas(count + 1, LOW, HIGH).tolist()]
    start = levels[0].alpha * torch.tensor([7.0], dtype=torch.float64)
    noise_fn = lambda *_: torch.zeros_like(start)  # noqa: E731
    steps = sample(SAMPLERS[name].update, gaussian(MEAN, STD), start, [*levels, *last], noise_fn)
    *_, step = islice(steps, count)
    exact = MEAN + (7 - MEAN) * np.sqrt((STD**2 + LOW**2) / (STD**2 + HIGH**2))
    return abs(step.x_prev.item() / levels[-1].alpha - exact)


@pytest.mark.parametrize(
    ("name", "order"), [("ddim", 1), ("euler", 1), ("heun", 2), ("dpmpp_2m", 2), ("plms", 2), ("lms", 2)]
)
def test_twice_the_steps_leave_a_half_or_a_quarter_of_the_error(name, order):
    falls = math.log2(error_on_a_gaussian(name, 80, [CLEAN]) / error_on_a_gaussian(name, 160, [CLEAN]))
    # LMS and PLMS are of a higher order within, and start with steps of a lower one: at least two.
    assert falls == pytest.approx(order, abs=0.2) or (name in ("plms", "lms") and falls > order)


def test_in_twenty_steps_the_second_order_is_ten_times_closer():
    errors = {name: error_on_a_gaussian(name, 20) for name in ("euler", "heun", "dpmpp_2m", "lms")}
    assert all(error < errors["euler"] / 10 for name, error in errors.items() if name != "euler")
