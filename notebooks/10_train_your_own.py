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
# # 10: What does it take to train all of it?
#
# **The question.** Every part of the model was learned from images and captions, from scratch. In what order, from
# what data, with which losses? And what do the losses look like when all is well?
#
# At the end you will have trained a small tokenizer, CLIP, VAE and U-Net, one after the other, generated images with
# them, and compared your loss curves with those of the model that ships. After a minute the images are poor; the
# shipped model took hours of the same code. The code is [`train`](../ldm/train/stages.py), on one
# [loop](../ldm/train/loop.py); [training](../docs/training.md) explains how to do it for real.

# %%
import contextlib
import csv
import io
import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
from IPython.display import display
from PIL import Image

import ldm
import show
from ldm.checkpoints.folder import read_clip, read_config
from ldm.config import (
    Config,
    Defaults,
    ImageConfig,
    NoiseConfig,
    TextConfig,
    UNetConfig,
    UNetLevel,
    VAEConfig,
)
from ldm.images.pixels import to_images
from ldm.postcards import DEMO_PROMPTS, postcard
from ldm.train.clip import retrieval_accuracy, train_clip
from ldm.train.data import CaptionedImages
from ldm.train.diffusion import train_diffusion
from ldm.train.loop import Recipe
from ldm.train.tokenizer import postcard_captions, train_tokenizer
from ldm.train.vae import train_vae

# %% [markdown]
# ## The data and the size of the model
#
# Postcards of 32 x 32 pixels: 1,500 to train on, and 200 to measure with, whose *combinations* are not among the 1,500
# (there is no cat on orange in training). That separates learning from memorising.


# %%
def drawn(count, split, seed):
    cards = [postcard(i, seed, 32, split) for i in range(count)]
    pixels = np.stack([np.asarray(card.image) for card in cards])
    return CaptionedImages([card.scene for card in cards], pixels, f"{split}-{count}")


pictures, held_out = drawn(1500, "train", 0), drawn(200, "held_out", 1)
captions = pictures.captions(np.arange(6), np.random.default_rng(0))
display(show.film(to_images(pictures.batch(np.arange(6))), captions, side=112))

# %% [markdown]
# The architecture is Stable Diffusion's; the sizes are other values of the same dataclasses. *Predict:* how many
# parameters will the U-Net have? Stable Diffusion's has 860 million.

# %%
config = Config(
    name="pocket",
    text=TextConfig(1024, 32, width=64, layers=2, heads=2, activation="quick_gelu"),
    vae=VAEConfig(channels=(16, 32, 32), res_per_level=1, latent_channels=4, scale=1.0, groups=4),
    unet=UNetConfig((UNetLevel(48, 2, 0), UNetLevel(96, 4, 1)), context_width=64, res_per_level=1, groups=16),
    noise=NoiseConfig(),
    defaults=Defaults(size=32, sampler="dpmpp_2m_karras", steps=15, guidance=3.0),
    image=ImageConfig(32, patch=8, width=64, layers=2, heads=2, activation="quick_gelu"),
    embedding_width=32,
)
folder = Path(tempfile.mkdtemp())
print(f"a latent is {config.vae.latent_channels} x {32 // config.vae.factor} x {32 // config.vae.factor}")

# %% [markdown]
# ## Stage 1: the tokenizer
#
# It only counts; no gradient is involved. The most frequent pair of neighbouring tokens becomes a token, again and
# again. Our world has a few hundred words, so it can go on until every word is a single token.

# %%
with contextlib.redirect_stderr(io.StringIO()):  # without the progress bar
    texts = postcard_captions(4000)
config = train_tokenizer(config, folder, texts)
merges = (folder / "tokenizer/merges.txt").read_text().splitlines()
print("the first merges:", merges[1:6])
assert config.text.vocab_size == 512 + len(merges) - 1 + 2  # bytes (and at a word's end), merges, two marks

# %% [markdown]
# ## Stage 2: CLIP
#
# Two encoders, trained to tell which caption belongs to which image ([notebook 02](02_clip.ipynb)). From here on a
# `Recipe` says how each stage is trained: the number of steps and the batch size, the peak learning rate and the number
# of warm-up steps, and `ema`: the weights that are kept are not the last ones but a moving average, which is less noisy
# (exercise 2). *Predict:* with 64 pairs in a batch, and as many captions that are nearly right, what is the loss of a
# model that knows nothing? (It is the mean of two cross-entropies: each image looks for its caption, each of the 64
# captions for its image.)


# %%
def run(train, stage, recipe):
    """Train one stage, without the progress bar, which does not look well in a notebook."""
    with contextlib.redirect_stderr(io.StringIO()):
        return train(folder, folder / stage, pictures, held_out, recipe, seed=0, resume=False)


recipe = Recipe(steps=180, batch=64, lr=2e-3, warmup=20, ema=0.95, checkpoint_minutes=60)
reached = run(train_clip, "clip", recipe)
print(*(f"{name}: {value:.0%}" for name, value in reached.items()), sep="\n")
print(f"by chance {1 / 64:.0%} among 64, and 50% against a caption that is nearly right")


# %%
def curve_of(stage):
    with open(folder / stage / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [int(row["step"]) for row in rows], [float(row["loss"]) for row in rows]


def beside(stage):
    """Our curve, and the recorded one of the model that ships."""
    recorded = show.recorded(stage)
    figure, axes = show.figure(2, width=3.6, height=2.5)
    curves = {"here": curve_of(stage), "shipped": (recorded["step"], recorded["loss"])}
    for axis, (title, (steps, losses)) in zip(axes, curves.items()):
        axis.plot(steps, losses, linewidth=1)
        axis.set(title=f"{stage}, {title}", xlabel="step", yscale="log" if min(losses) > 0 else "linear")
    display(show.picture(figure))


# %%
beside("clip")
steps, losses = curve_of("clip")
chance = (math.log(128) + math.log(64)) / 2
print(f"knowing nothing {chance:.2f}; the first 20 steps {losses[0]:.2f}; the last 20 {losses[-1]:.2f}")
assert losses[-1] < chance - 0.1

# %% [markdown]
# The mean of log 128 and log 64, or 4.51. (The shipped model's batches were larger, and chance with them; and it went
# on from an earlier attempt.) Ours stays there for a hundred steps and has only just begun to fall: it is little better
# than chance. [Notebook 02](02_clip.ipynb) takes more than twice as many steps, and gets much further. What CLIP
# contributes is a text encoder that has learned what words look like. Its image encoder will be used once more, in the
# next stage.
#
# ## Stage 3: the VAE
#
# Compress an image, decode it, compare. Comparing pixel by pixel rewards blur, so the images are also compared in
# CLIP's features (the perceptual loss), and after 72 % of the steps a discriminator joins, which learns to tell
# drawings from reconstructions. *Predict:* how will the loss curve show that moment?

# %%
recipe = Recipe(steps=280, batch=8, lr=4e-3, warmup=20, ema=0.95, checkpoint_minutes=60)
reached = run(train_vae, "vae", recipe)
print(*(f"{name}: {value:.2f}" for name, value in reached.items()), sep="\n")
beside("vae")
assert reached["PSNR, held-out combinations (dB)"] > 13
assert read_config(folder).vae.scale == reached["latent scale"]

# %% [markdown]
# A jump upwards: from there on the loss is another one (squared error tenfold, the adversarial loss added), so the
# numbers before and after are not comparable. A loss curve tells you whether training is healthy; whether the *images*
# are good, only images tell:

# %%
sample = Image.open(sorted((folder / "vae").glob("samples-*.png"))[-1])
display(sample.resize((2 * sample.width, 2 * sample.height)))  # drawn, and rebuilt: the run keeps such sheets

# %% [markdown]
# ## Stage 4: the U-Net
#
# Take a latent, add a random amount of noise, and predict the noise from the result and the caption. (This model
# predicts the noise on Stable Diffusion's schedule, as Stable Diffusion 1 does; the shipped one predicts v, on a
# schedule that ends in pure noise.) The text encoder learns on with it: the error says which words it should have told
# apart. One caption in ten is left empty, so that the same network also learns to predict without a prompt, for
# guidance. *Predict:* what is the loss of a network that always predicts zero? (The noise has variance 1.)

# %%
recipe = Recipe(steps=200, batch=32, lr=3e-3, warmup=20, ema=0.98, checkpoint_minutes=60)
reached = run(train_diffusion, "diffusion", recipe)
print(*(f"{name}: {value:.3f}" for name, value in reached.items()), sep="\n")
beside("diffusion")
assert curve_of("diffusion")[1][0] > 0.3 and reached["loss, held-out combinations"] < 0.5

# %% [markdown]
# It would be 1. From there ours falls fast at first, and then slowly. The shipped curve has no such fall, because it
# shows only the last 9,000 steps, from weights that were trained before: it rises while the learning rate is high, and
# then falls to a little below its start (notebook [03](03_noise.ipynb)). (Ours is the lower one, and means nothing:
# another target, other latents, other weights in the loss.) The loss is a mean over noise levels, and the part that
# decides what an image shows is a small share of it. So do not stop when the curve looks flat; look at samples.
#
# ## What it generates
#
# The folder is a model like any other.

# %%
model = ldm.load(folder)
print(f"{sum(p.numel() for p in model.unet.parameters()):,} parameters in the U-Net")
prompts = [DEMO_PROMPTS[i] for i in (1, 2, 4)]
rows = [model.generate(prompt, seed=0, batch=6) for prompt in prompts]
display(show.grid(rows, left=prompts, side=72))

# %% [markdown]
# Poor: blurred, and nearly without colour, by a VAE that saw two thousand images, from a U-Net that saw six thousand.
# But has it learned *nothing*? The first and the last prompt say the same in two languages, and the second says
# something else. All three start from the same six noises. *Predict:* if it listened to the prompt, which rows would be
# alike? Does it?

# %%
arrays = [np.stack([np.asarray(image, dtype=float) for image in row]) for row in rows]


def apart(i, j):
    return np.sqrt(np.square(arrays[i] - arrays[j]).mean())


noises = np.sqrt(np.square(arrays[0] - np.roll(arrays[0], 1, axis=0)).mean())
print(f"forest and forêt {apart(0, 2):.1f}, forest and dog {apart(0, 1):.1f}; two noises {noises:.1f} of 255")
assert max(apart(0, 1), apart(0, 2)) < noises / 4

# %% [markdown]
# The first and the last would be. But all three are: what an image shows is decided by its noise, and the prompt hardly
# changes it. Our U-Net does not listen yet. It has learned what all images have in common, large areas of light and
# shade; and what it reads comes from a text encoder that hardly tells captions apart. More steps change that, of CLIP
# first of all. This is what the same code achieves after hours, with a larger config (the log of each stage is that of
# its last run, which went on from earlier weights):

# %%
shipped = ldm.load("tiny")
rows = [shipped.generate(prompt, seed=0, batch=3, steps=12) for prompt in prompts]
display(show.grid(rows, left=prompts, side=72))
for stage in ("clip", "vae", "diffusion"):
    here, there = curve_of(stage)[0][-1], int(show.recorded(stage)["step"][-1])
    print(f"{stage}: {here:,} steps here, {there:,} steps of the shipped model")

# %%
clip, tokenizer = read_clip(folder)
print(f"retrieval among 64, once more from the files: {retrieval_accuracy(clip, tokenizer, held_out):.0%}")
shutil.rmtree(folder)

# %% [markdown]
# To continue: `ldm train all --preset quick` trains a model of 64 × 64 pixels until its images are recognisable;
# `--preset full` trains one like the one that ships ([how that was made](../weights/tiny/README.md#how-it-was-made)).
# Both can be stopped and resumed.
#
# ## Exercises
#
# **1.** The recipe's learning rate warms up and then falls as half a cosine. Plot it for `Recipe(steps=400, batch=32,
# lr=2e-3, warmup=30)`. Where is it half of its peak?
#
# <details><summary>Solution</summary>
#
# ```python
# from ldm.train.loop import learning_rate
#
# recipe = Recipe(steps=400, batch=32, lr=2e-3, warmup=30)
# rates = [learning_rate(recipe, step) for step in range(400)]
# display(show.curve(range(400), {"rate": rates}, "step", "learning rate"))
# print(min(range(30, 400), key=lambda step: abs(rates[step] - 1e-3)))    # halfway through the fall: step 215
# ```
# </details>
#
# **2.** The weights that are kept are a moving average. With decay 0.98, how many steps does it remember? (After how
# many steps has a step's weight fallen to a third?) Why would 0.9999, which large runs use, be a mistake in a run of
# 400 steps?
#
# <details><summary>Solution</summary>
#
# ```python
# print(math.log(1 / 3) / math.log(0.98), math.log(1 / 3) / math.log(0.9999))
# ```
#
# 54 steps, and 11,000: the average would still consist mostly of the untrained start. (That is why `update_ema` lets
# the decay grow slowly.)
# </details>
#
# **3.** Train on images of your own: a folder of images with `metadata.jsonl`, as `ldm postcards --folder my-pictures
# --count 500` writes one, and `ldm train all --data my-pictures --out weights/my-model --preset quick`. What does
# `read_image_folder` say of your folder?
#
# <details><summary>Solution</summary>
#
# ```python
# from ldm.postcards import export
# from ldm.train.own import read_image_folder
#
# own = Path(tempfile.mkdtemp())
# export(own, 20)
# (own / "00003.png").write_bytes(b"no picture")
# seen, measured = read_image_folder(own, 32)      # says what it cannot use, and why
# print(len(seen), "to train on,", len(measured), "held out")
# ```
# </details>
#
# Next: [11: How good is it, and how can the number fool you?](11_evaluate.ipynb)
