r"""From noise to an image: the equations of noise levels and of the samplers."""

import numpy as np

from ldm.diffusion.brownian import bridge, brownian, increment
from ldm.diffusion.level import Level, flow_levels, vp_level_of
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.sample import Evaluation, sample
from ldm.diffusion.samplers.ddim import ddim_sigma, ddim_step
from ldm.diffusion.samplers.ddpm import ddpm_step, posterior, step_variance
from ldm.diffusion.samplers.dpmpp_2m import dpmpp_2m_step
from ldm.diffusion.samplers.dpmpp_2m_sde import dpmpp_2m_sde_step
from ldm.diffusion.samplers.dpmpp_sde import halfway
from ldm.diffusion.samplers.euler import euler
from ldm.diffusion.samplers.euler_ancestral import down_and_up, euler_ancestral_step
from ldm.diffusion.samplers.heun import heun_step
from ldm.diffusion.samplers.lcm import boundary_weights, lcm_step
from ldm.diffusion.samplers.lms import lms_step, lms_weights
from ldm.diffusion.samplers.plms import extrapolated_eps
from ldm.diffusion.samplers.tcd import tcd_step
from ldm.diffusion.samplers.unipc import mean_x0, unipc_weights
from ldm.diffusion.sigmas import exponential_sigmas, karras_sigmas, kl_optimal_sigmas
from ldm.diffusion.spacing import beta_cdf
from ldm.windows import in_windows
from tests.equations.numbers import agree, normal, tensor

A_BEFORE, A_T, A_PREV = 0.1, 0.3, 0.55  # alpha_bar one step before, at t, and at the lower t'
BEFORE, HERE, THERE = (Level(0, np.sqrt(a).item(), np.sqrt(1 - a).item()) for a in (A_BEFORE, A_T, A_PREV))
ANY, LESS = Level(0, 0.6, 0.9), Level(0, 0.8, 0.3)  # two levels of no family, the second one less noisy
SIGMA, SIGMA_PREV = 5.0, 3.0  # in VE form


def one_euler_step(x, x0, eps, here, there):
    [step] = sample(euler, lambda x, level: (tensor(x0), tensor(eps)), tensor(x), [here, there], lambda: x)
    return step.x_prev


def test_noisy_latent():
    r"""At levels of every family.

    $$x = \alpha\,x_0 + \sigma\,\epsilon$$
    """
    x0, eps = normal(2, 3), normal(2, 3, seed=1)
    for level in (HERE, ANY, Level(0, 1.0, 5.0), flow_levels(4)[1], Level(0, 0.0, 1.0)):
        agree(level.mix(tensor(x0), tensor(eps)), level.alpha * x0 + level.sigma * eps)


def test_vp_level_of_a_ratio():
    r"""Of s = 0.7.

    $$\alpha = \frac{1}{\sqrt{1 + s^2}}, \qquad \sigma = \frac{s}{\sqrt{1 + s^2}}$$
    """
    level = vp_level_of(0, 0.7)
    agree([level.alpha, level.sigma], [1 / np.sqrt(1 + 0.7**2), 0.7 / np.sqrt(1 + 0.7**2)])


def test_ddim_noise():
    r"""Two forms of the same at VP levels; the first one at any.

    $$\sigma_\eta = \eta\,\sigma' \sqrt{1 - \left(\frac{\alpha\,\sigma'}{\alpha'\,\sigma}\right)^2}
                = \eta \sqrt{\frac{1-\bar\alpha_{t'}}{1-\bar\alpha_t}} \sqrt{1 - \frac{\bar\alpha_t}{\bar\alpha_{t'}}}$$
    """
    for eta in (0.0, 0.4, 1.0):
        agree(
            ddim_sigma(HERE, THERE, eta),
            eta * np.sqrt((1 - A_PREV) / (1 - A_T)) * np.sqrt(1 - A_T / A_PREV),
        )
        ratio = ANY.alpha * LESS.sigma / (LESS.alpha * ANY.sigma)
        agree(ddim_sigma(ANY, LESS, eta), eta * LESS.sigma * np.sqrt(1 - ratio**2))


def test_ddim_update():
    r"""With noise; without, in the tour (and at VP levels).

    $$x' = \alpha'\,\hat x_0 + \sqrt{\sigma'^2 - \sigma_\eta^2}\;\hat\epsilon + \sigma_\eta\, z$$

    $$x_{t'} = \sqrt{\bar\alpha_{t'}}\,\hat x_0 + \sqrt{1-\bar\alpha_{t'}}\,\hat\epsilon$$
    """
    x0, eps, z = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    sigma = 0.4 * np.sqrt((1 - A_PREV) / (1 - A_T)) * np.sqrt(1 - A_T / A_PREV)
    noisy = ddim_step(tensor(x0), tensor(eps), HERE, THERE, 0.4, tensor(z))
    agree(noisy, THERE.alpha * x0 + np.sqrt(THERE.sigma**2 - sigma**2) * eps + sigma * z)
    plain = ddim_step(tensor(x0), tensor(eps), HERE, THERE)
    agree(plain, np.sqrt(A_PREV) * x0 + np.sqrt(1 - A_PREV) * eps)


def test_variance_of_a_step_of_the_forward_process():
    r"""For VP levels 1 minus the quotient of the alpha-bars; noise that is added step by step adds up.

    $$\beta = \sigma^2 - \left(\frac{\alpha}{\alpha'}\right)^2 \sigma'^2$$
    """
    agree(step_variance(HERE, THERE), 1 - A_T / A_PREV)
    agree(step_variance(ANY, LESS), ANY.sigma**2 - (ANY.alpha / LESS.alpha) ** 2 * LESS.sigma**2)


def test_posterior():
    r"""By the equation, and by Bayes' rule: what $x_0$ says of $x'$ times what $x_t$ says of it.

    $$\tilde\mu = \frac{\alpha'\,\beta}{\sigma^2}\,x_0 + \frac{\alpha\,\sigma'^2}{\alpha'\,\sigma^2}\,x_t,
      \qquad \tilde\beta = \frac{\sigma'^2}{\sigma^2}\,\beta$$
    """
    x_t, x0 = normal(2, 3), normal(2, 3, seed=1)
    for here, there in ((HERE, THERE), (ANY, LESS)):
        mean, variance = posterior(tensor(x_t), tensor(x0), here, there)
        ratio = here.alpha / there.alpha
        beta = here.sigma**2 - ratio**2 * there.sigma**2
        of_x0, of_x_t = there.alpha * beta / here.sigma**2, ratio * there.sigma**2 / here.sigma**2
        agree(mean, of_x0 * x0 + of_x_t * x_t)
        agree(variance, there.sigma**2 / here.sigma**2 * beta)

        precision = 1 / there.sigma**2 + ratio**2 / beta
        agree(variance, 1 / precision)
        agree(mean, (there.alpha * x0 / there.sigma**2 + ratio * x_t / beta) / precision)


def test_ddpm_step():
    r"""With either of the two variances.

    $$x' = \tilde\mu(x_t, \hat x_0) + \sqrt{w}\, z$$
    """
    x_t, x0, z = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    beta = 1 - A_T / A_PREV
    mean = np.sqrt(A_PREV) * beta / (1 - A_T) * x0 + np.sqrt(1 - beta) * (1 - A_PREV) / (1 - A_T) * x_t
    for name, variance in (("fixed_small", (1 - A_PREV) / (1 - A_T) * beta), ("fixed_large", beta)):
        step = ddpm_step(tensor(x_t), tensor(x0), HERE, THERE, tensor(z), name)
        agree(step, mean + np.sqrt(variance) * z)


def test_way_from_noise_to_image():
    r"""For latents of variance 4 the best estimate of $x_0$ is known, and so is the way: $y \propto \sqrt{4 + s^2}$.

    $$\frac{dy}{ds} = \frac{y - \hat x_0(y, s)}{s} = \hat\epsilon$$
    """
    start, h = normal(2, 3), 1e-4
    y = start * np.sqrt(4 + SIGMA**2)
    x0 = y * 4 / (4 + SIGMA**2)
    slope = start * (np.sqrt(4 + (SIGMA + h) ** 2) - np.sqrt(4 + (SIGMA - h) ** 2)) / (2 * h)
    agree(slope, (y - x0) / SIGMA, tolerance=1e-8)
    level = vp_level_of(0, SIGMA)
    _, eps = x0_and_eps("x0", tensor(x0), tensor(level.alpha * y), level)
    agree(eps, (y - x0) / SIGMA)


def test_euler_step():
    r"""Straight on; in VE form, and the same step in VP form.

    $$y' = y + (s' - s)\,\hat\epsilon = \hat x_0 + s'\,\hat\epsilon$$
    """
    y, eps = normal(2, 3), normal(2, 3, seed=1)
    x0 = y - SIGMA * eps
    expected = y + (SIGMA_PREV - SIGMA) * eps
    agree(one_euler_step(y, x0, eps, Level(0, 1.0, SIGMA), Level(0, 1.0, SIGMA_PREV)), expected)
    agree(expected, x0 + SIGMA_PREV * eps)
    here, there = vp_level_of(0, SIGMA), vp_level_of(0, SIGMA_PREV)
    agree(one_euler_step(here.alpha * y, x0, eps, here, there) / there.alpha, expected)


def test_heun_step():
    r"""In the mean of two directions; with VE levels, Karras's own line.

    $$x' = \frac{\alpha'}{\alpha}\,x_t + \left(\sigma' - \frac{\alpha'}{\alpha}\,\sigma\right)
           \tfrac12 (\hat\epsilon + \hat\epsilon')$$
    """
    x, eps, there = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    step = heun_step(tensor(x), tensor(eps), tensor(there), ANY, LESS)
    shrink = LESS.alpha / ANY.alpha
    agree(step, shrink * x + (LESS.sigma - shrink * ANY.sigma) * (eps + there) / 2)
    step = heun_step(tensor(x), tensor(eps), tensor(there), Level(0, 1.0, SIGMA), Level(0, 1.0, SIGMA_PREV))
    agree(step, x + (SIGMA_PREV - SIGMA) * (eps + there) / 2)


def test_euler_ancestral_levels():
    r"""How far down, and how far up again. In VE units k-diffusion's; the noise is DDPM's.

    $$\sigma_{down} = \sigma' \cdot \frac{\alpha\,\sigma'}{\alpha'\,\sigma}, \qquad
      \sigma_{up}^2 = \sigma'^2 - \sigma_{down}^2$$
    """
    down, up = down_and_up(ANY, LESS)
    agree(down, LESS.sigma * ANY.alpha * LESS.sigma / (LESS.alpha * ANY.sigma))
    agree(up**2, LESS.sigma**2 - down**2)
    _, up = down_and_up(Level(0, 1.0, SIGMA), Level(0, 1.0, SIGMA_PREV))
    agree(up**2, SIGMA_PREV**2 * (SIGMA**2 - SIGMA_PREV**2) / SIGMA**2)
    _, up = down_and_up(HERE, THERE)
    agree(up**2, (1 - A_PREV) / (1 - A_T) * (1 - A_T / A_PREV))


def test_euler_ancestral_step():
    r"""Down with Euler, up with noise.

    $$x' = \alpha'\,\hat x_0 + \sigma_{down}\,\hat\epsilon + \sigma_{up}\, z$$
    """
    x0, eps, z = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    down = LESS.sigma * ANY.alpha * LESS.sigma / (LESS.alpha * ANY.sigma)
    up = np.sqrt(LESS.sigma**2 - down**2)
    step = euler_ancestral_step(tensor(x0), tensor(eps), ANY, LESS, tensor(z))
    agree(step, LESS.alpha * x0 + down * eps + up * z)


def test_karras_sigmas():
    r"""Seven levels from 14.6 to 0.03.

    $$\sigma_i = \left(\sigma_{\max}^{1/\rho} + \tfrac{i}{n-1} \left(\sigma_{\min}^{1/\rho}
                 - \sigma_{\max}^{1/\rho}\right)\right)^{\rho}, \qquad i = 0 \ldots n-1$$
    """
    n, low, high, rho = 7, 0.03, 14.6, 7.0
    expected = [
        (high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho for i in range(n)
    ]
    agree(karras_sigmas(n, low, high, rho), expected)


def test_exponential_sigmas():
    r"""Seven levels from 14.6 to 0.03.

    $$\sigma_i = \sigma_{\max} \left(\frac{\sigma_{\min}}{\sigma_{\max}}\right)^{i/(n-1)}$$
    """
    n, low, high = 7, 0.03, 14.6
    agree(exponential_sigmas(n, low, high), [high * (low / high) ** (i / (n - 1)) for i in range(n)])


def test_kl_optimal_sigmas():
    r"""Seven levels from 14.6 to 0.03.

    $$\sigma_i = \tan\!\left(\arctan\sigma_{\max}
                 + \tfrac{i}{n-1} (\arctan\sigma_{\min} - \arctan\sigma_{\max})\right)$$
    """
    n, low, high = 7, 0.03, 14.6
    a, b = np.arctan(high), np.arctan(low)
    agree(kl_optimal_sigmas(n, low, high), [np.tan(a + i / (n - 1) * (b - a)) for i in range(n)])


def test_beta_distribution():
    r"""The integrals as sums over many points, for an a of 1.6, where they have no pole.

    $$F(x) = \frac{\int_0^x u^{a-1} (1-u)^{a-1}\,du}{\int_0^1 u^{a-1} (1-u)^{a-1}\,du}$$
    """
    u = (np.arange(100_000) + 0.5) / 100_000
    density = u**0.6 * (1 - u) ** 0.6
    x = np.array([0.13, 0.4, 0.5, 0.77])
    expected = [density[u < one].sum() / density.sum() for one in x]
    assert np.abs(beta_cdf(x, 1.6) - expected).max() < 1e-6


def test_lms_weights():
    r"""The integral by Gauss and Legendre's points, which for a cubic are exact; the code integrates the polynomial.

    $$w_j = \int_{s}^{s'} \prod_{k \ne j} \frac{\tau - s_k}{s_j - s_k}\, d\tau$$
    """
    sigmas, sigma_prev = [14.0, 9.0, 6.5, 5.0], 3.0
    points, shares = np.polynomial.legendre.leggauss(4)
    s = sigmas[-1] + (sigma_prev - sigmas[-1]) * (points + 1) / 2
    expected = []
    for j in range(4):
        factors = [(s - sigmas[k]) / (sigmas[j] - sigmas[k]) for k in range(4) if k != j]
        expected.append((sigma_prev - sigmas[-1]) / 2 * np.sum(shares * np.prod(factors, axis=0)))
    agree(lms_weights(sigmas, sigma_prev), expected)


def test_lms_step():
    r"""Along a weighted sum of the last directions.

    $$x' = \alpha' \left( \frac{x_t}{\alpha} + \sum_j w_j\,\hat\epsilon_j \right)$$
    """
    x, eps, w = normal(2, 3), [normal(2, 3, seed=s) for s in (1, 2, 3)], [-2.0, 0.5, 0.1]
    step = lms_step(tensor(x), [tensor(e) for e in eps], w, ANY, LESS)
    agree(step, LESS.alpha * (x / ANY.alpha + sum(w[j] * eps[j] for j in range(3))))


def test_plms_extrapolation():
    r"""From two, three and four guesses; index 0 is the newest.

    $$\bar\epsilon = \tfrac12 (3\epsilon_0 - \epsilon_1), \quad
      \tfrac1{12} (23\epsilon_0 - 16\epsilon_1 + 5\epsilon_2), \quad
      \tfrac1{24} (55\epsilon_0 - 59\epsilon_1 + 37\epsilon_2 - 9\epsilon_3)$$
    """
    e = [normal(2, 3, seed=s) for s in range(4)]
    oldest_first = [tensor(e[i]) for i in (3, 2, 1, 0)]
    agree(extrapolated_eps(oldest_first[2:]), (3 * e[0] - e[1]) / 2)
    agree(extrapolated_eps(oldest_first[1:]), (23 * e[0] - 16 * e[1] + 5 * e[2]) / 12)
    agree(extrapolated_eps(oldest_first), (55 * e[0] - 59 * e[1] + 37 * e[2] - 9 * e[3]) / 24)


def test_half_log_snr():
    r"""Half the logarithm of the signal-to-noise ratio.

    $$\lambda = \log\frac{\alpha}{\sigma} = \tfrac12 \log\frac{\alpha^2}{\sigma^2}$$
    """
    agree(HERE.half_log_snr, np.log(A_T / (1 - A_T)) / 2)
    agree(ANY.half_log_snr, np.log(ANY.alpha / ANY.sigma))


def test_dpmpp_2m_update():
    r"""Two estimates of the image, after steps of different length.

    $$x' = \frac{\sigma'}{\sigma}\,x_t - \alpha' (e^{-h} - 1)\,D, \qquad
      D = \hat x_0 + \frac{h}{2 h_{prev}} (\hat x_0 - \hat x_0^{prev})$$
    """
    x_t, x0, x0_prev = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    for levels in ((BEFORE, HERE, THERE), (Level(0, 0.1, 1.0), ANY, LESS)):
        alpha, sigma = np.array([[level.alpha, level.sigma] for level in levels]).T
        h_prev, h = np.diff(np.log(alpha / sigma))
        d = x0 + h / (2 * h_prev) * (x0 - x0_prev)
        step = dpmpp_2m_step(tensor(x_t), tensor(x0), tensor(x0_prev), *levels)
        agree(step, sigma[2] / sigma[1] * x_t - alpha[2] * (np.exp(-h) - 1) * d)


def test_brownian_increment():
    r"""Between two levels.

    $$z = \frac{B(u') - B(u)}{\sqrt{u' - u}}, \qquad u = \left(\frac{\alpha}{\sigma}\right)^2$$
    """
    (b, u), (b_next, u_next) = (brownian(3, (2, 3), level.half_log_snr) for level in (HERE, THERE))
    for time, level in ((u, HERE), (u_next, THERE)):
        assert np.isclose(time, (level.alpha / level.sigma) ** 2, rtol=1e-4)  # the path's points are discrete
    agree(increment(3, (2, 3), HERE, THERE), (b_next.numpy() - b.numpy()) / np.sqrt(u_next - u))


def test_brownian_bridge():
    r"""At 0.7, between 0.2 and 1.5.

    $$B(u_m) = B(u) + r\,(B(u') - B(u)) + \sqrt{r\,(u' - u_m)}\;z, \qquad r = \frac{u_m - u}{u' - u}$$
    """
    b, b_end, z = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    r = 0.5 / 1.3
    found = bridge(tensor(b), tensor(b_end), 0.2, 0.7, 1.5, tensor(z))
    agree(found, b + r * (b_end - b) + np.sqrt(r * 0.8) * z)


def test_sde_step():
    r"""With all of the noise, with half and without; and what it is in other variables, if the estimate stays the same.

    $$x' = \frac{\sigma'}{\sigma}\,e^{-\eta h}\,x_t + \alpha' \left(1 - e^{-(1 + \eta) h}\right) \hat x_0
           + \sigma' \sqrt{1 - e^{-2 \eta h}}\;z$$

    $$dy = \hat x_0(y, u)\,du + dB$$
    """
    x, x0, z = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    h = np.log(THERE.alpha / THERE.sigma) - np.log(HERE.alpha / HERE.sigma)
    for eta in (0.0, 0.5, 1.0):
        step = dpmpp_2m_sde_step(tensor(x), tensor(x0), HERE, THERE, tensor(z), eta)
        expected = THERE.sigma / HERE.sigma * np.exp(-eta * h) * x
        expected = expected + THERE.alpha * (1 - np.exp(-(1 + eta) * h)) * x0
        agree(step, expected + THERE.sigma * np.sqrt(1 - np.exp(-2 * eta * h)) * z)
    u, u_next = ((level.alpha / level.sigma) ** 2 for level in (HERE, THERE))
    y, y_next = x * HERE.alpha / HERE.sigma**2, step.numpy() * THERE.alpha / THERE.sigma**2
    agree(y_next - y, x0 * (u_next - u) + np.sqrt(u_next - u) * z)


def test_halfway():
    r"""On a flow, where the ratio is sigma / (1 - sigma).

    $$\lambda_m = \tfrac12 (\lambda + \lambda'), \qquad s_m = \sqrt{s\,s'}$$
    """
    one, _, other = flow_levels(5)[1:4]
    middle = halfway(one, other)
    agree(middle.half_log_snr, (one.half_log_snr + other.half_log_snr) / 2)
    agree(middle.ve_sigma, np.sqrt(0.8 / 0.2 * 0.4 / 0.6))


def test_lcm_step():
    r"""At t = 0.3, where both weights count.

    $$c_{skip} = \frac{\sigma_{data}^2}{s^2 + \sigma_{data}^2}, \qquad
      c_{out} = \frac{s}{\sqrt{s^2 + \sigma_{data}^2}}$$

    $$x' = \alpha' \left( c_{out}\,\hat x_0 + c_{skip}\,x_t \right) + \sigma' z$$
    """
    x, x0, z = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    s, data = 3.0, 0.5
    skip, out = data**2 / (s**2 + data**2), s / np.sqrt(s**2 + data**2)
    agree(boundary_weights(0.3), (skip, out))
    here = Level(0.3, HERE.alpha, HERE.sigma)
    step = lcm_step(tensor(x), tensor(x0), here, THERE, tensor(z))
    agree(step, THERE.alpha * (out * x0 + skip * x) + THERE.sigma * z)


def test_tcd_step():
    r"""Below the next level, and up to it again.

    $$x_s = \alpha_s\,\hat x_0 + \sigma_s\,\hat\epsilon, \qquad
      x' = \frac{\alpha'}{\alpha_s}\,x_s + \sqrt{\sigma'^2 - \left(\frac{\alpha'}{\alpha_s}\,\sigma_s\right)^2}\;z$$
    """
    x0, eps, z = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    x_s = THERE.alpha * x0 + THERE.sigma * eps
    ratio = HERE.alpha / THERE.alpha
    expected = ratio * x_s + np.sqrt(HERE.sigma**2 - (ratio * THERE.sigma) ** 2) * z
    agree(tcd_step(tensor(x0), tensor(eps), THERE, HERE, tensor(z)), expected)


def test_unipc_weights():
    r"""Two and three of them.

    $$\sum_k \rho_k\,r_k^{\,j-1} = \frac{j!\,z\,\varphi_{j+1}(z)}{e^z - 1}, \qquad
      \varphi_1(z) = \frac{e^z - 1}{z}, \quad \varphi_{j+1}(z) = \frac{\varphi_j(z) - 1/j!}{z}, \qquad z = -h$$
    """
    z = -0.7
    phi = [(np.exp(z) - 1) / z]
    for factorial in (1, 2, 6):
        phi.append((phi[-1] - 1 / factorial) / z)
    for r in ([-0.8, 1.0], [-1.7, -0.8, 1.0]):
        found = [sum(w * each**j for w, each in zip(unipc_weights(r, 0.7), r)) for j in range(len(r))]
        right = [f * z * p / (np.exp(z) - 1) for f, p in zip((1, 2, 6), phi[1:])]
        agree(found, right[: len(r)])


def test_mean_estimate():
    r"""From the start of a step, the level before it and its end.

    $$D = \hat x_0 + \sum_k \rho_k\,\frac{\hat x_0^{(k)} - \hat x_0}{r_k}, \qquad
      r_k = \frac{\lambda_k - \lambda}{\lambda' - \lambda}$$
    """
    x0 = [normal(2, 3, seed=i) for i in range(3)]
    start, before, end = (
        Evaluation(level, tensor(each), tensor(each), tensor(each))
        for level, each in zip((HERE, BEFORE, THERE), x0)
    )
    h = THERE.half_log_snr - HERE.half_log_snr
    r = (BEFORE.half_log_snr - HERE.half_log_snr) / h
    agree(mean_x0(start, [before], THERE), x0[0] + 0.5 * (x0[1] - x0[0]) / r)
    rho = unipc_weights([r, 1.0], h)
    expected = x0[0] + rho[0] * (x0[1] - x0[0]) / r + rho[1] * (x0[2] - x0[0])
    agree(mean_x0(start, [before, end], THERE), expected)


def test_windows():
    r"""Ten columns in windows of four, which begin at 0, 2, 4 and 6; the estimates depend on all that a window sees.

    $$\hat\epsilon(x)_p = \frac{1}{|\{i : p \in W_i\}|} \sum_{i \,:\, p \in W_i} \hat\epsilon(x_{W_i})_p$$
    """
    x = normal(3, 10)
    expected = np.zeros_like(x)
    for p in range(10):
        around = [i for i in (0, 2, 4, 6) if i <= p < i + 4]
        for i in around:
            expected[:, p] += np.cumsum(x[:, i : i + 4], axis=1)[:, p - i] / len(around)
    denoise = in_windows(lambda piece, level: (-piece.cumsum(-1), piece.cumsum(-1)), 4)
    x0, eps = denoise(tensor(x)[None, None], HERE)
    agree(eps[0, 0], expected)
    agree(x0[0, 0], -expected)
