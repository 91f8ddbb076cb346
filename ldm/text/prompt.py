r"""A prompt of any length, with weighted words, as a context for the U-Net.

The text encoder reads at most 77 tokens and knows nothing of weights. What people do about both:

- **Long prompts** are truncated, with a warning that names the words cut off; or they are read in chunks. Each chunk
  (75 tokens between bos and eos) is encoded like a prompt of its own, and the results are concatenated: cross-attention
  reads a context of any length. The chunks know nothing of each other, and the model never saw two in training, but it
  works.
- **Weights** multiply the hidden states of their words; all states of the chunk are then rescaled to restore their mean
  (`weighted_states`). Cross-attention has no notion of "more of this word", but longer context vectors give larger
  values and sharper attention, which comes close. (Other programs weight differently: compel, used with diffusers,
  interpolates towards the empty prompt, so 1.3 is not the same there.)

Both are heuristics without a paper. Source: AUTOMATIC1111's web interface (A1111), `sd_hijack_clip.py`. There a chunk
that would end in the middle of a phrase ends at its last comma instead, no learned word is divided between two, and the
mean is that of the batch. Here chunks always have 75 tokens, and each chunk keeps its own mean, so that an image does
not depend on the others in its batch.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from ldm.errors import LdmError
from ldm.text.encoder import TextEncoder
from ldm.text.syntax import warn_of_syntax
from ldm.text.tokenizer import Tokenizer
from ldm.text.weighting import weighted_parts

WeightedToken = tuple[int, float]  # an id and its weight


@dataclass(frozen=True)
class Chunks:
    r"""A batch of prompts as tokens with their weights: for each prompt `count` chunks, from bos to eos, not padded."""

    rows: list[list[WeightedToken]]  # chunk after chunk, prompt after prompt
    count: int
    length: int  # that a chunk is padded to


def encode_prompts(
    encoder: TextEncoder,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    weighting: bool = True,
    long_prompt: str = "truncate",
    clip_skip: int = 1,
) -> Float[Tensor, "b n d"]:
    r"""The contexts of a batch of prompts, padded with empty chunks to the longest (see `group_by_length`).

    `weighting`, `long_prompt` and the errors are those of `chunks_of`. Without weights and long prompts, this is
    `encoder(tokenizer(prompts))`, bit for bit.
    """
    chunks = chunks_of(tokenizer, prompts, weighting, long_prompt)
    return encode_chunks(encoder, chunks, tokenizer.pad_id, clip_skip)[0]


def chunks_of(
    tokenizer: Tokenizer, prompts: Sequence[str], weighting: bool = True, long_prompt: str = "truncate"
) -> Chunks:
    r"""The tokens of a batch of prompts, all in as many chunks as the longest needs.

    With `weighting`, brackets are weights (`ldm.text.weighting`); otherwise they are text. `long_prompt` is "truncate"
    or "chunk". Raises `LdmError` for any other `long_prompt`, and for weights that are not finite.
    """
    if long_prompt not in ("truncate", "chunk"):
        raise LdmError(f"long_prompt {long_prompt!r}; expected 'truncate' or 'chunk'")
    size = chunk_size(tokenizer)
    batch = [weighted_tokens(tokenizer, prompt, weighting) for prompt in prompts]
    if long_prompt == "truncate":
        batch = [truncate(tokenizer, tokens) for tokens in batch]
    warn_of_syntax(map(tokenizer.learned.without, prompts))
    count = max((chunk_count(tokenizer, tokens) for tokens in batch), default=1)
    bos, eos = (tokenizer.bos, 1.0), (tokenizer.eos, 1.0)  # special tokens have weight 1
    starts = range(0, count * size, size)
    rows = [[bos, *tokens[start : start + size], eos] for tokens in batch for start in starts]
    return Chunks(rows, count, tokenizer.context_length)


def encode_chunks(
    encoder: TextEncoder, chunks: Chunks, pad_id: int, clip_skip: int = 1
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b p"] | None]:
    r"""The contexts of the prompts, and their pooled vectors if the encoder makes any.

    The pooled vector is that of a prompt's first chunk, and weights do not change it, as in A1111. `clip_skip` is that
    of `TextEncoder.encode`.
    """
    rows = [row + [(pad_id, 1.0)] * (chunks.length - len(row)) for row in chunks.rows]
    device, shape = encoder.token_embedding.weight.device, (len(rows), chunks.length)
    ids = torch.tensor([[id_ for id_, _ in row] for row in rows], dtype=torch.int64, device=device)
    states, pooled = encoder.encode(ids.reshape(shape), clip_skip)
    if any(weight != 1 for row in rows for _, weight in row):
        dtype = torch.promote_types(states.dtype, torch.float32)
        weights = torch.tensor([[weight for _, weight in row] for row in rows], dtype=dtype, device=device)
        states = weighted_states(states, weights)
    context = rearrange(states, "(b k) n d -> b (k n) d", k=chunks.count)
    return context, None if pooled is None else pooled[:: chunks.count]


def group_by_length(
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    negatives: Sequence[str],
    count: int,
    weighting: bool = True,
    long_prompt: str = "truncate",
) -> list[list[int]]:
    r"""The indices of `count` images, grouped by the length of their contexts, negative prompts included.

    A single prompt or negative prompt is used for all images. In a batch all contexts have the same length, so
    `encode_prompts` pads shorter ones with empty chunks, which cross-attention reads like any other. Encoded group by
    group, a context depends only on its own prompt and negative prompt.
    """
    if long_prompt != "chunk":
        return [list(range(count))]
    lengths = [
        [chunk_count(tokenizer, weighted_tokens(tokenizer, text, weighting)) for text in texts]
        for texts in (prompts, negatives)
    ]
    groups: dict[int, list[int]] = {}
    for i in range(count):
        longest = max(texts[i if len(texts) > 1 else 0] for texts in lengths)
        groups.setdefault(longest, []).append(i)
    return list(groups.values())


def chunk_size(tokenizer: Tokenizer) -> int:
    r"""How many tokens fit between bos and eos. Raises `LdmError` if none do."""
    size = tokenizer.context_length - 2
    if size < 1:
        raise LdmError(
            f"a context_length of {tokenizer.context_length} has no room for words; expected at least 3"
        )
    return size


def chunk_count(tokenizer: Tokenizer, tokens: list[WeightedToken]) -> int:
    r"""The number of chunks that a prompt takes, at least one."""
    return max(1, math.ceil(len(tokens) / chunk_size(tokenizer)))


def weighted_tokens(tokenizer: Tokenizer, prompt: str, weighting: bool = True) -> list[WeightedToken]:
    r"""The tokens of a prompt, however many, without bos, eos and padding.

    Parts with different weights are tokenized separately.
    """
    parts = weighted_parts(prompt) if weighting else [(prompt, 1.0)]
    for part, weight in parts:
        if not math.isfinite(weight):
            raise LdmError(f"the weight of {part!r} is {weight}; expected a number such as 1.3")
    return [(id_, weight) for part, weight in parts for id_ in tokenizer.encode(part)]


def truncate(tokenizer: Tokenizer, tokens: list[WeightedToken]) -> list[WeightedToken]:
    r"""The tokens that fit into one chunk; if there are more, a warning names the words cut off."""
    size = chunk_size(tokenizer)
    if len(tokens) > size:
        warnings.warn(
            f"the prompt has {len(tokens)} tokens, and this model reads {size}; these words are cut off: "
            f"{lost_words(tokenizer, tokens)!r}. Shorten the prompt, or use long_prompt='chunk'",
            stacklevel=2,
        )
    return tokens[:size]


def lost_words(tokenizer: Tokenizer, tokens: list[WeightedToken]) -> str:
    r"""The words that are truncated; a word that is only partly read is among them."""
    ids = [id_ for id_, _ in tokens]
    kept, full = tokenizer.decode(ids[: chunk_size(tokenizer)]), tokenizer.decode(ids)
    ends_a_word = full[len(kept) : len(kept) + 1] in (" ", "")
    return full[len(kept) if ends_a_word else kept.rfind(" ") + 1 :].strip()


def weighted_states(states: Float[Tensor, "r n d"], weights: Float[Tensor, "r n"]) -> Float[Tensor, "r n d"]:
    r"""The hidden states $z$, each times the weight of its token, then each sequence rescaled to its old mean:

    $$z'_{ij} = w_i z_{ij}\, \frac{\mathrm{mean}(z)}{\mathrm{mean}(w z)}$$

    This is A1111's recipe. It depends on a mean well away from zero, as CLIP-L's states have (about -0.1). With a mean
    near zero, the fraction is a ratio of two small numbers and can be anything, even negative: it scales all words of
    the sequence by the same factor, so that relative weights hold, but the lengths of the vectors do not.

    A sequence whose weights are all 1 is unchanged, bit for bit. If either mean is exactly 0, the sequence is weighted
    but not rescaled.
    """
    plain = rearrange((weights == 1).all(dim=1), "r -> r 1 1")
    z = states.to(weights.dtype)  # in half precision the mean would be inaccurate
    weighted = rearrange(weights, "r n -> r n 1") * z
    mean, mean_weighted = (reduce(values, "r n d -> r 1 1", "mean") for values in (z, weighted))
    factor = torch.where((mean == 0) | (mean_weighted == 0), 1, mean / mean_weighted)
    return torch.where(plain, states, (weighted * factor).to(states.dtype))
