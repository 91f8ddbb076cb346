r"""A prompt of any length, with weighted words, as a context for the U-Net.

The text encoder reads 77 tokens at most, and knows nothing of weights. What people do about both:

- **Too long**: it is cut, with a warning that names the words that are lost. Or it is read in chunks, each encoded as
  if it were a prompt of its own (75 tokens between the marks), and all are laid one after the other: cross-attention
  reads a context of any length. The chunks know nothing of each other, and the model never saw two in training; it
  works nevertheless.
- **Weights**: the states of a word are multiplied by its weight, and then all states of the chunk by one number more,
  so that their mean is what it was. Cross-attention has no notion of "more of this word"; longer vectors have louder
  values and sharper scores, which is near enough.

Both are recipes that were found by trying, not results of a paper. Source: A1111's web interface,
`sd_hijack_clip.py`. There a chunk that would end in the middle of a phrase ends at its last comma instead, and the
mean is that of the batch: we cut at the 75th token, and keep each chunk's own mean, so that a picture does not depend
on its neighbours.
"""

import math
import warnings
from collections.abc import Sequence

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from ldm.errors import LdmError
from ldm.text.encoder import TextEncoder
from ldm.text.syntax import warn_of_syntax
from ldm.text.tokenizer import Tokenizer
from ldm.text.weighting import weighted_parts

Token = tuple[int, float]  # an id and its weight


def encode_prompts(
    encoder: TextEncoder,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    weighting: bool = True,
    long_prompt: str = "truncate",
) -> Float[Tensor, "b n d"]:
    r"""The contexts of some prompts, all of the same length: that of the one with the most chunks.

    In chunks a context thus depends on the prompts beside it: see `same_length`.
    With `weighting`, brackets are weights (`ldm.text.weighting`); without, they are text. `long_prompt`: "truncate" or
    "chunk". Where no weight is used and nothing is too long, this is `encoder(tokenizer(prompts))`, bit for bit. Raises
    `LdmError` for another `long_prompt`, and for weights that are no finite number.
    """
    if long_prompt not in ("truncate", "chunk"):
        raise LdmError(f"long_prompt {long_prompt!r}; expected 'truncate' or 'chunk'")
    room = room_for_words(tokenizer)
    contents = [weighted_tokens(tokenizer, prompt, weighting) for prompt in prompts]
    if long_prompt == "truncate":
        contents = [truncated(tokenizer, content) for content in contents]
    count = max((chunks(tokenizer, content) for content in contents), default=1)
    rows = [
        chunk_row(tokenizer, content[i * room : (i + 1) * room]) for content in contents for i in range(count)
    ]
    warn_of_syntax(prompts)
    device, shape = encoder.token_embedding.weight.device, (len(rows), tokenizer.context_length)
    ids = torch.tensor([[number for number, _ in row] for row in rows], dtype=torch.int64, device=device)
    states = encoder(ids.reshape(shape))
    if any(weight != 1 for row in rows for _, weight in row):
        dtype = torch.promote_types(states.dtype, torch.float32)
        weights = torch.tensor([[weight for _, weight in row] for row in rows], dtype=dtype, device=device)
        states = weighted_states(states, weights)
    return rearrange(states, "(b k) n d -> b (k n) d", k=count)


def same_length(
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    negatives: Sequence[str],
    count: int,
    weighting: bool = True,
    long_prompt: str = "truncate",
) -> list[list[int]]:
    r"""The places of `count` images, in groups whose contexts have one length, those of the negative prompts included.

    A single prompt or negative prompt serves for all images. A batch needs one length, and `encode_prompts` fills up
    with empty chunks, which cross-attention reads like any other. Encoded group by group, a context depends on its own
    prompt and negative prompt alone.
    """
    if long_prompt != "chunk":
        return [list(range(count))]
    lengths = [
        [chunks(tokenizer, weighted_tokens(tokenizer, text, weighting)) for text in texts]
        for texts in (prompts, negatives)
    ]
    groups: dict[int, list[int]] = {}
    for i in range(count):
        longest = max(texts[i if len(texts) > 1 else 0] for texts in lengths)
        groups.setdefault(longest, []).append(i)
    return list(groups.values())


def chunks(tokenizer: Tokenizer, content: list[Token]) -> int:
    r"""How many chunks a content fills; an empty one takes one, too."""
    return max(1, math.ceil(len(content) / room_for_words(tokenizer)))


def room_for_words(tokenizer: Tokenizer) -> int:
    r"""The tokens of a chunk without its two marks. Raises `LdmError` if there are none."""
    room = tokenizer.context_length - 2
    if room < 1:
        raise LdmError(
            f"a context_length of {tokenizer.context_length} has no room for words; expected at least 3"
        )
    return room


def weighted_tokens(tokenizer: Tokenizer, prompt: str, weighting: bool = True) -> list[Token]:
    r"""The content of a prompt, of any length: no marks, no padding. A part's words never join those of the next."""
    parts = weighted_parts(prompt) if weighting else [(prompt, 1.0)]
    for part, weight in parts:
        if not math.isfinite(weight):
            raise LdmError(f"the weight of {part!r} is {weight}; expected a number such as 1.3")
    return [(number, weight) for part, weight in parts for number in tokenizer.encode(part)]


def truncated(tokenizer: Tokenizer, content: list[Token]) -> list[Token]:
    r"""The tokens that one chunk has room for; warns, naming the words lost, where there are more."""
    room = room_for_words(tokenizer)
    if len(content) > room:
        warnings.warn(
            f"the prompt has {len(content)} tokens, and this model reads {room}; lost are the words "
            f"{lost_words(tokenizer, content)!r}: shorten it, or have it read in chunks (long_prompt='chunk')",
            stacklevel=2,
        )
    return content[:room]


def lost_words(tokenizer: Tokenizer, content: list[Token]) -> str:
    r"""What is cut off, in whole words: one of which only the beginning is read counts as lost."""
    numbers = [number for number, _ in content]
    kept, whole = tokenizer.decode(numbers[: tokenizer.context_length - 2]), tokenizer.decode(numbers)
    ends_a_word = whole[len(kept) : len(kept) + 1] in (" ", "")
    return whole[len(kept) if ends_a_word else kept.rfind(" ") + 1 :].strip()


def chunk_row(tokenizer: Tokenizer, content: list[Token]) -> list[Token]:
    r"""A row as the encoder reads it: bos, content, eos, padding. Only words have weights."""
    row = [(tokenizer.bos, 1.0), *content, (tokenizer.eos, 1.0)]
    return row + [(tokenizer.pad_id, 1.0)] * (tokenizer.context_length - len(row))


def weighted_states(states: Float[Tensor, "r n d"], weights: Float[Tensor, "r n"]) -> Float[Tensor, "r n d"]:
    r"""The states $z$, each times the weight of its token, and all of a row times what brings its mean back:

    $$z'_{ij} = w_i z_{ij}\, \frac{\mathrm{mean}(z)}{\mathrm{mean}(w z)}$$

    A row whose weights are all 1 stays as it is, bit for bit. So does a mean of exactly 0, as a LayerNorm that has
    learned nothing gives: there is nothing to bring back.
    """
    plain = rearrange((weights == 1).all(dim=1), "r -> r 1 1")
    z = states.to(weights.dtype)  # in half precision the mean of many numbers would be a rough one
    weighted = rearrange(weights, "r n -> r n 1") * z
    mean, mean_weighted = (reduce(values, "r n d -> r 1 1", "mean") for values in (z, weighted))
    back = torch.where(mean_weighted == 0, 1, mean / mean_weighted)
    return torch.where(plain, states, (weighted * back).to(states.dtype))
