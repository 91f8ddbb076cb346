r"""The five forms of a learned word's file, what is refused, and a model that learns and forgets one."""

import pytest
import torch
from safetensors.torch import save_file

from ldm.checkpoints.embedding_file import open_embedding, read_embedding
from ldm.checkpoints.inspect import inspect
from ldm.checkpoints.loaded import LoadedModel
from ldm.errors import LdmError
from tests.golden import sdxl
from tests.small import CONFIG, TOKENIZER

ROWS, MORE = torch.randn(3, 768, generator=torch.Generator().manual_seed(0)), torch.ones(3, 1280)


def old_dict() -> torch.nn.ParameterDict:
    return torch.nn.ParameterDict({"*": torch.nn.Parameter(ROWS)})


def written(path, content):
    (save_file if path.suffix == ".safetensors" else torch.save)(content, path)
    return path


FORMS = {
    "webui": (".pt", {"string_to_token": {"*": 265}, "string_to_param": {"*": ROWS}, "name": "x", "step": 9}),
    "old webui": (".pt", {"string_to_token": {"*": 265}, "string_to_param": old_dict(), "name": "x"}),
    "diffusers": (".bin", {"<toy>": ROWS}),
    "diffusers, safe": (".safetensors", {"<toy>": ROWS}),
    "kohya": (".safetensors", {"emb_params": ROWS}),
    "SDXL": (".safetensors", {"clip_l": ROWS, "clip_g": MORE}),
    "SDXL, diffusers": (".safetensors", {"text_encoders_0": ROWS, "text_encoders_1": MORE}),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_its_rows_and_its_words(tmp_path, form):
    suffix, content = FORMS[form]
    path = written(tmp_path / f"ink{suffix}", content)
    widths = [768, 1280] if "SDXL" in form else [768]
    found = read_embedding(path, widths, 75)
    assert [torch.equal(*pair) for pair in zip(found.rows, (ROWS, MORE))] == [True] * len(widths)
    assert found.words == (("ink", "<toy>") if "diffusers" in form and "SDXL" not in form else ("ink",))
    assert found.count == 3 and read_embedding(path, widths, 75, ["my word"]).words == ("my word",)
    report = inspect(path, hash=False)
    assert report.kind.startswith("a textual inversion") and "does not open it" in report.text()
    made_for = "Stable Diffusion XL" if "SDXL" in form else "Stable Diffusion 1"
    for line in (f"made for    {made_for}", "vectors     3 of width 768", "word        ink"):
        assert any(found.startswith(line) for found in report.text().splitlines()), report.text()


def test_one_vector_may_be_flat(tmp_path):
    path = written(tmp_path / "a.bin", {"<toy>": ROWS[0]})
    assert read_embedding(path, [768], 75).rows[0].shape == (1, 768)


def test_a_refiner_takes_the_second_of_a_pair(tmp_path):
    path = written(tmp_path / "a.safetensors", {"clip_l": ROWS, "clip_g": MORE})
    assert torch.equal(read_embedding(path, [1280], 75).rows[0], MORE)


NAN = ROWS.clone()
NAN[1, 1] = float("nan")


@pytest.mark.parametrize(
    ("content", "widths", "message"),
    [
        ({"emb_params": ROWS}, [1024], "for Stable Diffusion 1; expected one for Stable Diffusion 2"),
        ({"emb_params": ROWS}, [768, 1280], "for Stable Diffusion 1; expected one for Stable Diffusion XL"),
        ({"clip_l": ROWS, "clip_g": MORE}, [768], "for Stable Diffusion XL; expected one for Stable Diffusion 1"),
        ({"emb_params": torch.ones(2, 99)}, [768], "for a text encoder of width 99; expected one for Stable"),
        ({"emb_params": torch.ones(77, 768)}, [768], "has 77 vectors, and a prompt of this model has room for 75"),
        ({"emb_params": NAN}, [768], "has NaN or infinity in it"),
        ({"clip_l": ROWS, "clip_g": MORE[:2]}, [768, 1280], "has 3 and 2 vectors; expected as many"),
        ({"emb_params": torch.ones(3, 768, dtype=torch.int64)}, [768], "in int64; expected the vectors of a"),
        ({"emb_params": torch.ones(0, 768)}, [768], r"has the shape \[0, 768\]"),
        ({"emb_params": torch.ones(1, 1, 768)}, [768], r"has the shape \[1, 1, 768\]"),
        ({"<a>": ROWS, "<b>": ROWS + 1}, [768], "has 2 tensors .* expected the file of one word"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(tmp_path, content, widths, message):
    path = written(tmp_path / "a.safetensors", content)
    with pytest.raises(LdmError, match=message):
        read_embedding(path, widths, 75)


def test_an_image_with_a_word_inside_is_declined(tmp_path):
    with pytest.raises(LdmError, match="is an image; a word inside one is not read"):
        open_embedding(tmp_path / "a.png")


@pytest.mark.parametrize("word", ["", "  ", "a(b)", "[x]"])
def test_a_word_that_no_prompt_can_hold_is_refused(tmp_path, word):
    path = written(tmp_path / "a.safetensors", {"emb_params": ROWS})
    with pytest.raises(LdmError, match="expected some text without brackets"):
        read_embedding(path, [768], 75, [word])


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return LoadedModel(CONFIG, TOKENIZER).requires_grad_(False)


def word_file(folder, name="ink", count=2, width=16, seed=0):
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return written(folder / f"{name}.safetensors", {"emb_params": rows})


def test_a_model_learns_words_and_forgets_them_to_the_last_bit(tmp_path, model):
    plain, table = model.encode_text(["red ink pot"]).context, model.text.token_embedding.weight
    ink = model.load_embedding(word_file(tmp_path))
    with_ink = model.encode_text(["red ink pot"]).context
    pot = model.load_embedding(word_file(tmp_path, "pot", seed=1))
    both = model.encode_text(["red ink pot"]).context
    assert not torch.equal(plain, with_ink) and not torch.equal(with_ink, both)
    model.unload_embedding(ink)
    model.load_embedding(ink.path)  # in another order: the same vectors, so the same context
    assert torch.equal(model.encode_text(["red ink pot"]).context, both)
    model.unload_embedding(pot)
    assert torch.equal(model.encode_text(["red ink pot"]).context, with_ink)
    model.unload_embedding()
    assert torch.equal(model.encode_text(["red ink pot"]).context, plain)
    assert model.text.token_embedding.weight is table and model.embeddings == ()
    with pytest.raises(LdmError, match="is not in this model; expected what `load_embedding` returned"):
        model.unload_embedding(ink)


def test_an_error_leaves_the_model_with_the_words_that_it_had(tmp_path, model):
    model.load_embedding(word_file(tmp_path))
    before = model.encode_text(["ink"]).context
    with pytest.raises(LdmError, match="two embeddings for the word 'ink'"):
        model.load_embedding(word_file(tmp_path, "other"), "INK")
    with pytest.raises(
        LdmError, match="for a text encoder of width 8; expected one for this model, of width 16"
    ):
        model.load_embedding(word_file(tmp_path, "narrow", width=8))
    with pytest.raises(LdmError, match="has 31 vectors, and a prompt of this model has room for 30"):
        model.load_embedding(word_file(tmp_path, "long", count=31))
    assert len(model.embeddings) == 1 and torch.equal(model.encode_text(["ink"]).context, before)


def test_a_name_beside_the_model_is_found(tmp_path, model):
    (tmp_path / "embeddings").mkdir()
    word_file(tmp_path / "embeddings")
    model.path = tmp_path / "model.safetensors"
    assert model.load_embedding("ink").words == ("ink",)
    with pytest.raises(LdmError, match="no embedding 'none' in .*embeddings"):
        model.load_embedding("none")


def test_words_that_are_too_many_for_a_prompt_are_cut_off_with_a_warning_that_names_them(tmp_path, model):
    model.load_embedding(word_file(tmp_path, count=20))
    with pytest.warns(
        UserWarning, match="has 41 tokens, and this model reads 30; these words are cut off: 'ink"
    ):
        model.encode_text(["ink dog ink"])


def test_a_pair_changes_both_encoders_of_stable_diffusion_xl(tmp_path):
    with torch.random.fork_rng():
        model = LoadedModel(sdxl.CONFIG, sdxl.TOKENIZER).requires_grad_(False)
    plain = model.encode_text(["ink"]).context
    model.load_embedding(
        written(tmp_path / "ink.safetensors", {"clip_l": torch.ones(2, 16), "clip_g": torch.ones(2, 24)})
    )
    changed = model.encode_text(["ink"]).context != plain
    assert changed[..., :16].any() and changed[..., 16:].any()
