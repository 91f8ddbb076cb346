r"""CLIP's text and image encoders against the outputs of transformers, in float64."""

from dataclasses import replace
from functools import partial

import pytest

from ldm.checkpoints.key_map import text_rows
from ldm.config import TINY, ImageConfig, TextConfig
from ldm.text.clip import CLIP
from ldm.text.encoder import TextEncoder
from ldm.text.image import ImageEncoder
from tests.golden.clip_rows import clip_rows, image_rows
from tests.golden.compare import assert_same, filled, golden
from tests.golden.explain import explain

TEXT = TextConfig(60, 11, width=32, layers=3, heads=4, activation="quick_gelu")
IMAGE = ImageConfig(24, patch=8, width=48, layers=2, heads=3, activation="quick_gelu")


def text_encoder(config):
    return filled(TextEncoder(config), text_rows(config))


def test_the_states_of_the_last_layer_equal_the_reference():
    expected, encoder = golden("text"), text_encoder(TEXT)
    run = partial(encoder, expected["last/ids"])
    why = partial(explain, "text/last", encoder, text_rows(TEXT), run)
    assert_same(run(), expected["last/states"], why=why)


def test_a_text_shorter_than_the_context_equals_the_reference():
    expected, encoder = golden("text"), text_encoder(TEXT)
    assert_same(encoder(expected["last/ids"][:, :6]), expected["last/short"])


def test_the_states_before_the_last_layer_normalised_equal_the_reference():
    config = replace(TEXT, activation="gelu", output="penultimate", pad="zero")
    expected, encoder = golden("text"), text_encoder(config)
    run = partial(encoder, expected["penultimate/ids"])
    why = partial(explain, "text/penultimate", encoder, text_rows(config), run)
    assert_same(run(), expected["penultimate/states"], why=why)


def test_a_clip_skip_of_2_equals_the_references_of_1_with_the_final_norm():
    config = replace(TEXT, activation="gelu", pad="zero")
    expected, encoder = golden("text"), text_encoder(config)
    assert_same(encoder(expected["penultimate/ids"], clip_skip=2), expected["penultimate/states"])


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_the_image_encoder_equals_the_reference(activation):
    config = replace(IMAGE, activation=activation)
    encoder, expected = filled(ImageEncoder(config), image_rows(config)), golden("clip")
    assert_same(encoder(expected["pixels"]), expected[f"{activation}/pooled"])


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_the_embeddings_and_zero_shot_probabilities_of_clip_equal_the_reference(activation):
    text, image = replace(TEXT, activation=activation), replace(IMAGE, activation=activation)
    rows = clip_rows(replace(TINY, text=text, image=image, embedding_width=20))
    clip, expected = filled(CLIP(text, image, 20), rows), golden("clip")
    pixels, ids = expected["pixels"], expected["ids"]
    assert_same(clip.embed_image(pixels), expected[f"{activation}/image"])
    assert_same(clip.embed_text(ids), expected[f"{activation}/text"])
    assert_same(clip.classify(pixels, ids), expected[f"{activation}/logits"].softmax(dim=-1))
