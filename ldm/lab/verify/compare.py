r"""Compare a model with the published values: what it computes, what was expected, and which release it agrees with.

A reference belongs to one release of weights (those of the VAE to several), but a model's sizes only determine its
family. So all references of the family are compared, and those of v1-1 fail on v1-4, as they should. A model agrees
with a release if none of its references fails and at least one that needs the U-Net passes.

    comparisons = verify(ldm.load("weights/sd15", dtype=torch.float32))
    print(comparison_table(comparisons))
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
from ldm.lab.verify.checks import WITH_UNET, compute
from ldm.lab.verify.inputs import missing_files
from ldm.lab.verify.references import Reference, published_references
from ldm.pipeline import LatentDiffusion

Verdict = Literal["agrees", "agrees in its VAE, the rest was not measured", "differs", "was not measured"]


@dataclass(frozen=True)
class Comparison:
    """A reference and the model's numbers (None: not computed)."""

    reference: Reference
    got: tuple[float, ...] | None = None
    reason: str = ""  # why it was not computed, or what went wrong

    @property
    def off_by(self) -> float:
        """The largest difference; NaN if any number is."""
        differences = [abs(a - b) for a, b in zip(self.got or (), self.reference.expected, strict=True)]
        return math.nan if any(map(math.isnan, differences)) else max(differences)

    @property
    def passed(self) -> bool | None:
        return None if self.got is None else self.off_by <= self.reference.tolerance


def family_of(config: Config) -> str | None:
    """The preset whose U-Net has the same sizes, None if there is none.

    Only tensor sizes count, and between presets of the same sizes the prediction type: a model with a wrong number of
    heads or a wrong VAE scale is still of its family and will fail its references.
    """
    alike = [preset for preset in PRESETS.values() if _sizes(preset) == _sizes(config)]
    same = [preset for preset in alike if preset.noise.prediction == config.noise.prediction]
    return next((preset.name for preset in [*same, *alike]), None)


def _sizes(config: Config) -> tuple[object, ...]:
    levels = tuple((level.channels, level.depth) for level in config.unet.levels)
    return levels, config.unet.context_width, config.unet.in_channels, config.unet.guidance_width


def compare(
    model: LatentDiffusion, references: Sequence[Reference], folder: Path | None = None
) -> list[Comparison]:
    """Compare a model with references. The publisher's files are read from `folder`; some references need them."""
    comparisons = []
    for reference in tqdm(references, desc="verifying", unit="reference", leave=False, disable=None):
        absent = missing_files(reference.inputs, folder)
        if reference.missing or absent:
            reason = reference.missing or f"needs a file we do not have: {', '.join(absent)}"
            comparisons.append(Comparison(reference, None, reason))
            continue
        try:
            comparisons.append(Comparison(reference, compute(model, reference, folder)))
        except LdmError as error:  # NaN means failure, and the next reference may show where
            comparisons.append(Comparison(reference, (math.nan,) * len(reference.expected), str(error)))
    return comparisons


def verify(
    model: LatentDiffusion, release: str | None = None, folder: Path | None = None
) -> list[Comparison]:
    """Compare a model with the published values of its family, or only of one `release`, such as "v1-4".

    Raises `LdmError` if nothing was published for its family, and for a model in half precision, in which rounding
    alone would make references fail.
    """
    published, family = published_references(), family_of(model.config)
    if model.dtype in (torch.float16, torch.bfloat16):
        raise LdmError(
            f"a model in {model.dtype}; the values are compared in float32: load it with that dtype"
        )
    if release is not None and release not in published.families:
        raise LdmError(f"release {release!r}; expected one of {', '.join(published.families)}")
    if family is None or family not in published.families.values():
        known = ", ".join(sorted(set(published.families.values())))
        raise LdmError(
            f"nothing was published for a model of the sizes of {model.config.name!r}; there are values for {known}"
        )
    if release is not None and published.families[release] != family:
        raise LdmError(
            f"release {release!r} is of the family {published.families[release]}; this model is of {family}"
        )
    references = published.for_family(family)
    if release is not None:
        references = tuple(replace(r, releases=(release,)) for r in references if release in r.releases)
    return compare(model, references, folder)


def verdicts(comparisons: Sequence[Comparison]) -> dict[str, Verdict]:
    """The verdict on each release that occurs in the comparisons."""
    releases = dict.fromkeys(
        release for comparison in comparisons for release in comparison.reference.releases
    )
    return {name: _verdict([o for o in comparisons if name in o.reference.releases]) for name in releases}


def _verdict(comparisons: Sequence[Comparison]) -> Verdict:
    if any(comparison.passed is False for comparison in comparisons):
        return "differs"
    passed = [comparison.reference.component for comparison in comparisons if comparison.passed]
    if any(component in WITH_UNET for component in passed):
        return "agrees"
    return "agrees in its VAE, the rest was not measured" if passed else "was not measured"


def agrees(comparisons: Sequence[Comparison], release: str | None = None) -> bool:
    """Whether the model agrees with some release; for a given `release`, whether something passes and nothing fails.

    The second condition is weaker: for v1-5, only the VAE can be compared without the publisher's files.
    """
    said = verdicts(comparisons)
    return "agrees" in said.values() or (release is not None and said[release].startswith("agrees"))


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """All comparisons by release, pass or FAIL with the numbers, or why there are none; then the verdicts."""
    lines: list[str] = []
    ordered = sorted(comparisons, key=_releases)  # by release, in a stable order
    for releases, group in groupby(ordered, key=_releases):
        lines += [", ".join(releases), *(line for comparison in group for line in _lines(comparison)), ""]
    counts = [sum(comparison.passed is state for comparison in comparisons) for state in (True, False, None)]
    lines.append("{} passed, {} failed, {} not measured".format(*counts))
    return "\n".join([*lines, *(f"{release}: {verdict}" for release, verdict in verdicts(ordered).items())])


def _releases(comparison: Comparison) -> tuple[str, ...]:
    return comparison.reference.releases


def _lines(comparison: Comparison) -> list[str]:
    reference = comparison.reference
    if comparison.got is None:
        return [f"  -     {reference.name}: {comparison.reason}"]
    mark = "pass" if comparison.passed else "FAIL"
    head = f"  {mark}  {reference.name}: off by {comparison.off_by:.5f}, tolerance {reference.tolerance:g}"
    rows = {"got": comparison.got, "expected": reference.expected}
    numbers = [f"        {name:<8} {' '.join(f'{x:8.4f}' for x in values)}" for name, values in rows.items()]
    return [head, *numbers, *([f"        {comparison.reason}"] if comparison.reason else [])]
