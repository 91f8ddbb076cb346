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
# # 04: How does a pixel find its word?
#
# **The question.** The prompt says "a dog with glasses". How does the position where an eye is forming find out about
# the glasses?
#
# At the end you will be able to compute attention by hand and match the fused kernel, say why its scores are
# divided by $\sqrt d$, and look at the cross-attention of the real model: which word was read where, and when. The code
# is [`attention`](../ldm/nn/attention.py), the U-Net's [`transformer`](../ldm/unet/transformer.py), in which it sits,
# and the [`recorder`](../ldm/lab/trace/recorder.py).

# %%
import math

import numpy as np
import torch

import ldm
import show
from ldm.diffusion.conditioning import Conditioning
from ldm.images.pixels import to_pixels
from ldm.lab.evaluate.judge import find_judge, read_judge
from ldm.lab.trace.film import evenly_spaced, resize_to
from ldm.lab.trace.heat import attention_sheet, overlay
from ldm.lab.trace.recorder import record
from ldm.nn.attention import Attention, attention, attention_weights

generator = torch.Generator().manual_seed(0)

# %% [markdown]
# ## By hand
#
# There is a *query* for every position that asks, and a *key* and a *value* for every position that may answer; three
# learned matrices compute them from the features at each position. The dot products of a query with all keys become
# weights, positive and summing to one; the output is the average of the values with these weights (Vaswani et al. 2017,
# eq. 1; $d$ is the length of a query):
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{QK^\top}{\sqrt{d}}\right) V$$
#
# Three positions ask, four answer. With plain loops, and random vectors instead of learned ones:

# %%
q, k, v = (torch.randn(1, 1, n, 8, generator=generator, dtype=torch.float64) for n in (3, 4, 4))
by_hand = torch.zeros(3, 8, dtype=torch.float64)
for i in range(3):
    scores = [float(q[0, 0, i] @ k[0, 0, j]) / math.sqrt(8) for j in range(4)]
    total = sum(math.exp(score) for score in scores)
    for j in range(4):
        by_hand[i] += math.exp(scores[j]) / total * v[0, 0, j]

# %% [markdown]
# *Predict:* to how many digits will that agree with torch's kernel, which never even stores the weights?

# %%
kernel = attention(q, k, v)[0, 0]
weights = attention_weights(q, k)
print(f"largest difference: {(by_hand - kernel).abs().max():.1e}")
assert torch.allclose(by_hand, kernel, atol=1e-12)
assert torch.allclose(weights @ v, attention(q, k, v), atol=1e-12)
assert torch.allclose(weights.sum(-1), torch.ones(3, dtype=torch.float64))
show.heat(weights[0, 0], [f"query {i}" for i in range(3)], [f"key {j}" for j in range(4)], "rows sum to one")

# %% [markdown]
# To all of them. The project has both: normally the kernel runs, and the explicit form runs when someone wants to see
# the weights. A whole layer adds the learned matrices, and works in *heads*: here four of them, each on a quarter of
# the 64 channels, so that a position can look for four things at once. Its queries come from one sequence, "pixels",
# its keys and values from another, "words": that is *cross-attention*. With one sequence for all three it is
# *self-attention*. The layer gives the same result in both forms:

# %%
torch.manual_seed(0)
layer = Attention(width=64, heads=4, context_width=32).double()
pixels = torch.randn(2, 9, 64, generator=generator, dtype=torch.float64)
words = torch.randn(2, 5, 32, generator=generator, dtype=torch.float64)
with torch.no_grad():
    fused = layer(pixels, words)
    layer.by_hand = True
    open_form = layer(pixels, words)
assert torch.allclose(fused, open_form, atol=1e-12)

# %% [markdown]
# ## Why divide by the square root?
#
# *Predict:* with random queries and keys of width d, how large are the dot products, and what does a softmax do with
# large numbers? As a measure, take the largest of 32 weights: 1/32 means "attends everywhere", 1 means "attends to one
# position only".

# %%
widths, plain, divided = [4, 16, 64, 256, 1024], [], []
for d in widths:
    q, k = (torch.randn(1, 1, n, d, generator=generator) for n in (200, 32))
    divided.append(float(attention_weights(q, k).max(-1).values.mean()))
    undone = q * d**0.5  # takes back the division that is to come
    plain.append(float(attention_weights(undone, k).max(-1).values.mean()))
assert plain[-1] > 0.9 and max(divided) < 0.35
lines = {"scores as they are": plain, "divided by the root of d": divided}
show.curve(widths, lines, "width d", "highest weight", xscale="log", marker="o")

# %% [markdown]
# A dot product of d independent terms has a standard deviation of $\sqrt d$. Without the division, wide heads would
# start training with nearly all weight on one random position, where the softmax has a gradient of nearly zero: they
# could hardly learn to attend elsewhere.
#
# ## Two properties worth knowing
#
# *Predict:* what happens to the output if the words are shuffled? And in causal attention, if the *last* word is
# changed?

# %%
with torch.no_grad():
    shuffled = layer(pixels, words[:, [3, 0, 4, 1, 2]])
    sequence = torch.randn(1, 6, 64, generator=generator, dtype=torch.float64)
    other = torch.cat([sequence[:, :5], sequence[:, 5:] + 1], dim=1)
    reader = Attention(width=64, heads=4).double()
    before, after = reader(sequence, causal=True), reader(other, causal=True)
assert torch.allclose(shuffled, open_form, atol=1e-12)
assert torch.allclose(before[:, :5], after[:, :5], atol=1e-12)
assert not torch.allclose(before[:, 5], after[:, 5])

# %% [markdown]
# Shuffling changes nothing: attention reads a *set*. If the order of words matters, each word's vector has to carry
# it, and it does: the text encoder adds a vector for the position. In causal attention, as in that encoder, a position
# sees only itself and what came before.

# %%
q, k = (torch.randn(1, 1, 7, 16, generator=generator) for _ in "qk")
causal = attention_weights(q, k, causal=True)[0, 0]
assert causal.triu(1).count_nonzero() == 0
tokens = ["<start>", "a", "dog", "with", "glasses", "<end>", "<end>"]
show.heat(causal, tokens, tokens, "causal: the upper triangle is exactly zero", side=0.5)

# %% [markdown]
# ## The real model
#
# In each cross-attention layer of the U-Net every place of the latent spreads a weight of one over the 40 tokens. A
# *recorder* collects these weights while the model generates, averaged over the steps and over heads. (Tang et al. 2023
# average over all heads of all layers. Most of ours look elsewhere than at the thing that a word names, so only those
# are shown that look there more than the others: [how they are chosen](../docs/training.md#how-good-is-it).)
#
# *Predict:* which words will have a sharp map, and which a flat one? (The sheet stretches each map from its lowest to
# its highest value, so that even a flat one has bright places. The numbers below it compare the maps as they are.)

# %%
model = ldm.load("tiny")
prompt = "a dog with glasses"
with record(model, prompt) as recording:
    [image] = model.generate(prompt, seed=42, steps=30, sampler="ddim", progress=recording.watch())
attention_sheet(recording, 0, image, columns=5, side=112)

# %%
attended = torch.stack([s.attention[0] for s in recording.steps])  # [step, token, h, w]
share = attended.sum(dim=1)
for w in recording.words:
    heat = recording.heat_map(w)
    print(f"{w.text:8} highest weight {heat.max() / heat.mean():.1f} times the mean")
print(f"on the words and marks: {share.mean():.0%} of all weight; the rest lies on the padding")
assert attended.min() >= 0 and share.max() <= 1 + 1e-4

# %% [markdown]
# A map is sharp if its highest weight is many times its mean. The number under a word in the sheet is its share of the
# total attention. Start, end and padding tokens take the rest: the end token and the padding come after the whole
# sentence, so their vectors have read it and can summarise it.
#
# Now a landscape. *Predict:* where is "sunset" read: in the sun, in the sky, everywhere?

# %%
prompt = "a lake with mountains at sunset"
with record(model, prompt) as landscape:
    [lake] = model.generate(prompt, seed=3, steps=30, sampler="ddim", progress=landscape.watch())
attention_sheet(landscape, 0, lake, columns=5, side=96)

# %% [markdown]
# Words for things are mostly read where the things are. Words that affect everything need not be read everywhere:
# "sunset" is read along the upper edge of the sky, not in the sun. A few positions are enough, since self-attention
# passes on what was read there. And other vectors carry them too, those of
# the marks that come after them. The maps are coarse besides: even at the finest level, a position of the latent stands
# for 8 × 8 pixels.
#
# ## Not only where: when
#
# The same map for single steps, from noise to image. *Predict:* is "glasses" found early or late?

# %%
word = next(w for w in recording.words if w.text == "glasses")
chosen = evenly_spaced(len(recording.steps), 6)
base = [resize_to(guess, 128) for guess in recording.decode("x0", 0, chosen)]
maps = [recording.heat_map(word, 0, i) for i in chosen]
times = [f"t = {recording.steps[i].t}" for i in chosen]
show.film([overlay(b, m) for b, m in zip(base, maps)], times, side=112)

# %% [markdown]
# At once, though the first evaluation sees only noise: in an average portrait there is already a place for glasses, and
# the map is a blurred band across it. Within a few steps the map settles where this dog's glasses will be, and later
# ones refine it.
#
# ## Do the maps mean anything?
#
# A map shows where a word was *read*, which does not prove that it did anything. So intervene, and sample from the same
# noise with contexts that no text produces. One is the context of "a dog" with a single vector replaced by that of
# "glasses" from the other prompt; the other is the context of "a dog with glasses" without that word: its vector is
# replaced by the one that "a dog" has in that position, padding. For three seeds, so that it is no accident.
#
# *Predict:* which of these dogs will wear glasses? All, none, or those of one row?

# %%
with_glasses, dog, empty = model.encode_text(["a dog with glasses", "a dog", ""]).context
place = word.positions[0]
assert torch.allclose(with_glasses[:3], dog[:3], atol=1e-4)  # "<start> a dog": what comes later is not seen
put_in = torch.cat([dog[:place], with_glasses[place : place + 1], dog[place + 1 :]])
taken_out = torch.cat([with_glasses[:place], dog[place : place + 1], with_glasses[place + 1 :]])


# %%
def paint(cond):
    noise_fn, levels = model.noise_source([42, 7, 8], size=(128, 128)), model.levels(sampler="ddim", steps=16)
    latent = model.initial_latents("ddim", noise_fn(), levels)
    cond, uncond = (Conditioning(context.expand(3, -1, -1)) for context in (cond, empty))
    for step in model.sample("ddim", model.denoiser(cond, uncond, 4.0), latent, levels, noise_fn):
        latent = step.x_prev
    return model.decode(latent)


painted = [paint(context) for context in (with_glasses, dog, put_in, taken_out)]
names = ["a dog with glasses", "a dog", "a dog, the word put in", "with glasses, the word taken out"]
show.grid(painted, names, ["seed 42", "seed 7", "seed 8"], side=96)

# %% [markdown]
# Who wears glasses? The [judge](../ldm/lab/evaluate/judge.py), a small classifier of postcards, counts them.

# %%
judge = read_judge(find_judge("judge"))
glasses = [[seen["first glasses"] for seen in judge.predict(to_pixels(row))].count("yes") for row in painted]
for name, count, row in zip(names, glasses, painted):
    like = [np.abs(np.stack(row) - np.stack(other).astype(float)).mean() for other in painted[:2]]
    print(f"{name:33} glasses on {count} of 3; differs by {like[0]:4.1f} and {like[1]:4.1f}")
    if name == names[2]:
        assert like[0] < like[1] / 2  # the rest of the dog follows the word, too
assert glasses[0] == 3 and glasses[1] == 0  # the prompt is followed
assert glasses[2] == 3 and glasses[3] == 0  # and so is one vector among 40
assert like[1] < like[0] / 2

# %% [markdown]
# (The differences are those from the first row, with glasses, and from the second, without.) So reading does have
# consequences: one vector among 40 decides about the glasses. It brings them, and without it they are gone, although
# the end token and the padding, which come after the word, have read it too. It even decides most of the rest: with
# it, each dog is nearly the one of the first row, down to the fur, and without it nearly the one of the second. The
# other vectors account for the small differences that remain. For rarer words and more crowded scenes the sum of those
# many vectors may weigh more; a word is in more than one of them.
#
# ## Exercises
#
# **1.** How much does it cost? Count the weights of one self-attention over a latent of 64 × 64, and over one of 128 ×
# 128, with 8 heads.
#
# <details><summary>Solution</summary>
#
# ```python
# for side in (64, 128):
#     n = side * side
#     print(f"{side} x {side}: {8 * n * n:,} weights, {8 * n * n * 4 / 2**30:.1f} GiB in float32")
# ```
#
# Twice the side is 16 times the weights, and this is for one image in one layer. Kernels that never store them made
# large images possible.
# </details>
#
# **2.** Which head reads what? Take a layer, such as `model.unet.up[1].attn[0].layers[0].cross_attn`, let it use
# the explicit form (`by_hand = True`), put a hook on its `weights_probe`, and show one map for each of its heads.
#
# <details><summary>Solution</summary>
#
# ```python
# layer = model.unet.up[1].attn[0].layers[0].cross_attn
# layer.by_hand, seen = True, []
# handle = layer.weights_probe.register_forward_hook(lambda module, given, out: seen.append(out))
# model.generate("a dog with glasses", seed=42, steps=30, sampler="ddim")
# handle.remove()
# layer.by_hand = False
# maps = seen[len(seen) // 2][-1, :, :, 4]  # half-way, the last of the batch (with prompt), the word "glasses"
# side = math.isqrt(maps.shape[1])
# base = resize_to(image, 128)
# show.film([overlay(base, m.reshape(side, side)) for m in maps], [f"head {h}" for h in range(len(maps))])
# ```
# </details>
#
# **3.** Without its words: generate with a context in which all 40 vectors are the same, the beginning mark's.
#
# <details><summary>Solution</summary>
#
# ```python
# paint(dog[:1].expand(40, -1))[0]
# ```
#
# The start token has read nothing (the encoder is causal), so it is the same for all prompts: an image of anything.
# </details>
#
# To write it yourself: `ldm exercise start attention`, `heads` and `causal_mask`. Next: [05: What is inside the
# U-Net?](05_unet.ipynb)
