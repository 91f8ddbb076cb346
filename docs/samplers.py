r"""`make samplers`: what steps, guidance and shortcuts do to the tiny model's images, into docs/samplers.md.

Every sampler generates an image of each of 24 prompts in 10, 20 and 40 steps. Then the usual sampler generates 96
images at each guidance, and with each option that saves time. Each result is written to outputs/samplers.json as it
comes; an interrupted run goes on there.
"""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

import ldm
from ldm.diffusion.samplers import SAMPLERS
from ldm.files.read_write import atomic_path
from ldm.images.pixels import to_pixels
from ldm.lab.evaluate.adherence import fraction_correct, generate_images, judge_images, set_of_prompts
from ldm.lab.evaluate.diversity import mean_pairwise_distance, thumbnails
from ldm.lab.evaluate.judge import find_judge, read_judge
from ldm.pipeline import LatentDiffusion

DONE = Path("outputs/samplers.json")
PROMPTS, STEPS = 24, (10, 20, 40)
NOISE = 0.1  # a difference of two shares that may well be chance: less than one standard deviation of it
# LCM and TCD want models that are distilled for them.
NAMES = [name for name, row in SAMPLERS.items() if row.spacing != "lcm"]

JUDGED = 96  # prompts for each guidance and each option
GUIDANCES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
ALIKE = (3, 10)  # prompts, and images of each, to see how much the images of one prompt differ
INTERVAL = (0.3, 5.0)
SAVINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "`--guidance-interval 0.3 5`": {"guidance_interval": INTERVAL},
    "`--reuse 2`": {"reuse": 2},
    "`--reuse 3`": {"reuse": 3},
    "`--guidance-interval 0.3 5 --reuse 2`": {"guidance_interval": INTERVAL, "reuse": 2},
    "`--steps 10`": {"steps": 10},
    "`--sampler dpmpp_2m --steps 10`": {"sampler": "dpmpp_2m", "steps": 10},
    "`--guidance 1`": {"guidance": 1.0},
}

PAGE = """\
# Steps, guidance and shortcuts

## How many steps each sampler needs

The share of {prompts} images of the tiny model in which the judge
([`ldm/lab/evaluate/judge.py`](../ldm/lab/evaluate/judge.py)) finds everything that the prompt asks for: the first
{prompts} prompts of the set "seen", seeds 0 to {last}, guidance {guidance:g}. One image is {one:.0%}, so small
differences mean nothing: a number of steps is called enough if no larger one gets more than {noise:.0%} more. LCM and
TCD are not measured: they want models distilled for them. Written by `make samplers`.

{table}

PLMS and LMS extrapolate from the noise that they predicted at the last steps, which is inaccurate when steps are
long. On Stable Diffusion's schedule it made colours wrong, in an earlier tiny model. So where the caller does not say,
they take at least {plms} (PLMS) and {lms} (LMS) steps
([`LatentDiffusion.default_steps`](../ldm/pipeline.py#LatentDiffusion.default_steps)); the other samplers take the
model's own default of {usual}.

Karras levels suit this model less, whose schedule ends in pure noise: with ten steps, some samplers paint hardly
anything right at them. By default, these take fewer steps than were enough: {short}.

## How much guidance

Guidance buys adherence with variety. "Right" is the share of {judged} images, of other prompts of the same set, that
show everything the prompt asks for. "Variety" is how much {each} images of one prompt differ: the mean distance between
the thumbnails of two of them, averaged over {prompts_alike} prompts, as a multiple of that at guidance 1.

{guidance_table}

## What the shortcuts cost

Some options make an image in less time. Here is what each costs the tiny model in quality: the same {judged} prompts,
with the default sampler and {usual} steps where the option says nothing else. The work counts multiplications and
additions, from the prompt to the pixels. The distance is the mean difference, of 255, from the image of the same prompt
and seed without the option. A large distance is no fault in itself: the image may be different and just as good.

{shortcuts}

[Guidance in an interval](../ldm/diffusion/guidance.py#guidance_at) leaves out the second prediction where it matters
least; [reuse](../ldm/unet/deep_cache.py) computes the deep layers once in two or three steps.
"""


@cache
def model() -> LatentDiffusion:
    return ldm.load("tiny")


def judged(start: int, count: int, **options: Any) -> tuple[float, list[Any]]:
    """The share of images that are right, and the images, of `count` prompts from number `start`."""
    targets = set_of_prompts("seen", start + count)[start:]
    images = list(generate_images(model(), [target.prompt for target in targets], **options))
    return fraction_correct(list(judge_images(read_judge(find_judge("judge")), targets, images))), images


def variety(guidance: float) -> float:
    """How much the images of one prompt differ: the mean distance between the thumbnails of two."""
    count, each = ALIKE
    distances = [
        mean_pairwise_distance(
            thumbnails(to_pixels(list(generate_images(model(), [target.prompt] * each, guidance=guidance))))
        )
        for target in set_of_prompts("seen", PROMPTS + JUDGED + count)[-count:]
    ]
    return sum(distances) / count


def work(**options: Any) -> int:
    """The FLOPs of one image."""
    with FlopCounterMode(display=False) as counter:
        model().generate("a dog", seed=0, **options)
    return int(counter.get_total_flops())


def measure() -> dict[str, Any]:
    """For each sampler the share of images that are right, by the number of steps; for each guidance the share and the
    variety; and each option's costs."""
    found: dict[str, Any] = {"samplers": {}, "guidance": {}, "savings": {}}
    if DONE.exists():
        found |= json.loads(DONE.read_text())

    def keep(what: str, share: float) -> None:
        print(f"{what}: {share:.1%} right", file=sys.stderr)
        DONE.parent.mkdir(exist_ok=True)
        with atomic_path(DONE) as temporary:
            temporary.write_text(json.dumps(found))

    for name in NAMES:
        shares = found["samplers"].setdefault(name, {})
        for steps in STEPS:
            if str(steps) not in shares:
                shares[str(steps)], _ = judged(0, PROMPTS, sampler=name, steps=steps)
                keep(f"{name}, {steps} steps", shares[str(steps)])
    for guidance in GUIDANCES:
        if f"{guidance:g}" not in found["guidance"]:
            share, _ = judged(PROMPTS, JUDGED, guidance=guidance)
            found["guidance"][f"{guidance:g}"] = [share, variety(guidance)]
            keep(f"guidance {guidance:g}", share)
    if len(found["savings"]) < len(SAVINGS):
        _, usual = judged(PROMPTS, JUDGED)
        for name, options in SAVINGS.items():
            if name not in found["savings"]:
                share, images = judged(PROMPTS, JUDGED, **options)
                distance = (to_pixels(images) - to_pixels(usual)).abs().mean().item() * 255 / 2
                found["savings"][name] = [work(**options) / work(), share, distance]
                keep(name, share)
    return found


def table(*rows: list[str]) -> str:
    """A table of Markdown: its head, then its rows; numbers to the right."""
    ruler = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], ruler, *rows[1:]))


def page(found: dict[str, Any]) -> str:
    """The page of the docs."""
    defaults = model().config.defaults
    samplers, short = [], []
    for name in NAMES:
        shares = [found["samplers"][name][str(steps)] for steps in STEPS]
        enough = next(steps for steps, share in zip(STEPS, shares) if share >= max(shares) - NOISE)
        samplers.append([name, *(f"{share:.0%}" for share in shares), str(enough)])
        if enough > max(defaults.steps, SAMPLERS[name].min_default_steps):
            short.append(f"`{name}`")
    shortcuts = [
        [name, f"{work:.0%}", f"{share:.0%}", f"{distance:.1f}"]
        for name, (work, share, distance) in found["savings"].items()
    ]
    one = found["guidance"]["1"][1]
    guidance = [
        [scale, f"{share:.0%}", f"{variety / one:.2f}"]
        for scale, (share, variety) in found["guidance"].items()
    ]
    return PAGE.format(
        prompts=PROMPTS,
        last=PROMPTS - 1,
        guidance=defaults.guidance,
        one=1 / PROMPTS,
        noise=NOISE,
        usual=defaults.steps,
        plms=SAMPLERS["plms"].min_default_steps,
        lms=SAMPLERS["lms"].min_default_steps,
        judged=JUDGED,
        prompts_alike=ALIKE[0],
        each=ALIKE[1],
        short=", ".join(short) or "none",
        table=table(["sampler", *(f"{steps} steps" for steps in STEPS), "enough"], *samplers),
        guidance_table=table(["guidance", "right", "variety"], *guidance),
        shortcuts=table(["option", "work", "right", "distance"], *shortcuts),
    )


if __name__ == "__main__":
    print(page(measure()), end="")
