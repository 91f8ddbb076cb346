r"""The reference's side of the benchmark works, and does the same work as ours."""

import math
from functools import partial

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import torch

import ldm
from ldm.lab.bench import cases, networks, stopwatch
from tests.golden.compare import assert_same
from tests.lab.bench import theirs
from tests.lab.bench.conftest import SIZES, folder

pytestmark = pytest.mark.reference
assert folder  # a fixture


# The compiler does not get along with the shapes' checks that tests are run with.
@pytest.mark.parametrize("case", sorted(theirs.CASES.keys() - {"tokenizer", "cuda-unet-compiled"}))
def test_a_case_finds_the_numbers_that_ours_finds(folder, case, monkeypatch):
    # The product of two large matrices takes an hour in half precision where nothing is made for it.
    monkeypatch.setattr(stopwatch, "matmul_flops", partial(stopwatch.matmul_flops, side=64))
    found, own = theirs.CASES[case](folder, SIZES), cases.CASES[case](folder, SIZES)
    assert own.keys() - found.keys() <= {"memory"} and found.keys() <= own.keys()
    assert all(math.isfinite(number) and number > 0 for number in found.values())


@torch.no_grad()
def test_both_evaluate_the_same_latent_with_the_same_context(folder):
    model, pipeline = ldm.load(folder, torch.float32), theirs.load(folder, torch.float32)
    _, eps = networks.evaluation(model, SIZES)()
    assert_same(eps, theirs.evaluation(pipeline.unet, SIZES, torch.float32)(), 1e-5)
