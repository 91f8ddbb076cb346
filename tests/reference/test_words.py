r"""The golden outputs of learned words are what transformers answers now."""

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from tests.golden.compare import assert_same, golden
from tests.golden.make_words import make_words

pytestmark = pytest.mark.reference


def test_the_golden_file_is_what_the_reference_answers_now():
    stored, made = golden("words"), make_words()
    assert stored.keys() == made.keys()
    for key in stored:
        assert_same(made[key], stored[key])
