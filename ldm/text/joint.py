r"""Two text encoders that read the same prompts, as in Stable Diffusion XL.

    prompt --tokens--+--padded with eos--> CLIP-L       --> 77 x  768 --+--> context, 77 x 2048
                     +--padded with 0 ---> OpenCLIP bigG --> 77 x 1280 --+
                                                        --> pooled, 1280

Both encoders have the same vocabulary, so a prompt is tokenized once; only the padding differs, as it did in their
training. Their contexts are joined token by token: cross-attention reads vectors as wide as both together. The pooled
vector, one for the whole prompt, is that of the second encoder.

A model with one text encoder is the same with one line less.

Source: Podell et al. 2024, section 2.1.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.text.encoder import TextEncoder
from ldm.text.prompt import chunks_of, encode_chunks
from ldm.text.tokenizer import Tokenizer


def encode_jointly(
    encoders: Sequence[tuple[TextEncoder, int]],
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    weighting: bool = True,
    long_prompt: str = "truncate",
    clip_skip: int = 1,
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b p"] | None]:
    r"""The contexts of the prompts, joined over the encoders, and the last encoder's pooled vectors, if it makes any.

    Each encoder comes with the id of the token that pads its prompts. `clip_skip` applies to all of them
    (`TextEncoder.encode`). The other arguments, and the errors, are those of `ldm.text.prompt.chunks_of`.
    """
    chunks = chunks_of(tokenizer, prompts, weighting, long_prompt)
    encoded = [encode_chunks(encoder, chunks, pad_id, clip_skip) for encoder, pad_id in encoders]
    return torch.cat([context for context, _ in encoded], dim=-1), encoded[-1][1]
