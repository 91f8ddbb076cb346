r"""CLIP's text transformer: token ids in, one vector per token out, its *hidden state*.

The U-Net's cross-attention reads *all* of these vectors (the "context") rather than a summary, so the word
"snow-capped" can affect the mountains alone. Padding is part of the context too. The only mask is the causal one:
Stable Diffusion was trained this way, and masking or zeroing the padding gives different, usually worse, images.

Which layer's states are the context differs: see `TextConfig.output`. Stable Diffusion XL's U-Net also reads a summary
of the whole prompt, the *pooled* vector. It is what CLIP compares with images, before its length is set to 1.

Source: Radford et al. 2021, section 2.4.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.config import TextConfig
from ldm.errors import LdmError
from ldm.text.transformer import EncoderLayer, embedding


class TextEncoder(nn.Module):
    """Token and position embeddings, causal transformer layers, a final norm; and a projection of the pooled state."""

    def __init__(self, config: TextConfig):
        super().__init__()
        self.output = config.output
        self.token_embedding = embedding(config.vocab_size, config.width)
        self.position_embedding = embedding(config.context_length, config.width)
        self.layers = nn.ModuleList(
            EncoderLayer(config.width, config.heads, config.activation) for _ in range(config.layers_built)
        )
        self.norm_out = nn.LayerNorm(config.width, eps=1e-5)
        pooled = config.pooled_width
        self.projection = None if pooled is None else nn.Linear(config.width, pooled, bias=False)

    def forward(self, ids: Int[Tensor, "b n"], clip_skip: int = 1) -> Float[Tensor, "b n d"]:
        """`ids` in [0, vocab_size), at most context_length of them. Returns the context.

        The layers are causal: the state at position i depends only on tokens 0 to i.
        Raises `LdmError` for a sequence longer than the model has positions for, and for a `clip_skip` that leaves no
        layer (see `encode`).
        """
        return self.encode(ids, clip_skip)[0]

    def encode(
        self, ids: Int[Tensor, "b n"], clip_skip: int = 1
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b p"] | None]:
        """The context, and the pooled vector if this encoder has a projection for it.

        With `clip_skip` 2, the context is taken one layer earlier than the model's own, with 3 two layers, and so on;
        the final norm is applied to it as usual, and the pooled vector stays that of the last layer. Models that were
        trained that way say so on their cards (NovelAI's, of 2022, began it). The number is A1111's; diffusers counts
        one less.
        """
        states = [self.embed(ids)]
        for layer in self.layers:
            states.append(layer(states[-1], causal=True))
        last = len(self.layers) - (self.output == "hidden")  # the model's own layer
        if not 1 <= clip_skip <= max(last, 1):
            raise LdmError(f"a clip_skip of {clip_skip}; expected 1 (no layer is skipped) to {last}")
        context = states[last + 1 - clip_skip]
        if self.output != "hidden":
            context = self.norm_out(context)
        if self.projection is None:
            return context, None
        # The ids of learned words (`ldm.adapters.textual_inversion`) are larger than the one that ends a text.
        known = ids.where(ids < self.token_embedding.num_embeddings, 0)
        return context, self.projection(pool(self.norm_out(states[-1]), known))

    def embed(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """What enters the first layer: for each token, its own vector plus that of its position."""
        length, longest = ids.shape[1], self.position_embedding.num_embeddings
        if length > longest:
            raise LdmError(
                f"{length} tokens, but this text encoder has {longest} positions; "
                f"give the tokenizer a context_length of {longest}"
            )
        positions = torch.arange(length, device=ids.device)
        return self.token_embedding(ids) + self.position_embedding(positions)


def pool(states: Float[Tensor, "b n d"], ids: Int[Tensor, "b n"]) -> Float[Tensor, "b d"]:
    """The hidden state at the end-of-text token, the first one that depends on the whole text.

    That token has the largest id of the vocabulary, so `argmax` finds its first occurrence (the padding after it may
    have the same id).
    """
    return states[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)]
