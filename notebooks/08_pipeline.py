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
# # 08: What happens between a sentence and an image?
#
# [Ce notebook en français](08_pipeline.fr.ipynb)
#
# **The question.** By now you know all the parts: tokenizer, text encoder, noise, U-Net, sampler, VAE. How do you put
# them together, so that a sentence goes in and an image comes out?
#
# At the end you will have
#
# - built the pipeline yourself, in twenty lines, and seen that it generates exactly the image that the library does;
# - seen what guidance buys, what it costs, and where it breaks;
# - changed those twenty lines in two places to get image to image and inpainting.
#
# The code is [`pipeline`](../ldm/pipeline.py) and [`inpaint`](../ldm/inpaint.py).

# %%
import numpy as np
import torch
from IPython.display import display
from PIL import Image, ImageDraw

import ldm
import show
from ldm.diffusion.guidance import classifier_free_guidance
from ldm.diffusion.level import CLEAN
from ldm.diffusion.predict import x0_and_eps
from ldm.images.pixels import to_images, to_pixels
from ldm.inpaint import keep, repaint_mask
from ldm.lab.evaluate.adherence import missing_facts, set_of_prompts
from ldm.lab.evaluate.judge import find_judge, read_judge
from ldm.postcards import Animal, Garment, Scene, draw

model = ldm.load("tiny")

# %% [markdown]
# ## The four steps, one by one
#
# **1. Text becomes vectors.** Encode the prompt, and the empty prompt, which guidance needs. *Predict:* how many rows
# does each of the two contexts have?

# %%
prompt = "a dog with glasses"
ids = model.tokenizer(["", prompt])
context = model.text(ids)
print([model.tokenizer.decode([number]) for number in ids[1, :7].tolist()])
print("ids", tuple(ids.shape), "-> context", tuple(context.shape))
assert context.shape == (2, model.config.text.context_length, model.config.text.width)

# %% [markdown]
# Both have the same length, however short the prompt: the rest is padding, and the U-Net reads it too. (Notebooks
# [01](01_tokenizer.ipynb) and [02](02_clip.ipynb).)
#
# **2. A latent of pure noise**, sixteen channels at an eighth of the image's size, from a seeded generator. (DDIM, the
# sampler that we are going to write, begins with it as it is.)

# %%
generator, channels = torch.Generator().manual_seed(42), model.config.vae.latent_channels
x = torch.randn(1, channels, 16, 16, generator=generator)
print(tuple(x.shape), f"mean {x.mean():.2f}, deviation {x.std():.2f}")

# %% [markdown]
# **3. The noise is removed**, in steps from one noise *level* to the next. A level has a timestep `t`, which the
# network reads, and two weights, for signal and noise: $x = \alpha\,x_0 + \sigma\,\epsilon$. One evaluation of the
# U-Net ([05](05_unet.ipynb)) with both contexts gives two predictions, $v_\varnothing$ and $v_c$. Guidance goes from
# the first to the second and beyond. What this network predicts is the mixture $v = \alpha\,\epsilon - \sigma\,x_0$.
# (Stable Diffusion 1 predicts $\epsilon$ itself.) Those are two equations with two unknowns, so $x$ and $v$ together
# give an estimate of the clean latent and one of the noise ([03](03_noise.ipynb)):
#
# $$\tilde v = v_\varnothing + g\,(v_c - v_\varnothing), \qquad
#   \hat x_0 = \alpha\,x - \sigma\,\tilde v, \qquad \hat\epsilon = \sigma\,x + \alpha\,\tilde v$$

# %%
levels = model.levels("ddim", 30)
first = levels[0]
uncond, cond = model.unet(torch.cat([x, x]), torch.tensor(first.t), context).chunk(2)
out = classifier_free_guidance(uncond, cond, 4.0)
x0, eps = x0_and_eps(model.config.noise.prediction, out, x, first)
print(f"{len(levels) - 1} steps, the first from t = {first.t}")
print(f"the prompt changes {(cond - uncond).norm() / uncond.norm():.0%} of the prediction")
torch.testing.assert_close(first.alpha * x0 + first.sigma * eps, x)

# %% [markdown]
# (The last line holds by construction: mixed for this level, the two estimates are $x$ again. Here the level is pure
# noise, with $\alpha = 0$, and the noise is known: it is $x$.) The step itself is DDIM's ([06](06_samplers.ipynb)): mix
# the two estimates for the next, lower level. That is `level.mix`.
#
# $$x' = \alpha'\,\hat x_0 + \sigma'\,\hat\epsilon$$
#
# **4. The latent becomes pixels**: `model.vae.decode` ([07](07_vae.ipynb)). We can decode an estimate at any time, so
# let us look at the very first one. *Predict:* what can it show, with nothing but noise to go by?

# %%
display(show.film(to_images(model.vae.decode(torch.cat([x, x0]))), ["the noise, decoded", "the first guess"]))

# %% [markdown]
# Something like the mean of all images that fit the prompt, exaggerated by guidance: blurred, in colours between many,
# with two round patches where the glasses are going to be.
#
# ## The pipeline in twenty lines
#
# First one evaluation, then all of them. `context` is the pair of contexts; `on_step` can correct the latent after each
# step, and does nothing for now. *Predict*, before you read on: which of the formulas above is in which line?


# %%
def evaluate(x, level, context, guidance):
    both = model.unet(torch.cat([x] * 2), torch.tensor(level.t), context.repeat_interleave(len(x), dim=0))
    out = classifier_free_guidance(*both.chunk(2), guidance)
    return x0_and_eps(model.config.noise.prediction, out, x, level)


def sample(x, levels, context, guidance=4.0, on_step=lambda x, level: x):
    for level, next_level in zip(levels, levels[1:]):
        x0, eps = evaluate(x, level, context, guidance)
        x = on_step(next_level.mix(x0, eps), next_level)
        yield x, x0


# %%
def paint(prompt, seed, steps=30, guidance=4.0):
    context = model.text(model.tokenizer(["", prompt]))  # 1. text becomes vectors
    x = torch.randn(1, channels, 16, 16, generator=torch.Generator().manual_seed(seed))  # 2. noise
    *_, (x, _) = sample(x, model.levels("ddim", steps), context, guidance)  # 3. is taken away
    return to_images(model.vae.decode(x))[0]  # 4. the latent becomes pixels


# %% [markdown]
# *Predict:* how close will it come to the library's own `generate`, which has options for everything?

# %%
ours = paint(prompt, seed=42)
theirs = model.generate(prompt, seed=42, sampler="ddim", steps=30, guidance=4.0)[0]
difference = np.abs(np.asarray(ours, dtype=int) - np.asarray(theirs, dtype=int))
print(f"largest difference: {difference.max()} of 255; numbers that differ: {(difference > 0).mean():.1%}")
display(show.film([ours, theirs], ["twenty lines", "model.generate"], side=128))
assert difference.max() <= 1

# %% [markdown]
# The same image. There is no more to it. ([`generate`](../ldm/pipeline.py#LatentDiffusion.generate) is worth reading
# now: the four steps are there as four comments.) And since `sample` yields each step, we can watch: above, the latent
# as it is; below, the estimate of where it leads.

# %%
x = torch.randn(1, channels, 16, 16, generator=torch.Generator().manual_seed(42))
moments = list(sample(x, levels, context))
chosen = [0, 3, 7, 13, 20, 29]
rows = [to_images(model.vae.decode(torch.cat([moments[i][k] for i in chosen]))) for k in (0, 1)]
display(show.grid(rows, left=["x_t", "guess of x0"], top=[f"step {i + 1}" for i in chosen], side=76))

# %% [markdown]
# The estimate is coarse first and fine later: details, which noise hides first, are decided last.
#
# ## Guidance
#
# $\tilde v = v_\varnothing + g\,(v_c - v_\varnothing)$ goes beyond what the prompt asks for, by a factor $g$. The paper
# that invented it (Ho & Salimans 2022) writes $(1 + w)\,\epsilon_c - w\,\epsilon_\varnothing$. Is that the same
# formula? (It guides $\epsilon$. All the conversions are linear, so it makes no difference which of the three is
# guided.)

# %%
g = 7.5
torch.testing.assert_close(classifier_free_guidance(uncond, cond, g), (1 + (g - 1)) * cond - (g - 1) * uncond)
print("equal, with w = g - 1: g = 1 (w = 0) is no guidance, g = 0 does not even read the prompt")

# %% [markdown]
# *Predict:* the same noise, one prompt, and $g$ from 0 to 15. What will change, and what will go wrong at the high end?

# %%
scales = [0, 1, 2, 4, 7, 15]
prompts = ["a white rabbit with a hat on a red background", "a forest with a waterfall at night"]
rows = [[paint(text, seed=5, steps=16, guidance=scale) for scale in scales] for text in prompts]
display(show.grid(rows, top=[f"g = {scale}" for scale in scales], side=76))

# %% [markdown]
# At 0 anything can come out. At 1 the prompt is followed already, here down to the hat, and more guidance makes the
# same image bolder. At the high end details break (the rabbit's face), and the forest sinks into black.
#
# Now measure instead of looking. Each of 64 prompts asks for some facts (a dog, that it is brown, that the wall is
# blue), and the [judge](../ldm/lab/evaluate/judge.py), a small classifier, says which of them the image shows. We count
# the facts that are shown and the images that show all of theirs. Beside them is the standard deviation of the finished
# latents, which is about 1 for real images. *Predict:* the images above differ little between 1 and 4. Will the counts?

# %%
judge = read_judge(find_judge("judge"))
wanted = set_of_prompts("seen", 64)
cond, uncond = model.encode_text([ask.prompt for ask in wanted]), model.encode_text([""])


def score(guidance):
    noise_fn, sampler = model.noise_source(range(64), (128, 128)), "dpmpp_2m"
    denoise = model.denoiser(cond, uncond, guidance)
    *_, last = model.sample(sampler, denoise, noise_fn(), model.levels(sampler, 8), noise_fn)
    seen = judge.predict(to_pixels(model.decode(last.x_prev)))
    missing = [len(missing_facts(answer, ask)) for answer, ask in zip(seen, wanted)]
    shown = 1 - sum(missing) / sum(len(ask.facts) for ask in wanted)
    return shown, missing.count(0) / len(wanted), last.x_prev.std().item()


# %%
scores = {scale: score(scale) for scale in (1.0, 4.0, 15.0)}
for scale, (shown, right, deviation) in scores.items():
    print(f"g = {scale:2g}: {shown:.0%} of the facts, {right:.0%} of the images; deviation {deviation:.2f}")
for wrong in (1.0, 15.0):
    assert scores[wrong][0] < scores[4.0][0] - 0.015 and scores[wrong][1] < scores[4.0][1] - 0.03
assert scores[15.0][2] > scores[4.0][2] > scores[1.0][2]

# %% [markdown]
# That is the bargain: some guidance brings more of what the prompt asks for; a lot of it loses that again, and drives
# the latent out of the range that the VAE was trained on. The gain is moderate, because even without guidance this
# network shows about three facts in four; with fewer prompts, chance could hide it. It also depends on the sampler
# ([with the model's default](../docs/samplers.md#how-much-guidance), more scales are measured), and the best $g$
# depends on the model: Stable Diffusion usually runs with 7.5, this one with less.
#
# ## Change 1: start from an image
#
# Why start from pure noise? Take an image's latent, add noise up to one of the lower levels, and take only the steps
# from there. Noise hides small things first, so the less noise, the more of the image is left.

# %%
grey_cat = Animal("cat", "grey", (Garment("scarf", "red"),), "portrait", 1)
cat = draw(Scene(wall="blue", animals=(grey_cat,)), np.random.default_rng(3), 128)
x0 = model.vae.encode(to_pixels([cat]))[0]
eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))


def from_picture(prompt, strength, steps=20):
    rest = model.levels("ddim", steps)[steps - int(steps * strength) :]
    x = rest[0].mix(x0, eps)
    *_, (x, _) = sample(x, rest, model.text(model.tokenizer(["", prompt])))
    return to_images(model.vae.decode(x))[0]


# %% [markdown]
# *Predict:* the prompt asks for a bear with a hat on the same background. From which strength on will it be a bear?

# %%
strengths = [0.2, 0.4, 0.5, 0.6, 0.8, 1.0]
text = "a grey bear with a hat on a blue background"
changed = [from_picture(text, strength) for strength in strengths]
captions = ["given", *(f"strength {strength:g}" for strength in strengths)]
display(show.film([cat, *changed], captions, side=76))
theirs = model.generate(text, init=cat, strength=0.6, steps=20, sampler="ddim", guidance=4.0, seed=1)[0]
assert np.abs(np.asarray(changed[3], dtype=int) - np.asarray(theirs, dtype=int)).max() <= 1
far = [np.square(np.asarray(image, dtype=float) - np.asarray(cat)).mean() for image in changed]
assert far[0] < far[2] < far[-1]

# %% [markdown]
# Small strengths return the cat, and at 1 nothing of it is left. In between, the given image fixes the
# composition, and the prompt decides what the noise has hidden. (With the same numbers, the library generates the
# same.)
#
# ## Change 2: keep a part of it
#
# Inpainting takes one more line. After each step, where nothing is to change, the latent is overwritten by that of the
# given image, noised to the level just reached: that is `keep`. The network always sees a whole image with uniform
# noise, and fills in what fits. Sampling starts from the same noise that is used on the kept part, and ends with the
# kept part clean ($\alpha = 1$, $\sigma = 0$). *Predict:* outside the mask, is the result the given image, pixel for
# pixel?

# %%
mask = Image.new("L", cat.size)
ImageDraw.Draw(mask).rectangle((16, 0, 112, 52), fill=255)
on_step = keep(x0, eps, repaint_mask(mask, model.vae.factor))
text = "a grey cat with a yellow hat on a blue background"
*_, (x, _) = sample(eps, levels, model.text(model.tokenizer(["", text])), on_step=on_step)
new = to_images(model.vae.decode(on_step(x, CLEAN)))[0]
whole = Image.composite(new, cat, mask)
display(show.film([cat, mask, new, whole], ["given", "white may change", "painted", "kept pixels put back"]))

# %%
outside = np.asarray(mask) == 0
kept = np.abs(np.asarray(new, dtype=int) - np.asarray(cat, dtype=int))[outside].mean()
print(f"outside the mask the painted picture differs by {kept:.1f} of 255 on average: the VAE's loss")
assert (np.asarray(whole)[outside] == np.asarray(cat)[outside]).all() and kept < 20
options = {"steps": 30, "sampler": "ddim", "guidance": 4.0, "seed": 1}
theirs = model.generate(text, init=cat, mask=mask, keep_pixels=True, **options)[0]
assert np.abs(np.asarray(whole, dtype=int) - np.asarray(theirs, dtype=int)).max() <= 1

# %% [markdown]
# No: the kept part has been through the VAE, and the decoder also reads what surrounds it. Only putting the original
# pixels back at the end makes it exact.
#
# Three tasks, one loop: only the start and what is put back along the way differ. Everything else that a pipeline has
# (batches, half precision, progress bars, error messages) is housekeeping around these lines.
#
# ## Exercises
#
# **1.** *Negative prompts.* Anything to be avoided can take the place of the empty prompt. Generate "a dog on a blue
# background" with the negative prompt "a dog with a scarf", by changing one word of `paint`. What should $g$ be?
#
# <details><summary>Solution</summary>
#
# ```python
# def avoid(prompt, negative, seed, guidance=4.0):
#     context = model.text(model.tokenizer([negative, prompt]))
#     x = torch.randn(1, channels, 16, 16, generator=torch.Generator().manual_seed(seed))
#     *_, (x, _) = sample(x, model.levels("ddim", 20), context, guidance)
#     return to_images(model.vae.decode(x))[0]
#
# display(show.film([avoid("a dog on a blue background", "a dog with a scarf", seed) for seed in range(6)]))
# ```
#
# Above 1: at $g = 1$ the negative prompt drops out of the formula.
# </details>
#
# **2.** *Change the subject halfway.* Take the first steps with one prompt and the rest with another. When
# is it too late to turn a cat into a dog?
#
# <details><summary>Solution</summary>
#
# ```python
# first, second = (model.text(model.tokenizer(["", text])) for text in ("a cat with a hat", "a dog with a hat"))
# pictures = []
# for turn in (0, 4, 8, 12, 16, 20):
#     x, levels = torch.randn(1, channels, 16, 16, generator=torch.Generator().manual_seed(3)), model.levels("ddim", 20)
#     for x, _ in [*sample(x, levels[: turn + 1], first)][-1:]:  # the last x, if there are steps at all
#         pass
#     for x, _ in [*sample(x, levels[turn:], second)][-1:]:
#         pass
#     pictures += to_images(model.vae.decode(x))
# display(show.film(pictures, [f"after {turn} steps" for turn in (0, 4, 8, 12, 16, 20)]))
# ```
#
# For a while a cat can still become a dog; later, words change only details.
# </details>
#
# **3.** *Guidance for part of the path.* Guide only the first half of the steps. Is the image worse? (At $g = 1$ the
# prediction for the empty prompt drops out. `generate` then skips it, which halves the cost of an evaluation; our
# function still computes it.)
#
# <details><summary>Solution</summary>
#
# ```python
# context, x = model.text(model.tokenizer(["", prompts[0]])), torch.randn(1, channels, 16, 16, generator=generator)
# levels = model.levels("ddim", 20)
# *_, (middle, _) = sample(x, levels[:11], context, guidance=4.0)
# *_, (a, _) = sample(middle, levels[10:], context, guidance=1.0)
# *_, (b, _) = sample(middle, levels[10:], context, guidance=4.0)
# display(show.film(to_images(model.vae.decode(torch.cat([a, b]))), ["half guided", "all guided"]))
# ```
#
# Hardly: as exercise 2 shows, by then the words have done most of their work.
# </details>
#
# You have built it. To write its two formulas from memory: `ldm exercise start guidance` and `ddim_step`. Next:
# [09: What is in a checkpoint?](09_checkpoints.ipynb), so that the same lines run with Stable Diffusion's weights.
