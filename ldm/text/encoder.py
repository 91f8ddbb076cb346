r"""CLIP's text transformer: token ids in, one vector per token out, its final *hidden state*.

The U-Net's cross-attention reads *all* of these vectors (the "context") rather than a summary, so the word
"snow-capped" can affect the mountains alone. Padding is part of the context too. The only mask is the causal one:
Stable Diffusion was trained this way, and masking or zeroing the padding gives different, usually worse, images.

Source: Radford et al. 2021, section 2.4.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.config import TextConfig
from ldm.errors import LdmError
from ldm.text.transformer import EncoderLayer, embedding


class TextEncoder(nn.Module):
    """Token and position embeddings, causal transformer layers, a final norm."""

    def __init__(self, config: TextConfig):
        super().__init__()
        # Stable Diffusion 2 uses the output of the second-to-last layer, so the last one is not built at all.
        layers = config.layers - (config.output == "penultimate")
        self.token_embedding = embedding(config.vocab_size, config.width)
        self.position_embedding = embedding(config.context_length, config.width)
        self.layers = nn.ModuleList(
            EncoderLayer(config.width, config.heads, config.activation) for _ in range(layers)
        )
        self.norm_out = nn.LayerNorm(config.width, eps=1e-5)

    def forward(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """`ids` in [0, vocab_size), at most context_length of them. Returns the normalised final hidden states.

        The layers are causal: the state at position i depends only on tokens 0 to i.
        Raises `LdmError` for a sequence longer than the model has positions for.
        """
        length, longest = ids.shape[1], self.position_embedding.num_embeddings
        if length > longest:
            raise LdmError(
                f"{length} tokens, but this text encoder has {longest} positions; "
                f"give the tokenizer a context_length of {longest}"
            )
        positions = torch.arange(length, device=ids.device)
        x = self.token_embedding(ids) + self.position_embedding(positions)
        for layer in self.layers:
            x = layer(x, causal=True)
        return self.norm_out(x)


def pool(states: Float[Tensor, "b n d"], ids: Int[Tensor, "b n"]) -> Float[Tensor, "b d"]:
    """The hidden state at the end-of-text token, the first one that depends on the whole text.

    That token has the largest id of the vocabulary, so `argmax` finds its first occurrence (the padding after it may
    have the same id).
    """
    return states[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)]
