r"""Textual inversion: a word that the model never learned, as a few vectors that stand in for its tokens.

The text encoder looks up each token's vector in a table $E$ of $V$ rows. What no word names, a toy of one's own or what
bad images have in common, can have a vector all the same. Gal et al. (2022) freeze the whole model and train nothing
but that vector, or $n$ of them, until its images show the thing. The file holds $n$ rows and no more.

Such a word takes $n$ ids from $V$ on, one for each row $v$, and $n$ of the 75 places of a prompt. What enters the
encoder at place $i$, with the position's vector $P$, is

$$x_i = P_i + \begin{cases} E_{k_i} & k_i < V \\ v_{k_i - V} & k_i \ge V \end{cases}$$

Everything after that is as before, so weights work too: `(word:1.2)` multiplies the states of all its rows. The table
itself stays as it is; the module that reads it is replaced by `LearnedWords`, which holds the new rows beside it.

One thing must not be as before. CLIP finds the end of a text as the largest of its ids, and the new ones are larger. In
Stable Diffusion XL, diffusers pools at the last of the learned rows instead (`TextEncoder.encode` does not).

Source: Gal et al. 2022, section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Embedding:
    """A learned word: what it is called in a prompt, and its rows for each of the model's text encoders."""

    path: Path
    words: tuple[str, ...]
    rows: tuple[Float[Tensor, "n _"], ...]  # [n, 768]; for Stable Diffusion XL also [n, 1280]

    @property
    def count(self) -> int:
        """How many places it takes in a prompt."""
        return len(self.rows[0])


class LearnedWords(nn.Embedding):
    """A table with more rows beside it: ids from `num_embeddings` on are theirs."""

    def __init__(self, table: nn.Embedding, rows: Float[Tensor, "n d"]):
        super().__init__(table.num_embeddings, table.embedding_dim, _weight=table.weight, _freeze=True)
        self.weight = table.weight  # the same parameter: a LoRA may change it
        self.rows = rows

    def forward(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        is_learned = ids >= self.num_embeddings
        known = super().forward(ids.masked_fill(is_learned, 0))
        learned = self.rows.to(known)[(ids - self.num_embeddings).clamp(min=0)]
        return torch.where(is_learned[..., None], learned, known)


def with_rows(table: nn.Embedding, learned: Sequence[Float[Tensor, "_ d"]]) -> nn.Embedding:
    """The table with these rows after its own, in their order, and with no others; without any, the plain table."""
    if learned:
        wide = torch.promote_types(table.weight.dtype, torch.float32)
        return LearnedWords(table, torch.cat([rows.to(wide) for rows in learned]))
    if not isinstance(table, LearnedWords):
        return table
    plain = nn.Embedding(table.num_embeddings, table.embedding_dim, _weight=table.weight, _freeze=True)
    plain.weight = table.weight
    return plain
