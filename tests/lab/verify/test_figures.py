r"""The published figures: that each of them can be read, made and cut out as it says."""

import json

import pytest
import torch

from ldm.config import PRESETS
from ldm.diffusion.samplers import find_sampler
from ldm.errors import LdmError
from ldm.lab.verify.checks import COMPONENTS, slices
from ldm.lab.verify.figures import published, read_figures
from ldm.lab.verify.inputs import is_recipe, make_input, missing_files

FIGURES = published().figures
MEASURED = [figure for figure in FIGURES if not figure.missing]


def output_shape(figure):
    r"""The shape of what a component returns, from that of what goes in."""
    shapes = [value["shape"] for value in figure.inputs.values() if is_recipe(value)]
    b, c, h, w = shapes[0]
    return {
        "vae.decode": (b, 3, 8 * h, 8 * w),
        "vae.encode": (b, 4, h // 8, w // 8),
        "vae.round_trip": (b, c, h, w),
        "unet": (b, 4, h, w),
        "latent": (b, c, h, w),
        "image": (b, 8 * h, 8 * w, 3),
    }[figure.component]


@pytest.mark.parametrize("figure", MEASURED, ids=lambda f: f"{f.releases[-1]}-{f.name}".replace(" ", "_"))
def test_the_part_of_the_output_has_as_many_numbers_as_are_expected(figure):
    output = torch.empty(output_shape(figure), device="meta")
    assert output[slices(figure.part)].numel() == len(figure.expected)


def test_every_figure_names_what_exists():
    for figure in FIGURES:
        assert figure.expected and figure.tolerance > 0 and figure.source.startswith("tests/")
        assert bool(figure.missing) != (figure.component in COMPONENTS)
        if "sampler" in figure.inputs:
            find_sampler(figure.inputs["sampler"])
    assert len({(f.name, f.releases) for f in FIGURES}) == len(FIGURES)


@pytest.mark.parametrize(
    ("family", "offline", "needing_files", "never"),
    [("sd1", 11, 24, 8), ("sd1-inpaint", 4, 16, 5), ("sd2-base", 2, 0, 0), ("sd2-v", 6, 4, 0)],
)
def test_so_many_figures_of_each_family_can_be_measured(family, offline, needing_files, never):
    figures = published().of(family)
    measured = [figure for figure in figures if not figure.missing]
    here = [figure for figure in measured if not missing_files(figure.inputs, None)]
    assert (len(here), len(measured) - len(here), len(figures) - len(measured)) == (
        offline,
        needing_files,
        never,
    )


def test_every_input_that_needs_no_file_can_be_made():
    recipes = [value for figure in MEASURED for value in figure.inputs.values() if is_recipe(value)]
    made = [recipe for recipe in recipes if recipe["from"] != "file"]
    assert made
    for recipe in made:
        assert list(make_input(recipe, None).shape) == recipe["shape"]


def test_families_are_presets_and_a_family_sees_only_its_own_releases():
    book = published()
    assert set(book.families.values()) <= PRESETS.keys()
    decoded = [figure.releases for figure in book.of("sd1-inpaint") if figure.component == "vae.decode"]
    assert decoded == [("v1-5-inpainting",)] * 4


def test_figures_stand_in_the_file_as_they_were_published():
    by_source = {
        figure.source.rpartition("::")[2]: figure for figure in FIGURES if "image" in figure.component
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
def test_a_damaged_file_of_figures_is_an_error(tmp_path, text):
    (tmp_path / "figures.json").write_text(text)
    with pytest.raises(LdmError, match="no file of figures|is not valid JSON"):
        read_figures(tmp_path / "figures.json")


def test_a_figure_of_an_unlisted_release_is_an_error(tmp_path):
    figure = {"name": "a", "releases": ["v9"], "expected": [1], "tolerance": 1.0, "source": ""}
    (tmp_path / "figures.json").write_text(json.dumps({"releases": {}, "figures": [figure]}))
    with pytest.raises(LdmError, match="figures of \\['v9'\\], and lists \\[\\]"):
        read_figures(tmp_path / "figures.json")
