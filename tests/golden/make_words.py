r"""What transformers answers where a token table has more rows: `words.npz`. Part of `make golden`.

diffusers loads a textual inversion by making the tables longer, as here. It then pools at the largest id, the last row
that was added; the reference for the pooled vector is transformers told which id ends a text.
"""

import torch
import transformers
from torch import Tensor, nn

from tests.golden import make
from tests.golden.make_sdxl import BOS, EOS, LENGTH, POOLED, TEXT_2, text_encoder

Arrays = dict[str, Tensor]

TOY, INK = range(518, 521), range(521, 522)  # the ids of a word of three vectors, and of one of one
# "red <toy> dog ink"
PROMPT = [BOS, 513, *TOY, 515, *INK, EOS]


def text_encoder_2() -> nn.Module:
    config = transformers.CLIPTextConfig(
        **TEXT_2 | {"eos_token_id": EOS}, hidden_act="gelu", projection_dim=POOLED
    )
    return make.randomise(transformers.CLIPTextModelWithProjection(config).double())


def longer(encoder: nn.Module, rows: Tensor) -> nn.Module:
    table = encoder.get_input_embeddings()
    more = nn.Embedding.from_pretrained(torch.cat([table.weight, rows]))
    encoder.set_input_embeddings(more)
    return encoder


def make_words() -> Arrays:
    arrays = {"rows": make.numbers(31, 4, 16), "rows_2": make.numbers(32, 4, 24)}
    pads = [EOS, 0]
    ids = [torch.tensor([PROMPT + [pad] * (LENGTH - len(PROMPT))]) for pad in pads]
    with torch.no_grad():
        first = longer(text_encoder(), arrays["rows"])(ids[0], output_hidden_states=True)
        second = longer(text_encoder_2(), arrays["rows_2"])(ids[1], output_hidden_states=True)
    context = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
    return arrays | {"context": context, "pooled": second.text_embeds}


if __name__ == "__main__":
    make.save("words", make_words())
