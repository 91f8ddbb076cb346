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
# # 12: Which line is wrong?
#
# **The question.** You have ported a model. Every tensor loads, no shape differs, and the images are wrong. Where do
# you look?
#
# At the end you will be able to
#
# - tell from an image in which part of a model to look first, and say why that is only a guess;
# - find the first layer that differs from a reference, with hooks, and read from it what is wrong;
# - tell a wrong network from a wrong sampler, which the image alone does not.
#
# The [museum of mistakes](../docs/museum.md) shows all the usual ones. Here are three of them as unknown patients. The
# code is [`painting`](../ldm/lab/museum/painting.py), which generates an image with one wrong line in a process of its
# own, and [`layers`](../ldm/lab/museum/layers.py), which compares two runs.

# %%
import hashlib
import tempfile
from pathlib import Path

from IPython.display import display

import show
from ldm.checkpoints.finding import find
from ldm.lab.museum.layers import beginning, difference
from ldm.lab.museum.mistake import Mistake, Setting
from ldm.lab.museum.painting import generate
from ldm.lab.museum.rooms import MISTAKES
from ldm.lab.museum.symptoms import SYMPTOMS, measures, symptom
from ldm.lab.museum.words import difference_lines

model, work = find("tiny").resolve(), Path(tempfile.mkdtemp())
setting = Setting("a white cat with a scarf on a blue background", {"sampler": "euler"})


# %% [markdown]
# The patients are sealed: this notebook only contains the start of a hash of each one's number.


# %%
def sealed(beginning: str) -> Mistake:
    hashes = {hashlib.sha256(mistake.number.encode()).hexdigest(): mistake for mistake in MISTAKES}
    return next(mistake for digest, mistake in hashes.items() if digest.startswith(beginning))


patients = {"A": sealed("925a7b"), "B": sealed("6c43df"), "C": sealed("5ea4f0")}
right = generate(None, setting, model, work)
wrong = {name: generate(mistake, setting, model, work) for name, mistake in patients.items()}
display(show.film([right.image, *(run.image for run in wrong.values())], ["right", *wrong], side=128))

# %% [markdown]
# *Predict:* which part of each is wrong: the text encoder, the U-Net, the sampler, or the VAE? Write it down.
#
# ## What you see
#
# A symptom can be measured: how grainy are the flat regions, are neighbours more similar along one axis than along the
# other, how much contrast is there?

# %%
for name, run in wrong.items():
    m = measures(right.image, run.image)
    print(
        f"{name}: grain x{m.grain:.1f}, one axis x{m.direction:.1f}, contrast x{m.contrast:.2f}: {SYMPTOMS[symptom(m)]}"
    )
    assert m.difference > 10

# %% [markdown]
# This names what you saw. It does not say where it comes from: noise can come from any part.
#
# ## Where it begins
#
# Both runs were watched by a forward hook on every layer. The reference's layers are listed in the order in which they
# ran, so go through them until one differs. *Predict:* if the sampler is wrong, which layer is that?

# %%
found = {name: beginning(right.outputs, run.outputs) for name, run in wrong.items()}
for name, first in found.items():
    print(f"{name}: begins at {first.place}; off by {first.difference:.2g} of its largest number")
print(f"(of {len(right.outputs)} layers and inputs, beginning with {', '.join(list(right.outputs)[:3])})")

# %% [markdown]
# Look at each in turn.
#
# **Patient A.** Is everything equal until the VAE decodes? Then text encoder, U-Net and sampler are right: the latent
# to decode is the same, number for number. A layer that is "off by infinity" did not run at all.

# %%
same = difference(
    right.outputs["the latent that is decoded"], wrong["A"].outputs["the latent that is decoded"]
)
print(f"the latent that A decodes: off by {same:.0e}")
assert same == 0 and found["A"].place.startswith("vae.decoder")
print(*difference_lines(patients["A"]), sep="\n")

# %% [markdown]
# The file on disk is still right, of course: the line was changed only in the memory of one process.
#
# **Patient B.** It starts at the first layer of a small network that reads the timestep. The input `t` has a row of its
# own, and is equal. So something between the timestep and this layer is computed wrongly. There are two suspects in
# that file. Make both mistakes, and compare numbers: the right diagnosis gives *the same* difference.

# %%
t = "the timestep t"
assert difference(right.outputs[t], wrong["B"].outputs[t]) == 0 and "time_embedding" in found["B"].place
for suspect in (mistake for mistake in MISTAKES if mistake.file == "unet/embedding.py"):
    run = generate(suspect, setting, model, work)
    print(
        f"{suspect.name}: {beginning(right.outputs, run.outputs).difference:.6g} (B: {found['B'].difference:.6g})"
    )

# %% [markdown]
# **Patient C.** The hooks record each layer's *first* call. In C, all of them are equal: the first prediction is right.
# What is wrong lies between two calls, in the sampler. *Predict:* what would you compare next?

# %%
prediction = "unet.conv_out"
gap = difference(right.outputs[prediction], wrong["C"].outputs[prediction])
print(f"C's first prediction is off by {gap:.0e}, the latent that it decodes by {found['C'].difference:.2g}")
assert gap == 0 and found["C"].place == "the latent that is decoded"
print(*difference_lines(patients["C"]), sep="\n")

# %% [markdown]
# A step of the sampler: compare the latent after the first step, by hand if necessary (`on_step=` sees every latent).
# Here it would show a latent with too much variance, because the signal was never scaled down.
#
# In short: **the image says that something is wrong, the first layer that differs says where, and the size of the
# difference says what.** Compare in double precision where you can; a wrong epsilon hides in float32.
#
# ## Exercises
#
# **1.** A fourth patient: `sealed("08f56e")`. Find where it starts, and say what is wrong before you print its lines.
#
# <details><summary>Solution</summary>
#
# ```python
# patient = sealed("08f56e")
# run = generate(patient, setting, model, work)
# first = beginning(right.outputs, run.outputs)
# print(first.place, first.difference, patient.name)
# display(show.film([right.image, run.image], ["right", "D"], side=128))
# ```
#
# It starts where the up path's first block reads its input, two concatenated feature maps: they are in the wrong order.
# </details>
#
# **2.** Make a mistake of your own: pick a line of [`level.py`](../ldm/diffusion/level.py), write a `Mistake` with its
# `before` and `after`, and see what it does to the image.
#
# <details><summary>Solution</summary>
#
# ```python
# mine = Mistake(
#     "mine",
#     "weights of signal and noise that add up to 1",
#     "diffusion/level.py",
#     before="(1 - alpha_bar[t]).sqrt().item()",
#     after="1 - alpha_bar[t].sqrt().item()",
#     why="their squares do, and one root looks like another",
# )
# run = generate(mine, setting, model, work)
# print(beginning(right.outputs, run.outputs))
# display(show.film([right.image, run.image], ["right", "mine"], side=128))
# ```
#
# The museum has many others; `ldm museum` lists them.
# </details>
#
# **3.** Some mistakes change nothing that an eye could see. Take `16b`, an epsilon. How far off is its first
# prediction, and how far the image?
#
# <details><summary>Solution</summary>
#
# ```python
# epsilon = next(mistake for mistake in MISTAKES if mistake.number == "16b")
# run = generate(epsilon, setting, model, work)
# print(beginning(right.outputs, run.outputs), measures(right.image, run.image).difference)
# ```
# </details>
#
# That was the last notebook. From here, read [the source in order](../docs/index.md#the-chapters), [write its functions
# yourself](../docs/exercises.md), or [train a model on your own images](../docs/training.md).
