r"""The published references: each can be read, made and sliced as it says."""

import json

import pytest
import torch

from ldm.config import PRESETS
from ldm.diffusion.samplers import find_sampler
from ldm.errors import LdmError
from ldm.lab.verify.checks import COMPONENTS, parse_slices
from ldm.lab.verify.inputs import is_recipe, make_input, missing_files
from ldm.lab.verify.references import published_references, read_references

REFERENCES = published_references().references
MEASURED = [reference for reference in REFERENCES if not reference.missing]


def output_shape(reference):
    r"""The shape of what a component returns, from that of what goes in."""
    shapes = [value["shape"] for value in reference.inputs.values() if is_recipe(value) and "shape" in value]
    b, c, h, w = shapes[0]
    return {
        "vae.decode": (b, 3, 8 * h, 8 * w),
        "vae.encode": (b, 4, h // 8, w // 8),
        "vae.round_trip": (b, c, h, w),
        "unet": (b, 4, h, w),
        "latent": (b, c, h, w),
        "image": (b, 8 * h, 8 * w, 3),
    }[reference.component]


@pytest.mark.parametrize("reference", MEASURED, ids=lambda f: f"{f.releases[-1]}-{f.name}".replace(" ", "_"))
def test_the_part_of_the_output_has_as_many_numbers_as_are_expected(reference):
    output = torch.empty(output_shape(reference), device="meta")
    assert output[parse_slices(reference.part)].numel() == len(reference.expected)


def test_every_reference_names_what_exists():
    for reference in REFERENCES:
        assert reference.expected and reference.tolerance > 0 and reference.source.startswith("tests/")
        assert bool(reference.missing) != (reference.component in COMPONENTS)
        if "sampler" in reference.inputs:
            find_sampler(reference.inputs["sampler"])
    assert len({(f.name, f.releases) for f in REFERENCES}) == len(REFERENCES)


@pytest.mark.parametrize(
    ("family", "offline", "needing_files", "never"),
    [
        *(("sd1", 11, 25, 8), ("sd1-inpaint", 4, 16, 5), ("sd2-base", 2, 0, 0), ("sd2-v", 6, 4, 0)),
        *(("sd1-lcm", 2, 0, 0), ("sdxl", 1, 1, 0)),
    ],
)
def test_so_many_references_of_each_family_can_be_measured(family, offline, needing_files, never):
    references = published_references().for_family(family)
    measured = [reference for reference in references if not reference.missing]
    here = [reference for reference in measured if not missing_files(reference.inputs, None)]
    assert (len(here), len(measured) - len(here), len(references) - len(measured)) == (
        offline,
        needing_files,
        never,
    )


def test_every_input_that_needs_no_file_can_be_made():
    recipes = [value for reference in MEASURED for value in reference.inputs.values() if is_recipe(value)]
    made = [recipe for recipe in recipes if recipe["from"] not in ("file", "lora")]
    assert made
    for recipe in made:
        assert list(make_input(recipe, None).shape) == recipe["shape"]


def test_families_are_presets_and_a_family_sees_only_its_own_releases():
    book = published_references()
    assert set(book.families.values()) <= PRESETS.keys()
    decoded = [
        reference.releases
        for reference in book.for_family("sd1-inpaint")
        if reference.component == "vae.decode"
    ]
    assert decoded == [("v1-5-inpainting",)] * 4


def test_references_are_in_the_file_as_they_were_published_references():
    by_source = {
        reference.source.rpartition("::")[2]: reference
        for reference in REFERENCES
        if "image" in reference.component
    }
    ddim = by_source["test_stable_diffusion_ddim"]
    assert (ddim.releases, ddim.tolerance) == (("v1-4",), 1e-4)
    assert ddim.expected[:3] == (0.38019, 0.28647, 0.27321)
    assert by_source["test_stable_diffusion_v_pred_euler"].expected[:3] == (0.1781, 0.1695, 0.1661)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"releases": {}, "figures": [{"name": "a"}]}',
        '{"releases": {"a": 1}, "figures": []}',
        '{"releases": {}, "figures": [{"name": "a", "releases": [], "unknown": 1}]}',
    ],
)
def test_a_damaged_file_of_references_is_an_error(tmp_path, text):
    (tmp_path / "figures.json").write_text(text)
    with pytest.raises(LdmError, match="not a file of reference values|is not valid JSON"):
        read_references(tmp_path / "figures.json")


def test_a_reference_of_an_unlisted_release_is_an_error(tmp_path):
    reference = {"name": "a", "releases": ["v9"], "expected": [1], "tolerance": 1.0, "source": ""}
    (tmp_path / "figures.json").write_text(json.dumps({"releases": {}, "figures": [reference]}))
    with pytest.raises(LdmError, match="values for \\['v9'\\] and lists \\[\\]"):
        read_references(tmp_path / "figures.json")
