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
# # 01: How does text become numbers?
#
# **The question.** A network reads numbers from a fixed list. How can a fixed list hold every text that anybody will
# ever type?
#
# At the end you will be able to learn a byte-pair encoding from a corpus, say what it does to a word it has never
# seen, and read the ids that Stable Diffusion is really given. The code is [`bpe`](../ldm/text/bpe.py), which learns,
# and [`tokenizer`](../ldm/text/tokenizer.py), which uses what was learned.

# %%
import numpy as np

import show
from ldm.postcards import caption, sample_scene
from ldm.text.bpe import count_words, learn_merges
from ldm.text.pretokenize import END_OF_WORD, byte_tokens, token_bytes
from ldm.text.tokenizer import Tokenizer

# %% [markdown]
# ## By hand first
#
# Cut every word into letters, the last one marked `</w>`. Count all neighbouring pairs. Glue the most frequent pair,
# everywhere; repeat. A corpus has "low" five times, "lower" twice and "newer" six times.
#
# *Predict:* which pair is glued first? (Where two are equally frequent, the alphabet decides.) And which one then?

# %%
corpus = {"low": 5, "lower": 2, "newer": 6}
print(byte_tokens("lower"))
for number, (left, right) in enumerate(learn_merges(corpus)):
    print(f"merge {number}: {left!r} + {right!r}")

# %%
assert learn_merges(corpus, max_merges=3) == [("e", "r</w>"), ("w", "er</w>"), ("l", "o")]

# %% [markdown]
# `e` and `r</w>` stand side by side eight times, and so do `w` and `e`; the alphabet puts `e` first. Now `w` stands
# before the new piece `er</w>` eight times, so that is the second merge. The end mark keeps the "er" that closes
# "lower" apart from an "er" that opens "era".
#
# ## From our own captions
#
# The tiny model's world of postcards is described in captions, English and French. A *scene* is drawn by lot (an
# animal, its fur, what it wears, ...; or a place, the time of day, ...), and `caption` says it in one of many ways.
# Here are four thousand.

# %%
captions = []
for i in range(4000):
    rng = np.random.default_rng([0, i])
    captions.append(caption(sample_scene(rng), rng))
words = count_words(captions)
print(*captions[:4], sep="\n")
print(f"{sum(words.values()):,} words, {len(words)} of them different")

# %% [markdown]
# *Predict:* which tokens will be learned first? Think of what is frequent in *letters*, in both languages at once.
# (Inside, a piece is written with one printable sign for each byte; `readable` turns that back into text.)

# %%


def readable(tokens):
    texts = [token_bytes(token).decode(errors="backslashreplace") for token in tokens]
    return " ".join(text + END_OF_WORD * token.endswith(END_OF_WORD) for text, token in zip(texts, tokens))


merges = learn_merges(words)
learned = [left + right for left, right in merges]
print(readable(learned[:40]))
assert learned[0] == "un"
print(f"\n{len(merges)} merges until every word is one piece; the last five:", readable(learned[-5:]))

# %% [markdown]
# Pairs of letters that stand in many words come first. "un" is an article in French, and it is in "mountain" and
# "background" too. The first whole words follow soon, those of very many captions: "with" and "avec".
#
# A tokenizer that knows only the first merges cuts words into more tokens. Watch two words as it learns:

# %%
sizes = (0, 10, 50, 150, 400, len(merges))
tokenizers = {n: Tokenizer(merges[:n], context_length=32) for n in sizes}
for text in ("mountains", "montgolfière"):
    for n, tokenizer in tokenizers.items():
        print(f"{n:4} merges: {' '.join(tokenizer.tokens(text))}")

# %% [markdown]
# Without any merge, "è" is two tokens, for it is two bytes in UTF-8: the alphabet is not letters but the 256 bytes.
# That is the trick behind the fixed list: every text is bytes, so *nothing* is unknown.
#
# *Predict:* the more merges, the shorter the captions become. Is the first hundred worth more than the last hundred?

# %%
lengths = {
    n: np.mean([len(Tokenizer(merges[:n]).encode(text)) for text in captions[:300]])
    for n in (0, 25, 50, 100, 200, 400, 600, len(merges))
}
assert all(a >= b for a, b in zip(list(lengths.values()), list(lengths.values())[1:]))
assert lengths[0] - lengths[100] > lengths[600] - lengths[len(merges)]
show.curve(list(lengths), {"": list(lengths.values())}, "merges", "tokens a caption", marker="o")

# %% [markdown]
# The first, by far: most of the gain comes from the few tokens that are everywhere. And every token costs: the text
# encoder keeps a vector for each, which has to be learned. So real vocabularies stop somewhere: CLIP's at 49,408.
#
# A word that was never seen falls apart, but nothing breaks, and the text comes back:

# %%
ours = tokenizers[len(merges)]
for text in ("a lake", "an astronaut", "a fox 🦊"):
    print(f"{text!r:16} {ours.tokens(text)}")
    assert ours.decode(ours.encode(text)) == text

# %% [markdown]
# ## CLIP's tokenizer, which is Stable Diffusion's
#
# The same algorithm, learned from the texts of the internet. Here is what it does to odd ones.
#
# *Predict*, for each: how many tokens?

# %%
clip = Tokenizer.clip()
odd = ["cat", "A  CAT", "astronaut", "photorealistic", "1990", "don't", "naïve café", "“quoted”", "&amp;amp;"]
odd += ["Donaudampfschiff", "猫", "🦊", "   ", "cat,dog"]
for text in odd:
    tokens = clip.tokens(text)
    print(f"{text!r:20}{len(tokens):3}  {' '.join(tokens)}")

# %%
assert clip.encode("A  CAT") == clip.encode("a cat")  # capitals and spaces are gone before any merge
assert len(clip.encode("1990")) == 4  # digits stay alone, so "1990" and "1991" have three in common
assert clip.tokens("&amp;amp;") == ["&</w>"]  # captions from the web are often escaped twice
assert clip.encode("   ") == []  # nothing: the model paints as for an empty prompt
assert clip.vocab_size == 49_408

# %% [markdown]
# What was rare on the internet is cut into many tokens, and costs places. *Predict:* our captions are half French.
# Which language costs more tokens a word with CLIP's tokenizer, and by how much? And with ours, learned from both?


# %%
def price(tokenizer, language):
    rng = np.random.default_rng(5)
    texts = [caption(sample_scene(rng), rng, language) for _ in range(200)]
    words = sum(len(tokenizer.words(text)) for text in texts)
    return sum(len(tokenizer.encode(text)) for text in texts) / words


prices = [[price(tokenizer, language) for language in ("en", "fr")] for tokenizer in (ours, clip)]
assert prices[1][1] > 1.2 * prices[1][0]
show.heat(prices, ["our tokenizer", "CLIP's"], ["English", "French"], "tokens a word", side=0.9)

# %% [markdown]
# A model whose tokenizer grew up in English has less room for French, and has to guess its words from fragments. This
# is the first place where Stable Diffusion knows English best, before any network has run.
#
# ## What the text encoder is given
#
# A text becomes exactly 77 ids: a beginning mark, at most 75 ids of content, an end mark, padding. What pads?
# *Predict:* zeros?

# %%
one, two = Tokenizer.clip(pad="eos"), Tokenizer.clip(pad="zero")
for name, tokenizer in (("Stable Diffusion 1", one), ("Stable Diffusion 2", two)):
    print(name, tokenizer("a cat")[0, :8].tolist(), "...", tokenizer("a cat").shape[1], "ids")
assert one("a cat")[0, -1] == one.eos == 49407
assert two("a cat")[0, -1] == 0 == clip.vocab["!"]  # 0 is no mark of its own: it is an exclamation mark

# %% [markdown]
# It depends on who trained: version 1 repeats the end mark, version 2 fills with 0. The U-Net looks at all 77 places,
# so this is no cosmetic matter: [here is what it
# changes](../docs/questions.md#why-padding-with-eos-and-what-would-0-do), and [here is why
# 77](../docs/questions.md#why-77). What is longer than 75 is cut. The tokenizer does it silently; the pipeline warns,
# and can read long prompts in chunks ([`prompt`](../ldm/text/prompt.py)).

# %%
long = "a lake, " * 40 + "and a dragon"
kept = clip.decode(clip(long)[0])
print(len(clip.encode(long)), "tokens; what is left ends in:", kept[-30:])
assert "dragon" not in kept and clip(long).shape == (1, 77)

# %% [markdown]
# ## Exercises
#
# **1.** On paper: a corpus of "aab" three times and "ab" twice. Which merges are learned, in which order?
#
# <details><summary>Solution</summary>
#
# ```python
# assert learn_merges({"aab": 3, "ab": 2}) == [("a", "b</w>"), ("a", "ab</w>")]
# ```
#
# `a b</w>` stands there five times, `a a` three times; then `a ab</w>` three times.
# </details>
#
# **2.** Is a longer piece always preferred? Tokenize "newer" with the merges `[("n", "e"), ("e", "w"), ("ew", "e")]`.
#
# <details><summary>Solution</summary>
#
# ```python
# tokenizer = Tokenizer([("n", "e"), ("e", "w"), ("ew", "e")])
# assert tokenizer.tokens("newer") == ["ne", "w", "e", "r</w>"]
# ```
#
# No: the merge that was learned first goes first, and takes the "e" away from "ew".
# </details>
#
# **3.** CLIP's vocabulary has two tokens that spell "cat". What is the difference, and why are both needed?
#
# <details><summary>Solution</summary>
#
# ```python
# print(clip.tokens("cat cats category"), clip.encode("cat cats category"))
# assert clip.vocab["cat</w>"] != clip.vocab["cat"]
# ```
#
# One ends a word, the other begins a longer one; without the mark nobody could say where the spaces were. (A frequent
# word like "category" may be one piece of its own.)
# </details>
#
# To write the heart of it yourself: `ldm exercise start merge_pair` ([how that works](../docs/exercises.md)). Next:
# [02: How do words learn what they look like?](02_clip.ipynb)
