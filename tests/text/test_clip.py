r"""The shared space of texts and pictures."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError

from ldm.config import CLIP_L_IMAGE, CLIP_L_TEXT, ImageConfig, TextConfig
from ldm.text.clip import CLIP, contrastive_loss

TEXT = TextConfig(20, 6, width=8, layers=1, heads=2, activation="quick_gelu")
IMAGE = ImageConfig(8, patch=4, width=12, layers=1, heads=2, activation="quick_gelu")
TIGHT = {"rtol": 0, "atol": 1e-12}


def scale_of(s):
    return torch.tensor(float(s), dtype=torch.float64).log()


def unit(draw, *shape):
    return F.normalize(draw(*shape), dim=-1)


def test_the_loss_of_two_pairs_by_hand():
    r"""Pictures (1, 0) and (0, 1); texts (1, 0) and (1, 0); s = ln 3. The table of s u . v:

                text 0   text 1
    picture 0    ln 3     ln 3       by rows: 1/2 and 1/2, right or wrong: both cost ln 2
    picture 1     0        0

    By columns, text 0 gives picture 0 the probability 3 / (3 + 1), costing ln 4/3; text 1 gives its own,
    picture 1, the probability 1/4, costing ln 4. The mean of all four: (2 ln 2 + ln 4/3 + ln 4) / 4.
    """
    images = torch.eye(2, dtype=torch.float64)
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    expected = (2 * math.log(2) + math.log(4 / 3) + math.log(4)) / 4
    assert contrastive_loss(images, texts, scale_of(math.log(3))).item() == pytest.approx(expected, abs=1e-12)


def test_the_loss_with_a_wrong_text_by_hand():
    r"""As above, and a wrong text (0, 1), which fits picture 1. The table of s u . v for s = ln 3:

                text 0   text 1   wrong
    picture 0    ln 3     ln 3      0       its own: 3 / (3 + 3 + 1), costing ln 7/3
    picture 1     0        0       ln 3     its own: 1 / (1 + 1 + 3), costing ln 5

    The wrong text looks for no picture, so the columns cost what they did: ln 4/3 and ln 4.
    """
    images = torch.eye(2, dtype=torch.float64)
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    wrong = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    expected = (math.log(7 / 3) + math.log(5) + math.log(4 / 3) + math.log(4)) / 4
    loss = contrastive_loss(images, texts, scale_of(math.log(3)), wrong)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_wrong_texts_cost_more_the_better_they_fit_and_none_cost_nothing(draw):
    u, v, far = unit(draw, 5, 3), unit(draw, 5, 3), unit(draw, 4, 3)
    losses = [
        contrastive_loss(u, v, scale_of(9), wrong).item() for wrong in (v[:0], far, torch.cat([far, u]))
    ]
    assert losses[0] == contrastive_loss(u, v, scale_of(9)).item() < losses[1] < losses[2]


def test_knowing_nothing_costs_log_b():
    zeros = torch.zeros(7, 4, dtype=torch.float64)
    assert contrastive_loss(zeros, zeros, scale_of(14)).item() == pytest.approx(math.log(7), abs=1e-12)


def test_pairs_that_fit_cost_nearly_nothing_and_swapped_ones_much():
    images = torch.eye(4, dtype=torch.float64)
    assert contrastive_loss(images, images, scale_of(100)).item() < 1e-12
    assert contrastive_loss(images, images.roll(1, 0), scale_of(100)).item() == pytest.approx(100, abs=1e-9)


def test_the_loss_treats_texts_and_pictures_alike(draw):
    images, texts = unit(draw, 5, 3), unit(draw, 5, 3)
    there, back = contrastive_loss(images, texts, scale_of(9)), contrastive_loss(texts, images, scale_of(9))
    torch.testing.assert_close(there, back, **TIGHT)


def test_the_loss_equals_its_formula_in_numpy(draw):
    u, v = unit(draw, 5, 3), unit(draw, 5, 3)
    e = np.exp(9 * u.numpy() @ v.numpy().T)
    right = np.diag(e)
    expected = -(np.log(right / e.sum(axis=1)) + np.log(right / e.sum(axis=0))).sum() / (2 * 5)
    assert contrastive_loss(u, v, scale_of(9)).item() == pytest.approx(expected, abs=1e-12)


def test_the_order_of_the_batch_does_not_matter(draw):
    u, v, order = unit(draw, 5, 3), unit(draw, 5, 3), [3, 1, 4, 0, 2]
    torch.testing.assert_close(
        contrastive_loss(u[order], v[order], scale_of(9)), contrastive_loss(u, v, scale_of(9)), **TIGHT
    )


def test_the_inverse_temperature_is_capped_at_a_hundred(draw):
    u, v = unit(draw, 5, 3), unit(draw, 5, 3)
    at = {s: contrastive_loss(u, v, scale_of(s)).item() for s in (50, 100, 200)}
    assert at[100] == at[200] != at[50]


def test_the_temperature_starts_where_the_paper_starts_it():
    assert CLIP(TEXT, IMAGE, 5).logit_scale.exp().item() == pytest.approx(1 / 0.07, rel=1e-6)


def test_clip_l_has_its_published_size():
    with torch.device("meta"):
        clip = CLIP(CLIP_L_TEXT, CLIP_L_IMAGE, 768)
    assert sum(p.numel() for p in clip.parameters()) == 427_616_513
    with_projection = [*clip.text.parameters(), *clip.text_projection.parameters()]
    assert sum(p.numel() for p in with_projection) == 123_650_304


@pytest.fixture
def clip(randomise):
    clip = randomise(CLIP(TEXT, IMAGE, 5))
    clip.logit_scale.data = scale_of(14)
    return clip


IDS = torch.tensor([[18, 3, 19, 19, 19, 19], [18, 5, 7, 19, 19, 19]])


def test_embeddings_have_length_one(clip, draw):
    for embedding in (clip.embed_text(IDS), clip.embed_image(draw(3, 3, 8, 8))):
        assert embedding.shape[1] == 5
        torch.testing.assert_close(embedding.norm(dim=-1), torch.ones(len(embedding)).double(), **TIGHT)


def test_a_text_is_what_its_first_end_mark_has_read(clip):
    # What follows the first end mark is padding, and the causal mask hides it.
    other_padding = IDS.clone()
    other_padding[0, 3:] = torch.tensor([0, 4, 2])
    torch.testing.assert_close(clip.embed_text(other_padding), clip.embed_text(IDS), **TIGHT)
    expected = clip.text(IDS)[[0, 1], [2, 3]] @ clip.text_projection.weight.T
    torch.testing.assert_close(clip.embed_text(IDS), F.normalize(expected, dim=-1), **TIGHT)


def test_similarity_is_the_cosine_of_each_picture_with_each_text(clip, draw):
    pixels = draw(3, 3, 8, 8)
    u = (clip.image(pixels) @ clip.image_projection.weight.T).detach().numpy()
    v = clip.embed_text(IDS).detach().numpy()
    cosines = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in v] for a in u]
    np.testing.assert_allclose(clip.similarity(pixels, IDS).detach().numpy(), cosines, rtol=0, atol=1e-12)


def test_probabilities_of_the_classes_sum_to_one_for_each_picture(clip, draw):
    pixels = draw(3, 3, 8, 8)
    probabilities = clip.classify(pixels, IDS)
    assert probabilities.shape == (3, 2)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(3, dtype=torch.float64), **TIGHT)
    # Two classes: the odds are e to the scaled difference of the cosines.
    cosines = clip.similarity(pixels, IDS)
    odds = (14 * (cosines[:, 0] - cosines[:, 1])).exp()
    torch.testing.assert_close(probabilities[:, 0], odds / (1 + odds), **TIGHT)


def test_classification_obeys_the_cap_too(clip, draw):
    pixels = draw(3, 3, 8, 8)
    clip.logit_scale.data = scale_of(100)
    capped = clip.classify(pixels, IDS)
    clip.logit_scale.data = scale_of(1000)
    torch.testing.assert_close(clip.classify(pixels, IDS), capped, **TIGHT)


def test_gradients_reach_both_encoders_and_the_temperature(clip, draw):
    loss = contrastive_loss(clip.embed_image(draw(2, 3, 8, 8)), clip.embed_text(IDS), clip.logit_scale)
    loss.backward()
    for parameter in (clip.image.class_embedding, clip.text.token_embedding.weight, clip.logit_scale):
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0


def test_unequal_numbers_of_pictures_and_texts_are_an_error(draw):
    with pytest.raises(TypeCheckError):  # the test run checks the shapes in signatures
        contrastive_loss(unit(draw, 3, 4), unit(draw, 2, 4), scale_of(1))
