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
# **The question.** The U-Net reads vectors from a text encoder. Who taught that encoder that "lake" is something blue
# and flat?
#
# At the end you will have trained your own CLIP from scratch, in about a minute; you will be able to read its loss and
# its similarity grid, and to classify images with sentences that it was never told are classes. The code is
# [`clip`](../ldm/text/clip.py), a page long, and its [training](../ldm/train/clip.py).

# %%
import functools
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
# Two encoders, one for images and one for texts, each produce a unit vector. Both are transformers. The text encoder
# reads tokens; the [image encoder](../ldm/text/image.py) splits the image into square patches, and each patch is a
# token. (What happens inside, attention, is the subject of [notebook 04](04_attention.ipynb).)
#
# Take a batch of $b$ images with their captions, and ask for each image: which of these captions is mine? Let $u_i$ be
# the vectors of the images, $v_i$ those of the texts, and $s$ a learned factor that says how sharply to tell them apart
# (it multiplies the cosines before the softmax, so it is an inverse temperature). The loss measures how badly the game
# goes, in both directions (Radford et al. 2021, figure 3):
#
# $$L = -\frac{1}{2b} \sum_i \left[ \log \frac{e^{s\,u_i \cdot v_i}}{\sum_j e^{s\,u_i \cdot v_j}}
#                                 + \log \frac{e^{s\,u_i \cdot v_i}}{\sum_j e^{s\,u_j \cdot v_i}} \right]$$
#
# *Predict:* what is the loss of a model that knows nothing, with 64 pairs? And of one that knows everything? (The code
# stores $\log s$, called `logit_scale`; here $s = 100$, the largest value that CLIP allows.)

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
# Postcards, 32 pixels wide (shown larger here), each stored with the scene that it shows. A new caption is written
# each time one is needed, in different words, so that no sentence can be memorised.


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
# The same classes as Stable Diffusion's, with smaller sizes: three layers of width 96. Before any training, look at the
# cosines between eight new images and their captions.
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
# Rows of nearly equal numbers: a text is as close to one image as to any other. The encoders know nothing of each
# other yet.
#
# ## Training
#
# Four hundred steps of 64 pairs, with the loop that trained the shipped model: a step is `clip_loss`, a gradient, and
# `optimizer_step`. `clip_loss` makes the game a little harder: for each image there is also a caption that is *nearly*
# right, which names another animal, say, or exchanges two colours
# ([`wrong_caption`](../ldm/postcards/altered.py#wrong_caption)). So an image chooses among 128 captions, a caption
# among 64 images, and knowing nothing costs the mean of log 128 and log 64, which is 4.51. *Predict:* where will the
# loss be after 400 steps? Can it reach zero?

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
chance = {pairs: (math.log(2 * pairs) + math.log(pairs)) / 2 for pairs in (64, 96)}
drawn, (left, right) = show.figure(2, sharey=True)
left.plot(losses, linewidth=0.8)
left.axhline(chance[64], color="grey", linestyle=":")
left.set(title="this notebook: 64 pairs, 32 pixels", xlabel="step", ylabel="loss")
right.plot(full["step"], full["loss"])
right.axhline(chance[96], color="grey", linestyle=":")
right.set(title="the shipped model: 96 pairs, 64 pixels", xlabel="step")
show.picture(drawn)

# %%
assert abs(np.mean(losses[:5]) - chance[64]) < 0.5
assert np.mean(losses[-20:]) < chance[64] - 1

# %% [markdown]
# Ours starts near the dotted line, which is chance, stays there for some dozens of steps, and is still falling at the
# end. (The shipped model's starts far below its line, because it went on from the weights of an earlier attempt.)
# Neither reaches zero, and neither can: captions leave things out, and a batch contains similar scenes. So now and then
# two captions fit one image equally well, and nobody could tell which one belongs to it.
#
# The grid again, for the same eight images, which training never saw:

# %%
after, grid = similarity_grid(clip, tokenizer, "after 400 steps")
off = ~torch.eye(8, dtype=torch.bool)
print(f"diagonal minus the rest: before {before.diag().mean() - before[off].mean():.2f}, ", end="")
print(f"after {after.diag().mean() - after[off].mean():.2f}")
assert after.diag().mean() - after[off].mean() > 0.2
grid

# %% [markdown]
# The diagonal is bright, and so are whole blocks beside it: it tells night from dusk and a wall from a landscape, but
# takes most landscapes by daylight for one another. Those squares are mistakes, or pairs that do have something in
# common.
#
# ## Classification without classes
#
# Nobody told it what a class is. But "sunrise", "day", "sunset" and "night" are texts, so they have vectors; the one
# closest to an image is an answer (`CLIP.classify`). *Predict:* chance is one in four. How often is this right?

# %%
times = ("sunrise", "day", "sunset", "night")
pixels = preprocess([postcard(i, seed=1, size=32).image for i in range(len(new))], clip.image_size)
outdoors = [i for i, scene in enumerate(new.scenes) if scene.time]
with torch.no_grad():
    told = clip.classify(pixels[outdoors], tokenizer(list(times))).argmax(dim=1)
print(f"{np.mean([times[k] == new.scenes[i].time for k, i in zip(told, outdoors)]):.0%} right")

# %% [markdown]
# Now look at the captions above: none is as short as "night". The text encoder never saw such a text in training, so
# its vector may lie anywhere. (CLIP's authors gained accuracy by writing "a photo of a dog" for "dog".) So ask in the
# language of the captions: take the mean of the vectors of many captions of nights. What they do not share averages
# out; what they share remains (Radford et al. 2021, section 3.1.4).
#
# And ask about more than the time of day. *Predict:* after 400 steps, what will it know best: the time, the colour of
# the wall, the place, the animal, or the weather?

# %%
QUESTIONS = {
    "time": times,
    "wall": ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink"),
    "place": ("lake", "forest", "sea", "desert", "meadow"),
    "first animal": ("dog", "cat", "rabbit", "bear"),
    "weather": ("clear", "rain", "snow", "fog", "rainbow"),
}


# %%
@functools.cache
def captions_of(question, choice, texts=64):
    """Captions of scenes of which this is the answer."""
    rng = np.random.default_rng(0)
    scenes = (sample_scene(rng) for _ in range(10**6))
    fitting = (scene for scene in scenes if labels(scene).get(question) == choice)
    return [caption(scene, rng) for scene, _ in zip(fitting, range(texts))]


# %%
@torch.no_grad()
def answers(question, clip=clip, tokenizer=tokenizer, pixels=pixels):
    """What it says of each picture, and what is true."""
    choices = QUESTIONS[question]
    truth = [labels(scene).get(question) for scene in new.scenes]
    asked = [i for i, answer in enumerate(truth) if answer in choices]
    texts = (captions_of(question, choice) for choice in choices)
    classes = torch.stack([embed_captions(clip, tokenizer, some).mean(dim=0) for some in texts])
    told = (clip.embed_image(pixels[asked]) @ classes.T).argmax(dim=1)
    return asked, [choices[k] for k in told], [truth[i] for i in asked]


def shares_right(*model):
    found = {question: answers(question, *model) for question in QUESTIONS}
    return {a: np.mean([one == other for one, other in zip(*some[1:])]) for a, some in found.items()}


# %%
shares = shares_right()
drawn, [axis] = show.figure()
axis.bar(shares.keys(), shares.values())
axis.scatter(shares.keys(), [1 / len(QUESTIONS[a]) for a in shares], color="black", label="by chance")
axis.set(ylabel="right", ylim=(0, 1), title="after 400 steps")
axis.legend(frameon=False)
show.picture(drawn)

# %%
print({attribute: f"{share:.0%}" for attribute, share in shares.items()})
assert shares["time"] > 0.5 and shares["wall"] > 0.5  # by chance 0.25 and 0.125
assert max(shares["first animal"], shares["weather"]) < min(shares["time"], shares["wall"])
asked, told, truth = answers("time")
said = [f"{one} ({'right' if one == other else other})" for one, other in zip(told, truth)]
show.film([postcard(i, seed=1, size=96).image for i in asked[:8]], said[:8], side=88)

# %% [markdown]
# A new class costs a few sentences and no training. Large areas of colour are learned first: the wall, and the sky,
# which tells the time. That nearly every caption names the animal, and one in five leaves out the colour of the wall,
# does not matter as much: to tell a dog from a bear takes their ears, and rain is a few strokes, a pixel wide. And CLIP
# knows what people say about images, not what there is to see: no caption ever says that the weather is clear. The
# shipped model had more of everything: larger images, a larger network, more steps and more pairs in each. Its text
# encoder then had a second teacher: it learned on together with the U-Net. That moved its vectors, so CLIP played the
# game once more for 800 steps, with the text encoder at rest, until the two halves fitted each other again.

# %%
shipped, its_tokenizer = ldm.load_clip("tiny")
cosines, grid = similarity_grid(shipped, its_tokenizer, "the shipped model's CLIP")
assert cosines.diag().mean() - cosines[off].mean() > 0.3
grid

# %% [markdown]
# *Predict:* the same questions, to this one. What will it answer best now, and what is still hard?

# %%
large = preprocess([postcard(i, seed=1, size=64).image for i in range(len(new))], shipped.image_size)
its_shares = shares_right(shipped, its_tokenizer, large)
print({attribute: f"{share:.0%}" for attribute, share in its_shares.items()})
assert min(its_shares[a] for a in ("time", "wall", "place")) > 0.8 > its_shares["first animal"]

# %% [markdown]
# Time, wall and place are nearly always right. The animals are not: dog, cat, rabbit and bear share a body and differ
# in ears and muzzle, and in a landscape they are small.
#
# A diffusion model uses the text encoder alone, and not even its last step into the shared space: one vector for each
# token, before they are pooled. The image encoder is left out. But because it was there in training, "lake" now points
# somewhere near "pond" and "lac":

# %%
words = ["a lake", "a pond", "un lac", "a forest", "une forêt", "a dog", "un chien", "night", "la nuit"]
with torch.no_grad():
    vectors = shipped.embed_text(its_tokenizer(words))
cosines = vectors @ vectors.T
assert cosines[0, 2] > cosines[0, 3] and cosines[5, 6] > cosines[5, 3]  # languages meet, things do not
show.heat(cosines, words, words, "texts among themselves")

# %% [markdown]
# No dictionary was used: the two languages met because they describe the same images.
#
# ## Exercises
#
# **1.** The factor $s$ is learned with the rest. What is it now, and where did it start?
#
# <details><summary>Solution</summary>
#
# ```python
# print(f"from {1 / 0.07:.1f} to {clip.logit_scale.exp():.1f}; the shipped model: {shipped.logit_scale.exp():.1f}")
# ```
#
# It starts at 1 / 0.07 and may not exceed 100. A larger $s$ makes the softmax sharper, which pays off once the encoders
# are mostly right; ours are not there yet.
# </details>
#
# **2.** Which colours of walls does it confuse? Print a table: the rows what is true, the columns what it says.
#
# <details><summary>Solution</summary>
#
# ```python
# colours = QUESTIONS["wall"]
# _, told, truth = answers("wall")
# table = [[sum((t, s) == (a, b) for t, s in zip(truth, told)) for b in colours] for a in colours]
# show.heat(table, colours, colours, "rows: what is true; columns: what it says", digits=0, side=0.45)
# ```
#
# Mistakes are rarely random: what it confuses looks alike, or is seldom mentioned.
# </details>
#
# **3.** Where does the loss start with 16 pairs per batch? Why is a large batch a harder game, and a better teacher?
#
# <details><summary>Solution</summary>
#
# ```python
# print((math.log(32) + math.log(16)) / 2)
# ```
#
# At 3.12. Among so few captions hardly any is nearly right, except the one that was made so, and coarse knowledge goes
# far. Among many, some other image's caption differs in a single word, and that word must be understood. (CLIP's own
# batch size was 32,768.)
# </details>
#
# To write the loss yourself: `ldm exercise start contrastive_loss`, and `pool` for how a sentence becomes one vector.
# Next: [03: Why learn to predict noise?](03_noise.ipynb)
