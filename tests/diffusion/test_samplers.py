r"""All samplers: their names, what each must do, and how fast their errors fall."""

import math
import warnings
from functools import partial

import numpy as np
import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.samplers import ALIASES, SAMPLERS, find_sampler
from ldm.diffusion.schedule import add_noise, make_alpha_bar, spaced_timesteps
from ldm.diffusion.sigmas import karras_sigmas, levels_to_path, sigma_of
from ldm.errors import LdmError

ALPHA_BAR = make_alpha_bar(NoiseConfig()).double()
ZERO_SNR = NoiseConfig(prediction="v", zero_snr=True)
PURE = make_alpha_bar(ZERO_SNR).double()  # ends in pure noise: alpha_bar 0
MEAN, STD, HIGH, LOW = 0.8, 0.5, 10.0, 0.1
NOISY = ("ddpm", "euler_ancestral", "euler_ancestral_karras")
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def wave(x, t, level):
    eps = torch.sin(3 * x + t)
    return (x - (1 - level).sqrt() * eps) / level.sqrt(), eps


def perfect(x0):
    return lambda x, t, level: (x0, (x - level.sqrt() * x0) / (1 - level).sqrt())


def test_the_names_are_comfyuis_with_karras_where_levels_are_free():
    free = ("euler", "euler_ancestral", "heun", "lms", "dpmpp_2m")
    assert set(SAMPLERS) == {"ddim", "ddpm", "plms", *free, *(f"{name}_karras" for name in free)}


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
    ],
)
def test_a1111s_names_are_understood(theirs, ours):
    assert find_sampler(theirs) is SAMPLERS[ours]


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


@every_sampler
def test_the_projection_is_called_at_each_new_level_and_is_gone_on_with(name, draw):
    sampler, levels = SAMPLERS[name], []
    path = sampler.path(5, ALPHA_BAR)

    def project(x, level):
        levels.append(level.item())
        return torch.full_like(x, 7.0)

    steps = list(sampler.walk(wave, draw(2, 3), path, partial(draw, 2, 3), project))
    assert levels == [stride.alpha_bar_prev.item() for stride in path]
    assert [(s.t, s.alpha_bar) for s in steps] == [(s.t, s.alpha_bar) for s in path]
    assert all((step.x_prev == 7).all() for step in steps)
    assert all(after.x_t is before.x_prev for before, after in zip(steps, steps[1:]))


@every_sampler
def test_paths_end_clean_but_for_stable_diffusions_own(name):
    last = SAMPLERS[name].path(7, ALPHA_BAR)[-1].alpha_bar_prev
    assert last == (ALPHA_BAR[0] if name in ("ddim", "plms") else 1)


@every_sampler
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_perfect_network_leads_to_the_picture(name, count, draw):
    x0, sampler = draw(2, 3), SAMPLERS[name]
    path = sampler.path(count, ALPHA_BAR)
    x = add_noise(x0, draw(2, 3), path[0].alpha_bar)
    *_, last = sampler.walk(perfect(x0), x, path, partial(draw, 2, 3))
    torch.testing.assert_close(last.x0, x0)
    # DDIM and PLMS keep the touch of noise of alpha_bar_0.
    torch.testing.assert_close(last.x_prev, x0, rtol=0, atol=0.15 if name in ("ddim", "plms") else 1e-10)


@every_sampler
def test_a_picture_may_begin_in_the_middle_of_a_path(name, draw):
    # What a perfect network says of add_noise(x0, eps) at that level is eps: the guess is right from the first step on.
    x0, eps, sampler = draw(2, 3), draw(2, 3), SAMPLERS[name]
    path = sampler.path(8, ALPHA_BAR)[5:]
    x = add_noise(x0, eps, path[0].alpha_bar)
    asked = []

    def denoise(x_t, t, level):
        asked.append((x_t, t))
        return perfect(x0)(x_t, t, level)

    steps = list(sampler.walk(denoise, x, path, partial(draw, 2, 3)))
    assert len(steps) == 3 and steps[0].x_t is x and asked[0] == (x, path[0].t)
    torch.testing.assert_close(denoise(x, 0, path[0].alpha_bar)[1], eps, rtol=0, atol=1e-10)
    torch.testing.assert_close(steps[-1].x_prev, x0, rtol=0, atol=0.15 if name in ("ddim", "plms") else 1e-10)


@every_sampler
def test_only_the_noisy_ones_draw_noise_and_the_others_repeat_themselves(name, draw):
    sampler, drawn = SAMPLERS[name], []

    def noise():
        drawn.append(draw(2, 3))
        return drawn[-1]

    x, path = draw(2, 3), sampler.path(6, ALPHA_BAR)
    runs = [[step.x_prev for step in sampler.walk(wave, x, path, noise)] for _ in range(2)]
    assert bool(drawn) == (name in NOISY)
    assert all(torch.equal(a, b) for a, b in zip(*runs)) == (name not in NOISY)


@every_sampler
def test_latents_that_were_handed_out_and_the_callers_gradients_are_left_alone(name, draw):
    sampler, kept, x = SAMPLERS[name], [], draw(2, 3)
    denoise = torch.no_grad()(lambda x, t, level: (x / 2, x / 3))
    for step in sampler.walk(denoise, x, sampler.path(6, ALPHA_BAR), partial(draw, 2, 3)):
        assert torch.is_grad_enabled()
        kept += [(part, part.clone()) for part in (x, step.x_t, step.x0, step.x_prev)]
    assert all(torch.equal(now, then) for now, then in kept)


@every_sampler
def test_half_precision_stays_half_precision(name, draw):
    sampler, x = SAMPLERS[name], draw(2, 3).bfloat16()
    path = sampler.path(6, ALPHA_BAR.float())
    denoise = lambda x_t, t, level: x0_and_eps("eps", x_t / 2, x_t, level)  # noqa: E731
    *_, last = sampler.walk(denoise, sampler.begin(x, path), path, lambda: draw(2, 3).bfloat16())
    assert last.x_prev.dtype == torch.bfloat16 and last.x_prev.isfinite().all()


@every_sampler
def test_a_schedule_that_ends_in_pure_noise_starts_there_and_leads_to_the_picture(name, draw):
    sampler, x0, noise = SAMPLERS[name], draw(2, 3), partial(draw, 2, 3)
    path = sampler.path(10, PURE)
    assert path[0].t == pytest.approx(999) and path[0].alpha_bar < 2**-23.99

    def denoise(x, t, level):  # v that fits x0: (a x - x0) / s
        return x0_and_eps("v", (level.sqrt() * x - x0) / (1 - level).sqrt(), x, level)

    *_, last = sampler.walk(denoise, sampler.begin(noise(), path), path, noise)
    torch.testing.assert_close(last.x_prev, x0, rtol=0, atol=0.15 if name in ("ddim", "plms") else 1e-6)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if not name.endswith("karras")])
def test_the_step_from_pure_noise_is_ddims_without_any_division(name, draw):
    # With eta 1 for the samplers that draw noise: all that is left of the noise is then new.
    sampler, x, z = SAMPLERS[name], draw(2, 3), draw(2, 3)
    path = sampler.path(5, PURE)
    x0 = draw(2, 3)
    first = next(sampler.walk(lambda x, t, level: (x0, x), x, path, lambda: z))
    a = path[0].alpha_bar_prev
    expected = a.sqrt() * x0 + (1 - a).sqrt() * (z if name in NOISY else x)
    torch.testing.assert_close(first.x_prev, expected, rtol=0, atol=1e-7)
    assert first.x_t is x and first.alpha_bar == 0


@every_sampler
@pytest.mark.parametrize(("network", "error"), [("float32", 1e-5), ("float16", 1e-3), ("bfloat16", 8e-3)])
def test_with_zero_terminal_snr_no_sampler_loses_more_than_the_network_rounds(name, network, error):
    r"""Data N(0.8, 0.5^2), for which v is known: rounded to `network`'s dtype, the sampler's state in float32."""
    sampler = SAMPLERS[name]

    def run(network, state):
        def denoise(x, t, level):
            a, s = level.double().sqrt(), (1 - level.double()).sqrt()
            seen = x.to(network).double()
            x0 = MEAN + a * STD**2 / ((a * STD) ** 2 + s**2) * (seen - a * MEAN)
            v = (a * (seen - a * x0) / s - s * x0).to(network)
            return x0_and_eps("v", v.to(x.dtype), x, level)

        generator = torch.Generator().manual_seed(0)
        path = sampler.path(20, make_alpha_bar(ZERO_SNR).to(state))
        noise = lambda: torch.randn(1, 500, generator=generator).to(state)  # noqa: E731
        *_, last = sampler.walk(denoise, sampler.begin(noise(), path), path, noise)
        assert last.x_prev.dtype == state
        return last.x_prev.double()

    exact, got = run(torch.float64, torch.float64), run(getattr(torch, network), torch.float32)
    assert exact.mean().item() == pytest.approx(MEAN, abs=0.05)
    assert ((got - exact).norm() / exact.norm()).item() < error


# --- where sampling starts ---------------------------------------------------------------------------------

COUNTS = [*range(1, 31), 42, 50, 77, 99, 143, 334, 501, 600, 998]


@every_sampler
@pytest.mark.parametrize("alpha_bar", [ALPHA_BAR, PURE], ids=["plain", "zero_snr"])
def test_sampling_starts_where_the_latent_is_nearly_noise_or_warns(name, alpha_bar):
    sampler, noise = SAMPLERS[name], torch.zeros(1, 2, dtype=torch.float64)
    for count in COUNTS:
        path = sampler.path(count, alpha_bar)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            sampler.begin(noise, path)
        assert path[0].alpha_bar <= 0.02 or len(said) == 1, count
        # Only strides that are too long to start later may not do so.
        assert not said or (count < 8 and name in ("ddim", "ddpm", "plms")), count


def test_the_warning_names_the_level_and_what_to_do():
    noise = torch.zeros(1, 2)
    with pytest.warns(UserWarning, match=r"first of 3 .* t = 667, where 10% .* more steps, or .*euler"):
        SAMPLERS["ddim"].begin(noise, SAMPLERS["ddim"].path(3, ALPHA_BAR))


@pytest.mark.parametrize("count", [1, 3, 10, 20, 25, 30, 35, 40, 50, 60, 75, 80, 99, 100, 142, 250, 500, 998])
def test_usual_numbers_of_steps_are_spaced_as_in_the_reference(count):
    for name, offset in (("ddim", 1), ("plms", 1), ("ddpm", 0)):
        for alpha_bar, spacing in ((ALPHA_BAR, "leading"), (PURE, "trailing")):
            path, pairs = (
                SAMPLERS[name].path(count, alpha_bar),
                spaced_timesteps(count, 1000, spacing, offset),
            )
            assert [stride.t for stride in path] == [t for t, _ in pairs]
            final = alpha_bar.new_tensor(1.0) if name == "ddpm" else alpha_bar[0]
            ends = [final if t < 0 else alpha_bar[t] for _, t in pairs]
            assert [stride.alpha_bar_prev for stride in path] == ends


@pytest.mark.parametrize("name", ["ddim", "plms", "ddpm"])
@pytest.mark.parametrize("count", [143, 334, 501, 667])
@pytest.mark.parametrize("alpha_bar", [ALPHA_BAR, PURE], ids=["plain", "zero_snr"])
def test_numbers_of_steps_that_do_not_divide_cover_the_whole_schedule_without_gaps(name, count, alpha_bar):
    path = SAMPLERS[name].path(count, alpha_bar)
    times, stride = [s.t for s in path], 1000 / count
    assert len(path) == count and times[0] >= 999 - stride and times[-1] <= stride
    assert all(stride - 1 < a - b < stride + 1 for a, b in zip(times, times[1:]))
    assert all(a.alpha_bar_prev == b.alpha_bar for a, b in zip(path, path[1:]))
    assert path[-1].alpha_bar_prev == (1 if name == "ddpm" else alpha_bar[0])


def test_k_diffusions_samplers_begin_with_the_noise_of_their_first_level(draw):
    noise = draw(2, 3)
    for name, sampler in SAMPLERS.items():
        begun = sampler.begin(noise, sampler.path(5, ALPHA_BAR))
        scale = 1 if name.startswith(("dd", "plms", "dpm")) else math.sqrt(1 - ALPHA_BAR[999].item())
        torch.testing.assert_close(begun, scale * noise)


# --- how fast errors fall ----------------------------------------------------------------------------------


def error_on_a_gaussian(walk, count):
    r"""If the data are N(mean, std^2), the way from noise to picture is known: y - mean = C sqrt(std^2 + sigma^2).

    For the perfect guess is x0 = mean + std^2 / (std^2 + sigma^2) (y - mean), so dy/dsigma = sigma (y - mean) /
    (std^2 + sigma^2). Here from sigma 10 to 0.1, in `count` strides.
    """

    def denoise(x, t, level):
        sigma, y = sigma_of(level), x / level.sqrt()
        x0 = MEAN + STD**2 / (STD**2 + sigma**2) * (y - MEAN)
        return x0, (y - x0) / sigma

    sigmas = karras_sigmas(count + 1, LOW, HIGH)
    path = levels_to_path([0] * (count + 1), sigmas, ALPHA_BAR)[:-1]
    start = torch.tensor([7.0], dtype=torch.float64)
    *_, last = walk(denoise, start * path[0].alpha_bar.sqrt(), path, lambda: torch.zeros_like(start))
    exact = MEAN + (7 - MEAN) * np.sqrt((STD**2 + LOW**2) / (STD**2 + HIGH**2))
    return abs(last.x_prev.item() / path[-1].alpha_bar_prev.sqrt().item() - exact)


@pytest.mark.parametrize(
    ("name", "order"), [("ddim", 1), ("euler", 1), ("heun", 2), ("dpmpp_2m", 2), ("plms", 2), ("lms", 2)]
)
def test_twice_the_steps_leave_a_half_or_a_quarter_of_the_error(name, order):
    walk = SAMPLERS[name].walk
    walk = partial(walk, plain_end=False) if name == "dpmpp_2m" else walk
    falls = math.log2(error_on_a_gaussian(walk, 80) / error_on_a_gaussian(walk, 160))
    # LMS and PLMS are of a higher order within, and start with strides of a lower one: at least two.
    assert falls == pytest.approx(order, abs=0.2) or (name in ("plms", "lms") and falls > order)


def test_in_twenty_steps_the_second_order_is_ten_times_closer():
    errors = {
        name: error_on_a_gaussian(SAMPLERS[name].walk, 20) for name in ("euler", "heun", "dpmpp_2m", "lms")
    }
    assert all(error < errors["euler"] / 10 for name, error in errors.items() if name != "euler")
