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
# # 05: What is inside the U-Net?
#
# **The question.** The network that removes the noise goes down to 4 × 4 positions and up again. What travels through
# the bottom, what through the skips, and how does it know the noise level of its input?
#
# At the end you will be able to predict every shape in it, say what is lost when a skip is cut (and have seen it), and
# explain what the timestep embedding is for. The code is [`unet`](../ldm/unet/unet.py) and
# [`embedding`](../ldm/unet/embedding.py).

# %%
from contextlib import contextmanager

import torch

import ldm
import show
from ldm.diffusion.level import vp_level
from ldm.diffusion.predict import training_target, x0_and_eps
from ldm.images.pixels import to_images, to_pixels
from ldm.lab.trace.summary import meta_inputs, summarize
from ldm.postcards import postcard
from ldm.unet.embedding import timestep_embedding

model = ldm.load("tiny")
unet, alpha_bar, kind = model.unet, model.alpha_bar(), model.config.noise.prediction

# %% [markdown]
# ## The shapes
#
# The network is made of two kinds of block. A [residual block](../ldm/nn/resnet.py#ResBlock) is two convolutions, added
# to their input; it sees near neighbours. A [spatial transformer](../ldm/unet/transformer.py#SpatialTransformer) is the
# attention of [notebook 04](04_attention.ipynb): every position attends to all others, and to the words. A *level* has
# a few of them at one resolution; all but the last then halve it (or double it, on the way up). The tiny
# model has three levels, with attention in each. A convolution before them makes channels of the latent,
# one after them makes a latent again.
#
# The latent is 16 × 16 × 16; the levels have 96, 192 and 256 channels. *Predict:* what goes out of each level on the
# way down? On the way up each level also takes feature maps from the way down: how many, and of how many channels?
# (`summarize` runs the network once and records what goes in and out of each module, as `ldm shapes` does.)

# %%
levels = {f"down.{i}": level for i, level in enumerate(unet.down)} | {"mid": unet.mid}
levels |= {f"up.{i}": level for i, level in enumerate(unet.up)}
for p in summarize(unet, levels, *meta_inputs(model.config)["unet"]):
    skips = [shape for shape in p.inputs[1:] if len(shape) == 3]
    taken = f"  with skips of {' + '.join(str(s[0]) for s in skips)} channels" if skips else ""
    print(f"{p.module:7}{str(p.inputs[0]):>15} -> {str(p.outputs[0]):15}{taken}")

# %% [markdown]
# Such a feature map, passed across from the down path, is called a *skip*. Every residual block on the up path takes
# one: its channels are concatenated with those from below (not added), and the block's first convolution reads both.
# Each level has one more block on the up path than on the down path, because the down path passes on more than its
# blocks' outputs: also those of `conv_in` and of each `downsample`.

# %%
handed = 1 + sum(len(level.res) + (level.downsample is not None) for level in unet.down)
taken = sum(len(level.res) for level in unet.up)
print(f"{handed} feature maps are handed over, {taken} are taken")
assert handed == taken

# %% [markdown]
# *Predict:* where are most of the 22 million parameters: at the fine levels, which have the most positions, or at the
# coarse ones?

# %%
sizes = {name: sum(p.numel() for p in level.parameters()) / 1e6 for name, level in levels.items()}
drawn, [axis] = show.figure()
axis.bar(sizes.keys(), sizes.values())
axis.set(ylabel="million numbers", title="what is learned, level by level")
assert sizes["down.0"] < sizes["down.2"] and sizes["up.2"] < sizes["up.0"]
show.picture(drawn)

# %% [markdown]
# At the coarse ones: they have many channels, and the parameters of a convolution grow with the square of the channels.
# Its time also grows with the number of positions, so a fine level has few parameters and still takes much of the time.
# And nothing in the network is tied to a size:

# %%
with torch.no_grad():
    for size in ((16, 16), (16, 28), (9, 5)):
        out = unet(
            torch.randn(1, model.config.unet.in_channels, *size),
            torch.tensor(500),
            model.encode_text(["a lake"]).context,
        )
        assert out.shape[-2:] == size

# %% [markdown]
# ## Cut a skip
#
# On the up path, set one level's skips to zero and change nothing else. `up.0` is the coarsest level, `up.2` the
# finest.
#
# *Predict:* which cut hurts most? Is what comes through the bottom enough to tell image and noise apart?


# %%
@contextmanager
def cut(*names):
    """Within the block, the skips of these levels ("up.0", ...) carry nothing."""

    def empty(module, given):
        h, skips, *rest = given
        return (h, [torch.zeros_like(skip) for skip in skips], *rest)

    handles = [levels[name].register_forward_pre_hook(empty) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# %% [markdown]
# One evaluation on three noisy postcards, and the estimate of the clean latent that follows from it:

# %%
cards = [postcard(i, seed=4, size=128) for i in range(3)]
context = model.encode_text([card.caption for card in cards]).context
with torch.no_grad():
    x0 = model.vae.encode(to_pixels([card.image for card in cards]))[0]
eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def look(t, told=None):
    """The error of the prediction, and the clean latent guessed, at timestep t; the network may be `told` another."""
    told = t if told is None else told
    x_t = vp_level(t, alpha_bar).mix(x0, eps)
    out = unet(x_t, torch.tensor(told), context)
    error = out - training_target(kind, x0, eps, alpha_bar[t])
    return float((error**2).mean()), x0_and_eps(kind, out, x_t, vp_level(told, alpha_bar))[0]


# %%
errors, rows = {}, []
for name in ("nothing", "up.0", "up.1", "up.2"):
    with cut(*[name] if name in levels else []):
        errors[name], guess = look(t=300)
    rows.append(to_images(model.vae.decode(guess).detach()))
names = [f"{name} cut: error {error:.2f}" for name, error in errors.items()]
show.grid(rows, names, side=88)

# %%
print(errors)
assert errors["nothing"] < min(errors["up.0"], errors["up.1"]) and errors["up.2"] > 0.5
assert errors["up.2"] == max(errors.values())

# %% [markdown]
# The finest. Without its skips the network is lost: predicting zero has an error of 1, and here the error is near that
# or above. More than half of what it is asked for *is* noise, different at every position, without any pattern. By
# counting, the bottom has room for just as many numbers as the latent has. But each of them would have to be packed on
# the way down and unpacked on the way up, exactly, and a network that gets them through a skip for free never learns
# to. What comes through the bottom is something else: *which* part of what the skip carries is image.
#
# So in a diffusion U-Net the skips are more than an aid to training: they carry most of the answer. (A cut shows what
# *this* network relies on, not what a network trained without skips would do.)
#
# *Predict:* now sample with 30 steps, with one level cut each time. Where is the image robust?

# %%
images = []
for name in ("nothing", "up.0", "up.1", "up.2"):
    with cut(*[name] if name in levels else []):
        images += model.generate("a dog with glasses", sampler="ddim", steps=30, seed=42)
show.film(images, [f"{name} cut" for name in errors], side=112)

# %% [markdown]
# It is robust when the coarse skips are missing: what they carry is also known further down, and comes up from there.
# But errors add up. Thirty evaluations that are each a little wrong can lead to another image. Without the finest skips
# the noise stays to the end, and the dog is there all the same, beneath it: what it is and where it sits came through
# the bottom.
#
# ## Which noise level is it?
#
# One network serves all t, so t is an input. A single number would be a poor one: 500 and 501 should look nearly the
# same, 0 and 999 different, and everything should stay between -1 and 1. So it becomes cosines and sines at many
# frequencies, a clock with many hands (Vaswani et al. 2017, section 3.5).

# %%
t = torch.arange(1000)
embedding = timestep_embedding(t, 96)
drawn, (left, right) = show.figure(2)
left.imshow(embedding, aspect="auto", cmap="RdBu_r")
left.set(title="the embedding", xlabel="its 96 numbers: cosines, then sines", ylabel="t")
alike = embedding @ embedding.T / 48
right.imshow(alike, cmap="viridis")
right.set(title="how alike are two timesteps?", xlabel="t", ylabel="t")
show.picture(drawn)

# %% [markdown]
# The fast hands on the left tell 500 from 501, the slow ones 0 from 999. *Predict:* the right plot has the same
# value along each diagonal. Why?

# %%
frequencies = 10000 ** (-torch.arange(48, dtype=torch.float64) / 48)
for a, b in ((0, 0), (10, 13), (500, 503), (0, 400)):
    by_hand = torch.cos((a - b) * frequencies).mean()
    print(f"{a:4}{b:5}  {alike[a, b]:.4f}  {by_hand:.4f}")
    assert abs(alike[a, b] - by_hand) < 1e-3

# %% [markdown]
# Because $\cos x \cos y + \sin x \sin y = \cos(x - y)$: the product knows only the *difference* of two timesteps.
#
# How does it enter the network? Two small layers turn these 96 numbers into 384
# ([`TimeEmbedding`](../ldm/unet/embedding.py)), once for the whole network; each residual block projects those, with a
# linear map of its own, to one number for each of its channels, and adds it at all positions alike.
#
# ## Lie about the time
#
# Does the network use it? Give it latents from t = 400 and tell it another timestep. *Predict:* what does it do when
# told that there is less noise than there is? And when told that there is more?

# %%
told = [0, 100, 200, 300, 400, 500, 600, 800, 999]
lies = {t: look(400, told=t)[1] for t in told}
wrong = {t: float(((guess - x0) ** 2).mean()) for t, guess in lies.items()}
assert min(wrong, key=wrong.get) == 400  # the truth works best
show.curve(told, {"": list(wrong.values())}, "t that it was told", "error of the clean latent", marker="o")

# %%
shown = (0, 200, 400, 600, 999)
rows = [to_images(model.vae.decode(torch.stack([lies[t][i] for t in shown])).detach()) for i in (0, 1)]
show.grid(rows, top=[f"told {t}" for t in shown], side=88)

# %% [markdown]
# Told "little noise", it leaves noise in the image; told "much noise", it removes what was image. So t is used: it
# tells the network how much of its input to believe.
#
# ## Exercises
#
# **1.** How large is Stable Diffusion's U-Net, and which level has most of it? (No weights are needed: tensors on
# torch's meta device have shapes only.)
#
# <details><summary>Solution</summary>
#
# ```python
# from ldm.config import SD1
# from ldm.unet.unet import UNet
#
# with torch.device("meta"):
#     large = UNet(SD1.unet)
# print(f"{sum(p.numel() for p in large.parameters()):,}")
# for side in ("down", "up"):
#     for i, level in enumerate(getattr(large, side)):
#         print(f"{side}.{i}", f"{sum(p.numel() for p in level.parameters()):,}")
# ```
#
# 859,520,964. `up.1` has the most, 258 million: 1280 channels, attention, and skips that its convolutions read as well.
# `down.2`, its counterpart, has 140 million.
# </details>
#
# **2.** Cut all skips at once, and then all but the finest. Does the network do without the others?
#
# <details><summary>Solution</summary>
#
# ```python
# for names in (("up.0", "up.1", "up.2"), ("up.0", "up.1")):
#     with cut(*names):
#         print(names, look(300)[0])
# ```
#
# Not without loss: it was trained with all of them, and what it knows is spread over them.
# </details>
#
# **3.** At which noise level is the finest skip needed most? Measure the cut at t = 10, 300, 600, 990.
#
# <details><summary>Solution</summary>
#
# ```python
# for t in (10, 300, 600, 990):
#     whole = look(t)[0]
#     with cut("up.2"):
#         print(t, f"{whole:.4f} {look(t)[0]:.4f}")
# ```
#
# In the middle: at t = 300 the cut makes the error nearly eight times as large. Near pure noise it makes hardly any
# difference. There the input says nothing about the image, and the answer is what the caption suggests. In a nearly
# clean latent the noise is so faint that even the whole network finds little more than half of it.
# </details>
#
# To write these parts yourself: `ldm exercise start res_block`, `timestep_embedding` and `unet_skips`. Next: [06: How
# few evaluations are enough?](06_samplers.ipynb)
