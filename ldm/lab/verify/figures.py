r"""The published figures: a few numbers of an output, the recipe of what went in, and how near is near enough.

They stand in `figures.json`, beside this file:

    {
      "about": "...",
      "releases": {"v1-4": {"family": "sd1", "repository": "CompVis/stable-diffusion-v1-4"}, ...},
      "figures": [
        {
          "name": "the VAE decodes noise, seed 13",
          "releases": ["v1-4"],                                  of which weights it holds
          "component": "vae.decode",                             a name from `checks.py`
          "inputs": {"latent": {"from": "philox", "seed": 13, "shape": [3, 4, 64, 64]}, "scale": 0.18215},
          "part": "-1, -2:, :2, -2:",                            which numbers of the output, as Python writes it
          "expected": [-0.2051, -0.1803, ...],
          "tolerance": 0.001,                                    the publisher's
          "source": "tests/models/.../test_models_autoencoder_kl.py::...::test_stable_diffusion_decode"
        }, ...
      ]
    }

What `inputs` may say is each component's business; what a recipe of numbers may say, that of `inputs.py`. A figure that
this program cannot measure has, in place of `component`, `inputs` and `part`, a reason: `"missing": "..."`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ldm.errors import LdmError
from ldm.files.read_write import LARGEST_TEXT, read_json


@dataclass(frozen=True)
class Figure:
    """One published result: some numbers of one output."""

    name: str
    releases: tuple[str, ...]
    expected: tuple[float, ...]
    tolerance: float
    source: str
    component: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""
    missing: str = ""  # why this program cannot measure it


@dataclass(frozen=True)
class Book:
    """Figures, and for each release of weights the family (a preset's name) that it belongs to."""

    families: Mapping[str, str]
    figures: tuple[Figure, ...]

    def of(self, family: str) -> tuple[Figure, ...]:
        """The figures that hold for releases of this family, with those releases alone."""
        ours = {name for name, its in self.families.items() if its == family}
        kept = [replace(f, releases=tuple(r for r in f.releases if r in ours)) for f in self.figures]
        return tuple(figure for figure in kept if figure.releases)


def read_figures(path: Path) -> Book:
    """A file of figures. Raises `LdmError` if it is missing, damaged, or names a release that it does not list."""
    try:
        found = read_json(path, LARGEST_TEXT)
        families = {name: release["family"] for name, release in found["releases"].items()}
        figures = tuple(_figure(entry) for entry in found["figures"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LdmError(f"{path} is no file of figures ({error!r}); fetch it again") from error
    unknown = {release for figure in figures for release in figure.releases} - families.keys()
    if unknown:
        raise LdmError(
            f"{path} has figures of {sorted(unknown)}, and lists {sorted(families)}; fetch it again"
        )
    return Book(families, figures)


def _figure(entry: dict[str, Any]) -> Figure:
    lists = {"releases": tuple(entry["releases"]), "expected": tuple(map(float, entry["expected"]))}
    return Figure(**entry | lists)


def published() -> Book:
    """The figures that diffusers' developers published with their tests, for the weights that everybody uses."""
    return read_figures(Path(__file__).parent / "figures.json")
