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
# # 00: From a sentence to a picture
#
# [Ce notebook en français](00_tour.fr.ipynb)
#
# **The question.** What happens between "a dog with glasses" and a picture of one?
#
# At the end you will be able to run the four steps by hand, say what goes in and out of each, and look at every step
# while it happens. Nothing is explained in depth yet: each later notebook takes one of the steps apart. The same path
# in prose is [the tour](../docs/tour.md); read it before or after this, and look up words in the
# [glossary](../docs/glossary.md). The model is small. It knows a world of *postcards*, drawn by a program that can also
# say what is on them: lakes and forests, dogs and cats, day and night ([`postcards`](../ldm/postcards/__init__.py)).
# Everything that is explained is imported from `ldm`; `show`, beside the notebooks, only lays out pictures.

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
# Three networks and a list of words are all there is. *Predict:* which of the three has the most parameters: the one
# that reads, the one that takes noise away, or the one that turns latents into pixels?

# %%
sizes = {name: sum(p.numel() for p in getattr(model, name).parameters()) for name in ("text", "unet", "vae")}
for name, size in sizes.items():
    print(f"{name:5}{size:>12,} parameters")
assert sizes["unet"] > sizes["text"] + sizes["vae"]

# %% [markdown]
# The one that takes noise away, the U-Net, by far: it alone has to know what things look like and how they go together.
#
# ## 1. Text becomes vectors
#
# The [tokenizer](../ldm/text/tokenizer.py) cuts the text into pieces of a fixed vocabulary; the [text
# encoder](../ldm/text/encoder.py) makes a vector of each.
#
# *Predict:* the prompt has four words. How many vectors will the U-Net be given?

# %%
print(model.tokenizer.tokens(prompt))
print(model.tokenizer(prompt)[0].tolist())
both = model.encode_text([prompt, ""])  # the empty text as well: guidance needs it
context = both.context
print(tuple(context.shape), "= (texts, places, width)")

# %%
assert context.shape[1] == model.config.text.context_length == 32
cond, uncond = both[:1], both[1:]

# %% [markdown]
# 32, and not four: a mark for the beginning, four words, a mark for the end, and that mark again up to the model's
# fixed length. The U-Net reads them all. (Stable Diffusion's length is 77.) See [notebook 01](01_tokenizer.ipynb).
#
# ## 2. A latent of pure noise
#
# Painting does not happen in pixels. A *latent* is a small picture of four channels, from which the VAE's decoder
# makes the large one. It begins as random numbers, drawn from a seed.
#
# *Predict:* the finished picture has 3 × 128 × 128 numbers. How many has the latent?

# %%
noise_fn = model.noise_source([42], size=(128, 128))
latent = noise_fn()
print(tuple(latent.shape), "->", 3 * 128 * 128 // latent.numel(), "times fewer numbers")
assert 48 * latent.numel() == 3 * 128 * 128
show.film(show.channels(latent[0]), [f"channel {i}" for i in range(4)])

# %% [markdown]
# No picture is hidden in there. The noise only decides *which* of all pictures that fit the words will appear.
#
# ## 3. The noise is taken away
#
# The [U-Net](../ldm/unet/unet.py) looks at a noisy latent and says what in it is noise. From that follows a guess of
# the finished latent, $\hat x_0$: take the noise out, and that is what is left. A *sampler* then decides how far to go
# towards it. Three lines prepare the loop:
#
# - `levels`: which noise levels will be visited. They are counted by a timestep t, from 0 (nearly clean) to 999 (nearly
#   nothing but noise); 30 of them will do. (That the first is not 999 has [its
#   reason](../docs/questions.md#why-does-ddim-with-30-steps-differ-between-implementations).)
# - `initial_latents`: the latent to start with. This sampler, DDIM, takes the noise as it is; others shrink it a
#   little.
# - `denoiser`: one evaluation of the U-Net. It answers twice, with the prompt and with the empty one, and the
#   difference between the two answers is multiplied by four. That is *guidance*; [notebook 08](08_pipeline.ipynb)
#   measures it.
#
# Here is the very first guess, made from nothing but noise and the prompt, beside what comes out in the end.
#
# *Predict:* will the first guess look like a dog, like noise, or like something else?

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
# Something like an average of dogs with glasses: blurred, and with overdone contrasts, which is guidance at work. So
# the sampler does not believe it at once: it removes a *little* of the noise, and asks again. All of it as a film,
# what it has above and what it guesses below:

# %%
shown = [steps[i] for i in evenly_spaced(len(steps), 6)]
with torch.no_grad():
    noisy = to_images(model.vae.decode(torch.cat([step.x_t for step in shown])))
    clean = to_images(model.vae.decode(torch.cat([step.x0 for step in shown])))
show.grid([noisy, clean], ["what it has", "its guess"], [f"t = {step.level.t}" for step in shown], side=80)

# %% [markdown]
# The large things are settled first, details last. How the noise gets in is [notebook 03](03_noise.ipynb), the network
# that names it [05](05_unet.ipynb), the rule of the steps [06](06_samplers.ipynb).
#
# ## 4. The latent becomes pixels
#
# The decoder runs once. That was all: `generate` does the same four steps, and we can prove it.

# %%
[image] = model.decode(last.x_prev)
[at_once] = model.generate(prompt, steps=30, guidance=4.0, sampler="ddim", seed=42)
assert np.array_equal(np.asarray(image), np.asarray(at_once))
image

# %% [markdown]
# ## Where were the words read?
#
# In every step each place of the latent looks at all words, and takes more from some than from others. A *recorder*
# notes how much. *Predict:* where on the picture will "glasses" have been read, and where "dog"?

# %%
with record(model, prompt) as recording:
    [image] = model.generate(prompt, seed=42, steps=30, sampler="ddim", progress=recording.watch())
attention_sheet(recording, 0, image, columns=5, side=112)

# %% [markdown]
# Bright is where a word was read. The word for a thing is read mostly where the thing is, as far as so coarse a map can
# tell. Words that show nothing are read too. "with" may have something to say: the text encoder lets each word look
# back at those before it, so it knows of the dog. "a" stands first and knows of nothing. That something is read is no
# proof that it matters; [notebook 04](04_attention.ipynb) finds out by exchanging a word's vector.
#
# ## Another language, the same noise
#
# The model was trained on English and French. *Predict:* will the two prompts lead from the same noise to the same
# picture?

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
# Nearly: they are not equal, but much more alike than pictures from different noise.
#
# ## Exercises
#
# **1.** Do without guidance: paint the three seeds with `guidance=1`, and with 8. What is lost, what is gained?
#
# <details><summary>Solution</summary>
#
# ```python
# rows = [model.generate(prompt, seed=7, batch=3, guidance=g) for g in (1, 4, 8)]
# show.grid(rows, ["guidance 1", "guidance 4", "guidance 8"], side=112)
# ```
#
# At 1 a picture may forget what it was asked for; at 8 the colours are harder and the pictures more alike.
# </details>
#
# **2.** How few steps will do? Paint seed 42 with 2, 5, 10 and 30 steps of DDIM.
#
# <details><summary>Solution</summary>
#
# ```python
# counts = (2, 5, 10, 30)
# images = [model.generate(prompt, seed=42, steps=n, sampler="ddim")[0] for n in counts]
# show.film(images, [f"{n} steps" for n in counts])
# ```
#
# With two the picture is unfinished, for the first guesses are averages; beyond ten or so little changes.
# (The model's own sampler, Euler ancestral, draws fresh noise at each step: with it each number of steps paints another
# picture.)
# </details>
#
# Next: [01: How does text become numbers?](01_tokenizer.ipynb) The whole way by hand, with nothing left out, is
# [notebook 08](08_pipeline.ipynb); the notebooks before it make its parts.
