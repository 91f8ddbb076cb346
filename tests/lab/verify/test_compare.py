r"""A right model passes, a wrong one fails; and what is said of a model follows from its comparisons."""

import math
from dataclasses import replace

import pytest
import torch

from ldm.config import PRESETS, SD1, SD1_INPAINT, SD2_BASE, SD2_V, NoiseConfig, UNetLevel
from ldm.errors import LdmError
from ldm.lab.verify import compare as module
from ldm.lab.verify.compare import (
    Comparison,
    agrees,
    compare,
    comparison_table,
    family_of,
    verdicts,
    verify,
)
from ldm.lab.verify.references import Reference


def failed(comparisons):
    return {comparison.reference.component for comparison in comparisons if comparison.passed is False}


@pytest.mark.parametrize("dtype", [torch.float64, pytest.param(torch.float32, marks=pytest.mark.long)])
@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_the_right_model_passes_every_reference(build, recorded, files, prediction, dtype):
    family = f"small-{prediction}"
    comparisons = compare(build(prediction).to(dtype), recorded.for_family(family), files)
    assert [comparison.reference.name for comparison in comparisons if not comparison.passed] == []
    assert len(comparisons) == {"eps": 11, "v": 10}[prediction]
    assert verdicts(comparisons) == {family: "agrees"}


def test_no_image_of_the_small_model_hides_behind_black_or_white(recorded):
    images = [reference.expected for reference in recorded.references if reference.component == "image"]
    assert all(sum(0 < x < 1 for x in expected) >= 4 for expected in images)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("text.layers.0.attn.v.weight", {"latent", "image"}),
        pytest.param("unet.conv_in.weight", {"unet", "latent", "image"}, marks=pytest.mark.long),
        ("unet.mid.attn.layers.0.cross_attn.k.weight", {"unet", "latent", "image"}),
        pytest.param("vae.encoder.conv_in.bias", {"vae.encode", "vae.round_trip"}, marks=pytest.mark.long),
        ("vae.decoder.conv_in.bias", {"vae.decode", "vae.round_trip", "image"}),
    ],
)
def test_a_model_with_one_number_changed_fails_where_that_number_counts(
    build, recorded, files, name, expected
):
    model = build()
    with torch.no_grad():
        model.get_parameter(name).view(-1)[0] += 1
    comparisons = compare(model, recorded.for_family("small-eps"), files)
    assert failed(comparisons) == expected
    assert verdicts(comparisons) == {"small-eps": "differs"}


@pytest.mark.parametrize("right", ["eps", "v"])
def test_a_model_with_the_wrong_prediction_fails(build, recorded, files, right):
    wrong = {"eps": "v", "v": "eps"}[right]
    comparisons = compare(build(wrong), recorded.for_family(f"small-{right}"), files)
    assert failed(comparisons) == {"latent", "image"}


def test_a_model_whose_vae_scale_is_lost_fails(build, recorded, files):
    model = build()
    model.vae.scale = 1.0
    assert failed(compare(model, recorded.for_family("small-eps"), files)) == {
        "vae.decode",
        "vae.encode",
        "image",
    }


def test_a_model_with_the_wrong_number_of_heads_fails(build, recorded, files):
    unet = replace(build().config.unet, levels=(UNetLevel(16, 2, 1), UNetLevel(32, 4, 0)))
    comparisons = compare(build(unet=unet), recorded.for_family("small-eps"), files)
    assert failed(comparisons) == {"unet", "latent", "image"}


def test_a_model_of_nan_fails(build, recorded, files):
    model = build()
    with torch.no_grad():
        model.unet.conv_out.bias.fill_(math.nan)
    comparisons = compare(model, recorded.for_family("small-eps"), files)
    assert failed(comparisons) == {"unet", "latent", "image"}
    assert "nan" in comparison_table(comparisons)


def test_an_error_on_the_way_is_a_failure_with_its_reason(build, recorded):
    reference = next(reference for reference in recorded.references if reference.component == "latent")
    wrong = replace(reference, inputs={**reference.inputs, "sampler": "dice"})
    [comparison] = compare(build(), [wrong])
    assert comparison.passed is False and "'dice'" in comparison.reason


def test_without_its_files_a_reference_is_listed_and_not_computed(build, recorded):
    comparisons = compare(
        build(),
        [reference for reference in recorded.for_family("small-eps") if reference.component != "image"],
    )
    left_out = {
        comparison.reference.component: comparison.reason
        for comparison in comparisons
        if comparison.passed is None
    }
    assert left_out.keys() == {"vae.encode", "vae.round_trip", "unet"}
    assert left_out["unet"] == "needs a file we do not have: context.npy"
    assert {comparison.reference.component for comparison in comparisons if comparison.passed} == {
        "vae.decode",
        "latent",
    }


REFERENCE = Reference("a reference", ("v1",), (0.5, -0.25), 0.01, "a test")


def comparison(passed, releases, component="image"):
    got = {True: REFERENCE.expected, False: (1.0, 1.0), None: None}[passed]
    return Comparison(
        replace(REFERENCE, releases=releases, component=component), got, "a reason" * (passed is None)
    )


def test_a_reference_passes_up_to_its_tolerance():
    for got, passed in (((0.509, -0.25), True), ((0.5, -0.2601), False), ((0.5, math.nan), False)):
        assert Comparison(REFERENCE, got).passed is passed
    assert Comparison(REFERENCE).passed is None
    assert Comparison(REFERENCE, (0.5, -0.5)).off_by == 0.25


def test_a_release_is_agreed_with_when_nothing_fails_and_the_unet_was_heard():
    both = ("v1", "v2")
    vae, other = comparison(True, both, "vae.decode"), comparison(None, ("v3",))
    assert verdicts([vae, comparison(True, ("v1",)), comparison(False, ("v2",)), other]) == {
        "v1": "agrees",
        "v2": "differs",
        "v3": "was not measured",
    }
    assert verdicts([vae, comparison(None, ("v1",))])["v1"].startswith("agrees in its VAE")


def test_a_model_is_well_if_it_agrees_with_one_release_or_does_not_contradict_the_one_it_is_said_to_be():
    vae, unet, wrong = (
        comparison(True, ("v1", "v2"), "vae.decode"),
        comparison(True, ("v1",)),
        comparison(False, ("v1",)),
    )
    assert agrees([vae, unet]) and agrees([vae, unet, comparison(False, ("v2",))])
    # The references of v1 fail, and of v2 only the VAE was measured: a spoilt v1 looks just like this.
    assert not agrees([vae, wrong])
    assert agrees([vae], "v2") and not agrees([vae]) and not agrees([vae, wrong], "v1")
    assert not agrees([comparison(None, ("v1",))], "v1")


def test_the_table_shows_got_and_expected_and_reasons():
    text = comparison_table(
        [comparison(True, ("v2",)), comparison(False, ("v1",)), comparison(None, ("v1",))]
    )
    assert text.splitlines() == [
        "v1",
        "  FAIL  a reference: off by 1.25000, tolerance 0.01",
        "        got        1.0000   1.0000",
        "        expected   0.5000  -0.2500",
        "  -     a reference: a reason",
        "",
        "v2",
        "  pass  a reference: off by 0.00000, tolerance 0.01",
        "        got        0.5000  -0.2500",
        "        expected   0.5000  -0.2500",
        "",
        "1 passed, 1 failed, 1 not measured",
        "v1: differs",
        "v2: agrees",
    ]


def test_a_preset_is_of_its_own_family_and_a_prediction_decides_between_twins():
    assert all(family_of(preset) == name for name, preset in PRESETS.items())
    assert family_of(replace(SD2_BASE, noise=SD2_V.noise)) == "sd2-v"


def test_what_no_tensor_shows_does_not_change_the_family():
    heads = replace(SD1.unet, levels=tuple(replace(level, heads=5) for level in SD1.unet.levels))
    assert family_of(replace(SD1, unet=heads)) == "sd1"
    assert family_of(replace(SD1, name="mine", noise=NoiseConfig(prediction="v"))) == "sd1"
    assert family_of(replace(SD1, vae=replace(SD1.vae, scale=1.0))) == "sd1"
    assert family_of(SD1_INPAINT) == "sd1-inpaint"
    assert family_of(replace(SD1, unet=replace(SD1.unet, in_channels=5))) is None


def test_all_references_of_the_family_are_compared_or_those_of_one_release(build, recorded, monkeypatch):
    model = build("v")
    monkeypatch.setattr(module, "published_references", lambda: recorded)
    monkeypatch.setattr(module, "family_of", lambda config: "small-v")
    monkeypatch.setattr(
        module, "compare", lambda model, references, folder: [Comparison(f) for f in references]
    )
    assert len(verify(model)) == len(verify(model, release="small-v")) == 10
    assert {comparison.reference.releases for comparison in verify(model)} == {("small-v",)}
    with pytest.raises(LdmError, match="'small-eps' is of the family small-eps; this model is of small-v"):
        verify(model, release="small-eps")
    with pytest.raises(LdmError, match="'v9'; expected one of small-eps, small-v"):
        verify(model, release="v9")


def test_a_model_that_nothing_was_published_for_and_one_in_half_precision_are_refused(build):
    with pytest.raises(
        LdmError,
        match="nothing was published for a model of the sizes of 'small'.*sd1, sd1-inpaint, sd1-lcm, sd2-base",
    ):
        verify(build())
    with pytest.raises(LdmError, match="torch.bfloat16; the values are compared in float32"):
        verify(build().bfloat16())
