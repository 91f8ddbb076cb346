r"""`ldm generate --embedding`, `ldm info`, and the same image again with its learned words."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import ldm
from ldm.cli import recorded, replay
from ldm.cli.generation import learn_embeddings, wanted_embeddings
from ldm.images.metadata import UsedEmbedding, png_texts, read_record
from tests.cli.terminal import pixels, run

SAME = (0, ["the same pixels as got/x.png"])


def write_word(path: Path, seed: int, count: int = 2) -> Path:
    rows = 9 * torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))
    save_file({"emb_params": rows}, path)
    return path


@pytest.fixture
def weights(work, model) -> Path:
    (work / "weights").mkdir()
    (work / "weights/small").symlink_to(model)
    write_word(work / "weights/ink.safetensors", 1)
    return work / "weights"


@pytest.fixture
def generate(capsys, work, weights):
    def run_it(*options, prompt="red ink", out="got/x.png"):
        given = ("--model", "small", "--seed", 5, "--steps", 2, "--out", out)
        code, _, told = run(capsys, "generate", prompt, *given, *options)
        assert code == 0, told
        return work / out

    return run_it


@pytest.fixture
def again(capsys):
    def run_it(*options, source="got/x.png"):
        code, _, told = run(capsys, "generate", "--from", source, "--out", "again.png", *options)
        return code, told

    return run_it


def test_a_word_changes_the_image_under_each_of_its_names_and_is_recorded(generate, capsys):
    plain = generate(out="plain.png")
    named = generate("--embedding", "weights/ink.safetensors", out="a.png")
    given = generate("--embedding", "ink=<toy>", prompt="red <toy>", out="c.png")
    assert (pixels(named) != pixels(plain)).any()
    assert (pixels(named) == pixels(given)).all()
    assert read_record(plain).embeddings == () and read_record(named).embeddings[0].words == ("ink",)
    assert read_record(given).embeddings[0].words == ("<toy>",)
    _, out, _ = run(capsys, "info", "c.png")
    assert "embedding   " in out and "ink.safetensors (sha256 " in out and "), as <toy>" in out


def test_the_same_image_again_with_a_word_beside_it_or_given(generate, again, weights, work):
    generate("--embedding", "ink")
    assert again() == SAME
    (weights / "ink.safetensors").rename(work / "other.safetensors")
    code, [line] = again()
    assert code == 1 and "neither a name under weights/ nor beside it; add --embedding " in line
    assert again("--embedding", "other.safetensors") == SAME  # the word is the recorded one
    code, [line] = again("--embedding", "other.safetensors=pot")
    assert code == 1 and "records the word ink, and --embedding other.safetensors=pot can only" in line
    code, [line] = again(*("--embedding", "other.safetensors") * 2)
    assert (
        code == 1
        and "got/x.png was generated with 1 of --embedding, not 2; give it once, or leave it out" in line
    )


def test_a_group_has_the_words_of_its_record_and_no_others(weights):
    model = ldm.load("small", device="cpu")
    [used] = wanted_embeddings(model, ["ink"])
    for embeddings in ((used,), (), (used,), (replace(used, words=("pot",)),)):
        learn_embeddings(model, embeddings)
        assert [one.words for one in model.embeddings] == [one.words for one in embeddings]


def test_a_word_elsewhere_is_named_and_not_read_even_with_its_hash(generate, again, work, monkeypatch):
    path = generate("--embedding", "ink")
    write_word(work / "private.safetensors", 3)
    monkeypatch.setattr(recorded, "hashed", lambda path: pytest.fail("it was read"))
    monkeypatch.setattr(replay, "load_model", lambda *_, **__: pytest.fail("something was opened"))
    for name in ("/private.safetensors", "../private.safetensors", "private.safetensors", ""):
        record = replace(read_record(path), embeddings=(UsedEmbedding(name, "0" * 64, ("ink",)),))
        with Image.open(path) as image:
            image.load()
        image.save(path, pnginfo=png_texts(record))
        code, [line] = again()
        assert code == 1 and "which is neither a name under weights/ nor beside it; add --embedding" in line


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("none", "no embedding 'none' in "),
        ("weights/small/unet.safetensors", "expected the file of one word"),
        ("long.safetensors", "has 99 vectors, and a prompt of this model has room for 30"),
        ("ink=(x)", "as the word '(x)'; expected some text without brackets"),
    ],
)  # fmt: skip
def test_what_is_no_word_is_one_clear_line_and_nothing_is_written(capsys, work, weights, option, message):
    write_word(work / "long.safetensors", 1, count=99)
    code, out, lines = run(
        capsys, "generate", "red dog", "--model", "small", "--seed", 1, "--embedding", option
    )
    assert (code, out) == (1, "") and len(lines) == 1 and message in lines[0]
    assert not (work / "outputs").exists()
