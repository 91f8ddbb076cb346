r"""Wrong types are told in the project's own error, before anything else happens."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image

import ldm
from ldm.arguments import checked, fits, with_type
from ldm.config import Config
from ldm.errors import LdmError
from ldm.lab.trace.explore import explore
from ldm.lab.trace.recorder import record
from ldm.loading import load_text, load_vae
from ldm.pipeline import LatentDiffusion
from tests.small import CONFIG, TOKENIZER

PICTURE = Image.new("RGB", (16, 16))


@pytest.fixture(scope="module")
def model():
    return LatentDiffusion(CONFIG, TOKENIZER)


@pytest.mark.parametrize(
    ("hint", "right", "wrong"),
    [
        (int, [3, np.int64(3), torch.tensor(3)], [True, 3.0, "3", None, torch.tensor(3.0), np.array([3])]),
        (float, [3, 0.5, np.float32(3), torch.tensor(3.0)], [True, "3", None, 1j, np.array([3.0])]),
        (bool, [True, np.True_], [1, "yes", None]),
        (str, ["", "a dog"], [b"a dog", None, ["a dog"]]),
        (int | None, [3, None], ["3", True]),
        (tuple[int, int], [(8, 8), [8, 8]], [8, (8,), (8, 8, 8), (8, 8.0), "88", None]),
        (Sequence[str], [["a"], ("a", "b"), []], ["ab", {"a"}, [None], iter(["a"]), None]),
        (Sequence[int], [range(3), [1, 2]], [3, [1.5], "12"]),
        (str | Path, ["a", Path("a")], [3, None]),
        (Image.Image, [PICTURE], ["x.png", np.zeros((8, 8, 3))]),
        (torch.dtype, [torch.float16], ["float16", np.float32]),
        (Callable[[int], int], [abs], [3, None]),
        (Literal["x", "y"], ["x"], ["z", None]),
        (Config, [CONFIG], [3, None]),
        (os.PathLike[str], [Path("a")], ["a", 3]),
        (Any, [3, None], []),
    ],
    ids=lambda value: None if isinstance(value, list) else str(value),
)
def test_what_fits_an_annotation_and_what_does_not(hint, right, wrong):
    assert [value for value in right if not fits(value, hint)] == []
    assert [value for value in wrong if fits(value, hint)] == []


def test_the_error_names_the_argument_what_was_got_and_what_was_expected():
    @checked
    def crop(
        picture: Image.Image, size: tuple[int, int] | None = None, *, name: str = ""
    ) -> tuple[int, int] | None:
        return size

    assert crop(PICTURE, size=(1, 2)) == (1, 2)
    with pytest.raises(
        LdmError, match=r"^size is 3 \(of type int\); expected \(a whole number, a whole number\), or None$"
    ):
        crop(PICTURE, 3)
    with pytest.raises(LdmError, match=r"^name is None; expected a text$"):
        crop(PICTURE, name=None)
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):  # Python's own, and clear
        crop(PICTURE, colour="x")


def test_a_value_is_shown_short():
    assert (
        with_type("x.png") == "'x.png' (of type str)"
        and with_type(None) == "None"
        and with_type(PICTURE) == "of type Image"
    )
    assert with_type(list(range(1000))) == "of type list" and with_type(torch.zeros(3, 3)) == "of type Tensor"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", None),
        ("prompt", b"red dog"),
        ("prompt", 5),
        ("prompt", ["red", None]),
        ("prompt", {"red": 1}),
        ("negative", None),
        ("negative", [None]),
        ("steps", "20"),
        ("steps", 20.0),
        ("steps", True),
        ("guidance", "x"),
        ("guidance", True),
        ("sampler", 5),
        ("seed", 1.5),
        ("seed", "7"),
        ("seed", True),
        ("seed", [1.5]),
        ("seed", float("nan")),
        ("size", 128),
        ("size", "64x64"),
        ("size", (8.0, 8.0)),
        ("size", (8, 8, 8)),
        ("size", 0),
        ("batch", True),
        ("batch", "2"),
        ("batch", 2.0),
        ("init", "x.png"),
        ("init", np.zeros((8, 8, 3))),
        ("strength", "0.5"),
        ("mask", Path("m.png")),
        ("keep_pixels", "yes"),
        ("weighting", None),
        ("long_prompt", True),
        ("clip_skip", "2"),
        ("tile", 1),
        ("eta", "1"),
        ("spacing", 3),
        ("latents", np.zeros((1, 4, 4, 4))),
        ("output", "np"),
        ("on_step", 3),
        ("progress", True),
        ("progress", None),
    ],
)
def test_generate_refuses_wrong_types(model, name, value):
    with pytest.raises(LdmError, match=f"^{name} is .*; expected "):
        model.generate(**{"prompt": "red dog", name: value})


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.encode_text("red dog"),  # a text is a sequence of texts, too: of its letters
        lambda model: model.encode_text([None]),
        lambda model: model.encode_text(["red"], weighting="no"),
        lambda model: model.noise_source(5, (8, 8)),
        lambda model: model.noise_source([1.5], (8, 8)),
        lambda model: model.noise_source([1], 8),
        lambda model: model.levels("ddim", "20"),
        lambda model: model.levels(None, 20),
        lambda model: model.levels("ddim", 20, "all"),
        lambda model: record(model, None).__enter__(),
        lambda model: explore(model, None, "x.html"),
        lambda model: explore(model, "red", "x.html", guidances=3.0),
        lambda _: ldm.load(None),
        lambda _: ldm.load(5),
        lambda _: ldm.load("tiny", dtype=np.float32),
        lambda _: ldm.load("tiny", device=0),
        lambda _: ldm.load("tiny", config=5),
        lambda _: ldm.load("tiny", weights=True),
        lambda _: ldm.load("tiny", prediction=1),
        lambda _: ldm.load("tiny", vae=torch.nn.Identity()),
        lambda _: ldm.load_clip(None),
        lambda _: ldm.load_clip("tiny", None),
        lambda _: load_vae(None),
        lambda _: load_vae("x", 32),
        lambda _: load_text(b"x"),
        lambda _: load_text("x", device=0),
    ],
)
def test_so_do_the_steps_and_whatever_loads(model, call):
    with pytest.raises(LdmError, match=r"^\w+ is .*; expected "):
        call(model)


def test_every_parameter_of_generate_is_one_that_is_checked():
    r"""An annotation that is not known to `fits` would let everything pass."""

    class Odd:
        pass

    hints = get_type_hints(LatentDiffusion.generate)
    del hints["return"]
    assert len(hints) == 31 and [name for name, hint in hints.items() if fits(Odd(), hint)] == []


def test_more_than_one_picture_of_each_prompt_of_a_list_is_refused(model):
    with pytest.raises(
        LdmError, match="a batch of 2 with a list of prompts, which gives one image per entry"
    ):
        model.generate(["red", "dog"], batch=2)


def test_pictures_without_pixels_are_refused(model):
    with pytest.raises(LdmError, match="a picture of 0x5 pixels; expected at least one along each side"):
        model.generate("red", init=Image.new("RGB", (0, 5)))
