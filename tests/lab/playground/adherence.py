r"""Does the page follow its prompts as well as Python does, by the judge of `ldm evaluate`?

    make playground && .venv/bin/python -m tests.lab.playground.adherence

The page is opened from a disk, so its weights are in 8 bits. Takes some minutes: too long for a test. Exits with 1 if
the two differ by more than a point.
"""

import sys
import tempfile
from pathlib import Path

from ldm.lab.evaluate.adherence import fraction_correct, generate_images, judge_images, set_of_prompts
from ldm.lab.evaluate.judge import find_judge, read_judge
from ldm.loading import load
from tests.lab.playground.painting import BUILT, paint
from tests.lab.trace.chromium import Chromium

EACH = 50  # prompts in English, and as many in French
OPTIONS = {"steps": 8, "guidance": 4.0, "sampler": "dpmpp_2m"}
POINT = 0.01


def main() -> int:
    targets = [*set_of_prompts("seen", EACH), *set_of_prompts("french", EACH)]
    judge, model = read_judge(find_judge("judge")), load("tiny", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        browser = Chromium(Path(folder) / "profile")
        try:
            browser.open(BUILT / "index.html", 1000, 900)
            painted = (paint(browser, prompt=t.prompt, seed=s, **OPTIONS)[1] for s, t in enumerate(targets))
            in_the_page = list(judge_images(judge, targets, painted))
        finally:
            browser.close()
    images = generate_images(model, [target.prompt for target in targets], **OPTIONS)
    in_python = list(judge_images(judge, targets, images))
    ours, theirs = fraction_correct(in_python), fraction_correct(in_the_page)
    differ = sum(one.missing != other.missing for one, other in zip(in_python, in_the_page))
    print(f"adherence of {len(targets)} images: {theirs:.1%} in the page, {ours:.1%} in Python")
    print(f"the judge's answers differ for {differ} of them")
    return int(abs(theirs - ours) > POINT + 1e-9)


if __name__ == "__main__":
    sys.exit(main())
