r"""The prompts of a batch, encoded in pairs. (What `generate` does with them: test_interface.py, test_pipeline.py.)"""

import pytest
import torch

from ldm.diffusion.conditioning import Conditioning
from ldm.errors import LdmError
from ldm.prompts import encode_pairs
from tests.small import TOKENIZER


def encoded(prompt, negative, clip_skip=1):
    r"""The pairs of two images, and what was asked of the encoder: texts and clip_skip."""
    asked = []

    def encode_text(texts, weighting, long_prompt, skip):
        asked.append((list(texts), skip))
        return Conditioning(torch.arange(len(texts), dtype=torch.float32).reshape(-1, 1, 1))

    return encode_pairs(encode_text, TOKENIZER, prompt, negative, 2, True, "truncate", clip_skip), asked


def test_prompts_and_negative_prompts_are_encoded_together_with_the_same_clip_skip():
    [(images, cond, uncond)], asked = encoded(["a dog", "a cat"], "a hat", clip_skip=2)
    assert asked == [(["a dog", "a cat", "a hat"], 2)] and list(images) == [0, 1]
    assert cond.context.flatten().tolist() == [0, 1] and uncond.context.flatten().tolist() == [2]


def test_a_clip_skip_for_one_half_of_a_pair_is_an_error():
    ready = Conditioning(torch.zeros(1, 1, 1))
    for pair in ((ready, "a hat"), ("a dog", ready), (ready, ready)):
        with pytest.raises(LdmError, match="a clip_skip of 3 with prompts that are encoded already"):
            encoded(*pair, clip_skip=3)
    assert encoded(ready, "a hat")[1] == [(["a hat"], 1)]
