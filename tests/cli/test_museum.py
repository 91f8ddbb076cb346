r"""`ldm museum`."""

import pytest

from ldm.lab.museum.rooms import MISTAKES
from tests.cli.terminal import files, run


def test_the_list_names_every_mistake_once_and_writes_nothing(capsys, work):
    code, out, lines = run(capsys, "museum")
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert (code, lines) == (0, []) and sorted(listed) == sorted(mistake.number for mistake in MISTAKES)
    assert files(work) == []


def test_an_unknown_number_is_an_error_in_one_line(capsys, work):
    code, out, [line] = run(capsys, "museum", "999")
    assert (code, out) == (1, "") and line.startswith("ldm: no mistake has the number '999'")


@pytest.mark.long
def test_a_mistake_is_shown_with_its_lines_its_numbers_and_a_strip(capsys, work):
    code, out, _ = run(capsys, "museum", "2", "--out", "shown")
    assert code == 0 and out.splitlines()[0].startswith("2. the VAE's encoder pads all four sides")
    assert "vae.encoder.down.0.downsample.conv" in out and out.splitlines()[-1] == "shown/2.png"
    assert "shown/2.png" in files(work)
