r"""`make samplers`: how many steps each sampler needs with the tiny model, by the judge, into docs/samplers.md.

Every sampler generates an image of each of 32 prompts, first in 20 steps, then in 30, 40 and 50, until the judge finds
no fault in any of them. Each result is written to outputs/samplers.json as it comes; an interrupted run goes on there.
"""

import json
import sys
from pathlib import Path

import ldm
from ldm.diffusion.samplers import SAMPLERS
from ldm.files.read_write import atomic_path
from ldm.lab.evaluate.adherence import fraction_correct, generate_images, judge_images, scene_prompts
from ldm.lab.evaluate.judge import find_judge, read_judge

DONE = Path("outputs/samplers.json")
PROMPTS, STEPS = 32, (20, 30, 40, 50)
# LCM and TCD need models that are distilled for them.
NAMES = [name for name, row in SAMPLERS.items() if row.spacing != "lcm"]
PAGE = """\
# How many steps each sampler needs

The share of {prompts} images of the tiny model in which the judge
([`ldm/lab/evaluate/judge.py`](../ldm/lab/evaluate/judge.py)) finds every attribute right: the first {prompts} prompts
of the set "seen", seeds 0 to {last}, guidance {guidance:g}. Once all images of a sampler are right, it is not measured
with more steps. One image is {one:.0%}, so small differences mean nothing. LCM and TCD are left out, because they need
models that were distilled for them. Written by `make samplers`.

{table}

PLMS and LMS extrapolate from the noise predicted at earlier steps, which is inaccurate when steps are long. So unless
the caller gives a number, PLMS takes at least {plms} steps and LMS at least {lms}
([`LatentDiffusion.default_steps`](../ldm/pipeline.py#LatentDiffusion.default_steps)); all other samplers take the
model's own default, {usual}.
"""


def measure() -> dict[str, dict[str, float]]:
    """For each sampler the share of images that are right, by the number of steps."""
    found: dict[str, dict[str, float]] = json.loads(DONE.read_text()) if DONE.exists() else {}
    model, judge = ldm.load("tiny"), read_judge(find_judge("judge"))
    targets = scene_prompts("seen", PROMPTS)
    for name in NAMES:
        shares = found.setdefault(name, {})
        for steps in STEPS:
            if 1 in shares.values():
                break
            if str(steps) not in shares:
                prompts = [target.prompt for target in targets]
                images = generate_images(model, prompts, sampler=name, steps=steps)
                shares[str(steps)] = fraction_correct(list(judge_images(judge, targets, images)))
                print(f"{name}, {steps} steps: {shares[str(steps)]:.1%} right", file=sys.stderr)
                with atomic_path(DONE) as temporary:
                    temporary.write_text(json.dumps(found))
    return found


def page(found: dict[str, dict[str, float]]) -> str:
    """The page of the docs."""
    rows = [["sampler", *(f"{steps} steps" for steps in STEPS)], ["---", *["---:"] * len(STEPS)]]
    for name in NAMES:
        shares = found[name]
        rows.append([name, *(f"{shares[str(s)]:.0%}" if str(s) in shares else "" for s in STEPS)])
    defaults = ldm.load("tiny").config.defaults
    return PAGE.format(
        prompts=PROMPTS,
        last=PROMPTS - 1,
        guidance=defaults.guidance,
        one=1 / PROMPTS,
        usual=defaults.steps,
        plms=SAMPLERS["plms"].min_default_steps,
        lms=SAMPLERS["lms"].min_default_steps,
        table="\n".join(f"| {' | '.join(row)} |" for row in rows),
    )


if __name__ == "__main__":
    print(page(measure()), end="")
