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
# # 00: From a sentence to an image
#
# [Ce notebook en français](00_tour.fr.ipynb)
#
# **The question.** What happens between "a dog with glasses" and an image of one?
#
# At the end you will be able to run the four steps by hand, say what goes into and comes out of each, and watch every
# step as it happens. Nothing is explained in depth yet: each later notebook takes one of the steps apart. [The
# tour](../docs/tour.md) covers the same path in prose; read it before or after this, and look up terms in the
# [glossary](../docs/glossary.md). The model is small. It knows a world of *postcards*, drawn by a program that can also
# say what they show: lakes and forests, dogs and cats, day and night ([`postcards`](../ldm/postcards/__init__.py)).
# Everything that is explained is imported from `ldm`; `show`, beside the notebooks, only lays out images.
#
# Wherever you are asked to *predict*, the cells that answer are folded: make a guess first, then open or run them.

# %%
import numpy as np
import torch

import ldm
import show
from ldm.images.pixels import to_images
from ldm.lab.trace.film import evenly_spaced
from ldm.lab.trace.heat import attention_sheet
from ldm.lab.trace.recorder import record

model = ldm.load("tiny")  # trained by this repository, and shipped with it
prompt = "a dog with glasses"

# %% [markdown]
# The model is three networks and a vocabulary, nothing else. *Predict:* which of the three has the most parameters: the
# one that reads the text, the one that removes noise, or the one that turns latents into pixels?

# %%
sizes = {name: sum(p.numel() for p in getattr(model, name).parameters()) for name in ("text", "unet", "vae")}
for name, size in sizes.items():
    print(f"{name:5}{size:>12,} parameters")
assert sizes["unet"] > sizes["text"] + sizes["vae"]

# %% [markdown]
# The one that removes noise, the U-Net, by far: it alone has to know what things look like and how they go together.
#
# ## 1. Text becomes vectors
#
# The [tokenizer](../ldm/text/tokenizer.py) splits the text into tokens of a fixed vocabulary; the [text
# encoder](../ldm/text/encoder.py) turns each into a vector.
#
# *Predict:* the prompt has four words. How many vectors will the U-Net get?

# %%
print(model.tokenizer.tokens(prompt))
print(model.tokenizer(prompt)[0].tolist())
both = model.encode_text([prompt, ""])  # the empty text as well: guidance needs it
context = both.context
print(tuple(context.shape), "= (texts, places, width)")

# %%
assert context.shape[1] == model.config.text.context_length == 40
cond, uncond = both[:1], both[1:]

# %% [markdown]
# 40, and not four: a mark for the beginning, four words, a mark for the end, and that mark again up to the model's
# fixed length. The U-Net reads them all. (Stable Diffusion's length is 77.) See [notebook 01](01_tokenizer.ipynb).
#
# ## 2. A latent of pure noise
#
# Images are not generated in pixels. A *latent* is a small image of several channels, from which the VAE's decoder
# makes the large one. It begins as random numbers, drawn from a seed.
#
# *Predict:* the finished image has 3 × 128 × 128 numbers. How many does the latent have?

# %%
noise_fn = model.noise_source([42], size=(128, 128))
latent = noise_fn()
print(tuple(latent.shape), "->", 3 * 128 * 128 // latent.numel(), "times fewer numbers")
assert 12 * latent.numel() == 3 * 128 * 128
channels = show.channels(latent[0])
show.grid([channels[:8], channels[8:]], ["channels 0 to 7", "channels 8 to 15"])

# %% [markdown]
# No image is hidden in there. The noise only decides *which* of all images that fit the prompt will appear.
#
# ## 3. The noise is removed
#
# The [U-Net](../ldm/unet/unet.py) reads a noisy latent and predicts which part of it is noise. From that follows an
# estimate of the finished latent, $\hat x_0$: what is left without the noise. A *sampler* then decides how far to go
# towards it. Three lines prepare the loop:
#
# - `levels`: the noise levels to visit. A timestep t counts them, from 0 (nearly clean) to 999 (nothing but noise); 30
#   of them are enough.
# - `initial_latents`: the latent to start with, here the noise as it is. (Stable Diffusion's levels do not quite reach
#   pure noise. There, some samplers scale the noise down a little.)
# - `denoiser`: one evaluation of the U-Net. It predicts twice, with the prompt and with the empty prompt, and amplifies
#   the difference by the factor `guidance`. That is *guidance*; [notebook 08](08_pipeline.ipynb) measures it.
#
# Here is the very first estimate, made from nothing but noise and the prompt, next to the final result.
#
# *Predict:* will the first estimate look like a dog, like noise, or like something else?

# %%
levels = model.levels(sampler="ddim", steps=30)
latent = model.initial_latents("ddim", latent, levels)
denoise = model.denoiser(cond, uncond, guidance=4.0)
steps = list(model.sample("ddim", denoise, latent, levels, noise_fn))
first, last = steps[0], steps[-1]
print(f"{len(steps)} steps, from t = {first.level.t} down to t = {last.level.t}")

# %%
with torch.no_grad():
    guesses = to_images(model.vae.decode(torch.cat([first.x0, last.x_prev])))
show.film(guesses, ["the first guess", "in the end"], side=144)

# %% [markdown]
# Something like an average of dogs with glasses: blurred, and in colours between many. What the prompt asks for is
# exaggerated, which is guidance at work. So the sampler does not trust it yet: it removes a *little* of the noise and
# evaluates the network again. Here is the whole sequence, with the noisy latent above and the estimate below:

# %%
shown = [steps[i] for i in evenly_spaced(len(steps), 6)]
with torch.no_grad():
    noisy = to_images(model.vae.decode(torch.cat([step.x_t for step in shown])))
    clean = to_images(model.vae.decode(torch.cat([step.x0 for step in shown])))
show.grid([noisy, clean], ["what it has", "its guess"], [f"t = {step.level.t}" for step in shown], side=80)

# %% [markdown]
# The composition is settled first, details last. How noise is added is the subject of [notebook 03](03_noise.ipynb),
# the network that predicts it of [05](05_unet.ipynb), and the rule for the steps of [06](06_samplers.ipynb).
#
# ## 4. The latent becomes pixels
#
# The decoder runs once, and that is all: `generate` does the same four steps, as we can check.

# %%
[image] = model.decode(last.x_prev)
[at_once] = model.generate(prompt, steps=30, guidance=4.0, sampler="ddim", seed=42)
assert np.array_equal(np.asarray(image), np.asarray(at_once))
image

# %% [markdown]
# ## Where were the words read?
#
# In every step, each position of the latent attends to all words, to some more than to others. A *recorder* notes how
# much. *Predict:* where in the image will "glasses" have been read, and where "dog"?

# %%
with record(model, prompt) as recording:
    [image] = model.generate(prompt, seed=42, steps=30, sampler="ddim", progress=recording.watch())
attention_sheet(recording, 0, image, columns=5, side=112)

# %% [markdown]
# A word was read where its map is bright. The word for a thing is read mostly where the thing is, as far as such a
# coarse map can tell. Words that name nothing are read too. "with" may have something to say: in the text encoder, each
# word attends to those before it, so it knows about the dog. "a" comes first and knows nothing. That a word is read
# does not prove that it matters; [notebook 04](04_attention.ipynb) tests that by replacing a word's vector.
#
# ## Another language, the same noise
#
# The model was trained on English and French. *Predict:* will the two prompts lead from the same noise to the same
# image?

# %%
prompts = ["a dog with glasses", "un chien avec des lunettes"]
pairs = [model.generate(text, seed=7, batch=3) for text in prompts]
show.grid(pairs, ["English", "French"], ["seed 7", "seed 8", "seed 9"], side=112)


# %%
def distance(one, other):
    return np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean()


same_noise = np.mean([distance(a, b) for a, b in zip(*pairs)])
other_noise = np.mean([distance(pairs[0][i], pairs[1][i - 1]) for i in range(3)])
print(f"mean difference: {same_noise:.1f} from the same noise, {other_noise:.1f} from other noise (of 255)")
assert same_noise < other_noise

# %% [markdown]
# Nearly: they are not equal, but much more alike than images from different noise.
#
# ## Exercises
#
# **1.** Switch guidance off: generate the three seeds with `guidance=1`, and then with 8. What is lost, what is gained?
#
# <details><summary>Solution</summary>
#
# ```python
# rows = [model.generate(prompt, seed=7, batch=3, guidance=g) for g in (1, 4, 8)]
# show.grid(rows, ["guidance 1", "guidance 4", "guidance 8"], side=112)
# ```
#
# At 1 these three wear their glasses, too (for other prompts more goes missing), and the dogs differ most: in their
# poses, and in what nobody asked for, such as a hat. At 8 the contrasts are harsher and the images more alike.
# </details>
#
# **2.** How few steps are enough? Generate seed 42 with 2, 5, 10 and 30 steps of DDIM.
#
# <details><summary>Solution</summary>
#
# ```python
# counts = (2, 5, 10, 30)
# images = [model.generate(prompt, seed=42, steps=n, sampler="ddim")[0] for n in counts]
# show.film(images, [f"{n} steps" for n in counts])
# ```
#
# With two the image is unfinished, because the first estimates are averages; with five it is finished, but another dog.
# Beyond ten or so only what the prompt leaves open still changes, here the lilac clothing.
# (The model's default sampler, Euler ancestral, draws fresh noise at each step: with it, each number of steps gives a
# different image.)
# </details>
#
# Next: [01: How does text become numbers?](01_tokenizer.ipynb) The whole path by hand, with nothing left out, is
# [notebook 08](08_pipeline.ipynb); the notebooks before it build its parts.
