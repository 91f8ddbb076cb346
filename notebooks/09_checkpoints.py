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
# # 09: What is in a checkpoint?
#
# **The question.** A model is a file of several gigabytes that someone else wrote. What is in it, how do you read it,
# why do three programs have three names for the same tensor, and how can opening a file be dangerous?
#
# At the end you will be able to
#
# - read a safetensors file with nothing but `struct` and `json`;
# - translate a tensor's name between the original code (CompVis), diffusers and this project;
# - convert a whole model, and prove that no number changed;
# - list what a pickle imports without running it, and say why it may import anything.
#
# The code is [`safetensors_file`](../ldm/checkpoints/safetensors_file.py), [`key_map`](../ldm/checkpoints/key_map.py),
# [`names`](../ldm/checkpoints/names.py) and [`pickle_file`](../ldm/checkpoints/pickle_file.py).

# %%
import io
import json
import pickle
import pickletools
import shutil
import struct
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from IPython.display import display

import ldm
import show
from ldm.checkpoints.finding import find
from ldm.checkpoints.inspect import inspect
from ldm.checkpoints.key_map import text_rows, unet_rows, vae_rows
from ldm.checkpoints.pickle_file import globals_of, list_globals
from ldm.checkpoints.safetensors_file import map_tensors, read_metadata, write_safetensors
from ldm.checkpoints.write import convert, export
from ldm.config import SD1
from ldm.errors import LdmError

folder = find("tiny")
desk = Path(tempfile.mkdtemp())  # what this notebook writes goes here, and away at the end

# %% [markdown]
# ## By hand
#
# A safetensors file starts with eight bytes that give the length of its header; then come the header, in JSON, and the
# data. *Predict:* how much of a 40 MB file do you have to read to know everything about a model except its numbers?

# %%
path = folder / "unet.safetensors"
with open(path, "rb") as file:
    (length,) = struct.unpack("<Q", file.read(8))  # a whole number of 8 bytes, the smallest byte first
    header = json.loads(file.read(length))
print(f"{path.name}: {path.stat().st_size:,} bytes, of which the header takes {length:,}")
for name in sorted(header)[:3]:
    print(f"{name:32} {header[name]}")
assert 8 + length < 0.02 * path.stat().st_size

# %% [markdown]
# The header gives each tensor's type, shape and offsets, so a tensor is a slice of the file:

# %%
entry = header["conv_in.weight"]
begin, end = entry["data_offsets"]
with open(path, "rb") as file:
    file.seek(8 + length + begin)
    numbers = np.frombuffer(file.read(end - begin), dtype=np.float16).reshape(entry["shape"])
print(entry["dtype"], numbers.shape, "begins with", numbers.ravel()[:3])
assert entry["dtype"] == "F16"
assert (numbers == map_tensors(path)["conv_in.weight"].numpy()).all()

# %% [markdown]
# That is a complete reader. `map_tensors` uses the `safetensors` library to do the same without copying: it maps the
# file into memory, and the operating system loads what is accessed. The header alone says where a model's parameters
# are. *Predict:* which part of the U-Net holds most of them: the down path, the middle, or the up path?

# %%
parts = Counter()
for name, entry in header.items():
    words = name.split(".")
    parts[".".join(words[:2]) if words[0] in ("down", "up") else words[0]] += int(np.prod(entry["shape"]))
order = ["conv_in", "time_embedding", "down", "mid", "up", "norm_out", "conv_out"]
names = sorted(parts, key=lambda name: (order.index(name.split(".")[0]), name))
figure, [axis] = show.figure(width=6.5, height=2.8)
axis.barh(names[::-1], [parts[name] / 1e6 for name in names[::-1]])
axis.set(xlabel="million parameters")
display(show.picture(figure))
ways = {way: sum(n for name, n in parts.items() if name.startswith(way)) for way in ("down", "mid", "up")}
print(ways)
assert ways["up"] > ways["down"]

# %% [markdown]
# The up path, because its blocks read twice as many channels: their own, and those of the skip connections. (You may
# have counted this in [notebook 05](05_unet.ipynb), with the network in memory; here nothing was loaded.)
#
# ## A header may lie
#
# The file comes from a stranger, so nothing in the header is trusted: each tensor must fill its slice, and the slices
# must cover the file without overlap. Let us forge some headers.


# %%
def forged(change):
    """A small file whose header was tampered with."""
    fields = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    change(fields)
    text = json.dumps(fields).encode()
    (desk / "forged.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    return desk / "forged.safetensors"


def said(action, *arguments):
    """The error that an action ends in, or what it returned."""
    try:
        return f"accepted: {action(*arguments)}"
    except LdmError as error:
        return f"refused: {str(error).replace(str(desk) + '/', '')}"


# %%
lies = {
    "no lie": lambda fields: None,
    "a shape of a million numbers": lambda fields: fields["a"].update(shape=[10**6]),
    "beyond the end of the file": lambda fields: fields["a"].update(shape=[4], data_offsets=[0, 16]),
    "two tensors in one place": lambda fields: fields.update(b=fields["a"]),
}
answers = {lie: said(map_tensors, forged(change)) for lie, change in lies.items()}
for lie, answer in answers.items():
    print(f"{lie}\n    {answer[:150]}")
assert [answer.split(":")[0] for answer in answers.values()] == ["accepted"] + ["refused"] * 3

# %% [markdown]
# ## Three names for one tensor
#
# Stable Diffusion's tensors have three sets of names: those of the code it was trained with (CompVis), those of
# diffusers, and ours. Conversion needs a table with three columns, which is *generated* by walking the model in
# execution order. Here is part of it, for Stable Diffusion 1.

# %%
rows = unet_rows(SD1.unet)
print(f"{len(rows)} tensors of the U-Net\n")
some = (
    "time_embedding.linear_1",
    "down.1.res.0.skip",
    "down.2.attn.1.layers.0.cross_attn.q",
    "up.3.res.2.time_proj",
)
for row in rows:
    if row.ours.removesuffix(".weight") in some:
        print(f"ours      {row.ours}\ndiffusers {row.diffusers}\ncompvis   {row.compvis}\n")
assert len(rows) == 686 and len({row.compvis for row in rows}) == 686

# %% [markdown]
# CompVis names a module by its index in a list, so the index of a block counts everything before it. *Predict:* in the
# original, the upsampling layer belongs to the last block of each level, after its attention if it has any. The
# coarsest level of Stable Diffusion has none. So what are the three upsamplers called?

# %%
upsamplers = [row.compvis for row in rows if row.ours.endswith("upsample.conv.weight")]
print(*upsamplers, sep="\n")
assert [name.split(".")[2] for name in upsamplers] == ["1", "2", "2"]

# %% [markdown]
# That `.1` among the `.2`s is easy to get wrong. Apart from the names, tensors differ in only two ways: some files
# store a linear map as a 1x1 convolution (with two extra axes of length one), and OpenCLIP (whose text encoder Stable
# Diffusion 2 uses) stacks the query, key and value projections into one tensor.

# %%
convolutions = [row for row in rows if row.conv]
stacked = [row for row in text_rows(SD1.text) if row.third is not None]
print(f"{len(convolutions)} maps of the U-Net are convolutions elsewhere, such as {convolutions[0].compvis}")
print(f"{len(stacked)} tensors of a text encoder are thirds, such as {stacked[0].compvis}: {stacked[0].ours}")
for row in text_rows(SD1.text)[2:5]:
    print(f"    {row.ours:24} is third {row.third} of {row.compvis}")
assert len({row.compvis for row in stacked}) == len(stacked) / 3

# %% [markdown]
# One more trap is the VAE's decoder. It runs from coarse to fine, but CompVis numbers its levels from the finest.

# %%
for row in vae_rows(SD1.vae):
    if row.ours.startswith("decoder.up") and row.ours.endswith("res.0.conv_1.weight"):
        print(f"{row.ours:34} {row.diffusers:44} {row.compvis}")

# %% [markdown]
# ## Converting
#
# `ldm export` writes a model in another program's layout, and `ldm convert` reads any of them. Here the tiny model
# makes the round trip. *Predict:* how many pixels of an image change after a trip through both layouts?

# %%
export(folder, desk / "diffusers", "diffusers")
export(folder, desk / "compvis.safetensors", "compvis")
for place in sorted((desk / "diffusers").rglob("*")):
    if place.is_file():
        print(f"{place.stat().st_size:>12,}  {place.relative_to(desk)}")
print(f"{(desk / 'compvis.safetensors').stat().st_size:>12,}  compvis.safetensors: everything in one file")

# %%
names = list(map_tensors(desk / "compvis.safetensors"))
print(Counter(name.split(".")[0] for name in names))
report = inspect(desk / "compvis.safetensors", hash=False).text().replace(f"{desk}/", "")
print(*report.splitlines()[:8], sep="\n")

# %% [markdown]
# `inspect` (`ldm inspect FILE` on the command line) reads headers only: it says what a file is before any of it is
# used. Now convert it back, and compare every tensor, and an image.

# %%
convert(desk / "compvis.safetensors", desk / "back")
for part in ("text", "vae", "unet"):
    before, after = (map_tensors(place / f"{part}.safetensors") for place in (folder, desk / "back"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    print(f"{part}: {len(before)} tensors, every bit the same")

# %%
places = {"ours": folder, "diffusers": desk / "diffusers", "compvis": desk / "compvis.safetensors"}
options = {"seed": 4, "steps": 12, "sampler": "dpmpp_2m", "guidance": 3.0, "size": (128, 128)}
painted = {name: ldm.load(place).generate("a cat with a hat", **options)[0] for name, place in places.items()}
display(show.film(list(painted.values()), list(painted)))
assert all((np.asarray(image) == np.asarray(painted["ours"])).all() for image in painted.values())

# %% [markdown]
# Not one pixel. (Guidance and size are given here because no other layout can store a model's defaults.) A tensor that
# is missing, left over or has the wrong shape is an error that names it:

# %%
tensors = map_tensors(desk / "compvis.safetensors")
renamed = {name.replace("input_blocks.1.0.", "input_blocks.one.0."): t for name, t in tensors.items()}
metadata = read_metadata(desk / "compvis.safetensors")
write_safetensors(desk / "renamed.safetensors", renamed, metadata)
answer = said(ldm.load, desk / "renamed.safetensors")
print(answer[:330], "...")
assert answer.startswith("refused") and "input_blocks.1.0" in answer

# %% [markdown]
# ## A pickle is a program
#
# Older checkpoints (`.ckpt`, `.bin`, `.pt`) are pickles. A pickle is not data: it is a program for a small virtual
# machine. One instruction is "import this function", another "call it". Any object can say how to rebuild it:


# %%
class Harmless:
    def __reduce__(self):  # "to build me again, call print with this"
        return print, ("This line was printed by opening a file.",)


program = pickle.dumps({"weights": [0.5, 0.25], "extra": Harmless()}, protocol=2)
loaded = pickle.loads(program)
print("what came out:", loaded)

# %% [markdown]
# It could just as well have been `os.system`. The class need not exist on your machine: the file names the function and
# its arguments. But you can *list* the instructions of a pickle first, which runs nothing:

# %%
listing = io.StringIO()
pickletools.dis(program, out=listing)
print(*[line for line in listing.getvalue().splitlines() if "GLOBAL" in line or "REDUCE" in line], sep="\n")
print("it asks for:", list_globals(program))
assert list_globals(program) == ["__builtin__.print"]

# %% [markdown]
# What does an honest checkpoint import? Three or four functions that build tensors. Here is one with its verdicts, and
# one with a stowaway.

# %%
weights = {"decoder.conv_in.weight": torch.zeros(4, 4, 3, 3)}
torch.save({"state_dict": weights}, desk / "honest.ckpt")
torch.save({"state_dict": weights, "callbacks": Harmless()}, desk / "passenger.ckpt")
for name in ("honest.ckpt", "passenger.ckpt"):
    print(name, *(f"    {asked}: {verdict}" for asked, verdict in globals_of(desk / name).items()), sep="\n")
assert "REFUSED" not in globals_of(desk / "honest.ckpt").values()

# %% [markdown]
# *Predict:* will the line be printed if we load it?

# %%
answer = said(ldm.load, desk / "passenger.ckpt")
print(answer)
assert answer.startswith("refused") and "nothing was run" in answer

# %% [markdown]
# No, and no option allows it: anyone who opens such a file wants its weights, and those are available as safetensors.
# One subtlety: the original Stable Diffusion code is a package named `ldm`, like this one. Some old checkpoints import
# classes from *that* `ldm`; a careless loader would look them up in ours.

# %%
torch.save({"state_dict": weights, "callbacks": LdmError}, desk / "namesake.ckpt")
verdict = globals_of(desk / "namesake.ckpt")
print(verdict["ldm.errors.LdmError"])
assert verdict["ldm.errors.LdmError"] == "REFUSED"

# %%
shutil.rmtree(desk)

# %% [markdown]
# ## Exercises
#
# **1.** Write a safetensors file by hand that holds `[[1, 2], [3, 4]]` as float32 under the name "m", and read it with
# the `safetensors` package.
#
# <details><summary>Solution</summary>
#
# ```python
# from safetensors.numpy import load
#
# numbers = np.array([[1, 2], [3, 4]], dtype=np.float32).tobytes()
# fields = {"m": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, len(numbers)]}}
# text = json.dumps(fields).encode()
# print(load(struct.pack("<Q", len(text)) + text + numbers))
# ```
# </details>
#
# **2.** In a file of Stable Diffusion 1, what is the tensor called (with its prefix) that turns the words into keys in
# the middle of the U-Net? Find it by our name, `mid.attn.layers.0.cross_attn.k.weight`. What is its shape?
#
# <details><summary>Solution</summary>
#
# ```python
# row = next(row for row in rows if row.ours == "mid.attn.layers.0.cross_attn.k.weight")
# print("model.diffusion_model." + row.compvis)
# print([SD1.unet.levels[-1].channels, SD1.unet.context_width])
# ```
#
# `model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight`, [1280, 768]. Programs that must tell
# Stable Diffusion 1 from 2 look at such a shape: its width is that of the text encoder, 768 or 1024.
# </details>
#
# **3.** A pickle of protocol 4 writes its imports differently (`STACK_GLOBAL`, with the names on the stack). Pickle
# `Harmless()` that way and see what `list_globals` says.
#
# <details><summary>Solution</summary>
#
# ```python
# print(list_globals(pickle.dumps(Harmless(), protocol=4)))
# ```
#
# It still finds the name, and flags the protocol: torch never writes it, so the whole file is refused.
# </details>
#
# How to get Stable Diffusion's own weights, and what their licences ask of you: [weights](../weights/README.md).
# Next: [10: What does it take to train all of it?](10_train_your_own.ipynb)
