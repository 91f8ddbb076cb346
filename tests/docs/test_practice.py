r"""What a reader does on a page: a guess opens the answer, a tick is remembered. In a browser, from `file://`."""

from pathlib import Path

import pytest

from tests.lab.trace.chromium import PROGRAM, Chromium

pytestmark = [pytest.mark.browser, pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")]

STATIC = (Path(__file__).resolve().parents[2] / "docs" / "_static" / "practice").as_uri()
HEAD = f'<meta charset="utf-8"><link rel="stylesheet" href="{STATIC}/practice.css">'
SCRIPTS = "".join(
    f'<script defer src="{STATIC}/{name}.js"></script>' for name in ("memory", "predict", "solved")
)
FOLDED = '<div class="cell"><details class="hide"><summary>Show</summary><pre>{}</pre></details></div>'
PAGE = f"""<!doctype html><html lang="en"><head><title>a page</title>{HEAD}{SCRIPTS}</head><body>
<section><h2>One</h2><p>Predict: what is 6 times 7?</p>{FOLDED.format(42)}{FOLDED.format("42 again")}
<p id="because">Because it is. Predict: and 6 times 8?</p>{FOLDED.format(48)}<p id="end">There.</p></section>
<section><h2>Two</h2><p id="free">Nothing is asked here.</p></section>
<p class="solved-count"></p>
<input type="checkbox" hidden data-exercise="pool"><input type="checkbox" hidden data-exercise="heads">
</body></html>"""
SEEN = "[...document.querySelectorAll('pre, p[id]')].filter(e => e.offsetParent).map(e => e.textContent)"
FORMS = "[...document.querySelectorAll('form')].filter(form => form.offsetParent)"


@pytest.fixture
def page(tmp_path):
    (tmp_path / "page.html").write_text(PAGE, encoding="utf-8")
    browser = Chromium(tmp_path / "profile")
    browser.open(tmp_path / "page.html", 390, 800)
    yield browser
    assert browser.errors == []
    browser.close()


def again(page, tmp_path):
    page.open(tmp_path / "page.html", 390, 800)


def guess(page, text):
    page.run(
        f"""(form => {{
            form.querySelector("textarea").value = {text!r};
            form.querySelector("textarea").dispatchEvent(new Event("input"));
            form.querySelector("[type=submit]").click();
        }})({FORMS}[0])"""
    )


def test_an_answer_is_hidden_until_a_guess_was_made_and_the_guess_is_kept(page, tmp_path):
    assert page.run(SEEN) == ["Nothing is asked here."]  # other sections are not hidden
    guess(page, " ")
    assert page.run(SEEN) == ["Nothing is asked here."]
    guess(page, "40, I think")
    first = ["42", "42 again", "Because it is. Predict: and 6 times 8?", "Nothing is asked here."]
    assert page.run(SEEN) == first and page.run(f"{FORMS}.length") == 1
    again(page, tmp_path)
    assert page.run(SEEN) == first
    assert "40, I think" in page.run("document.querySelector('.guessed').textContent")
    guess(page, "48")
    assert page.run(SEEN) == [*first[:3], "48", "There.", first[3]]
    page.run("document.querySelector('.guessed button').click()")  # guess again
    assert page.run(SEEN) == ["Nothing is asked here."]


def test_who_only_wants_to_read_sees_everything(page, tmp_path):
    page.run(f"{FORMS}[0].querySelector('.quiet').click()")
    assert len(page.run(SEEN)) == 6 and page.run(f"{FORMS}.length") == 0
    again(page, tmp_path)
    assert len(page.run(SEEN)) == 6


def test_what_is_solved_is_remembered(page, tmp_path):
    assert page.run("document.querySelector('.solved-count').textContent") == "0 of 2 solved"
    page.click("[data-exercise=heads]")
    again(page, tmp_path)
    assert page.run("document.querySelector('.solved-count').textContent") == "1 of 2 solved"
    assert page.run("[...document.querySelectorAll('[data-exercise]')].map(b => b.checked)") == [False, True]
