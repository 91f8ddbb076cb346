r"""Published reference values: a few numbers of an output, the recipe of its input, and a tolerance.

They are in `figures.json`, beside this file:

    {
      "about": "...",
      "releases": {"v1-4": {"family": "sd1", "repository": "CompVis/stable-diffusion-v1-4"}, ...},
      "figures": [
        {
          "name": "the VAE decodes noise, seed 13",
          "releases": ["v1-4"],                                  the weights that it is for
          "component": "vae.decode",                             a name from `checks.py`
          "inputs": {"latent": {"from": "philox", "seed": 13, "shape": [3, 4, 64, 64]}, "scale": 0.18215},
          "part": "-1, -2:, :2, -2:",                            a slice of the output, in Python's notation
          "expected": [-0.2051, -0.1803, ...],
          "tolerance": 0.001,                                    the publisher's
          "source": "tests/models/.../test_models_autoencoder_kl.py::...::test_stable_diffusion_decode"
        }, ...
      ]
    }

`checks.py` documents the `inputs` of each component and `inputs.py` the recipes. A reference that this program cannot
compute has a reason, `"missing": "..."`, in place of `component`, `inputs` and `part`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ldm.errors import LdmError
from ldm.files.read_write import LARGEST_TEXT, read_json


@dataclass(frozen=True)
class Reference:
    """Published numbers of one output."""

    name: str
    releases: tuple[str, ...]
    expected: tuple[float, ...]
    tolerance: float
    source: str
    component: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""
    missing: str = ""  # why this program cannot compute it


@dataclass(frozen=True)
class References:
    """References, and for each release of weights the family (a preset's name) that it belongs to."""

    families: Mapping[str, str]
    references: tuple[Reference, ...]

    def for_family(self, family: str) -> tuple[Reference, ...]:
        """The references for releases of this family, with only those releases."""
        ours = {name for name, its in self.families.items() if its == family}
        kept = [replace(ref, releases=tuple(r for r in ref.releases if r in ours)) for ref in self.references]
        return tuple(reference for reference in kept if reference.releases)


def read_references(path: Path) -> References:
    """Read a file of references. Raises `LdmError` if it is missing, damaged, or uses a release it does not list."""
    try:
        found = read_json(path, LARGEST_TEXT)
        families = {name: release["family"] for name, release in found["releases"].items()}
        references = tuple(_reference(entry) for entry in found["figures"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LdmError(f"{path} is not a file of reference values ({error!r}); fetch it again") from error
    unknown = {release for reference in references for release in reference.releases} - families.keys()
    if unknown:
        raise LdmError(
            f"{path} has values for {sorted(unknown)} and lists {sorted(families)}; fetch it again"
        )
    return References(families, references)


def _reference(entry: dict[str, Any]) -> Reference:
    lists = {"releases": tuple(entry["releases"]), "expected": tuple(map(float, entry["expected"]))}
    return Reference(**entry | lists)


def published_references() -> References:
    """The values that the developers of diffusers published with their tests, for the well-known weights."""
    return read_references(Path(__file__).parent / "figures.json")
