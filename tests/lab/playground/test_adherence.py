r"""The page follows its prompts as well as Python does, by the judge of `ldm evaluate`.

The page is opened from a disk, so its weights are in 8 bits.

`pytest -m long tests/lab/playground/test_adherence.py -s` says how well.
"""

import pytest

from ldm.lab.evaluate.adherence import fraction_correct, generate_images, judge_images, scene_prompts
from ldm.lab.evaluate.judge import find_judge, read_judge
from ldm.loading import load
from tests.lab.playground.painting import BUILT, paint
from tests.lab.trace.chromium import PROGRAM, Chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine"),
    pytest.mark.skipif(not (BUILT / "settings.js").is_file(), reason="nothing is built: make playground"),
]

EACH = 50  # prompts in English, and as many in French
OPTIONS = {"steps": 8, "guidance": 4.0, "sampler": "dpmpp_2m"}
POINT = 0.01


def test_the_page_follows_its_prompts_within_a_point_of_python(tmp_path):
    targets = [*scene_prompts("seen", EACH), *scene_prompts("french", EACH)]
    browser = Chromium(tmp_path / "profile")
    browser.open(BUILT / "index.html", 1000, 900)
    painted = (paint(browser, prompt=t.prompt, seed=seed, **OPTIONS)[1] for seed, t in enumerate(targets))
    judge, model = read_judge(find_judge("judge")), load("tiny", device="cpu")
    try:
        in_the_page = list(judge_images(judge, targets, painted))
    finally:
        browser.close()
    in_python = list(
        judge_images(judge, targets, generate_images(model, [t.prompt for t in targets], **OPTIONS))
    )
    ours, theirs = fraction_correct(in_python), fraction_correct(in_the_page)
    differ = sum(one.errors != other.errors for one, other in zip(in_python, in_the_page))
    print(f"\nadherence of {len(targets)} images: {theirs:.1%} in the page, {ours:.1%} in Python")
    print(f"the judge's answers differ for {differ} of them")
    assert abs(theirs - ours) <= POINT + 1e-9
