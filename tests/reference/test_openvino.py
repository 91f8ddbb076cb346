r"""OpenVINO's side of the benchmark computes what diffusers computes, in the precision that it is asked for."""

from collections import Counter
from importlib.util import find_spec

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
if find_spec("openvino") is None:  # it is not imported here: see `by_openvino` about its statistics
    pytest.skip("openvino is not installed", allow_module_level=True)

import torch

from ldm.lab.bench import cases
from tests.lab.bench import by_openvino
from tests.lab.bench.by_openvino import INT8, NETWORKS, compiled, convert, file_of, inputs, quantize
from tests.lab.bench.conftest import SIZES, folder

pytestmark = pytest.mark.reference
assert folder  # a fixture


@pytest.fixture(scope="module")
def converted(folder):
    r"""The model's folder, with its three networks as OpenVINO reads them."""
    for network in NETWORKS:
        convert(folder, SIZES, network)
    quantize(folder, SIZES)
    return folder


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_it_agrees_with_diffusers(converted, network):
    given = inputs(network, SIZES)
    expected = NETWORKS[network](converted)(*given)
    # In bfloat16 each of a hundred layers rounds to 8 bits; float32 is what says that the network is the same.
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.1)):
        error = compiled(converted, SIZES, network, dtype)(*given) - expected
        assert error.norm() / expected.norm() < tolerance, dtype


@pytest.mark.parametrize(("hint", "other"), [("bf16", "f32"), ("f32", "bf16")])
def test_all_products_are_in_the_precision_that_was_asked_for(converted, hint, other):
    core = by_openvino.openvino.Core()
    if hint == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no instructions for it")
    model = core.compile_model(file_of(converted, "unet"), "CPU", {"INFERENCE_PRECISION_HINT": hint})
    found = Counter(
        (info["layerType"].astype(str), info["runtimePrecision"].astype(str))
        for info in (part.get_rt_info() for part in model.get_runtime_model().get_ops())
    )
    for kind in ("Convolution", "FullyConnected"):
        assert found[kind, hint] > 10 and not found[kind, other]


@torch.no_grad()
def test_in_8_bits_most_products_are_of_integers(converted):
    core = by_openvino.openvino.Core()
    model = core.compile_model(file_of(converted, INT8), "CPU")
    found = Counter(
        (info["layerType"].astype(str), info["runtimePrecision"].astype(str))
        for info in (part.get_rt_info() for part in model.get_runtime_model().get_ops())
    )
    for kind in ("Convolution", "FullyConnected"):
        integers = found[kind, "i8"] + found[kind, "u8"]
        assert integers > 10 and integers > 9 * (found[kind, "bf16"] + found[kind, "f32"])
    given = inputs(INT8, SIZES)
    error = compiled(converted, SIZES, INT8, torch.bfloat16)(*given) - NETWORKS["unet"](converted)(*given)
    assert error.norm() / NETWORKS["unet"](converted)(*given).norm() < 0.2


@pytest.mark.parametrize("case", sorted(by_openvino.CASES))
def test_a_case_finds_the_numbers_that_ours_finds(converted, case):
    found, own = by_openvino.CASES[case](converted, SIZES), cases.CASES[case](converted, SIZES)
    assert own.keys() - found.keys() <= {"memory"} and found.keys() <= own.keys()
    assert all(number > 0 for number in found.values())
