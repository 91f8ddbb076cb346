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
# # 03: Why learn to predict noise?
#
# **The question.** We want images. Why does the network predict the *noise* in an image, and what else could it
# predict?
#
# At the end you will be able to noise a latent to any timestep in one line, read a noise schedule by its
# signal-to-noise ratio, convert each of the three usual predictions into the others, and say at which noise levels each
# of them is a good target. The code is [`schedule`](../ldm/diffusion/schedule.py) and
# [`predict`](../ldm/diffusion/predict.py).

# %%
import numpy as np
import torch

import ldm
import show
from ldm.config import NoiseConfig
from ldm.diffusion.level import vp_level
from ldm.diffusion.predict import training_target, x0_and_eps
from ldm.diffusion.schedule import add_noise, make_alpha_bar, make_betas
from ldm.images.pixels import to_images, to_pixels
from ldm.postcards import postcard
from ldm.postcards.scene import WALLS

model = ldm.load("tiny")
alpha_bar = make_alpha_bar(NoiseConfig())  # Stable Diffusion's schedule

# %% [markdown]
# ## An image drowns in noise
#
# Each step of the *forward process* shrinks the latent a little and adds a little noise, so that the variance stays
# one. A table says how much, the $\beta_t$: one small variance for each of the 1000 timesteps (Ho et al. 2020,
# eq. 2; $z$ is fresh standard normal noise each time):
#
# $$x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,z$$
#
# There is nothing to learn here. Take one number, or rather ten thousand copies of it, through the first 300 steps.
#
# *Predict:* the number is 1.5. What are the mean and the variance of the copies after 300 steps?

# %%
betas = make_betas(NoiseConfig()).double()
generator = torch.Generator().manual_seed(0)
x = torch.full((10_000,), 1.5, dtype=torch.float64)
for beta in betas[:300]:
    x = (1 - beta).sqrt() * x + beta.sqrt() * torch.randn(len(x), generator=generator, dtype=torch.float64)
a = alpha_bar[299].double()
print(f"walked:   mean {x.mean():.3f}, variance {x.var():.3f}")
print(f"in a leap: mean {1.5 * a.sqrt():.3f}, variance {1 - a:.3f}")
assert abs(x.mean() - 1.5 * a.sqrt()) < 0.02 and abs(x.var() - (1 - a)) < 0.02

# %% [markdown]
# A sum of Gaussians is a Gaussian, so there is no need to take the steps one by one. With $\bar\alpha_t$, the product
# of all $1-\beta$ so far (`alpha_bar` in the code), a single jump reaches any timestep (Ho et al. 2020, eq. 4).
# Training does this with every image it draws:
#
# $$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$$
#
# Here it is on the latent of a postcard, decoded. *Predict:* from which t on will you no longer recognise it? The
# timesteps go up to 999.

# %%
cards = [postcard(i, seed=4, size=128) for i in range(16)]
with torch.no_grad():
    x0 = model.vae.encode(to_pixels([card.image for card in cards]))[0]
eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
times = [0, 50, 150, 300, 500, 700, 999]
with torch.no_grad():
    drowned = torch.cat([add_noise(x0[:1], eps[:1], alpha_bar[t]) for t in times])
    images = to_images(model.vae.decode(drowned))
show.film(images, [f"t = {t}, {100 * (1 - alpha_bar[t]):.1f} % noise" for t in times], side=104)

# %% [markdown]
# Long before the last timestep. The noise is in the *latent*, so the decoder turns it into blotches, not grain.
#
# ## How fast? The signal-to-noise ratio
#
# One number for each t tells most about a schedule: the variance of the signal over that of the noise,
# $\bar\alpha_t / (1-\bar\alpha_t)$. *Predict:* at which t between 0 and 999 are the two equal in Stable Diffusion's
# schedule?

# %%
schedules = {
    name: make_alpha_bar(NoiseConfig(schedule=name)) for name in ("scaled_linear", "linear", "cosine")
}
ratios = {name: a / (1 - a) for name, a in schedules.items()}
middle = int((ratios["scaled_linear"] > 1).sum())
print(f"Stable Diffusion's (scaled_linear) has more noise than signal from t = {middle}")
assert middle == 354
show.curve(range(1000), ratios, "t", "signal / noise", yscale="log")

# %% [markdown]
# At t = 354: for nearly two thirds of the timesteps there is more noise than signal. The plot shows two more things.
# The ratio falls by five orders of magnitude or more, and one network has to be good at all of them. And Stable
# Diffusion's ratio does not reach zero at the end.

# %%
last = alpha_bar[-1]
print(
    f"at t = 999, {100 * last:.2f} % of the variance, {100 * last.sqrt():.1f} % of the size, is still signal"
)
assert 0.004 < last < 0.005

# %% [markdown]
# ## A trace is enough
#
# Half a per cent: does that matter? Take postcards of animals in front of a wall, noise their latents to the last
# timestep, and average over all positions. The noise averages out, and the wall's colour, which is nearly everywhere,
# does not. Then name the colour of wall whose own average is nearest. There are eight colours, so guessing is right one
# time in eight. *Predict:* how often is this right, with only "pure noise" to go by?

# %%
more = [postcard(i, seed=5, size=128) for i in range(240)]
before_walls = [card for card in more if card.scene.wall]
walls = torch.tensor([WALLS.index(card.scene.wall) for card in before_walls])
with torch.no_grad():
    latents = torch.cat(
        [
            model.vae.encode(to_pixels([card.image for card in before_walls[i : i + 16]]))[0]
            for i in range(0, len(walls), 16)
        ]
    )
usual = torch.stack([latents[walls == i].mean(dim=(0, 2, 3)) for i in range(len(WALLS))])


# %%
def named(schedule, t):
    """The share of walls that are named correctly at timestep t."""
    x_t = add_noise(
        latents, torch.randn(latents.shape, generator=torch.Generator().manual_seed(t)), schedule[t]
    )
    nearest = torch.cdist(x_t.mean(dim=(2, 3)), schedule[t].sqrt() * usual).argmin(dim=1)
    return float((nearest == walls).float().mean())


# %%
ends_in_noise = make_alpha_bar(NoiseConfig(prediction="v", zero_snr=True))
some = [500, 800, 900, 950, 999]
shares = {
    "Stable Diffusion's schedule": [named(alpha_bar, t) for t in some],
    "the same, ending in pure noise": [named(ends_in_noise, t) for t in some],
}
for name, share in shares.items():
    print(f"{name}: {share[-1]:.0%} of {len(walls)} walls are named correctly at t = 999")
assert shares["Stable Diffusion's schedule"][-1] > 0.5
assert shares["the same, ending in pure noise"][-1] < 0.25
assert model.config.noise == NoiseConfig(prediction="v", zero_snr=True)
show.curve(some, shares, "t", "walls named correctly", marker="o")

# %% [markdown]
# In most cases. So in *training* the network can read the wall's colour and the time of day from the latent, at every
# timestep, and has little reason to read them from the prompt. But *sampling* starts from pure noise: there is no
# trace, and the network trusts what it sees all the same. Stable Diffusion's images tend towards medium brightness for
# that reason (Lin et al. 2024). Our latents have sixteen channels, in which a colour shows more than once, and with
# that schedule the tiny model painted walls of any colour, whatever the prompt said. So its schedule is stretched until
# it ends in pure noise (`zero_snr`; the second curve). Near the end there is nothing to go by but the prompt.
#
# ## Three targets, one answer
#
# If $x_t$ is known, the noise $\epsilon$, the clean latent $x_0$ and the mixture
# $v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1-\bar\alpha_t}\,x_0$ each determine the others (Salimans & Ho 2022).
# *Predict:* if the predictions are perfect, does it matter which of them the network makes?

# %%
clean, noise = x0.double(), eps.double()
for t in (30, 500, 950):
    level = vp_level(t, make_alpha_bar(NoiseConfig()).double())
    a = torch.full((len(clean),), level.alpha**2, dtype=torch.float64)
    for prediction_type in ("eps", "v", "x0"):
        answer = training_target(prediction_type, clean, noise, a)
        got_x0, got_eps = x0_and_eps(prediction_type, answer, level.mix(clean, noise), level)
        assert torch.allclose(got_x0, clean, atol=1e-10) and torch.allclose(got_eps, noise, atol=1e-10)

# %% [markdown]
# Not at all. But no prediction is perfect, and then it matters a great deal. Say it is wrong by 0.1, whichever it is.
# How wrong is the clean latent that follows from it, and how wrong the noise? (All conversions are linear, so to see
# what becomes of an error, convert the error alone, with 0 for $x_t$.)

# %%
zero = torch.zeros(1)


def errors_of(prediction_type):
    levels = [vp_level(t, alpha_bar) for t in range(1000)]  # Stable Diffusion's
    pairs = [x0_and_eps(prediction_type, zero + 0.1, zero, level) for level in levels]
    return [torch.cat(errors).abs() for errors in zip(*pairs)]


drawn, axes = show.figure(2)
for prediction_type in ("eps", "v", "x0"):
    for axis, error in zip(axes, errors_of(prediction_type)):
        axis.plot(error, label=f"asked for {prediction_type}")
for axis, name in zip(axes, ("clean latent", "noise")):
    axis.set(title=f"error of the {name}", xlabel="t", yscale="log")
assert all(error.max() < 0.1001 for error in errors_of("v"))
axes[0].legend(frameon=False)
show.picture(drawn)

# %% [markdown]
# Predict the noise, and at high t the error of the clean latent explodes, because it is divided by
# $\sqrt{\bar\alpha_t}$. Predict the clean latent, and at low t the noise goes wrong. Predicting $v$ never amplifies an
# error, at either end.
#
# So why does Stable Diffusion 1 predict noise? Because the target decides what the *loss* cares about. Here is the same
# error, written both ways:
#
# $$\lVert \hat\epsilon - \epsilon \rVert^2 = \frac{\bar\alpha_t}{1-\bar\alpha_t}\, \lVert \hat x_0 - x_0 \rVert^2$$
#
# A plain loss on the noise *is* a loss on the image, weighted by the signal-to-noise ratio. Where the image has drowned
# in noise, nobody could know it, and mistakes are cheap; where it is nearly clean, details must be right. This even
# goes too far: with almost no noise left, the network would spend its capacity on grain that nobody sees. So training
# here caps the weight at 5 ([`min_snr_weights`](../ldm/train/diffusion.py#min_snr_weights), from Hang et al. 2023).
#
# And in pure noise, asking for the noise is asking for nothing: the answer is the input. But that is where the prompt
# has to do all the work. So the tiny model, whose schedule ends there, predicts v, as Stable Diffusion 2's larger model
# does. A plain loss on v weights the image's error by the signal-to-noise ratio plus one, which never falls to zero:
#
# $$\lVert \hat v - v \rVert^2 = \frac{1}{1-\bar\alpha_t}\, \lVert \hat x_0 - x_0 \rVert^2, \qquad
#   \frac{1}{1-\bar\alpha_t} = \frac{\bar\alpha_t}{1-\bar\alpha_t} + 1$$
#
# ## What the trained network does
#
# Sixteen postcards, eight timesteps, one evaluation each. *Predict:* at which end is the noise easy to predict, and at
# which end the clean latent?

# %%
prompts = [card.caption for card in cards]
context = model.encode_text(prompts).context
times, ours = [10, 50, 150, 300, 450, 600, 800, 990], model.alpha_bar()
errors = {"noise": [], "clean latent": []}
for t in times:
    level = vp_level(t, ours)
    x_t = level.mix(x0, eps)
    with torch.no_grad():
        guess_x0, guess_eps = x0_and_eps("v", model.unet(x_t, torch.tensor(t), context), x_t, level)
    errors["noise"].append(float(((guess_eps - eps) ** 2).mean()))
    errors["clean latent"].append(float(((guess_x0 - x0) ** 2).mean()))

# %%
snr = ours[times] / (1 - ours[times])
left, right = np.array(errors["noise"]), np.array(errors["clean latent"]) * snr.numpy()
assert np.allclose(left, right, rtol=1e-2)  # the identity above, measured
assert errors["noise"][0] > 3 * errors["noise"][-1] and errors["clean latent"][0] < errors["clean latent"][-1]
show.curve(times, errors, "t", "mean squared error", yscale="log", marker="o")

# %% [markdown]
# They cross where signal and noise are equal, as the identity says. In a nearly clean latent the noise is faint and
# hard to predict: an error of 1 would mean knowing nothing. In pure noise it is easy, since nearly everything *is*
# noise; but that says little about the image. Look at the estimates:

# %%
some = [50, 300, 600, 800, 999]
with torch.no_grad():
    x_t = torch.cat([add_noise(x0[:1], eps[:1], ours[t]) for t in some])
    outs = [model.unet(x[None], torch.tensor(t), context[:1]) for x, t in zip(x_t, some)]
    levels = [vp_level(t, ours) for t in some]
    guesses = [x0_and_eps("v", o, x[None], level)[0] for o, x, level in zip(outs, x_t, levels)]
    rows = [to_images(model.vae.decode(z)) for z in (x_t, torch.cat(guesses))]
print(prompts[0])
show.grid(rows, ["what it is shown", "what it guesses"], [f"t = {t}" for t in some], side=104)

# %% [markdown]
# It sees more than you do: where you would give up, it still finds outlines. The closer to pure noise, though, the
# more it depends on the caption alone, and for whatever the caption leaves open (here, what stands where) it predicts
# the average of all possibilities. Squared error rewards averages: a blur is never very wrong. That is why one
# evaluation is not enough, and why sampling takes many steps: [notebook 06](06_samplers.ipynb).
#
# ## Is my loss curve normal?
#
# This is the log of the last 9,000 steps of the shipped model's training. The loss is weighted by `min_snr_weights`,
# and things count for more in it than background ([`importance`](../ldm/train/importance.py)). The network had already
# learned to predict v; now the text encoder learned on with it. *Predict:* will the loss fall from the first step? And
# for how much of the training does it fall?

# %%
log = show.recorded("diffusion")
start, peak, end = (log["loss"][a:b].mean() for a, b in ((0, 5), (45, 55), (-50, None)))
print(f"{start:.3f} in the first 100 steps, {peak:.3f} around step 1,000, {end:.3f} in the last 1,000")
assert end < start < peak
show.curve(log["step"], {"": log["loss"]}, "step", "weighted loss", "the U-Net's training")

# %% [markdown]
# It first rises: a training that goes on from good weights starts with a high learning rate again, which undoes part of
# what they had settled on. After some fifteen hundred steps it falls, slowly and with much scatter, nearly to the end,
# and ends only a little below where it began. That is normal; look at samples, not at the curve. (A network that begins
# from nothing starts near 1 and falls steeply at first, while it learns that images are smooth and noise is not;
# [notebook 10](10_train_your_own.ipynb) shows it. [The curves in
# numbers](../docs/questions.md#is-my-loss-curve-normal).)
#
# ## Exercises
#
# **1.** Training picks t at random. Draw t for a batch of 16, and compute the loss of the shipped model, without
# `min_snr_weights`, in four lines.
#
# <details><summary>Solution</summary>
#
# ```python
# t = torch.randint(1000, (16,), generator=torch.Generator().manual_seed(3))
# with torch.no_grad():
#     out = model.unet(add_noise(x0, eps, ours[t]), t, context)
# print(((out - training_target("v", x0, eps, ours[t])) ** 2).mean())
# ```
# </details>
#
# **2.** Which function above breaks if a model predicts the noise on a schedule that ends in pure noise, and why?
#
# <details><summary>Solution</summary>
#
# ```python
# print(ends_in_noise[-1])
# print(x0_and_eps("eps", eps[:1], eps[:1], vp_level(999, ends_in_noise))[0].isfinite().all())
# ```
#
# The division by $\sqrt{\bar\alpha_t} = 0$: there, the noise says nothing about the image.
# </details>
#
# **3.** How much do the words help, and where? Repeat the measurement with the context of the empty prompt.
#
# <details><summary>Solution</summary>
#
# ```python
# empty = model.encode_text([""]).context.expand(16, -1, -1)
# for t in times:
#     x_t, level = add_noise(x0, eps, ours[t]), vp_level(t, ours)
#     with torch.no_grad():
#         outs = [model.unet(x_t, torch.tensor(t), c) for c in (context, empty)]
#     print(t, *(f"{((x0_and_eps('v', out, x_t, level)[0] - x0) ** 2).mean():.4f}" for out in outs))
# ```
#
# Most at high noise: where the image can still be seen, it says more than its caption.
# </details>
#
# To write these lines yourself: `ldm exercise start add_noise`, `v_target` and `v_to_eps`. Next: [04: How does a pixel
# find its word?](04_attention.ipynb)
