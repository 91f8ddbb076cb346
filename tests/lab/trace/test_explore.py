r"""The page of `ldm explore`: what is generated for it, and how it behaves in a browser."""

import json
import re

import pytest

from ldm.errors import LdmError
from ldm.lab.trace import explore as module
from ldm.lab.trace.explore import contrasting_prompt, explore, word_maps
from ldm.lab.trace.recorder import record
from ldm.loading import load
from tests.lab.trace.chromium import PROGRAM, Chromium
from tests.small import write_small_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(write_small_model(tmp_path_factory.mktemp("model")), device="cpu")


def data_of(path):
    [found] = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.S
    )
    return json.loads(found)


def test_the_page_holds_every_run_once_and_names_its_rows(model, tmp_path):
    path = tmp_path / "page.html"
    explore(
        model,
        "red dog",
        path,
        versus="dog",
        seed=7,
        steps=3,
        guidance=2.0,
        guidances=(4.0, 1.0, 2.0),
        seeds=2,
    )
    data = data_of(path)
    runs = [(run["prompt"], run["seed"], run["guidance"]) for run in data["runs"]]
    assert runs == [
        ("red dog", 7, 2),
        ("red dog", 8, 2),
        ("dog", 7, 2),
        ("red dog", 7, 1),
        ("red dog", 7, 4),
    ]
    assert [runs[i][1] for i in data["seeds"]] == [7, 8]
    assert [runs[i][2] for i in data["guidances"]] == [1, 2, 4]
    assert runs[data["versus"]][0] == "dog"
    assert [step["t"] for step in data["steps"]] == [667, 334, 1]
    assert data["runs"][0]["words"] == ["‹start›", "red", "dog", "‹end›"]
    assert [bool(run["influence"]) for run in data["runs"]] == [True, True, True, False, True]


def test_what_is_left_out_is_the_models_default(model, tmp_path):
    path = tmp_path / "page.html"
    explore(model, "red dog", path, guidances=(), seeds=1)
    data = data_of(path)
    assert (
        len(data["steps"]) == 2 and len(data["runs"]) == 2
    )  # the model's two steps; the prompt and its rival
    assert {run["guidance"] for run in data["runs"]} == {2} and {run["seed"] for run in data["runs"]} == {42}


def test_progress_sees_the_steps_of_every_run(model, tmp_path):
    counts = []

    def progress(path, steps):
        counts.append(steps)
        return path

    explore(model, "dog", tmp_path / "page.html", steps=3, guidances=(1.0, 2.0), seeds=2, progress=progress)
    assert counts == [
        3,
        3,
        3,
    ]  # both seeds at once, the rival, guidance 1; guidance 2 is the first run's


def test_the_attention_of_a_position_sums_to_one(model):
    with record(model, "a red dog") as recording:
        model.generate("a red dog", seed=1, batch=2, steps=2, progress=recording.watch())
    maps = word_maps(recording, 1, [0, 1])
    assert maps.shape[:2] == (2, 5)  # steps; start, three words, end
    assert (maps.sum(1) - 1).abs().max() < 1e-5
    assert (maps[:, 3] - recording.steps[0].attention[1, 3]).abs()[0].max() < 1e-6


@pytest.mark.parametrize(
    ("prompt", "rival"),
    [
        ("a dog with glasses", "a cat with glasses"),
        ("a cat and a cat", "a dog and a dog"),
        ("un chien avec des lunettes", "un chat avec des lunettes"),
        ("a lake at sunrise", "a lake at night"),
        ("a dogma", ""),
        ("", "a dog with glasses"),
    ],
)
def test_the_rival_differs_in_one_word_where_an_opposite_is_known(prompt, rival):
    assert contrasting_prompt(prompt) == rival


def test_a_place_that_cannot_be_written_is_an_error_before_anything_is_generated(
    model, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(module, "record_runs", lambda *args, **options: pytest.fail("it generated"))
    with pytest.raises(LdmError, match=r"page\.html.*give another place"):
        explore(model, "dog", tmp_path / "file" / "page.html")


def test_a_run_that_fails_leaves_the_old_page_and_nothing_else(model, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(LdmError, match="0 sampling steps"):
        explore(model, "dog", path, steps=0)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


# --- in a browser ----------------------------------------------------------------------------------------------------


def in_browser(test):
    missing = pytest.mark.skipif(not PROGRAM, reason="no Chromium here; on Debian: sudo apt install chromium")
    return pytest.mark.browser(missing(test))


WIDE, PHONE = (1280, 800), (360, 740)


@pytest.fixture(scope="module")
def page(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "explore.html"
    explore(model, "a red dog", path, versus="red", steps=6, guidances=(1.0, 2.0, 5.0), seeds=3)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = Chromium(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


def open_page(browser, page, size, **options):
    browser.open(page, *size, **options)
    browser.wait_for("document.querySelectorAll('#seed-runs button').length === 3")


def text(browser, selector):
    return browser.run(f"document.querySelector({json.dumps(selector)}).textContent")


def pixels(browser, selector):
    return browser.run(f"document.querySelector({json.dumps(selector)}).toDataURL()")


def assert_quiet(browser):
    r"""No complaint on the console, and nothing asked of anybody but the page itself."""
    assert browser.errors == []
    assert len([url for url in browser.requests if not url.startswith("data:")]) == 1  # the page itself


@in_browser
@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_the_slider_moves_every_part_of_the_page(browser, page, size):
    open_page(browser, page, size)
    seen = []
    for position in (0, 3, 6):
        browser.run(f"slider.value = {position}; slider.dispatchEvent(new Event('input'))")
        marker = browser.run("document.querySelector('#curve .rule').getAttribute('d')")
        heat = text(browser, "#mixture")
        seen.append(
            (text(browser, "#where"), marker, heat, pixels(browser, "#now-x_t"), pixels(browser, "#strip-0"))
        )
    assert [where for where, *_ in seen][0].startswith("step 1 of 6")
    assert seen[2][0].startswith("finished")
    assert all(len(set(values)) == 3 for values in zip(*seen))
    assert_quiet(browser)


@in_browser
def test_the_keyboard_steps_and_plays(browser, page):
    open_page(browser, page, WIDE)
    browser.press("Home")
    assert browser.run("state.position") == 0
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    browser.press("ArrowLeft")
    assert browser.run("state.position") == 1
    browser.run(
        "labels = []; new MutationObserver(() => labels.push(document.querySelector('#play').ariaLabel))"
        ".observe(document.querySelector('#play'), {attributes: true})"
    )
    browser.press(" ")
    browser.wait_for("state.position === 6 && labels.length > 1")
    assert browser.run("labels") == ["Pause", "Play"]
    browser.run("document.querySelector('#slider').focus()")
    browser.press("ArrowLeft")  # the slider's own keys
    assert browser.run("state.position") == 5
    assert "step 6 of 6" in browser.run("document.querySelector('#slider').ariaValueText")
    assert_quiet(browser)


@in_browser
@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_a_word_that_is_clicked_shows_its_own_map(browser, page, size):
    open_page(browser, page, size)
    maps = []
    for i, word in enumerate(("‹start›", "a", "red", "dog", "‹end›"), start=1):
        browser.click(f"#chips button:nth-child({i})")
        pressed = browser.run(
            "[...document.querySelectorAll('#chips [aria-pressed=true]')].map(e => e.textContent)"
        )
        assert pressed == [word] and text(browser, "#heat-caption").startswith(f"{word}, mean of 6 steps")
        maps.append(pixels(browser, "#heat-map"))
    assert len(set(maps)) == 5
    browser.click("#this-step")
    assert "step 4" in text(browser, "#heat-caption") and pixels(browser, "#heat-map") != maps[-1]
    assert_quiet(browser)


@in_browser
def test_a_guidance_a_seed_or_the_rival_becomes_the_run_that_is_shown(browser, page):
    open_page(browser, page, WIDE)
    shown = [pixels(browser, "#now-x0")]
    for selector, settings in (
        ("#guidances button:nth-child(3)", "seed 42 · g = 5"),
        ("#seed-runs button:nth-child(2)", "seed 43 · g = 2"),
        ("#rivals figure:nth-child(2) button", "red · seed 42 · g = 2"),
    ):
        browser.click(selector)
        assert text(browser, "#which").endswith(settings)
        shown.append(pixels(browser, "#now-x0"))
    assert len(set(shown)) == 4
    assert [text(browser, f"#chips button:nth-child({i})") for i in (1, 2, 3)] == ["‹start›", "red", "‹end›"]
    browser.click("#guidances button:nth-child(1)")
    assert browser.run("document.querySelector('#influence-figure').hidden")  # guidance 1 looks only once
    assert_quiet(browser)


@in_browser
def test_a_swipe_over_a_picture_and_a_press_on_a_plot_move_the_slider(browser, page):
    open_page(browser, page, PHONE, touch=True)
    browser.swipe("#now-x_t", 0.9, 0.1)
    assert browser.run("state.position") < 3
    browser.swipe("#now-x_t", 0.0, 1.0)
    browser.swipe("#now-x_t", 0.0, 1.0)
    assert browser.run("state.position") == 6
    browser.click("#curve", across=0.02)
    assert browser.run("state.position") == 0
    browser.click("#strip-3", across=0.97)
    assert browser.run("state.position") == 6
    assert_quiet(browser)


@in_browser
@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (390, "dark"), (768, "light"), (1280, "dark")])
def test_nothing_is_wider_than_the_window_and_the_colours_follow_the_system(browser, page, width, scheme):
    open_page(browser, page, (width, 740), scheme=scheme)
    assert browser.run("document.documentElement.scrollWidth") <= width
    brightness = (
        "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).reduce((a, b) => a + +b, 0)"
    )
    assert (browser.run(brightness) > 384) == (scheme == "light")
    browser.click("#theme")
    assert (browser.run(brightness) > 384) == (scheme == "dark")
    assert_quiet(browser)


@in_browser
def test_whatever_can_be_pressed_has_a_name_and_is_large_enough_for_a_finger(browser, page):
    open_page(browser, page, PHONE)
    bare = """[...document.querySelectorAll('button, input, canvas:not([aria-hidden]), svg[role]')].filter(
        e => !(e.ariaLabel || e.textContent.trim())).map(e => e.id)"""
    assert browser.run(bare) == []
    small = """[...document.querySelectorAll('button')].filter(
        e => e.getBoundingClientRect().height < 32 || e.getBoundingClientRect().width < 32).map(e => e.textContent)"""
    assert browser.run(small) == []


@in_browser
@pytest.mark.parametrize(
    "prompt", ["", '</script><script>console.log("no")</script>\ud800 🐶 ' + "word " * 99]
)
def test_a_prompt_of_any_kind_is_text_and_nothing_else(browser, model, tmp_path, prompt):
    path = tmp_path / "explore.html"
    explore(model, prompt, path, steps=1, guidances=(), seeds=3)
    open_page(browser, path, PHONE)
    shown = text(browser, "h1")
    assert shown == "(no words)" if prompt == "" else shown.startswith("</script><script>console")
    assert browser.run("document.documentElement.scrollWidth") <= PHONE[0]
    assert_quiet(browser)
