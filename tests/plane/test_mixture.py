r"""The mixture whose right answer is known: is it right?"""

import math

import pytest
import torch

from ldm.diffusion.level import CLEAN, Level, flow_levels, vp_level_of
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers.euler import euler
from ldm.diffusion.samplers.euler_ancestral import euler_ancestral
from ldm.errors import LdmError
from ldm.plane.mixture import Mixture, join

LEVELS = [CLEAN, Level(0.3, 0.7, 0.3), vp_level_of(500, 1.5), Level(1, 0.0, 1.0)]


@pytest.fixture
def mixture(draw):
    return Mixture(draw(5, 2), 0.4)


@pytest.fixture
def noise_fn(draw):
    return lambda: draw(4000, 2)


def test_the_score_between_two_points_by_hand():
    # Half signal, half noise: means at -0.5 and 0.5, variance 0.5^2 * 1 + 0.5^2 = 0.5.
    two = Mixture(torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64), 1.0)
    half = Level(0.5, 0.5, 0.5)
    middle, right = two.score(torch.tensor([[0.0, 3.0], [1.0, 0.0]], dtype=torch.float64), half)
    assert middle.tolist() == pytest.approx([0, -6])  # the means cancel: straight down, by 3 / 0.5
    # At (1, 0) the squared distances are 0.25 and 2.25: the right one is exp(2) times as likely, and m = tanh(1).
    assert right.tolist() == pytest.approx([(0.5 * math.tanh(1) - 1) / 0.5, 0])


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_the_score_is_the_gradient_of_the_log_density(mixture, draw, level):
    x = draw(50, 2).requires_grad_()
    [gradient] = torch.autograd.grad(mixture.log_density(x, level).sum(), x)
    torch.testing.assert_close(mixture.score(x, level), gradient, rtol=1e-10, atol=1e-10)


def test_the_density_integrates_to_one(mixture):
    level, side = LEVELS[1], torch.linspace(-6, 6, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    assert mixture.log_density(grid, level).exp().sum() * 0.05**2 == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_the_two_estimates_make_up_the_noisy_point_and_the_noise_is_minus_sigma_times_the_score(
    mixture, draw, level
):
    x_t = draw(50, 2)
    x0, eps = mixture.denoise(x_t, level)
    torch.testing.assert_close(level.mix(x0, eps), x_t, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(eps, -level.sigma * mixture.score(x_t, level), rtol=1e-10, atol=1e-10)


def test_in_pure_noise_the_estimate_is_the_average_of_the_data_and_in_clean_points_the_point(mixture, draw):
    x_t = draw(50, 2)
    average = mixture.means.mean(dim=0).expand(50, 2)
    torch.testing.assert_close(mixture.denoise(x_t, Level(1, 0.0, 1.0))[0], average, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(mixture.denoise(x_t, CLEAN)[0], x_t, rtol=1e-10, atol=1e-10)


def test_the_estimate_is_the_average_of_what_was_drowned(mixture):
    # Of many noisy points near a place: where did they come from?
    generator, level = torch.Generator().manual_seed(0), LEVELS[1]
    x0 = mixture.draw(400_000, generator).double()
    x_t = level.mix(x0, torch.randn(x0.shape, generator=generator).double())
    place = x_t[:1]
    near = (x_t - place).norm(dim=-1) < 0.1
    assert near.sum() > 1000
    torch.testing.assert_close(x0[near].mean(0), mixture.denoise(place, level)[0][0], rtol=0, atol=0.03)


def test_the_flow_carries_the_density_of_each_level_to_that_of_the_next(mixture, draw):
    # The continuity equation of the probability flow ODE, dx/dt = v = eps - x0 at the levels of a rectified flow,
    # divided by p: d/dt log p + v . grad log p + div v = 0, at any point and time.
    def log_density(x, t):
        deviation = torch.sqrt(((1 - t) * mixture.std) ** 2 + t**2)
        each = torch.distributions.Normal((1 - t) * mixture.means, deviation)
        return each.log_prob(x).sum(dim=-1).logsumexp(dim=0) - math.log(len(mixture.means))

    for x, t in zip(draw(20, 2), torch.linspace(0.05, 0.95, 20, dtype=torch.float64)):
        level = Level(t.item(), 1 - t.item(), t.item())

        def velocity(x, level=level):
            x0, eps = mixture.denoise(x[None], level)
            return (eps - x0)[0]

        assert mixture.log_density(x[None], level).item() == pytest.approx(
            log_density(x, t).item(), abs=1e-10
        )
        gradient, rate = torch.autograd.functional.jacobian(log_density, (x, t))
        divergence = torch.autograd.functional.jacobian(velocity, x).trace()
        assert abs(rate + velocity(x) @ gradient + divergence) < 1e-10


def test_euler_follows_the_exact_path_ever_more_closely():
    # Of one Gaussian the path is known: its distance from the mean shrinks as the deviation of the noisy Gaussian.
    one = Mixture(torch.tensor([[0.8, -0.3]], dtype=torch.float64), 0.5)
    x = torch.tensor([[1.0, 2.0], [-0.5, 0.1]], dtype=torch.float64)
    errors = []
    for count in (50, 100):
        *_, last = sample(euler, one.denoise, x, flow_levels(count), lambda: x)
        errors.append((last.x_prev - (one.means + 0.5 * x)).abs().max().item())
    assert (
        errors[1] < 0.02 and 1.9 < errors[0] / errors[1] < 2.1
    )  # first order: half the step, half the error


@pytest.mark.parametrize("update", [euler, euler_ancestral])
def test_points_that_flow_from_noise_end_as_the_data(update, draw, noise_fn):
    three = Mixture(torch.tensor([[-1.0, 1.0], [-1.0, 1.0], [1.5, 0.0]], dtype=torch.float64), 0.2)
    *_, last = sample(update, three.denoise, noise_fn(), flow_levels(150), noise_fn)
    ends = last.x_prev
    left = ends[ends[:, 0] < 0.25]
    assert len(left) / len(ends) == pytest.approx(2 / 3, abs=0.03)
    torch.testing.assert_close(left.mean(0), three.means[0], rtol=0, atol=0.02)
    torch.testing.assert_close(left.std(0), torch.full((2,), 0.2, dtype=torch.float64), rtol=0, atol=0.02)


def test_points_are_drawn_from_the_mixture(mixture):
    drawn = mixture.draw(100_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), mixture.means.mean(0), rtol=0, atol=0.02)
    spread = mixture.means.var(0, correction=0) + mixture.std**2
    torch.testing.assert_close(drawn.var(0), spread, rtol=0.02, atol=0)


def test_a_joined_mixture_has_the_gaussians_of_its_parts_and_unequal_parts_do_not_join(mixture, draw):
    both, x = join(mixture, Mixture(draw(3, 2), 0.4)), draw(7, 2)
    assert len(both.means) == 8
    inside = 5 / 8 * mixture.log_density(x, CLEAN).exp()
    assert (both.log_density(x, CLEAN).exp() > inside).all()
    with pytest.raises(LdmError, match=r"standard deviations \[0.4, 0.5\]"):
        join(mixture, Mixture(draw(3, 2), 0.5))


@pytest.mark.parametrize(("count", "std"), [(0, 1.0), (3, 0.0)])
def test_a_mixture_without_gaussians_or_width_is_an_error(draw, count, std):
    with pytest.raises(LdmError, match=f"a mixture of {count} Gaussians of standard deviation {std}"):
        Mixture(draw(count, 2), std)
