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
# **The question.** A network reads ids from a fixed vocabulary. How can a fixed vocabulary cover every text that
# anybody will ever type?
#
# At the end you will be able to learn a byte-pair encoding from a corpus, say what it does to a word it has never
# seen, and read the ids that Stable Diffusion actually gets. The code is [`bpe`](../ldm/text/bpe.py), which learns
# a vocabulary, and [`tokenizer`](../ldm/text/tokenizer.py), which uses it.

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
# Split every word into letters and mark the last one with `</w>`. Count all pairs of neighbours. Merge the most
# frequent pair everywhere; repeat. Take a corpus in which "low" occurs five times, "lower" twice and "newer" six times.
#
# *Predict:* which pair is merged first? (Ties are broken alphabetically.) And which one next?

# %%
corpus = {"low": 5, "lower": 2, "newer": 6}
print(byte_tokens("lower"))
for number, (left, right) in enumerate(learn_merges(corpus)):
    print(f"merge {number}: {left!r} + {right!r}")

# %%
assert learn_merges(corpus, max_merges=3) == [("e", "r</w>"), ("w", "er</w>"), ("l", "o")]

# %% [markdown]
# `e` and `r</w>` are neighbours eight times, and so are `w` and `e`; `e` comes first in the alphabet. Now `w` precedes
# the new token `er</w>` eight times, so that is the second merge. The end marker tells the "er" that ends "lower" from
# the "er" that begins "era".
#
# ## From our own captions
#
# Captions in English and French describe the postcards of the tiny model's world. A *scene* is sampled at random (an
# animal, its fur, what it wears, ...; or a place, the time of day, ...), and `caption` puts it into words in one of
# many ways. Here are four thousand captions.

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
# (Internally, a token is written with one printable character per byte; `readable` turns that back into text.)

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
# Pairs of letters that occur in many words come first. "un" is an article in French, and "mountain" and "background"
# contain it too. The first whole words follow soon, the ones that most captions use: "with" and "avec".
#
# A tokenizer that knows only the first merges splits words into more tokens. Watch two words as it learns:

# %%
sizes = (0, 10, 50, 150, 400, len(merges))
tokenizers = {n: Tokenizer(merges[:n], context_length=32) for n in sizes}
for text in ("mountains", "montgolfière"):
    for n, tokenizer in tokenizers.items():
        print(f"{n:4} merges: {' '.join(tokenizer.tokens(text))}")

# %% [markdown]
# Without any merges, "è" is two tokens, because it is two bytes in UTF-8: the alphabet is not letters but the 256
# bytes. That is the trick behind the fixed vocabulary: every text is bytes, so *nothing* is unknown.
#
# *Predict:* the more merges, the shorter the captions. Are the first hundred merges worth more than the last hundred?

# %%
lengths = {
    n: np.mean([len(Tokenizer(merges[:n]).encode(text)) for text in captions[:300]])
    for n in (0, 25, 50, 100, 200, 400, 600, len(merges))
}
assert all(a >= b for a, b in zip(list(lengths.values()), list(lengths.values())[1:]))
assert lengths[0] - lengths[100] > lengths[600] - lengths[len(merges)]
show.curve(list(lengths), {"": list(lengths.values())}, "merges", "tokens a caption", marker="o")

# %% [markdown]
# The first, by far: most of the gain comes from a few very frequent tokens. And every token has a cost: the text
# encoder has to learn a vector for each. So real vocabularies stop somewhere: CLIP's at 49,408.
#
# A word that was never seen is split into small tokens, but nothing breaks, and the text can be restored:

# %%
ours = tokenizers[len(merges)]
for text in ("a lake", "an astronaut", "a fox 🦊"):
    print(f"{text!r:16} {ours.tokens(text)}")
    assert ours.decode(ours.encode(text)) == text

# %% [markdown]
# ## CLIP's tokenizer, which Stable Diffusion uses
#
# The same algorithm, trained on text from the web. Here is what it does to unusual input.
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
# Whatever was rare on the web is split into many tokens, and uses up positions. *Predict:* our captions are half
# French. Which language needs more tokens per word with CLIP's tokenizer, and by how much? And with ours, trained on
# both?


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
# A model whose tokenizer was trained on English has less room for French, and sees its words in fragments. So Stable
# Diffusion favours English before any network has run.
#
# ## What the text encoder gets
#
# A text becomes exactly 77 ids: a start token, at most 75 ids of content, an end token, padding. What is the padding?
# *Predict:* zeros?

# %%
one, two = Tokenizer.clip(pad="eos"), Tokenizer.clip(pad="zero")
for name, tokenizer in (("Stable Diffusion 1", one), ("Stable Diffusion 2", two)):
    print(name, tokenizer("a cat")[0, :8].tolist(), "...", tokenizer("a cat").shape[1], "ids")
assert one("a cat")[0, -1] == one.eos == 49407
assert two("a cat")[0, -1] == 0 == clip.vocab["!"]  # 0 is no mark of its own: it is an exclamation mark

# %% [markdown]
# It depends on who trained the model: version 1 repeats the end token, version 2 fills with 0. The U-Net attends to all
# 77 positions, so this is not cosmetic: [here is what it
# changes](../docs/questions.md#why-pad-with-eos-and-what-would-0-do), and [here is why
# 77](../docs/questions.md#why-77). Anything beyond 75 is cut off. The tokenizer does that silently; the pipeline warns,
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
# `a b</w>` occurs five times, `a a` three times; then `a ab</w>` three times.
# </details>
#
# **2.** Is a longer token always preferred? Tokenize "newer" with the merges `[("n", "e"), ("e", "w"), ("ew", "e")]`.
#
# <details><summary>Solution</summary>
#
# ```python
# tokenizer = Tokenizer([("n", "e"), ("e", "w"), ("ew", "e")])
# assert tokenizer.tokens("newer") == ["ne", "w", "e", "r</w>"]
# ```
#
# No: the merge that was learned first is applied first, and takes the "e" away from "ew".
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
# One ends a word, the other begins a longer one; without the marker, the spaces could not be restored. (A frequent
# word like "category" may be a token of its own.)
# </details>
#
# To write the heart of it yourself: `ldm exercise start merge_pair` ([how that works](../docs/exercises.md)). Next:
# [02: How do words learn what they look like?](02_clip.ipynb)
