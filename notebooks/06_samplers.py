# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06: How few evaluations are enough?
#
# **The question.** A sampler goes from noise to an image in steps, and evaluates the network at every step to find the
# direction. Every evaluation costs the same. How much closer to the right answer does one more of them bring us, and
# with which sampler?
#
# At the end you will be able to
#
# - write down a perfect denoiser for data that you choose, and run every sampler of `ldm/diffusion/` with it;
# - measure the *order* of a sampler: the power with which its error falls as the number of steps grows;
# - say what fresh noise is good for, and how to measure a sampler whose result is different each time;
# - choose a sampler and a number of steps for a real model, and know what you gave up.
#
# The code is [`table`](../ldm/diffusion/samplers/table.py), the list of them all, with
# [`ddim`](../ldm/diffusion/samplers/ddim.py), [`ddpm`](../ldm/diffusion/samplers/ddpm.py),
# [`euler`](../ldm/diffusion/samplers/euler.py), [`euler_ancestral`](../ldm/diffusion/samplers/euler_ancestral.py),
# [`heun`](../ldm/diffusion/samplers/heun.py), [`lms`](../ldm/diffusion/samplers/lms.py),
# [`dpmpp_2m`](../ldm/diffusion/samplers/dpmpp_2m.py), [`unipc`](../ldm/diffusion/samplers/unipc.py),
# [`plms`](../ldm/diffusion/samplers/plms.py), [`dpmpp_2m_sde`](../ldm/diffusion/samplers/dpmpp_2m_sde.py) and
# [`dpmpp_sde`](../ldm/diffusion/samplers/dpmpp_sde.py) (and [`lcm`](../ldm/diffusion/samplers/lcm.py) and
# [`tcd`](../ldm/diffusion/samplers/tcd.py), for models distilled to need few steps);
# [`sample`](../ldm/diffusion/sample.py), the loop that they share; and [`level`](../ldm/diffusion/level.py),
# [`spacing`](../ldm/diffusion/spacing.py) and [`sigmas`](../ldm/diffusion/sigmas.py), the noise levels that they visit.
#
# Two terms first. A *level* says how much signal and how much noise a latent holds, $x = \alpha\,x_0 +
# \sigma\,\epsilon$. A *step* goes from one level to a lower one. With a trained network we never know the right answer.
# So we start where we do: in the plane.

# %%
import math
import warnings
from functools import partial

import torch
from IPython.display import display

import ldm
import show
from ldm.config import NoiseConfig
from ldm.diffusion.brownian import with_paths
from ldm.diffusion.level import CLEAN, vp_level_of
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.sigmas import karras_sigmas
from ldm.diffusion.spacing import initial_latents, sampler_levels

alpha_bar = make_alpha_bar(NoiseConfig()).double()  # Stable Diffusion's schedule
warnings.filterwarnings("ignore", "the first of . sampling steps")  # so few steps are taken on purpose

# %% [markdown]
# ## A world in which the perfect denoiser is known
#
# Our "images" are points of the plane: five clouds on a circle, some more likely than others. A point $x_0$ belongs to
# cloud $k$ with probability $w_k$, and is then drawn from $\mathcal N(\mu_k, s^2 I)$.

# %%
angles = torch.arange(5, dtype=torch.float64) * (2 * math.pi / 5)
centres = 1.3 * torch.stack([angles.cos(), angles.sin()], dim=1)
weights = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0], dtype=torch.float64) / 15
SPREAD = 0.2


def normal(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, generator=generator, dtype=torch.float64)


def draw_data(count, seed):
    cloud = torch.multinomial(weights, count, replacement=True, generator=torch.Generator().manual_seed(seed))
    return centres[cloud] + SPREAD * normal(count, seed + 1)


# %% [markdown]
# Add noise to it, $y = x_0 + \sigma\epsilon$. This is the noisy $x_t$ of [notebook 03](03_noise.ipynb) in another unit,
# *VE form*: there the image fades as the noise grows, here it keeps its scale and $\sigma$ says how much noise is added
# to it. Divide $x_t = \alpha\,x_0 + \sigma_t\,\epsilon$ by $\alpha$ and you have it, with $\sigma = \sigma_t / \alpha$
# (`level.ve_sigma`).
#
# Under noise each cloud becomes wider, $\mathcal N(\mu_k, (s^2 + \sigma^2) I)$, and nothing else happens. So Bayes'
# rule gives the mean of all $x_0$ that a given $y$ may have come from, in closed form. It is what a network with
# infinite training would predict:
#
# $$\hat x_0(y, \sigma) = \sum_k r_k(y) \left( \mu_k + \frac{s^2}{s^2 + \sigma^2} (y - \mu_k) \right), \qquad
#   r_k \propto w_k \exp\!\left( -\frac{\lVert y - \mu_k \rVert^2}{2 (s^2 + \sigma^2)} \right)$$


# %%
def best_guess(y, sigma):
    variance = SPREAD**2 + sigma**2
    offsets = y[:, None] - centres  # [points, clouds, 2]
    share = (weights.log() - offsets.square().sum(dim=-1) / (2 * variance)).softmax(dim=1)
    means = centres + SPREAD**2 / variance * offsets
    return (share[..., None] * means).sum(dim=1)


def denoise(x, level):
    sigma, y = level.ve_sigma, x / level.alpha
    x0 = best_guess(y, sigma)
    return x0, (y - x0) / sigma


# %% [markdown]
# This has the signature of the pipeline's denoiser, `(x_t, level) -> (x0, eps)`, so every sampler of the package
# accepts it. But is it right? The estimate and the *score*, the gradient of the log-density, say the same thing,
# $\nabla_y \log p_\sigma(y) = (\hat x_0 - y) / \sigma^2$ (Tweedie's formula). Autograd can check that.


# %%
def log_density(y, sigma):
    variance = SPREAD**2 + sigma**2
    distances = (y[:, None] - centres).square().sum(dim=-1)
    return (weights.log() - distances / (2 * variance) - math.log(2 * math.pi * variance)).logsumexp(dim=1)


for sigma in (0.1, 1.0, 10.0):
    y = (draw_data(100, 1) + sigma * normal(100, 2)).requires_grad_()
    (score,) = torch.autograd.grad(log_density(y, sigma).sum(), y)
    torch.testing.assert_close(score, (best_guess(y, sigma) - y) / sigma**2, rtol=1e-9, atol=1e-9)
print("the guess is the score, at every noise level")

# %% [markdown]
# ## Watch it work
#
# Pure noise is one round cloud in the middle. DDIM takes the two estimates, $\hat x_0$ and $\hat\epsilon$, and mixes
# them again for the next lower level (Song et al. 2021, eq. 12):
#
# $$x_{t'} = \sqrt{\bar\alpha_{t'}}\,\hat x_0 + \sqrt{1-\bar\alpha_{t'}}\,\hat\epsilon$$
#
# It adds no noise, so where a point ends is determined by where it starts. *Predict:* if you give each point the colour
# of the cloud that it *ends* in, how will the colours be arranged in the noise: mixed like sand, or in regions?


# %%
def run(name, levels, x, guess=denoise, seed=100, **options):
    noise = iter(normal(len(x), seed + i) for i in range(10**6))
    update = partial(SAMPLERS[name].update, **options)
    return list(sample(update, guess, x, levels, lambda: next(noise)))


steps = run("ddim", sampler_levels(SAMPLERS["ddim"], 50, alpha_bar), normal(1500, 3))
ends_in = torch.cdist(steps[-1].x_prev, centres).argmin(dim=1)
moments = (0, 30, 40, 45)
shown = [steps[i].x_t for i in moments] + [steps[-1].x_prev]
figure, axes = show.figure(len(shown), width=2.1, height=2.4)
for axis, points, title in zip(axes, shown, [*(f"step {i} of 50" for i in moments), "end"]):
    axis.scatter(*points.T, c=ends_in, s=1.5, cmap="tab10", vmax=9)
    axis.set(title=title, xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")
display(show.picture(figure))

# %% [markdown]
# In regions. Each path is the solution of a differential equation (introduced below), and solutions never cross:
# neighbours in the noise stay neighbours, except along the borders. Nothing is left to chance: the same noise leads to
# the same image, and a slightly different prompt bends every path a little. That is why the same seed gives related
# images for related prompts. And the proportions come out right:

# %%
share = torch.bincount(ends_in, minlength=5) / len(ends_in)
print("wanted", [f"{w:.2f}" for w in weights.tolist()])
print("got   ", [f"{s:.2f}" for s in share.tolist()])
assert (share - weights).abs().max() < 0.06

# %% [markdown]
# ## The order of a sampler
#
# Remove a little noise, $d\sigma$: since $y = x_0 + \sigma\epsilon$, the latent moves by $\epsilon\,d\sigma$, for which
# the best estimate is $\hat\epsilon\,d\sigma$; then evaluate again, since the estimate has changed. So a sampler
# without noise solves the differential equation $dy/d\sigma = \hat\epsilon$, and there is a right answer: the exact
# solution from the same start. Let all of them visit the same levels, from $\sigma = 10$ to $0.05$ in $n$ steps, and
# compare. If the error is $C\,n^{-p}$, then $p$ is the order, which is the slope in a log-log plot.
#
# *Predict:* Euler goes straight on; Heun averages two directions, at the start and at the end of its step; DPM++ 2M,
# PLMS and LMS reuse earlier evaluations. Which of them have order 1? And is there a difference between Euler and DDIM?
# (The levels are those of Karras et al. 2022: the lower, the closer together.)


# %%
def finish(name, count, y, **options):
    levels = [vp_level_of(0, sigma) for sigma in karras_sigmas(count + 1, 0.05, 10.0).tolist()]
    # The step to CLEAN is not counted: a sampler's last step may be of lower order.
    steps = run(name, [*levels, CLEAN], levels[0].alpha * y, **options)
    return steps[-1].x_t / levels[-1].alpha


start = 10 * normal(200, 4)
coarse, fine = (finish("heun", count, start) for count in (1000, 2000))
exact = fine + (fine - coarse) / 3  # the error of order 2 falls to a quarter: so this takes it away
print(f"doubling 1000 steps still moved the points by {(fine - coarse).abs().median():.0e}")

# %% [markdown]
# (The last line is Richardson extrapolation: if you know the order, two answers make a better one.) Now the race. It
# takes the median over 200 points, because a few start so close to a border that any inaccuracy tips them over.

# %%
RACE = ("euler", "ddim", "heun", "dpmpp_2m", "unipc", "plms", "lms")
counts = [10, 20, 40, 80, 160, 320]
errors = {
    name: [(finish(name, count, start) - exact).norm(dim=1).median().item() for count in counts]
    for name in RACE
}
figure, [axis] = show.figure(width=6, height=3.8)
for name in RACE:
    axis.loglog(counts, errors[name], "--" if name == "ddim" else "-", marker=".", label=name)
axis.set(xlabel="steps", ylabel="median error", title="How the error falls")
axis.grid(alpha=0.3)
axis.legend(frameon=False)
display(show.picture(figure))

# %%
order = {name: math.log2(errors[name][-3] / errors[name][-1]) / 2 for name in RACE}
for name in RACE:
    print(f"{name:9} order {order[name]:.2f}   error with 20 steps {errors[name][1]:.4f}")
assert all(abs(order[name] - 1) < 0.2 for name in ("euler", "ddim"))
assert all(abs(order[name] - 2) < 0.4 for name in ("heun", "dpmpp_2m"))
assert all(order[name] > 1.6 for name in ("plms", "lms")) and order["unipc"] > 2.5
assert all(errors[name][1] < errors["euler"][1] / 3 for name in ("heun", "dpmpp_2m", "lms"))

# %% [markdown]
# Euler and DDIM have order 1, the others 2 or more: twice the steps make the error half as large, or a quarter and
# less. UniPC has order 3: it corrects each step with the evaluation that the next one starts with. Two things to
# remember.
#
# **DDIM is Euler.** Not similar: the same line of code. Divide DDIM's line above by $\sqrt{\bar\alpha_{t'}}$: it says
# $y' = \hat x_0 + \sigma'\hat\epsilon$, and since $y = \hat x_0 + \sigma\hat\epsilon$, that is $y' = y + (\sigma' -
# \sigma)\,\hat\epsilon$, Euler's straight line. In practice they differ only in the levels they visit.

# %%
torch.testing.assert_close(finish("ddim", 20, start), finish("euler", 20, start), rtol=1e-10, atol=1e-10)
print("DDIM and Euler over the same levels: equal")

# %% [markdown]
# **Steps are not evaluations.** Heun evaluates the network twice per step. Evaluations are what you pay for, so here is
# the race again, plotted over them.


# %%
def evaluations(name, count):
    seen = []
    finish(name, count, start[:1], guess=lambda x, level: (seen.append(level), denoise(x, level))[1])
    return len(seen) - 1  # without the one of the step to CLEAN


bill = {name: [evaluations(name, count) for count in counts] for name in RACE}
assert bill["heun"][1] == 2 * bill["euler"][1] and bill["dpmpp_2m"] == bill["euler"] == counts
assert errors["dpmpp_2m"][1] < errors["heun"][0] / 2  # 20 evaluations each
figure, [axis] = show.figure(width=6)
for name in ("euler", "heun", "dpmpp_2m", "lms"):
    axis.loglog(bill[name], errors[name], marker=".", label=name)
axis.set(xlabel="evaluations of the network", ylabel="median error")
axis.grid(alpha=0.3)
axis.legend(frameon=False)
display(show.picture(figure))

# %% [markdown]
# Reusing an evaluation is cheaper than making a second one: that is why DPM++ 2M became popular.
#
# ## Samplers that add noise
#
# [DDPM](../ldm/diffusion/samplers/ddpm.py) and [Euler ancestral](../ldm/diffusion/samplers/euler_ancestral.py) step
# below the target noise level, then add fresh noise back up to it. For a given start their result has no "right
# answer", only a right *distribution*. So we compare samples of many points: project both samples onto a line, sort,
# and take the mean distance between points of equal rank; average over many directions (the sliced Wasserstein
# distance). Two samples of the same distribution are not at distance 0 either; that floor is in the plot, too.


# %%
def distance(a, b, directions=50):
    angle = torch.arange(directions, dtype=torch.float64) * (math.pi / directions)
    rays = torch.stack([angle.cos(), angle.sin()])
    return ((a @ rays).sort(dim=0)[0] - (b @ rays).sort(dim=0)[0]).abs().mean().item()


N = 4000
truth = draw_data(N, 5)
floor = sum(distance(truth, draw_data(N, 10 * i)) for i in range(2, 7)) / 5
print(f"two samples of the truth, {N} points each: {floor:.3f}")

# %% [markdown]
# Now each sampler with its own levels, as for an image. *Predict:* in 5 steps, which of these samples will be the
# worst? And from how many steps on will order 2 live up to its name?

# %%
CROWD = ("ddim", "ddpm", "euler_ancestral", "euler_karras", "heun_karras", "dpmpp_2m_karras")
few_to_many = [5, 10, 20, 40, 80]
crowds = {}
for name in CROWD:
    for count in few_to_many:
        levels = sampler_levels(SAMPLERS[name], count, alpha_bar)
        begun = initial_latents(SAMPLERS[name], normal(N, 6), levels)
        crowds[name, count] = run(name, levels, begun)[-1].x_prev
far = {key: distance(crowd, truth) / floor for key, crowd in crowds.items()}

# %%
lines = {name: [far[name, count] for count in few_to_many] for name in CROWD}
lines["floor"] = [1] * len(few_to_many)
display(show.curve(few_to_many, lines, "steps", "distance / floor", marker="o"))
assert all(far[name, 20] < 0.7 * far[name, 5] and far[name, 20] < 2.5 for name in CROWD)
assert far["heun_karras", 5] == max(far[name, 5] for name in CROWD)
assert far["euler_ancestral", 5] > far["ddim", 5]

# %% [markdown]
# Two surprises. With 5 steps, Heun is the worst of all: it extrapolates the change of direction over a step that is
# much too long, and overshoots. And from 20 steps on *all* are near the floor, even Euler: a point that ends beside its
# exact position, but within the right cloud, is a perfectly good sample. The distribution forgives what the race above
# punished. (That all stop slightly above the floor is due to their common start. And that DDPM needs no more steps than
# the others holds for the plane only: on images it does need more; Song et al. 2021, table 1.) Here are the samples
# after 5 steps: DDIM's have not yet separated into clouds, and those with fresh noise even less; Heun's have, but the
# clouds lie too far out.

# %%
pictures = {"truth": truth}
pictures |= {f"{name}, 5": crowds[name, 5] for name in ("ddim", "euler_ancestral", "heun_karras")}
figure, axes = show.figure(len(pictures), width=2.5, height=2.7)
for axis, (title, points) in zip(axes, pictures.items()):
    axis.scatter(*points[:1500].T, s=1)
    axis.set(xlim=(-2.3, 2.3), ylim=(-2.3, 2.3), xticks=[], yticks=[], aspect="equal")
    axis.set_title(title, fontsize=9)
display(show.picture(figure))

# %% [markdown]
# Then what is noise good for? It *erases errors*. Let us make one on purpose: start from noise with half the standard
# deviation that it should have. *Predict:* which one suffers, DDIM or DDPM?

# %%
wrong_start = {}
for name in ("ddim", "ddpm"):
    levels = sampler_levels(SAMPLERS[name], 200, alpha_bar)
    wrong_start[name] = run(name, levels, 0.5 * normal(N, 7))[-1].x_prev
    print(f"{name}: {distance(wrong_start[name], truth) / floor:.1f} x floor")
assert distance(wrong_start["ddpm"], truth) < 0.4 * distance(wrong_start["ddim"], truth)

# %% [markdown]
# DDIM carries the error to the end; DDPM's fresh noise washes it out. A trained network makes small errors at every
# step, and fresh noise can correct them. How many steps that takes depends on the sampler: DDPM needs hundreds.
#
# ## Noise that belongs to the path
#
# Fresh noise has a price: if you double the number of steps, every point ends somewhere else, however many steps there
# are. The SDE samplers avoid that. Their noise is a *Brownian path*, one for each image, and a step uses the piece of
# the path between its two levels ([`brownian`](../ldm/diffusion/brownian.py)). *Predict:* how far does a point move if
# you double the steps, with fresh noise and with a path?


# %%
def end(name, count):
    fresh = iter(normal(200, 300 + i) for i in range(count))
    source = with_paths(lambda: next(fresh)[None], [42], (200, 2), torch.float64, "cpu")
    levels = sampler_levels(SAMPLERS[name], count, alpha_bar)
    steps = sample(SAMPLERS[name].update, denoise, normal(200, 6), levels, lambda *way: source(*way)[0])
    return list(steps)[-1].x_prev


for name in ("euler_ancestral", "dpmpp_2m_sde", "dpmpp_sde"):
    moved = [(end(name, n) - end(name, 2 * n)).norm(dim=1).median().item() for n in (10, 40, 80)]
    print(f"{name:15} doubling 10, 40, 80 steps moves a point by " + ", ".join(f"{m:.3f}" for m in moved))
    assert (moved[-1] > 0.1) == (name == "euler_ancestral")

# %% [markdown]
# ## On images
#
# The same samplers, with a network instead of the formula. (Its schedule ends in pure noise, unlike the one that we
# used in the plane, and that is where all samplers begin.) Nobody knows the exact answer here. But all samplers without
# noise converge to the same one, so DPM++ 2M with 60 steps stands in for it.
#
# *Predict:* which samplers will reach that image, and with how many steps?


# %%
@torch.no_grad()
def paint(name, count, prompt="a lake with mountains at sunset", seed=11):
    noise_fn, levels = model.noise_source([seed], (128, 128)), model.levels(name, count)
    guess = model.denoiser(model.encode_text([prompt]), model.encode_text([""]), guidance=3.0)
    latent = model.initial_latents(name, noise_fn(), levels)
    for step in model.sample(name, guess, latent, levels, noise_fn):
        latent = step.x_prev
    return latent


model = ldm.load("tiny")
target = paint("dpmpp_2m", 60)

# %%
ROWS = ("ddim", "heun", "dpmpp_2m", "dpmpp_2m_karras", "euler_ancestral")
columns = [4, 8, 24]
latents = {(name, count): paint(name, count) for name in ROWS for count in columns}
rows = [[model.decode(latents[name, count])[0] for count in columns] + model.decode(target) for name in ROWS]
top = [*(f"{count} steps" for count in columns), "target"]
display(show.grid(rows, left=ROWS, top=top, side=72))

# %% [markdown]
# The last column is the same image five times: the one that the upper four rows converge to. Euler ancestral, with
# noise, gives good images too, but a different one for every number of steps. (DDPM would give the same ones: its step
# is the same formula, and here it visits the same levels.) And look at the first column: with four of Karras's levels,
# DPM++ 2M paints a blur in the wrong colours. These levels begin at $\sigma = 4096$, which stands for infinity, and
# half of them lie above 100, where there is nothing to see yet. In numbers:

# %%
rms = {key: (latent - target).square().mean().sqrt().item() for key, latent in latents.items()}
print("distance to the target in latent space, of deviation about 1")
for name in ROWS:
    print(f"{name:16}", "  ".join(f"{count:3} steps {rms[name, count]:.3f}" for count in columns))
assert rms["heun", 24] < rms["ddim", 24] and rms["dpmpp_2m", 24] < rms["ddim", 24]
assert all(rms[name, 24] < 0.5 * rms[name, 4] for name in ROWS[:4])
assert rms["euler_ancestral", 24] > 2 * rms["dpmpp_2m", 24]

# %% [markdown]
# As in the plane: with enough steps second order is closer, and with too few it is no better. The order is a promise
# about *small* steps, and says nothing about large ones.
#
# Which one to choose? For a quick image: `dpmpp_2m` with 15 to 20 steps, or `unipc` with 10; on a schedule that does
# not end in pure noise, such as Stable Diffusion's, `dpmpp_2m_karras`. To compare with published images: `ddim` or
# `plms` with 50, as in Stable Diffusion's own code. Where the prompt leaves much open: `euler_ancestral` with 20 or
# more, the tiny model's default; each number of steps gives a different image. For noise *and* an image that stays the
# same when you change the steps: `dpmpp_2m_sde`. All of them accept other levels (`spacing="exponential"`, ...).
#
# ## Exercises
#
# **1.** The *midpoint method*: go half a step with Euler, evaluate there, and take the whole step in that direction.
# Write it as a function `midpoint(y, sigmas)` in the form $dy/d\sigma = \hat\epsilon$, and measure its order. (Levels:
# `karras_sigmas`, as in `finish`; `best_guess` gives $\hat x_0$ at any $\sigma$, so also halfway between two of them.)
#
# <details><summary>Solution</summary>
#
# ```python
# def eps_at(y, sigma):
#     return (y - best_guess(y, sigma)) / sigma
#
# def midpoint(y, sigmas):
#     for sigma, lower in zip(sigmas, sigmas[1:]):
#         half = (sigma + lower) / 2
#         there = y + (half - sigma) * eps_at(y, sigma)
#         y = y + (lower - sigma) * eps_at(there, half)
#     return y
#
# slips = [(midpoint(start, karras_sigmas(n + 1, 0.05, 10.0)) - exact).norm(dim=1).median() for n in (80, 320)]
# print(f"order {torch.log2(slips[0] / slips[1]) / 2:.2f}")   # about 2, like Heun: both evaluate twice
# ```
# </details>
#
# **2.** `ddim` takes an option `eta`, from 0 (no noise) to 1 (as much as DDPM). Find out with 10 and with 200 steps
# which eta brings the points closest to the true distribution. Then repeat it from the wrong start (half the noise).
#
# <details><summary>Solution</summary>
#
# ```python
# for count in (10, 200):
#     for scale in (1.0, 0.5):
#         levels = sampler_levels(SAMPLERS["ddim"], count, alpha_bar)
#         row = [distance(run("ddim", levels, scale * normal(N, 6), eta=eta)[-1].x_prev, truth)
#                for eta in (0.0, 0.5, 1.0)]
#         print(count, "steps, start", scale, [f"{d / floor:.1f}" for d in row])
# # From the right start it hardly matters; from a wrong one noise helps, and in few steps the more the better.
# ```
# </details>
#
# **3.** How many evaluations does each sampler of the race need for a median error of 0.001? Interpolate `bill` and
# `errors` on logarithmic axes.
#
# <details><summary>Solution</summary>
#
# ```python
# import numpy as np
#
# for name in RACE:
#     log_count = np.interp(np.log(1e-3), np.log(errors[name])[::-1], np.log(bill[name])[::-1])
#     print(f"{name:9} {np.exp(log_count):.0f} evaluations")    # 320 or 10 means: outside of what was measured
# ```
# </details>
#
# To write samplers yourself: `ldm exercise start ddim_step`, `karras_sigmas`, `heun_step`, `dpmpp_2m_step` and
# `bridge`. Why two programs' "DDIM, 30 steps" differ is [measured
# here](../docs/questions.md#why-does-ddim-with-30-steps-differ-between-implementations). Next: [07: What survives in
# the latent space?](07_vae.ipynb)
