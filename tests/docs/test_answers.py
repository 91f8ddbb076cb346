r"""The answers under docs/questions.md still hold: what the prose says of a table is in the table.

Nothing here is a number of today's weights: those change with each training.
"""

import re
from pathlib import Path

import pytest

from docs import answers

REPOSITORY = Path(__file__).resolve().parents[2]
QUESTIONS = (REPOSITORY / "docs" / "questions.md").read_text(encoding="utf-8")


def cells(markdown: str) -> list[list[str]]:
    r"""The rows of a table without its head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()[2:]]


def number(cell: str) -> float:
    return float(re.sub(r"[^\d.e+-]", "", cell))


def test_a_table_is_markdown():
    assert answers.table(["a", "b"], [[1, "x"]]) == "| a | b |\n| --- | ---: |\n| 1 | x |"


def test_every_measurement_that_the_page_asks_for_is_there():
    asked = re.findall(r"^```\{measured\} (\w+)$", QUESTIONS, flags=re.MULTILINE)
    assert len(asked) == 10 and all(hasattr(answers, name) for name in asked)


@pytest.mark.long
def test_the_scale_is_one_over_the_deviation_and_forgetting_it_delays_the_noise():
    rows = cells(answers.latent_scale())
    for _, std, inverse, scale, with_scale, without in rows:
        assert number(inverse) == pytest.approx(1 / number(std), rel=1e-3)
        assert number(inverse) == pytest.approx(number(scale), rel=0.1)
        assert 300 < int(with_scale) < 400
        assert (int(without) > int(with_scale)) == (number(std) > 1)
    assert int(rows[-1][5]) > 400  # Stable Diffusion's, whose latents are far from 1


@pytest.mark.slow
def test_padding_all_sides_moves_the_picture_by_a_pixel_a_level():
    trained, wrong, _ = cells(answers.encoder_padding())
    assert (trained[2], wrong[2]) == ("0, 0", "7, 7")
    assert number(trained[1]) > number(wrong[3]) > number(wrong[1]) + 3


def test_a_moved_picture_is_found_where_it_was_moved_to():
    picture = answers.pictures(1)
    assert answers.shift(picture, picture.roll((3, -5), dims=(2, 3))) == (-5, 3)


def test_other_padding_leaves_the_words_and_moves_the_noise():
    trained, zero, left_out = cells(answers.padding())
    assert [row[1] for row in (trained, zero, left_out)] == ["0", "0", "0"]
    assert number(trained[3]) == 0 and number(zero[3]) > 10 and number(left_out[3]) > 10


def test_no_caption_is_cut():
    for _, positions, room, mean, longest in cells(answers.lengths(200)):
        assert int(room) == int(positions) - 2 and number(mean) <= int(longest) <= int(room)


def test_only_the_end_mark_of_the_last_layer_is_asked_for_anything():
    *_, penultimate, last = cells(answers.supervision())
    assert last[1:] == ["0", "100%", "0"]
    assert number(penultimate[1]) > 5 and penultimate[3] == "0"


def test_both_forms_of_guidance_agree_to_rounding():
    for g, w, _, difference in cells(answers.guidance_forms()):
        assert float(g) == float(w) + 1 and float(difference) < 1e-4


@pytest.mark.long
def test_the_other_eps_changes_little():
    for _, eps, smallest, changed, rounded in cells(answers.norm_eps()):
        assert float(smallest) > float(eps)
        assert 0 < float(changed) < 1e-3 and 0 < float(rounded) < 1e-3


def test_without_the_offset_the_last_step_does_nothing():
    without, with_offset = cells(answers.last_step())
    assert without[4] == "0.0000" and number(with_offset[4]) > 0


@pytest.mark.long
def test_spacings_begin_elsewhere_and_paint_other_pictures():
    rows = cells(answers.spacings(5))
    assert [row[1].split(",")[0] for row in rows] == ["801", "800", "999", "999"]
    assert number(rows[0][3]) == 0 and all(number(row[3]) > 0 for row in rows[1:])


def test_the_recorded_losses_fall():
    clip, _, diffusion = ([number(cell) for cell in row[2:6]] for row in cells(answers.losses()))
    for losses in (clip, diffusion):  # both were trained on, so the warm-up raised their losses first
        assert losses[1:] == sorted(losses[1:], reverse=True)
        assert losses[-1] < losses[0]
