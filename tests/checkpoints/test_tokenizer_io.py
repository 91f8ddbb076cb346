r"""A tokenizer in a file's metadata, and whose ids must be the model's."""

from dataclasses import replace

import pytest
import torch

from ldm.checkpoints.checkpoint import split
from ldm.checkpoints.opening import CONFIG as OWN
from ldm.checkpoints.opening import TOKENIZER
from ldm.checkpoints.tokenizer_io import tokenizer_from_text, tokenizer_text, with_tokenizer
from ldm.errors import LdmError
from ldm.notes import collect_notes
from ldm.text.tokenizer import Tokenizer
from tests.small import CONFIG
from tests.small import TOKENIZER as SMALL


def test_a_tokenizer_comes_back_from_its_text():
    for tokenizer in (SMALL, Tokenizer([("é", "t")], context_length=9, pad="zero", clean="hf")):
        back = tokenizer_from_text(tokenizer_text(tokenizer))
        for name in ("merges", "context_length", "pad", "clean", "vocab"):
            assert getattr(back, name) == getattr(tokenizer, name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"merges": 3}',
        '{"merges": [["a"]]}',
        '{"merges": [["a", 0]]}',
        '{"merges": [["r", "e"], ["1", 2]]}',
        '{"merges": [], "pad": "left"}',
        '{"merges": [], "context_length": 32.0}',
        '{"merges": [], "context_length": true}',
        '{"merges": [], "x": 1}',
    ],
)
def test_what_is_no_tokenizer_is_an_error(text):
    with pytest.raises(LdmError):
        tokenizer_from_text(text)


def test_the_padding_is_the_tokenizers_and_the_ids_must_be_the_models(tmp_path):
    checkpoint = replace(split(tmp_path, {"a": torch.ones(1)}), metadata={TOKENIZER: tokenizer_text(SMALL)})
    config, tokenizer = with_tokenizer(checkpoint, replace(CONFIG, text=replace(CONFIG.text, pad="zero")))
    assert config == CONFIG and tokenizer.vocab == SMALL.vocab
    with pytest.raises(LdmError, match=r"has .vocabulary, length. .*, the tokenizer .*own tokenizer/"):
        with_tokenizer(checkpoint, replace(CONFIG, text=replace(CONFIG.text, vocab_size=600)))
    with collect_notes() as notes:
        pads = with_tokenizer(checkpoint, replace(CONFIG, text=replace(CONFIG.text, pad="zero")))[0].text.pad
    assert pads == "eos" and "its tokenizer pads prompts with 'eos', where models of its kind" in notes[0]
    ours = replace(checkpoint, metadata={**checkpoint.metadata, OWN: "{}"})  # then both are from one hand
    with pytest.raises(
        LdmError, match="its config says that prompts are padded with 'zero', its tokenizer 'eos'"
    ):
        with_tokenizer(ours, replace(CONFIG, text=replace(CONFIG.text, pad="zero")))
    SMALL.save(tmp_path / "tokenizer")
    assert with_tokenizer(replace(checkpoint, metadata={}), CONFIG)[1].merges == SMALL.merges
