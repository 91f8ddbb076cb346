r"""CLIP score: a stretched cosine that never goes below zero."""

import torch

from ldm.lab.evaluate.clipscore import clip_score


def test_the_score_is_two_and_a_half_cosines_and_not_below_zero():
    images = torch.tensor([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0]])
    texts = torch.tensor([[0.6, 0.8], [0.6, 0.8], [-1.0, 0.0]])
    torch.testing.assert_close(clip_score(images, texts), torch.tensor([1.5, 2.5, 0.0]))
