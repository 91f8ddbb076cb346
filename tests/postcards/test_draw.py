r"""Drawings: deterministic, alike at every size, and showing what the scene says."""

import numpy as np
import pytest
from PIL import Image

from ldm.errors import LdmError
from ldm.postcards import Landscape, Portrait, contact_sheet, draw, grid, held_out, postcard
from ldm.postcards.attributes import LANDSCAPES, PLACES, PORTRAITS
from ldm.postcards.palette import BACKGROUND, LIGHTS, mix, rgb
from ldm.postcards.shapes import canvas_on, gradient, ridge, smooth


def pixels(scene, seed=0, size=64):
    return np.asarray(draw(scene, np.random.default_rng(seed), size), float)


def test_a_colour_is_mixed_lit_and_rounded_by_hand():
    assert mix((0, 100, 200), (100, 100, 100), 0.25) == (25, 100, 175)
    assert rgb((-3, 12.6, 300)) == (0, 13, 255)
    assert rgb((1, 2, 3), alpha=40) == (1, 2, 3, 40)
    assert LIGHTS["day"].on((10, 20, 30)) == (10, 20, 30)
    sunset = LIGHTS["sunset"]
    assert sunset.on((255, 0, 0)) == tuple(np.add((sunset.tint[0], 0, 0), sunset.ambient))
    assert sunset.on((255, 0, 0), haze=1) == sunset.middle


def test_a_frame_moves_scales_and_tilts():
    canvas = canvas_on(Image.new("RGB", (100, 100)))
    placed = canvas.at(0.5, 0.2, 0.5).at(0.2, 0.2, 0.5, np.pi / 2)._place([(0, 0), (0.4, 0)])
    # 0.5 + 0.5 * 0.2 = 0.6 and 0.2 + 0.5 * 0.2 = 0.3; a quarter turn clockwise sends +x to +y (down).
    np.testing.assert_allclose(placed, [(60, 30), (60, 40)])


def test_a_smooth_curve_and_a_ridge_go_through_their_points():
    corners = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    np.testing.assert_allclose(smooth(corners)[::6], corners)
    line = ridge([0.5, 0.3, 0.4], left=0, right=1)
    assert line[0] == (0, 0.5) and line[-3] == (1, 0.4)
    assert min(y for _, y in line) >= 0.3


def test_a_gradient_runs_from_its_first_to_its_last_stop():
    column = np.asarray(gradient([(0, (0, 0, 0)), (1, (200, 100, 0))], 100))
    np.testing.assert_array_equal(column[50, 3], [101, 50, 0])  # at height 50.5 / 100
    assert (column == column[:, :1]).all()


@pytest.mark.parametrize("size", [16, 48, 64, 100])
def test_a_postcard_is_square_rgb_of_the_size_asked_for(size):
    for scene in (LANDSCAPES[0], PORTRAITS[0]):
        image = draw(scene, np.random.default_rng(0), size)
        assert (image.size, image.mode) == ((size, size), "RGB")


def test_a_postcard_smaller_than_16_pixels_is_refused():
    with pytest.raises(LdmError, match="15.*16"):
        draw(LANDSCAPES[0], np.random.default_rng(0), 15)


def test_a_postcard_is_a_function_of_seed_and_index():
    a, again, other, series = postcard(5), postcard(5), postcard(6), postcard(5, seed=1)
    assert (a.scene, a.caption, a.image.tobytes()) == (again.scene, again.caption, again.image.tobytes())
    assert len({a.image.tobytes(), other.image.tobytes(), series.image.tobytes()}) == 3


def test_size_changes_neither_scene_nor_caption_nor_what_is_seen():
    for index in range(16):
        small, large = postcard(index, size=64), postcard(index, size=128)
        assert (small.scene, small.caption) == (large.scene, large.caption)
        difference = np.asarray(large.image.reduce(2), float) - np.asarray(small.image, float)
        assert np.abs(difference).mean() < 4, small.scene  # of 255: edges fall between other pixels


def test_language_does_not_change_the_picture():
    english, french = postcard(3, language="en"), postcard(3, language="fr")
    assert english.image.tobytes() == french.image.tobytes()
    assert english.caption != french.caption


def test_the_held_out_split_reaches_the_postcard():
    assert all(held_out(postcard(i, split="held_out").scene) for i in range(20))
    assert not any(held_out(postcard(i).scene) for i in range(20))


def test_the_same_scene_is_drawn_in_many_ways():
    pictures = [pixels(LANDSCAPES[0], seed) for seed in range(4)]
    assert all(np.abs(a - b).mean() > 3 for i, a in enumerate(pictures) for b in pictures[:i])


def test_each_portrait_stands_before_the_colour_it_names():
    for name in BACKGROUND:
        edge = pixels(Portrait("cat", "grey", "nothing", name))[30, 1]
        nearest = min(BACKGROUND, key=lambda other: np.abs(edge - BACKGROUND[other]).sum())
        assert nearest == name


def test_each_time_of_day_has_the_sky_it_should():
    sky = {t: pixels(Landscape("sea", "none", t, "nothing"))[:24].mean(axis=(0, 1)) for t in LIGHTS}
    assert sky["night"].sum() < sky["sunset"].sum() < sky["day"].sum()
    assert sky["night"].argmax() == sky["day"].argmax() == 2  # blue
    assert sky["sunset"].argmax() == sky["sunrise"].argmax() == 0  # red
    assert sky["sunrise"].min() > sky["sunset"].max() - 40  # sunrise is pale, sunset deep


@pytest.mark.parametrize("feature", ["waterfall", "boat", "house", "balloon"])
def test_a_double_has_the_feature_twice_and_changes_little_else(feature):
    def bright(scene, **how):
        r"""How many pixels differ clearly from the same place without the feature."""
        drawn = np.asarray(draw(scene, np.random.default_rng(3), 128, **how), float)
        empty = np.asarray(
            draw(Landscape("lake", "none", "day", "nothing"), np.random.default_rng(3), 128), float
        )
        return (np.abs(drawn - empty).sum(axis=-1) > 60)[:100].sum()

    scene = Landscape("lake", "none", "day", feature)
    assert 1.25 * bright(scene) < bright(scene, doubled=True) < 2.5 * bright(scene)


def test_a_doubled_animal_has_more_eyes_or_heads():
    scene = Portrait("cat", "white", "nothing", "red")
    single = [pixels(scene, seed) for seed in range(6)]
    double = [
        np.asarray(draw(scene, np.random.default_rng(seed), 64, doubled=True), float) for seed in range(6)
    ]
    assert all(np.abs(a - b).max() > 100 for a, b in zip(single, double))


def test_not_doubled_is_what_a_drawing_is():
    for scene in (LANDSCAPES[3], PORTRAITS[3]):
        plain = draw(scene, np.random.default_rng(1), 64, doubled=False)
        assert plain.tobytes() == draw(scene, np.random.default_rng(1), 64).tobytes()


def test_nothing_cannot_be_doubled():
    with pytest.raises(LdmError, match="no feature to double"):
        draw(Landscape("lake", "none", "day", "nothing"), np.random.default_rng(0), 64, doubled=True)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("feature", ["nothing", "waterfall", "house"])
def test_relief_shows_in_every_place_whatever_stands_before_it(place, feature):
    views = {
        relief: np.mean(
            [pixels(Landscape(place, relief, "day", feature), seed)[12:36] for seed in range(6)], axis=0
        )
        for relief in ("mountains", "hills", "none")
    }
    for one, other in (("mountains", "none"), ("hills", "none"), ("mountains", "hills")):
        assert np.abs(views[one] - views[other]).mean() > 8, (one, other)


def test_a_grid_puts_each_image_in_its_place():
    red, blue = Image.new("RGB", (4, 3), "red"), Image.new("RGB", (4, 3), "blue")
    sheet = grid([red, blue, red], columns=2, gap=1)
    assert sheet.size == (2 * 5 + 1, 2 * 4 + 1)
    assert sheet.getpixel((1, 1)) == sheet.getpixel((1, 5)) == (255, 0, 0)
    assert sheet.getpixel((6, 1)) == (0, 0, 255)
    gaps = [(0, 0), (1, 0), (0, 1), (1, 4), (5, 1), (6, 5)]  # the last: no fourth image
    assert {sheet.getpixel(at) for at in gaps} == {(255, 255, 255)}


@pytest.mark.parametrize(
    ("images", "columns"),
    [([], 2), ([Image.new("RGB", (4, 4)), Image.new("RGB", (4, 5))], 2), ([Image.new("RGB", (4, 4))], 0)],
)
def test_a_grid_that_cannot_be_is_refused(images, columns):
    with pytest.raises(LdmError, match="expected at least one image"):
        grid(images, columns)


def test_the_contact_sheet_has_a_row_for_each_place_and_animal():
    assert contact_sheet(16).size == (8 * 20 + 4, 9 * 20 + 4)
