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
# # 02: How do words learn what they look like?
#
# **The question.** The U-Net reads vectors that a text encoder made. Who taught that encoder that "lake" is something
# blue and flat?
#
# At the end you will have trained a CLIP of your own, from nothing, in under a minute; you will be able to read its
# loss and its similarity grid, and to classify pictures with sentences that it was never told are classes. The code is
# [`clip`](../ldm/text/clip.py), a page long, and its [training](../ldm/train/clip.py).

# %%
import math

import numpy as np
import torch
from IPython.display import display

import ldm
import show
from ldm.config import ImageConfig, TextConfig
from ldm.lab.evaluate.understanding import embed_captions
from ldm.postcards import caption, labels, postcard, sample_scene
from ldm.text.bpe import learn_merges
from ldm.text.clip import CLIP, contrastive_loss
from ldm.text.image import preprocess
from ldm.text.tokenizer import Tokenizer
from ldm.train.clip import clip_loss
from ldm.train.data import CaptionedImages
from ldm.train.loop import Recipe, learning_rate, optimizer_step, use_plain_attention

# %% [markdown]
# ## The game
#
# Two encoders, one for pictures and one for texts, each give a unit vector. Both are transformers. The one for texts
# reads a token for each piece; the [one for pictures](../ldm/text/image.py) cuts the picture into square patches, and
# each patch is a token. (What happens in there, attention, is [notebook 04](04_attention.ipynb).)
#
# Take a batch of $b$ pictures with their captions, and let everybody guess: which of these captions is mine? With the
# vectors $u_i$ of the pictures and $v_i$ of the texts, and a learned factor $s$ that says how sharply to tell them
# apart (it multiplies the cosines before the softmax, so it is the inverse of a temperature), the loss is how badly
# that goes, both ways (Radford et al. 2021, figure 3):
#
# $$L = -\frac{1}{2b} \sum_i \left[ \log \frac{e^{s\,u_i \cdot v_i}}{\sum_j e^{s\,u_i \cdot v_j}}
#                                 + \log \frac{e^{s\,u_i \cdot v_i}}{\sum_j e^{s\,u_j \cdot v_i}} \right]$$
#
# *Predict:* what is the loss of somebody who knows nothing, with 64 pairs? And of somebody who knows all? (The code
# keeps $\log s$, called `logit_scale`; here $s = 100$, the largest that CLIP allows.)

# %%
pairs, scale = 64, torch.tensor(math.log(100.0))
nothing = torch.ones(pairs, 128) / 128**0.5  # every picture and every text on the same spot
everything = torch.eye(pairs, 128)  # each pair on a spot of its own
print(f"knows nothing: {contrastive_loss(nothing, nothing, scale):.3f} = log 64 = {math.log(64):.3f}")
print(f"knows all:     {contrastive_loss(everything, everything, scale):.3f}")
assert abs(contrastive_loss(nothing, nothing, scale) - math.log(64)) < 1e-4

# %% [markdown]
# ## Something to look at
#
# Postcards, 32 pixels wide (here drawn larger), each kept with the scene that it shows. A caption is written anew
# each time it is needed, in different words, so that no sentence can be learned by heart.


# %%
def draw(count, seed):
    cards = [postcard(i, seed=seed, size=32) for i in range(count)]
    pixels = np.stack([np.asarray(card.image) for card in cards])
    return CaptionedImages([card.scene for card in cards], pixels)


pictures, new = draw(1500, seed=0), draw(200, seed=1)
rng = np.random.default_rng(0)
captions = [caption(scene, rng) for scene in pictures.scenes]
show.film([postcard(i, size=96).image for i in range(6)], captions[:6], side=96)

# %% [markdown]
# ## A small CLIP
#
# The same classes as Stable Diffusion's, with small numbers in them: three layers, 96 wide. Its first guess, before
# any training, is a grid of cosines between eight new pictures and their captions.
#
# *Predict:* what will the grid look like?

# %%
tokenizer = Tokenizer(learn_merges(captions), context_length=32)
text = TextConfig(tokenizer.vocab_size, 32, width=96, layers=3, heads=4, activation="quick_gelu")
image = ImageConfig(32, patch=8, width=96, layers=3, heads=4, activation="quick_gelu")
torch.manual_seed(0)
clip = CLIP(text, image, embedding_width=64)
print(f"{sum(p.numel() for p in clip.parameters()):,} numbers to learn; {tokenizer.vocab_size} pieces")


# %%
def similarity_grid(clip, tokenizer, title):
    cards = [postcard(i, seed=3, size=128, language="en") for i in range(8)]
    pixels = preprocess([card.image for card in cards], clip.image_size)
    with torch.no_grad():
        cosines = clip.similarity(pixels, tokenizer([card.caption for card in cards]))
    texts = [card.caption[:44] for card in cards]
    return cosines.T, show.heat(cosines.T, texts, [f"picture {i}" for i in range(8)], title)


cards = [postcard(i, seed=3, size=128, language="en") for i in range(8)]
before, grid = similarity_grid(clip, tokenizer, "before training")
display(show.film([card.image for card in cards], [f"picture {i}" for i in range(8)], side=72))
grid

# %% [markdown]
# Rows of nearly equal numbers: a text is as near to one picture as to any other. The encoders have not met.
#
# ## Training
#
# Four hundred steps of 64 pairs, by the loop that trained the shipped model: a step is `clip_loss`, a gradient, and
# `optimizer_step`. *Predict:* the loss begins near log 64, which is 4.16. Where will it be after 400 steps? Can it
# reach zero?

# %%
recipe = Recipe(steps=400, batch=64, lr=2e-3, warmup=30)
optimizer = torch.optim.AdamW(clip.parameters(), betas=(0.9, 0.99), weight_decay=recipe.weight_decay)
use_plain_attention(clip)  # attention as plain matrix products: quicker over so few tokens
losses = []
for step in range(recipe.steps):
    loss = clip_loss(clip, tokenizer, pictures, recipe.batch, np.random.default_rng([0, step]))
    optimizer_step(clip, optimizer, loss, learning_rate(recipe, step))
    losses.append(loss.item())
print(f"first ten steps {np.mean(losses[:10]):.2f}, last ten {np.mean(losses[-10:]):.2f}")

# %%
full = show.recorded("clip")
drawn, (left, right) = show.figure(2, sharey=True)
left.plot(losses, linewidth=0.8)
left.axhline(math.log(64), color="grey", linestyle=":")
left.set(title="this notebook: 64 pairs, 32 pixels", xlabel="step", ylabel="loss")
right.plot(full["step"], full["loss"])
right.axhline(math.log(256), color="grey", linestyle=":")
right.set(title="the shipped model: 256 pairs, 64 pixels", xlabel="step")
show.picture(drawn)

# %%
assert abs(np.mean(losses[:5]) - math.log(64)) < 0.5
assert np.mean(losses[-20:]) < 2.2

# %% [markdown]
# Both start near the dotted line, which is the logarithm of the batch: knowing nothing. Neither reaches zero, and
# neither can: captions leave things out, and a batch has similar scenes in it. So now and then two captions fit one
# picture equally well, and nobody could tell which is its own.
#
# The grid again, for the same eight pictures, which the training never saw:

# %%
after, grid = similarity_grid(clip, tokenizer, "after 400 steps")
off = ~torch.eye(8, dtype=torch.bool)
print(f"diagonal minus the rest: before {before.diag().mean() - before[off].mean():.2f}, ", end="")
print(f"after {after.diag().mean() - after[off].mean():.2f}")
assert after.diag().mean() - after[off].mean() > 0.3
grid

# %% [markdown]
# The diagonal is bright. Bright squares beside it are mistakes, or pairs that do have something in common.
#
# ## Classification without classes
#
# Nobody told it what a class is. But "sunrise", "day", "sunset" and "night" are texts, so they have vectors; the
# nearest one to a picture is an answer (`CLIP.classify`). *Predict:* by chance it would be right in one case of four.
# And here?

# %%
times = ("sunrise", "day", "sunset", "night")
pixels = preprocess([postcard(i, seed=1, size=32).image for i in range(len(new))], clip.image_size)
outdoors = [i for i, scene in enumerate(new.scenes) if scene.time]
with torch.no_grad():
    told = clip.classify(pixels[outdoors], tokenizer(list(times))).argmax(dim=1)
print(f"{np.mean([times[k] == new.scenes[i].time for k, i in zip(told, outdoors)]):.0%} right")

# %% [markdown]
# Now look at the captions above: none is as short as "night". The text encoder has never been asked about such a text,
# and its vector may lie anywhere. (CLIP's authors gained points by writing "a photo of a dog" for "dog".) So ask as
# the captions speak: take the mean of the vectors of many captions of nights. What they do not share averages out,
# what they share is left (Radford et al. 2021, section 3.1.4).
#
# And ask about more than the time of day. *Predict:* after 400 steps, what will it know best: the time, the place, the
# animal, the colour behind it, or what the animal wears?

# %%
QUESTIONS = {
    "time": times,
    "wall": ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink"),
    "place": ("lake", "forest", "sea", "desert", "meadow"),
    "first animal": ("dog", "cat", "rabbit", "bear"),
    "weather": ("clear", "rain", "snow", "fog", "rainbow"),
}


# %%
@torch.no_grad()
def direction(question, choice, texts=64):
    """The mean vector of captions of scenes of which this is the answer."""
    rng = np.random.default_rng(0)
    scenes = (sample_scene(rng) for _ in range(10**6))
    fitting = (scene for scene in scenes if labels(scene).get(question) == choice)
    captions = [caption(scene, rng) for scene, _ in zip(fitting, range(texts))]
    return embed_captions(clip, tokenizer, captions).mean(dim=0)


# %%
def answers(question):
    """What it says of each picture, and what is true."""
    choices = QUESTIONS[question]
    truth = [labels(scene).get(question) for scene in new.scenes]
    asked = [i for i, answer in enumerate(truth) if answer in choices]
    classes = torch.stack([direction(question, choice) for choice in choices])
    with torch.no_grad():
        told = (clip.embed_image(pixels[asked]) @ classes.T).argmax(dim=1)
    return asked, [choices[k] for k in told], [truth[i] for i in asked]


# %%
shares = {a: np.mean([one == other for one, other in zip(*answers(a)[1:])]) for a in QUESTIONS}
drawn, [axis] = show.figure()
axis.bar(shares.keys(), shares.values())
axis.scatter(shares.keys(), [1 / len(QUESTIONS[a]) for a in shares], color="black", label="by chance")
axis.set(ylabel="right", ylim=(0, 1), title="after 400 steps")
axis.legend(frameon=False)
show.picture(drawn)

# %%
print({attribute: f"{share:.0%}" for attribute, share in shares.items()})
assert shares["time"] > 0.5  # by chance 0.25
asked, told, truth = answers("time")
said = [f"{one} ({'right' if one == other else other})" for one, other in zip(told, truth)]
show.film([postcard(i, seed=1, size=96).image for i in asked[:8]], said[:8], side=88)

# %% [markdown]
# A new class costs a few sentences and no training. It knows best the time of day and what the animal wears: both are
# seen at a glance and nearly always said. Four captions of ten leave out the colour behind the animal, and so it is
# learned late, although anybody can see it: CLIP knows what people say about pictures, not what there is to see. The
# shipped model had more of everything: larger pictures, a larger network, more steps and more pairs in each.

# %%
shipped, its_tokenizer = ldm.load_clip("tiny")
cosines, grid = similarity_grid(shipped, its_tokenizer, "the shipped model's CLIP")
assert cosines.diag().mean() - cosines[off].mean() > 0.3
grid

# %% [markdown]
# What goes on into Stable Diffusion is the text encoder alone, and not even its last step into the shared space: one
# vector for each token, before they are pooled. The image encoder is left out. But because it was there, "lake" now
# points somewhere near "pond" and "lac":

# %%
words = ["a lake", "a pond", "un lac", "a forest", "une forêt", "a dog", "un chien", "night", "la nuit"]
with torch.no_grad():
    vectors = shipped.embed_text(its_tokenizer(words))
cosines = vectors @ vectors.T
assert cosines[0, 2] > cosines[0, 3] and cosines[5, 6] > cosines[5, 3]  # languages meet, things do not
show.heat(cosines, words, words, "texts among themselves")

# %% [markdown]
# No dictionary was used: the two languages met because they were said of the same pictures.
#
# ## Exercises
#
# **1.** The factor $s$ is learned with the rest. What is it now, and where did it begin?
#
# <details><summary>Solution</summary>
#
# ```python
# print(f"from {1 / 0.07:.1f} to {clip.logit_scale.exp():.1f}; the shipped model: {shipped.logit_scale.exp():.1f}")
# ```
#
# It begins at 1 / 0.07 and may not pass 100. A larger $s$ makes the softmax sharper, which pays once the encoders are
# mostly right.
# </details>
#
# **2.** Which of the colours behind the animals does it confuse? Print a table: the rows what is true, the columns
# what it says.
#
# <details><summary>Solution</summary>
#
# ```python
# colours = QUESTIONS["background"]
# _, told, truth = answers("background")
# table = [[sum((t, s) == (a, b) for t, s in zip(truth, told)) for b in colours] for a in colours]
# show.heat(table, colours, colours, "rows: what is true; columns: what it says", digits=0, side=0.45)
# ```
#
# Mistakes are rarely random: what it confuses looks alike, or is seldom said.
# </details>
#
# **3.** Where does the loss begin with 16 pairs a batch? Why is a large batch a harder game, and a better teacher?
#
# <details><summary>Solution</summary>
#
# ```python
# print(math.log(16))
# ```
#
# At 2.77. Among 16 captions few are nearly right, and coarse knowledge is enough to win. Among many, somebody else's
# caption differs in one word only, and that word must be understood. (CLIP's own batch was 32,768.)
# </details>
#
# To write the loss yourself: `ldm exercise start contrastive_loss`, and `pool` for how a sentence becomes one vector.
# Next: [03: Why learn to predict noise?](03_noise.ipynb)
