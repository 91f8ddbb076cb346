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
# # 00: Why does it work at all?
#
# **The question.** A diffusion model is trained on images with noise on them, and then makes new images out of nothing
# but noise. Why should that be possible?
#
# You can see the answer in two dimensions, without a prompt, an image or a large network. An image is a list of
# numbers, so it is a point in a space with many dimensions. Here a point has two numbers, and you can draw it.
#
# At the end you will be able to
#
# - say what a network learns when it learns to remove noise, and draw it as a field of arrows;
# - follow points along these arrows from noise to data, with fresh noise on the way and without;
# - say what goes wrong with too few steps, and what guidance does to the arrows;
# - train such a network yourself, in seconds, and compare it with the truth.
#
# The code is [`mixture`](../ldm/plane/mixture.py), [`shapes`](../ldm/plane/shapes.py) and
# [`field`](../ldm/plane/field.py). Everything else is what the real model uses: its noise
# [`level`](../ldm/diffusion/level.py), its sampling loop [`sample`](../ldm/diffusion/sample.py), its samplers and its
# [`guidance`](../ldm/diffusion/guidance.py). The same things, to play with: [a page](../docs/plane.md).
#
# Wherever you are asked to *predict*, the cells that answer are folded: make a guess first, then open or run them.

# %%
import torch

import show
from ldm.diffusion.level import circle_level, circle_levels
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers.euler import euler
from ldm.diffusion.samplers.euler_ancestral import euler_ancestral
from ldm.plane.field import Field, guided, learned, train_field
from ldm.plane.mixture import join
from ldm.plane.shapes import clouds, face

generator = torch.Generator().manual_seed(0)
INK, NOISE, DATA = "#22304a", "#d9822b", "#3178c6"  # one colour for each thing, in all pictures

# %% [markdown]
# ## Noise is easy to add
#
# Our data are points on a smiling face. To add noise to a point $x_0$, mix it with a point $\epsilon$ drawn from a
# standard Gaussian, with less and less of the one and more and more of the other, $\alpha^2 + \sigma^2 = 1$:
#
# $$x_t = \alpha\,x_0 + \sigma\,\epsilon$$
#
# Time t = 0 is the clean point, t = 1 pure noise. In between, $\alpha$ and $\sigma$ are the cosine and the sine of an
# angle. *Predict:* at which of the times 0, 0.1, 0.2, 0.5 and 1 will you no longer see the face?

# %%
data = join(*face())
x0, eps = data.draw(1500, generator), torch.randn(1500, 2, generator=generator)
times = [0.0, 0.1, 0.2, 0.5, 1.0]
drawn, axes = show.planes([f"t = {t:g}" for t in times], side=1.9)
for axis, t in zip(axes, times):
    axis.scatter(*circle_level(t).mix(x0, eps).T, s=2, color=INK, linewidths=0)
show.picture(drawn, dpi=110)

# %% [markdown]
# At 0.2 there is little more than an outline, at 0.5 nothing. Each noisy point is now somewhere in the crowd, and no
# longer shows where it came from. So how could anybody undo this?
#
# ## The best guess is an average
#
# Nobody can, for one point. But suppose you see a noisy point, and have to guess where it came from, and pay for the
# squared distance between your guess and the truth. There is a best guess: the *average* of all the points that could
# have ended up here. For data as simple as ours [`denoise`](../ldm/plane/mixture.py#Mixture.denoise) computes it
# exactly. We can check it without trusting the formula: add noise to a million points, keep those that land near one
# place, and see where they came from.
#
# *Predict:* we look at t = 0.4, at the place (0.7, 0). Will the best guess lie on the face?

# %%
level, place = circle_level(0.4), torch.tensor([[0.7, 0.0]])
many = data.draw(1_000_000, generator)
noisy = level.mix(many, torch.randn(many.shape, generator=generator))
origins = many[(noisy - place).norm(dim=1) < 0.06]
guess, _ = data.denoise(place, level)
print(f"{len(origins)} points landed there; their average is {origins.mean(0).numpy().round(2)}")
print(f"the formula says {guess[0].numpy().round(2)}")
assert (origins.mean(0) - guess[0]).norm() < 0.06

# %%
drawn, [axis] = show.planes(["where the points at the cross came from"], side=3.4, reach=2.3)
axis.scatter(*origins.T, s=4, color=DATA, linewidths=0, alpha=0.6)
axis.plot(*place[0], "x", color=NOISE, markersize=9, markeredgewidth=2)
axis.plot(*guess[0], "o", color=INK, markersize=7)
axis.annotate("the average", guess[0], (8, -14), textcoords="offset points", color=INK)
show.picture(drawn, dpi=100)

# %% [markdown]
# It does not. The average of points on a face need not be on the face, just as the average of many images is a blur
# and not an image. That one guess is useless as a result. But it gives a *direction*.
#
# ## A field of arrows
#
# Draw at every place the direction from the noise to the data, $-\hat\epsilon$, the negative of the guessed noise. Up
# to its length this is the *score*, the gradient of the logarithm of the density of the noisy points:
#
# $$\hat\epsilon = -\sigma\,\nabla_x \log p(x_t)$$
#
# The arrows point to where noisy points are denser. *Predict:* how will the field at much noise differ from the field
# at little noise?

# %%
side = torch.linspace(-2.4, 2.4, 15)
places = torch.cartesian_prod(side, side)
times = [0.9, 0.4, 0.15]
drawn, axes = show.planes([f"t = {t:g}" for t in times], side=3.1, reach=2.6)
for axis, t in zip(axes, times):
    level = circle_level(t)
    axis.scatter(*(level.alpha * data.means).T, s=3, color=DATA, alpha=0.5, linewidths=0)
    show.arrows(axis, places, -data.denoise(places, level)[1], INK)
show.picture(drawn, dpi=90)

# %% [markdown]
# At much noise all arrows agree: to the middle, where the data are on average. At little noise they part: each points
# to the nearest piece of the face (here in blue, shrunk by the noise level). What a face looks like is decided on the
# way from the left field to the right one.
#
# ## Follow the arrows
#
# Now take a point of pure noise, take a small step along the arrow, look up the arrow at the new place and the next
# lower noise level, and so on. In the limit this is an ordinary differential equation (ODE), and the steps are Euler's
# method. The loop and the step are the ones that generate images; only the denoiser is another one.
#
# *Predict:* 600 points start as a round cloud. Will they all reach the face? Will two points from nearly the same place
# end up together?

# %%
start = torch.randn(600, 2, generator=generator)


def follow(update, denoise, x, count):
    def noise_fn():
        return torch.randn(x.shape, generator=generator)

    steps = list(sample(update, denoise, x, circle_levels(count), noise_fn))
    return torch.stack([x, *(step.x_prev for step in steps)])  # [count + 1, points, 2]


paths = follow(euler, data.denoise, start, 60)
distance = torch.cdist(paths[-1], data.means).min(dim=1).values
assert distance.median() < 0.1


# %%
def draw_paths(axis, paths, shown=24, color=INK, marker=""):
    for path in paths[:, :shown].unbind(1):
        axis.plot(*path.T, color=color, linewidth=0.8, marker=marker, markersize=3)
        axis.plot(*path[0], "o", color=NOISE, markersize=3)


def draw_points(axis, points):
    axis.scatter(*points.T, s=4, color=DATA, linewidths=0)


drawn, axes = show.planes(["without fresh noise (ODE)", "with fresh noise (SDE)"], side=3.7)
random_paths = follow(euler_ancestral, data.denoise, start, 60)
for axis, some, shown in ((axes[0], paths, 24), (axes[1], random_paths, 3)):
    draw_points(axis, some[-1])
    draw_paths(axis, some, shown)
show.picture(drawn, dpi=100)

# %% [markdown]
# They all arrive, and the blue points they end as are new: none of them was in the data. That is the whole trick. On
# the left each path is smooth, and where it starts (orange) decides where it ends. Neighbours stay together until the
# arrows part between them.
#
# On the right each step goes a little too far and then adds fresh noise: a *stochastic* differential equation (SDE).
# The paths tremble and the same start leads somewhere else each time, but as a whole the points end in the same
# distribution. (The real model's samplers are of these two kinds: Euler and DDIM, or Euler ancestral and DDPM.)
#
# ## Too few steps cut the corners
#
# The arrows turn on the way; a step goes on as if they did not. *Predict:* where do the
# points end that go all the way in a single step?

# %%
counts = [1, 2, 4, 12]
drawn, axes = show.planes([f"{n} step{'s' * (n > 1)}" for n in counts], side=2.9, reach=2.5)
for axis, count in zip(axes, counts):
    few = follow(euler, data.denoise, start, count)
    draw_points(axis, few[-1])
    draw_paths(axis, paths, 12, "0.75")
    draw_paths(axis, few, 12, marker=".")
    off = torch.cdist(few[-1], data.means).min(dim=1).values.mean()
    print(f"{count:2} steps: on average {off:.2f} away from the face")
one_step = follow(euler, data.denoise, start, 1)[-1]
assert (one_step - data.means.mean(0)).norm(dim=1).max() < 1e-5
show.picture(drawn, dpi=105)

# %% [markdown]
# All in one point, the average of the data: at pure noise no other guess is better. With two and four steps the paths
# have corners, and where the fine path (grey) bends they cut across, and end inside the face. With images it is the
# same: too few steps give averages, which look soft and washed out. Better samplers ([notebook
# 06](06_samplers.ipynb)) look ahead around the corner.
#
# ## Learn the field
#
# For images nobody has a formula for the best guess. But anybody can make examples: take a point, add noise, and ask a
# network which way the noise came from. It is trained with the squared error, so the best that it can do is to answer
# with the average, which is the field we want. [`Field`](../ldm/plane/field.py) has five thousand weights. It predicts
# the velocity $v = \alpha\,\epsilon - \sigma\,x_0$ with which the point moves, from which both guesses follow.
#
# *Predict:* will the loss go to zero?

# %%
torch.manual_seed(0)
parts = face()
field = Field(len(parts))
losses = list(train_field(field, parts, 3000, generator))
print(f"{sum(p.numel() for p in field.parameters()):,} weights")
assert 0.3 < sum(losses[-100:]) / 100 < sum(losses[:10]) / 10
means = torch.tensor(losses).reshape(-1, 25).mean(dim=1)
show.curve(range(0, 3000, 25), {"loss": means}, "step", "mean squared error of 25 steps")

# %% [markdown]
# It cannot: the example that the network is shown and the average that it answers differ, however long it trains. The
# loss falls to what is left to chance and stays there. (The loss of Stable Diffusion does the same, which worries
# everybody who trains it for the first time.) So compare the field itself with the truth:

# %%
level = circle_level(0.25)
network = learned(field, len(parts))
drawn, axes = show.planes(["true, t = 0.25", "learned, t = 0.25", "its points"], side=3.1, reach=2.6)
for axis, denoise in zip(axes, (data.denoise, network)):
    show.arrows(axis, places, -denoise(places, level)[1], INK)
own = follow(euler, network, start, 60)
draw_points(axes[2], own[-1])
off = torch.cdist(own[-1], data.means).min(dim=1).values
assert off.median() < 0.15
show.picture(drawn, dpi=100)

# %% [markdown]
# The two fields agree. Some of the network's points end between the lines, because a small network cannot turn
# sharply. But they are new points, on a face, from a network that was never told what a face is.
#
# ## Guidance bends the field
#
# A prompt asks for a part of the data. The network knows two fields, that of everything and that of the part (in
# training the label was left out now and then). Guidance exaggerates the difference between the two, by a factor $g$:
#
# $$\tilde\epsilon = \epsilon_\varnothing + g\,(\epsilon_c - \epsilon_\varnothing)$$
#
# Here we ask for the upper of three clouds. *Predict:* will its points be the same with $g = 6$
# as with $g = 1$? (The arrows are those at t = 0.6.)

# %%
parts = clouds()
everything, part = join(*parts).denoise, parts[0].denoise
scales = [0, 1, 3, 6]
drawn, axes = show.planes([f"g = {g}" for g in scales], side=2.7, reach=3.4)
ends = {}
for axis, g in zip(axes, scales):
    paths = follow(euler, guided(everything, part, g), start, 60)
    show.arrows(axis, places[::2], -guided(everything, part, g)(places[::2], circle_level(0.6))[1], "0.7")
    draw_points(axis, paths[-1])
    draw_paths(axis, paths, 10)
    ends[g] = paths[-1]
show.picture(drawn, dpi=90)

# %%
for g in scales[1:]:
    print(f"g = {g}: height {ends[g][:, 1].mean():.2f}, spread {ends[g].std(dim=0).mean():.2f}")
assert ends[6][:, 1].mean() > ends[1][:, 1].mean()  # it overshoots
assert ends[6].std(dim=0).mean() < ends[1].std(dim=0).mean()  # and varies less

# %% [markdown]
# No. With $g = 1$ they are the points of the cloud. With more they are pushed away from the other clouds, beyond where
# the data are, and closer together. Guided images show what the prompt says more clearly than real ones do, and are
# less varied: that is the price.
#
# ## What is different with images
#
# | here | Stable Diffusion |
# |---|---|
# | a point has 2 numbers | a latent has 16,384 |
# | a formula or 5,000 weights | a U-Net with 860 million |
# | one of a few parts | a prompt, encoded as 77 vectors |
# | noise levels on a quarter circle | noise levels of its schedule, on the same circle |
# | predicts v | predicts $\epsilon$, in some versions v |
#
# The loop, the samplers and guidance are the same.
#
# ## Exercises
#
# **1.** Draw a shape of your own with [`line`](../ldm/plane/shapes.py#line), and let points flow to it.
#
# <details><summary>Solution</summary>
#
# ```python
# from ldm.plane.shapes import line
#
# star = torch.tensor([[i * 0.4 * 2 * torch.pi] for i in range(6)])
# mine = line(1.8 * torch.cat([star.sin(), star.cos()], dim=1))
# drawn, [axis] = show.planes(["a star"], side=3.4)
# draw_points(axis, follow(euler, mine.denoise, start, 60)[-1])
# show.picture(drawn)
# ```
# </details>
#
# **2.** The samplers never ask which family the noise levels belong to. Follow the same start along Stable Diffusion's
# own levels, `sampler_levels(find_sampler("euler"), 60, make_alpha_bar(NoiseConfig()))`. How far from each other do the
# two ways end?
#
# <details><summary>Solution</summary>
#
# ```python
# from ldm.config import NoiseConfig
# from ldm.diffusion.samplers import find_sampler
# from ldm.diffusion.schedule import make_alpha_bar
# from ldm.diffusion.spacing import sampler_levels
#
# levels = sampler_levels(find_sampler("euler"), 60, make_alpha_bar(NoiseConfig()))
# *_, last = sample(euler, data.denoise, start, levels, lambda: start)
# between = (last.x_prev - follow(euler, data.denoise, start, 60)[-1]).norm(dim=1)
# print(f"half of the points end less than {between.median():.3f} from each other")
# assert between.median() < 0.1
# ```
#
# The way of a point depends on the ratio $\sigma / \alpha$ alone. Both lists of levels run through it, with steps of
# different lengths.
# </details>
#
# **3.** What does guidance do between 0 and 1, and below 0?
#
# <details><summary>Solution</summary>
#
# ```python
# drawn, axes = show.planes([f"g = {g}" for g in (-1, 0.5)], side=3.1)
# for axis, g in zip(axes, (-1, 0.5)):
#     draw_points(axis, follow(euler, guided(everything, part, g), start, 60)[-1])
# show.picture(drawn)
# ```
#
# Between 0 and 1 the upper cloud gets more points than its share. Below 0 the points avoid it, which is what a negative
# prompt does.
# </details>
#
# To write the score yourself: `ldm exercise start mixture_score`. Next: [00: From a sentence to an
# image](00_tour.ipynb)
