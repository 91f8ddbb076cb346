r"""Options that several commands share."""

import argparse

import pytest

from ldm.cli.arguments import add_sampling, width_and_height
from ldm.cli.program import make_parser
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.samplers.table import ROWS, SPACING_LABELS


def sampling_help():
    parser = argparse.ArgumentParser()
    add_sampling(parser)
    return " ".join(parser.format_help().split())


def test_help_names_and_describes_every_sampler():
    told = sampling_help()
    assert all(f"{row.name} ({row.description})" in told for row in ROWS)
    assert "as in dpmpp_2m_karras" in told


def test_help_names_every_spacing():
    assert f"which noise levels to visit: {', '.join(SPACING_LABELS)} (default" in sampling_help()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("192x128", (192, 128)), ("192X128", (192, 128)), ("192*128", (192, 128)), ("192 x 128", (192, 128)),
        ("192\N{MULTIPLICATION SIGN}128", (192, 128)), ("512", (512, 512)), ("0x8", (0, 8)),
    ],
)  # fmt: skip
def test_a_size_is_read_as_people_write_it(text, size):
    assert width_and_height(text) == size


@pytest.mark.parametrize("text", ["", "x", "192x", "x128", "1.5x2", "-8x8", "8x8x8", "a", "9" * 5000])
def test_what_is_no_size_is_an_error_with_an_example(text):
    with pytest.raises(argparse.ArgumentTypeError, match="such as 192x128, or 192 for a square"):
        width_and_height(text)


def test_the_home_folder_is_expanded_in_every_path_of_every_command(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    options = make_parser().parse_args(["generate", "a dog", "--out=~/x.png", "--init=~/y.png"])
    assert (options.out, options.init) == (tmp_path / "x.png", tmp_path / "y.png")
    assert make_parser().parse_args(["convert", "m", "~/out"]).out == tmp_path / "out"


def test_help_names_the_samplers_that_take_more_steps_than_the_models_default():
    more = {name: s.min_default_steps for name, s in SAMPLERS.items() if s.min_default_steps}
    assert set(more.values()) == {40} and f"at least 40 with {' and '.join(more)}," in sampling_help()
