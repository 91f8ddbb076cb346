r"""What prose mentions is there, and every module has its place on the site."""

import re
from pathlib import Path

import pytest

from annotated.rows import split_rows

REPOSITORY = Path(__file__).resolve().parents[2]


def test_no_module_is_missing_and_none_comes_twice(names):
    listed = [module for _, modules in names.chapters() for module in modules]
    files = {p.relative_to(REPOSITORY).as_posix() for p in (REPOSITORY / "ldm").rglob("*.py")}
    assert sorted(names.modules[module].path for module in listed) == sorted(files)


@pytest.mark.parametrize(
    ("mention", "where", "found"),
    [
        ("ldm.text.clip", None, ("ldm/text/clip", "")),
        ("ldm/text/clip.py", None, ("ldm/text/clip", "")),
        ("diffusion/predict.py", None, ("ldm/diffusion/predict", "")),
        ("ldm/train/", None, ("ldm/train/__init__", "")),
        ("ldm.load", None, ("ldm/loading", "load")),  # handed on by ldm/__init__.py
        ('ldm.load("tiny")', None, ("ldm/loading", "load")),
        ("VAE.encode", None, ("ldm/vae/vae", "VAE.encode")),
        ("classifier_free_guidance", None, None),  # without a module, a word like others
        ("rescale_guidance", "ldm.diffusion.guidance", ("ldm/diffusion/guidance", "rescale_guidance")),
        ("per_image", "ldm.diffusion.predict", ("ldm/diffusion/schedule", "per_image")),  # imported there
        ("Comparison", None, None),  # two modules have one
        ("x_t", None, None),
        ("notebooks/04_attention.ipynb", None, ("notebooks/04_attention", "")),
        ("notebooks/99_attention.ipynb", None, None),
    ],
)
def test_a_mention_is_found_where_it_is_defined(names, mention, where, found):
    assert names.find(mention, names.modules[where] if where else None) == found


def test_a_module_knows_the_notebooks_that_use_it(names):
    assert "notebooks/04_attention.ipynb" in names.notebooks["ldm.nn.attention"]
    assert "notebooks/01_tokenizer.ipynb" in names.notebooks["ldm.text.bpe"]


@pytest.mark.parametrize(
    ("mention", "broken"),
    [
        ("ldm.text.klip", True),
        ("ldm/text/klip.py", True),
        ("tests/test_gone.py", True),
        ("ldm generate", False),
    ],
)
def test_a_mention_that_leads_nowhere_is_noticed(names, mention, broken):
    assert names.find(mention, None) is None
    assert names.is_broken(mention) is broken


def test_docstrings_and_comments_mention_nothing_that_is_gone(names):
    for module in names.modules.values():
        for row in split_rows((REPOSITORY / module.path).read_text(encoding="utf-8")):
            for piece in row.prose:
                for mention in re.findall(r"(?<!`)`([^`]+)`(?!`)", piece.prose or ""):
                    gone = names.find(mention, module) is None and names.is_broken(mention)
                    assert not gone, f"{module.path}:{piece.start}: `{mention}` names nothing that is there"
