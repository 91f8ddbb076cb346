r"""The comparisons of the golden tests, live, and at full size too (`parity.py` prints the figures)."""

import gc
import gzip
import json

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from ldm.diffusion.guidance import rescale_guidance
from ldm.lab.museum.rooms import MISTAKES
from tests.golden import make, make_layouts
from tests.golden.compare import assert_same, golden
from tests.mutants.live import made
from tests.reference.parity import CASES, explain

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.component}-{case.kind}".replace(" ", "_"))
def test_the_outputs_equal_the_reference(case):
    found = case.largest_difference()
    assert found <= case.tolerance, f"{found:.1e}\n{explain(case)}"
    gc.collect()  # a full-sized model may be a few gigabytes


@pytest.mark.parametrize(
    ("number", "component", "kind", "layer"),
    [
        ("6", "U-Net", "small, sd1 kind", "down.0.attn.0.layers.0.feed_forward.proj_out"),
        ("2", "VAE", "small, sd kind", "encoder.down.0.downsample.conv"),
    ],
)
def test_a_case_that_fails_names_the_layer_and_the_mistake(number, component, kind, layer):
    [case] = [case for case in CASES if (case.component, case.kind) == (component, kind)]
    [mistake] = [mistake for mistake in MISTAKES if mistake.number == number]
    with made(mistake), torch.no_grad():
        words = explain(case)
    assert f"The first layer that differs is {layer} " in words and f"{number}, {mistake.name}." in words


@pytest.mark.parametrize("name", ["text", "clip", "vae", "unet", "schedule", "samplers", "solvers", "layers"])
def test_the_golden_files_are_what_the_reference_answers_now(name):
    # Tables of float32 numbers go into some of them, and there processors may differ in the last bit.
    tolerance = 1e-10 if name in ("text", "clip", "vae") else 1e-4
    stored, made = golden(name), getattr(make, f"make_{name}")()
    assert stored.keys() == made.keys()
    for key in stored:
        assert_same(made[key].double(), stored[key].double(), tolerance)


def test_the_recorded_names_and_folders_are_those_of_the_libraries_now():
    with gzip.open(make_layouts.FILE) as file:
        stored = json.load(file)
    assert json.loads(json.dumps(make_layouts.make_layouts())) == stored


def test_rescaled_guidance_equals_the_reference():
    guided, cond = 5 * make.numbers(1, 2, 4, 3, 5), make.numbers(2, 2, 4, 3, 5)
    assert_same(rescale_guidance(guided, cond, 0.7), rescale_noise_cfg(guided, cond, 0.7), 1e-14)
