r"""The film: the right frames in the right places."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ldm.images.lettering import PAPER
from ldm.lab.trace.film import (
    GAP,
    NOISE,
    TRACK,
    Frame,
    decode_frames,
    evenly_spaced,
    film_strip,
    gif_frames,
    noise_bar,
    resize_to,
)


def flat(colour, size=(24, 16)):
    return Image.new("RGB", size, colour)


def test_indices_are_evenly_spaced_with_both_ends():
    assert evenly_spaced(9, 3) == [0, 4, 8] and evenly_spaced(3, 9) == [0, 1, 2]
    assert evenly_spaced(1, 9) == [0] and evenly_spaced(0, 9) == []
    assert evenly_spaced(31, 4) == [0, 10, 20, 30] and evenly_spaced(6, 4) == [0, 2, 3, 5]
    for count, most in ((30, 9), (1000, 30), (10, 9)):
        chosen = evenly_spaced(count, most)
        assert len(chosen) == len(set(chosen)) == most and chosen[0] == 0 and chosen[-1] == count - 1
        assert max(np.diff(chosen)) - min(np.diff(chosen)) <= 1


def test_frames_are_steps_of_the_chosen_image(recorded):
    recording, _ = recorded
    frames = decode_frames(recording, 1, most=2)
    assert [frame.t for frame in frames] == [667, 1]
    assert frames[0].noise == 1 - recording.steps[0].alpha_bar
    [x_t], [x0] = (recording.decode(name, 1, [2]) for name in ("x_t", "x0"))
    for seen, expected in ((frames[1].x_t, x_t), (frames[1].x0, x0)):
        assert np.abs(np.asarray(seen).astype(int) - np.asarray(expected)).max() <= 1


def test_an_image_is_resized_by_its_longer_side():
    assert resize_to(flat("red", (24, 16)), 120).size == (120, 80) and resize_to(
        flat("red", (300, 900)), 90
    ).size == (
        30,
        90,
    )
    two = flat("red", (2, 1))
    two.putpixel((1, 0), (0, 0, 255))
    assert {colour for _, colour in resize_to(two, 8).getcolors()} == {
        (255, 0, 0),
        (0, 0, 255),
    }  # blocks, unmixed


@pytest.mark.parametrize(("share", "filled"), [(0.0, 0), (0.5, 20), (1.0, 40)])
def test_the_bar_is_filled_to_its_share(share, filled):
    image = flat(PAPER, (50, 20))
    noise_bar(ImageDraw.Draw(image), (5, 6, 40, 8), share)
    counts = {colour: n for n, colour in image.getcolors()}
    noise, track = (flat(colour).getpixel((0, 0)) for colour in (NOISE, TRACK))
    assert counts.get(noise, 0) == 8 * filled and counts.get(track, 0) == 8 * (40 - filled)


def test_the_strip_shows_x_t_over_the_prediction_and_the_finished_image_last():
    frames = [
        Frame(t, t / 100, flat((t, 0, 0), (128, 128)), flat((0, t, 0), (128, 128))) for t in range(100, 0, -5)
    ]
    strip = film_strip("a dog", frames, flat("blue", (128, 128)), columns=3)
    pixels = np.asarray(strip)
    columns = np.flatnonzero((pixels[:, :, 2] == 255).sum(0) - (pixels == 255).all(2).sum(0) > 100)
    assert len(columns) == 128 and columns[0] > strip.width / 2  # the blue image, on the right
    rows = {}
    for t in (100, 50, 5):  # the first, the middle one (of 20: the tenth or eleventh) and the last
        top = np.argwhere((pixels == (t, 0, 0)).all(2))
        low = np.argwhere((pixels == (0, t, 0)).all(2))
        assert len(top) == len(low) == 128 * 128
        assert (low.min(0) - top.min(0)).tolist() == [128 + GAP, 0]
        rows[t] = top.min(0)
    assert rows[100][1] < rows[50][1] < rows[5][1] and rows[100][0] == rows[50][0] == rows[5][0]


def test_the_strip_has_its_title_and_its_times():
    frames = [Frame(999, 1.0, flat("red"), flat("lime"))]
    titled, bare = (np.asarray(film_strip(title, frames, flat("blue"))) for title in ("a dog", ""))
    assert (titled[:60] != bare[:60]).any() and (titled[60:] == bare[60:]).all()
    other = np.asarray(film_strip("", [Frame(1, 1.0, flat("red"), flat("lime"))], flat("blue")))
    assert (other != bare).any()
    assert (
        film_strip("word " * 10_000 + "\ud800", frames, flat("blue")).size
        == film_strip("", frames, flat("blue")).size
    )


def test_the_gif_ends_with_the_finished_image():
    frames = [Frame(t, t / 100, flat("red"), flat("lime")) for t in (99, 1)]
    frames_of_gif = gif_frames(frames, flat("blue"), side=96)
    assert len(frames_of_gif) == 3 and len({frame.size for frame in frames_of_gif}) == 1
    left, right = (GAP + 48, GAP + 32), (2 * GAP + 96 + 48, GAP + 32)
    assert [frame.getpixel(left) for frame in frames_of_gif] == [(255, 0, 0)] * 2 + [(0, 0, 255)]
    assert [frame.getpixel(right) for frame in frames_of_gif] == [(0, 255, 0)] * 2 + [(0, 0, 255)]
