r"""The published figures, run on a model: what came out, what was expected, and what that says about the model.

A figure belongs to one release of weights, the VAE's to several; a model's sizes only tell its family. So all figures
of the family are run, and those of v1-1 fail on v1-4, as they should. The question is whether there is a release that
the model agrees with: one of whose figures none fails, and at least one passes that needs the U-Net.

    outcomes = run(ldm.load("weights/sd15", dtype=torch.float32))
    print(table(outcomes))
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from ldm.config import PRESETS, Config
from ldm.errors import LdmError
from ldm.lab.verify.checks import WITH_UNET, measure
from ldm.lab.verify.figures import Figure, published
from ldm.lab.verify.inputs import missing_files
from ldm.pipeline import LatentDiffusion

Verdict = Literal["agrees", "agrees in its VAE, the rest was not measured", "differs", "was not measured"]


@dataclass(frozen=True)
class Outcome:
    """A figure, and what a model gave in its place (None: it was not measured)."""

    figure: Figure
    got: tuple[float, ...] | None = None
    reason: str = ""  # why it was not measured, or what went wrong

    @property
    def off_by(self) -> float:
        """The largest difference; NaN if one of the numbers is."""
        differences = [abs(a - b) for a, b in zip(self.got or (), self.figure.expected, strict=True)]
        return math.nan if any(map(math.isnan, differences)) else max(differences)

    @property
    def passed(self) -> bool | None:
        return None if self.got is None else self.off_by <= self.figure.tolerance


def family_of(config: Config) -> str | None:
    """The preset whose U-Net has the sizes of this one, None if there is none.

    Only sizes that tensors have count, and between presets of the same sizes the prediction: a model that was given a
    wrong number of heads or a wrong VAE scale is still of its family, and will fail its figures.
    """
    alike = [preset for preset in PRESETS.values() if _sizes(preset) == _sizes(config)]
    same = [preset for preset in alike if preset.noise.prediction == config.noise.prediction]
    return next((preset.name for preset in [*same, *alike]), None)


def _sizes(config: Config) -> tuple[object, ...]:
    levels = tuple((level.channels, level.depth) for level in config.unet.levels)
    return levels, config.unet.context_width, config.unet.in_channels


def verify(model: LatentDiffusion, figures: Sequence[Figure], folder: Path | None = None) -> list[Outcome]:
    """Measure these figures. Files of the publisher are looked for in `folder`; without them, some must be left out."""
    outcomes = []
    for figure in tqdm(figures, desc="verifying", unit="figure", leave=False, disable=None):
        absent = missing_files(figure.inputs, folder)
        if figure.missing or absent:
            reason = figure.missing or f"needs a file we do not have: {', '.join(absent)}"
            outcomes.append(Outcome(figure, None, reason))
            continue
        try:
            outcomes.append(Outcome(figure, measure(model, figure, folder)))
        except LdmError as error:  # a model of NaN has failed, and the next figure may say where
            outcomes.append(Outcome(figure, (math.nan,) * len(figure.expected), str(error)))
    return outcomes


def run(model: LatentDiffusion, release: str | None = None, folder: Path | None = None) -> list[Outcome]:
    """Measure the published figures of the model's family, or only those of one `release`, such as "v1-4".

    Raises `LdmError` if nothing was published for such a model, and for one in half precision, whose rounding alone
    would make figures fail.
    """
    book, family = published(), family_of(model.config)
    if model.dtype in (torch.float16, torch.bfloat16):
        raise LdmError(f"a model in {model.dtype}; figures are compared in float32: load it with that dtype")
    if release is not None and release not in book.families:
        raise LdmError(f"release {release!r}; expected one of {', '.join(book.families)}")
    if family is None or family not in book.families.values():
        known = ", ".join(sorted(set(book.families.values())))
        raise LdmError(
            f"nothing was published for a model of the sizes of {model.config.name!r}; there are figures for {known}"
        )
    if release is not None and book.families[release] != family:
        raise LdmError(
            f"release {release!r} is of the family {book.families[release]}; this model is of {family}"
        )
    figures = book.of(family)
    if release is not None:
        figures = tuple(replace(f, releases=(release,)) for f in figures if release in f.releases)
    return verify(model, figures, folder)


def verdicts(outcomes: Sequence[Outcome]) -> dict[str, Verdict]:
    """What the outcomes say of each release that they speak of."""
    releases = dict.fromkeys(release for outcome in outcomes for release in outcome.figure.releases)
    return {name: _verdict([o for o in outcomes if name in o.figure.releases]) for name in releases}


def _verdict(outcomes: Sequence[Outcome]) -> Verdict:
    if any(outcome.passed is False for outcome in outcomes):
        return "differs"
    passed = [outcome.figure.component for outcome in outcomes if outcome.passed]
    if any(component in WITH_UNET for component in passed):
        return "agrees"
    return "agrees in its VAE, the rest was not measured" if passed else "was not measured"


def satisfied(outcomes: Sequence[Outcome], release: str | None = None) -> bool:
    """Is there a release that the model agrees with? Of one that was named, nothing may fail and something must pass.

    The second is less: of v1-5, for instance, nothing but the VAE can be measured without the publisher's files.
    """
    said = verdicts(outcomes)
    return "agrees" in said.values() or (release is not None and said[release].startswith("agrees"))


def table(outcomes: Sequence[Outcome]) -> str:
    """All outcomes for reading, by release: pass or FAIL with the numbers, or why there are none; then the verdicts."""
    lines: list[str] = []
    ordered = sorted(outcomes, key=_releases)  # by release; in a release as they were
    for releases, group in groupby(ordered, key=_releases):
        lines += [", ".join(releases), *(line for outcome in group for line in _lines(outcome)), ""]
    counts = [sum(outcome.passed is state for outcome in outcomes) for state in (True, False, None)]
    lines.append("{} passed, {} failed, {} not measured".format(*counts))
    return "\n".join([*lines, *(f"{release}: {verdict}" for release, verdict in verdicts(ordered).items())])


def _releases(outcome: Outcome) -> tuple[str, ...]:
    return outcome.figure.releases


def _lines(outcome: Outcome) -> list[str]:
    figure = outcome.figure
    if outcome.got is None:
        return [f"  -     {figure.name}: {outcome.reason}"]
    mark = "pass" if outcome.passed else "FAIL"
    head = f"  {mark}  {figure.name}: off by {outcome.off_by:.5f}, tolerance {figure.tolerance:g}"
    rows = {"got": outcome.got, "expected": figure.expected}
    numbers = [f"        {name:<8} {' '.join(f'{x:8.4f}' for x in values)}" for name, values in rows.items()]
    return [head, *numbers, *([f"        {outcome.reason}"] if outcome.reason else [])]
