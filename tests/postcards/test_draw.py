r"""Drawings: deterministic, alike at every size, showing what the scene says, and with boxes around it."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ldm.errors import LdmError
from ldm.postcards import (
    Animal,
    Garment,
    Scene,
    Thing,
    arranged,
    caption_with_facts,
    contact_sheet,
    draw,
    draw_with_boxes,
    facts,
    grid,
    held_out,
    labels,
    postcard,
    sample_scene,
)
from ldm.postcards.canvas import canvas_on, gradient, ridge, smooth
from ldm.postcards.colour import MOMENTS, PAINT, SNOW, light_at, mix, rgb
from ldm.postcards.draw import FLAWS
from ldm.postcards.scene import PLACES, RELIEFS, STYLES, TIMES, WALLS, WEATHERS

LAKE = Scene("lake", "none", "day", "clear", "left")
CAT = Scene(wall="red", animals=(Animal("cat", "grey", (), "portrait", 1),))


def pixels(scene, seed=0, size=64, flaw=""):
    return np.asarray(draw(scene, np.random.default_rng(seed), size, flaw), float)


def several(count, split="train", start=0):
    r"""Random scenes, each with the generator to draw it with."""
    for i in range(start, start + count):
        rng = np.random.default_rng([3, i])
        yield sample_scene(rng, split), rng


def test_a_colour_is_mixed_lit_and_rounded_by_hand():
    assert mix((0, 100, 200), (100, 100, 100), 0.25) == (25, 100, 175)
    assert rgb((-3, 12.6, 300)) == (0, 13, 255)
    assert rgb((1, 2, 3), alpha=40) == (1, 2, 3, 40)
    first, last = MOMENTS["sunset"]
    assert light_at("sunset", "clear", 0) == first
    assert light_at("sunset", "clear", 0.5).zenith == mix(first.zenith, last.zenith, 0.5)
    assert first.on((255, 0, 0)) == tuple(np.add((first.tint[0], 0, 0), first.ambient))
    assert first.on((255, 0, 0), haze=1) == mix(first.middle, first.horizon, 0.5)
    snowy = light_at("day", "snow", 0.5)
    assert snowy.ground((0, 255, 0)) == snowy.on(mix((0, 255, 0), SNOW, snowy.snow))


def test_a_frame_moves_scales_tilts_and_mirrors():
    canvas = canvas_on(Image.new("RGB", (100, 100)))
    placed = canvas.at(0.5, 0.2, 0.5).at(0.2, 0.2, 0.5, np.pi / 2)._place([(0, 0), (0.4, 0)])
    # 0.5 + 0.5 * 0.2 = 0.6 and 0.2 + 0.5 * 0.2 = 0.3; a quarter turn clockwise sends +x to +y (down).
    np.testing.assert_allclose(placed, [(60, 30), (60, 40)])
    mirror = canvas.at(1, 0, facing=-1)
    np.testing.assert_allclose(mirror._place([(0.2, 0.1)]), [(80, 10)])
    # In a mirror a clockwise turn is anticlockwise: +x, which points left, goes to down all the same.
    np.testing.assert_allclose(mirror.at(0.5, 0.5, tilt=np.pi / 2)._place([(0.1, 0)]), [(50, 60)])


def test_a_smooth_curve_and_a_ridge_go_through_their_points():
    corners = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    np.testing.assert_allclose(smooth(corners)[::6], corners)
    line = ridge([0.5, 0.3, 0.4], left=0, right=1)
    assert tuple(line[0]) == (0, 0.5) and tuple(line[-3]) == (1, 0.4)
    assert line[:, 1].min() >= 0.3


def test_a_gradient_runs_from_its_first_to_its_last_stop():
    column = np.asarray(gradient([(0, (0, 0, 0)), (1, (200, 100, 0))], 100))
    np.testing.assert_array_equal(column[50, 3], [101, 50, 0])  # at height 50.5 / 100
    assert (column == column[:, :1]).all()


@pytest.mark.parametrize("size", [16, 48, 100])
def test_a_postcard_is_square_rgb_of_the_size_asked_for(size):
    for style in STYLES:
        for scene in (LAKE, CAT):
            image = draw(replace(scene, style=style), np.random.default_rng(0), size)
            assert (image.size, image.mode) == ((size, size), "RGB")


def test_too_small_a_postcard_and_an_unknown_flaw_are_refused():
    with pytest.raises(LdmError, match="15.*16"):
        draw(LAKE, np.random.default_rng(0), 15)
    with pytest.raises(LdmError, match="'ugly'.*mottled wall"):
        draw(LAKE, np.random.default_rng(0), 64, "ugly")


def test_a_postcard_is_a_function_of_seed_and_index():
    a, again, other, series = postcard(5), postcard(5), postcard(6), postcard(5, seed=1)
    assert (a.scene, a.caption, a.image.tobytes()) == (again.scene, again.caption, again.image.tobytes())
    assert len({a.image.tobytes(), other.image.tobytes(), series.image.tobytes()}) == 3


def test_size_changes_neither_scene_nor_caption_nor_what_is_seen():
    for index in range(24):
        small, large = postcard(index, size=64), postcard(index, size=128)
        assert (small.scene, small.caption) == (large.scene, large.caption)
        difference = np.asarray(large.image.reduce(2), float) - np.asarray(small.image, float)
        if small.scene.style == "plain":  # the contours of a print are one pixel wide at every size
            assert np.abs(difference).mean() < 4, small.scene  # of 255: edges fall between other pixels


def test_language_does_not_change_the_picture():
    english, french = postcard(3, language="en"), postcard(3, language="fr")
    assert english.image.tobytes() == french.image.tobytes()
    assert english.caption != french.caption


def test_the_held_out_split_reaches_the_postcard():
    assert all(held_out(postcard(i, split="held_out").scene) for i in range(20))
    assert not any(held_out(postcard(i).scene) for i in range(20))


def test_every_place_time_weather_relief_and_style_can_be_drawn():
    looks = [LAKE, *(replace(LAKE, place=place) for place in PLACES[1:])]
    for name, values in (("time", TIMES), ("weather", WEATHERS), ("relief", RELIEFS), ("style", STYLES)):
        looks += [replace(LAKE, **{name: value}) for value in values if value != getattr(LAKE, name)]
    drawn = [pixels(scene, 1) for scene in looks]
    for i, a in enumerate(drawn):
        for j, b in enumerate(drawn[:i]):
            assert np.abs(a - b).mean() > 1, (looks[i], looks[j])


def test_each_wall_has_the_colour_it_names_and_is_uniform():
    for name in WALLS:
        for seed in range(8):
            drawn = pixels(replace(CAT, wall=name), seed)
            corner = drawn[0, 0]
            assert (drawn == corner).all(axis=2).mean() > 0.25 and (drawn[0, -1] == corner).all()
            assert min(WALLS, key=lambda other: np.linalg.norm(corner - PAINT[other])) == name


def test_each_time_of_day_has_the_sky_it_should():
    def sky(time, weather="clear"):
        scene = Scene("sea", "none", time, weather, "left")
        return np.mean([pixels(scene, seed)[:20].mean(axis=(0, 1)) for seed in range(12)], axis=0)

    seen = {time: sky(time) for time in TIMES}
    assert seen["night"].sum() < seen["sunset"].sum() < seen["sunrise"].sum() < seen["day"].sum()
    assert seen["night"].argmax() == seen["day"].argmax() == 2  # blue
    assert seen["sunset"].argmax() == 0  # red
    rain, clear = (pixels(replace(LAKE, weather=weather))[:20] for weather in ("rain", "clear"))
    assert np.ptp(rain, axis=2).mean() < 0.8 * np.ptp(clear, axis=2).mean()  # greyer


def test_the_sun_and_the_moon_stand_on_the_side_that_the_scene_names():
    for scene, rng in several(150):
        suns = [box for box in draw_with_boxes(scene, rng, 64)[1] if box.word in ("sun", "moon")]
        assert len(suns) == scene.sun_is_visible
        for box in suns:
            assert scene.sun == ("left" if box.left + box.right < 1 else "right")


def test_the_sun_is_left_about_as_often_as_right():
    suns = [scene.sun for scene, _ in several(600) if scene.sun]
    assert 0.4 < suns.count("left") / len(suns) < 0.6


def parts(scene):
    r"""The scene without each of its things, animals and garments, with the word for what is missing."""
    for i, thing in enumerate(scene.things):
        yield thing.kind, replace(scene, things=scene.things[:i] + scene.things[i + 1 :])
    for i, animal in enumerate(scene.animals):
        if scene.place:
            yield animal.kind, replace(scene, animals=scene.animals[:i] + scene.animals[i + 1 :])
        for k, garment in enumerate(animal.wears):
            bare = replace(animal, wears=animal.wears[:k] + animal.wears[k + 1 :])
            yield garment.kind, replace(scene, animals=(*scene.animals[:i], bare, *scene.animals[i + 1 :]))


def test_a_box_holds_all_that_a_thing_changes():
    r"""The drawings with and without it differ only inside a box of its word, where sizes do not depend on it."""
    checked = 0
    for scene, rng in several(150):
        state = rng.bit_generator.state
        image, boxes = draw_with_boxes(scene, rng, 64)
        for word, without in parts(scene):
            kinds = [thing.kind for thing in scene.things]
            alone = len(scene.things) + len(scene.animals) == 2  # what is left stands alone, and larger
            if scene.style != "plain" or alone or kinds.count(word) > 1 or word in ("balloon", "boat"):
                continue  # these move the sun and the banks, and things of a kind are larger if they are fewer
            rng.bit_generator.state = state
            changed = np.asarray(image, int) != np.asarray(draw(without, rng, 64), int)
            rows, columns = (np.flatnonzero(changed.any(axis=(axis, 2))) for axis in (1, 0))
            if word in ("hat", "glasses") and scene.wall or not len(rows):
                continue  # a hat lowers a portrait, and glasses change the eyes
            mine = [box for box in boxes if box.word == word]
            assert any(
                box.left * 64 - 1 <= columns[0] and columns[-1] <= box.right * 64
                and box.top * 64 - 1 <= rows[0] and rows[-1] <= box.bottom * 64
                for box in mine
            ), (word, scene)  # fmt: skip
            checked += 1
    assert checked > 60


def test_boxes_do_not_change_the_drawing_and_lie_inside_it():
    for scene, rng in several(40):
        state = rng.bit_generator.state
        image, boxes = draw_with_boxes(scene, rng, 64)
        rng.bit_generator.state = state
        assert image.tobytes() == draw(scene, rng, 64).tobytes()
        assert all(0 <= b.left < b.right <= 1 and 0 <= b.top < b.bottom <= 1 for b in boxes)
        words = [box.word for box in boxes]
        for part in (*scene.things, *scene.animals, *(g for a in scene.animals for g in a.wears)):
            assert part.kind in words
        assert not scene.place or scene.place in words


def test_things_stand_in_their_slots():
    for scene, rng in several(120):
        boxes = draw_with_boxes(scene, rng, 64)[1]
        for what in (*scene.things, *(scene.animals if scene.place else ())):
            if sum(other.kind == what.kind for other in (*scene.things, *scene.animals)) > 1:
                continue
            box = next(box for box in boxes if box.word == what.kind)
            middle = (box.left + box.right) / 2
            assert abs(middle - (0.2, 0.5, 0.8)[what.slot]) < 0.20, (what, middle)


@pytest.mark.parametrize("place", PLACES)
def test_relief_shows_in_every_place(place):
    views = {
        relief: np.mean(
            [pixels(replace(LAKE, place=place, relief=relief), seed)[14:36] for seed in range(8)], axis=0
        )
        for relief in RELIEFS
    }
    for one, other in (("mountains", "none"), ("hills", "none"), ("mountains", "hills")):
        assert np.abs(views[one] - views[other]).mean() > 5, (one, other)


def test_odd_eyes_and_a_mottled_wall_are_what_the_flaws_change():
    odd = np.abs(pixels(CAT, flaw="odd eyes") - pixels(CAT)).sum(axis=2) > 0
    assert 0 < odd.sum() < 150
    mottled = pixels(CAT, flaw="mottled wall")[:20]
    assert mottled.std(axis=(0, 1)).max() > 2 and pixels(CAT)[:8].std(axis=(0, 1)).max() == 0
    assert labels(CAT, FLAWS[0])["uniform wall"] == "no" and labels(CAT, FLAWS[1])["eyes match"] == "no"


def distance(scenes, size=64):
    r"""The mean pairwise distance of drawings: root mean square over pixels, in [0, 1]."""
    drawn = [pixels(scene, 100 + i, size) / 255 for i, scene in enumerate(scenes)]
    return np.mean([np.sqrt(((a - b) ** 2).mean()) for i, a in enumerate(drawn) for b in drawn[:i]])


# What the drawings of version 1.0 reached, measured in the same way from those of its scenes that a caption with
# these facts described: 24 drawings of each.
BEFORE = {
    ("lake", "mountains", "sunrise"): 0.142,
    ("forest", "waterfall", "sunrise"): 0.120,
    ("meadow", "night"): 0.166,
}


@pytest.mark.long
@pytest.mark.parametrize("said", BEFORE, ids=" ".join)
def test_drawings_of_one_caption_vary_more_than_they_used_to(said):
    rng, found = np.random.default_rng(0), []
    while len(found) < 24:
        scene = sample_scene(rng)
        if set(said) <= facts(labels(scene)):
            named = caption_with_facts(scene, rng, "en").facts
            if {fact for fact in named if fact[:2] != "1 "} == set(said):
                found.append(scene)
    assert distance(found) > 1.2 * BEFORE[said]


def test_one_scene_arranged_anew_is_drawn_in_many_ways():
    rng = np.random.default_rng(1)
    for scene, _ in several(6):
        assert distance([arranged(scene, rng) for _ in range(8)], 32) > 0.14


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


def test_the_contact_sheet_has_a_row_for_each_place_and_two_for_each_animal():
    assert contact_sheet(16).size == (8 * 20 + 4, 13 * 20 + 4)


def test_a_scarf_is_drawn_in_the_colour_that_the_scene_binds_to_it():
    for garment in ("hat", "scarf"):
        for colour in ("red", "green", "blue", "purple"):
            worn = Garment(garment, colour)
            dressed = replace(CAT, animals=(replace(CAT.animals[0], wears=(worn,)),))
            image, boxes = draw_with_boxes(replace(dressed, wall="yellow"), np.random.default_rng(4), 64)
            box = next(box for box in boxes if box.word == garment)
            region = np.asarray(image, float)[int(box.top * 64) : int(box.bottom * 64)].reshape(-1, 3)
            assert (np.abs(region - PAINT[colour]).sum(axis=1) < 20).sum() > 40, (garment, colour)


@pytest.mark.parametrize("kind", ["boat", "house", "balloon", "flower"])
def test_of_two_things_of_a_kind_each_has_its_own_colour(kind):
    def painted(colour, time):
        r"""How many pixels have about that colour in the left and in the right half of the image."""
        scene = replace(LAKE, time=time, things=(Thing(kind, "red", 0), Thing(kind, "purple", 2)))
        image = np.asarray(draw(scene, np.random.default_rng(5), 128), float)
        empty = np.asarray(draw(replace(scene, things=()), np.random.default_rng(5), 128), float)
        paint = np.mean([light_at(time, "clear", m).vivid(PAINT[colour]) for m in (0, 0.5, 1)], axis=0)
        other = np.mean([light_at(time, "clear", m).vivid(PAINT[o]) for o in ("red", "purple") if o != colour
                         for m in (0, 0.5, 1)], axis=0)  # fmt: skip
        near = np.linalg.norm(image - paint, axis=2) < np.linalg.norm(image - other, axis=2)
        found = near & (np.linalg.norm(image - paint, axis=2) < 70) & (np.abs(image - empty).sum(axis=2) > 60)
        return found[:, :64].sum(), found[:, 64:].sum()

    for time in ("sunrise", "day"):
        left, right = painted("red", time)
        assert left > 60 and left > 4 * right, (time, left, right)
        left, right = painted("purple", time)
        assert right > 60 and right > 4 * left, (time, left, right)
