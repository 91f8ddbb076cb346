r"""A right model passes, a wrong one fails; and what is said of a model follows from its outcomes."""

import math
from dataclasses import replace

import pytest
import torch

from ldm.config import PRESETS, SD1, SD1_INPAINT, SD2_BASE, SD2_V, Level, NoiseConfig
from ldm.errors import LdmError
from ldm.lab.verify import run as run_module
from ldm.lab.verify.figures import Figure
from ldm.lab.verify.run import Outcome, family_of, run, satisfied, table, verdicts, verify


def failed(outcomes):
    return {outcome.figure.component for outcome in outcomes if outcome.passed is False}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_the_right_model_passes_every_figure(build, recorded, files, prediction, dtype):
    family = f"small-{prediction}"
    outcomes = verify(build(prediction).to(dtype), recorded.of(family), files)
    assert [outcome.figure.name for outcome in outcomes if not outcome.passed] == []
    assert len(outcomes) == {"eps": 11, "v": 10}[prediction]
    assert verdicts(outcomes) == {family: "agrees"}


def test_no_picture_of_the_small_model_hides_behind_black_or_white(recorded):
    pictures = [figure.expected for figure in recorded.figures if figure.component == "image"]
    assert all(sum(0 < x < 1 for x in expected) >= 4 for expected in pictures)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("text.layers.0.attn.v.weight", {"latent", "image"}),
        ("unet.conv_in.weight", {"unet", "latent", "image"}),
        ("unet.mid.attn.layers.0.cross_attn.k.weight", {"unet", "latent", "image"}),
        ("vae.encoder.conv_in.bias", {"vae.encode", "vae.round_trip"}),
        ("vae.decoder.conv_in.bias", {"vae.decode", "vae.round_trip", "image"}),
    ],
)
def test_a_model_with_one_number_changed_fails_where_that_number_counts(
    build, recorded, files, name, expected
):
    model = build()
    with torch.no_grad():
        model.get_parameter(name).view(-1)[0] += 1
    outcomes = verify(model, recorded.of("small-eps"), files)
    assert failed(outcomes) == expected
    assert verdicts(outcomes) == {"small-eps": "differs"}


@pytest.mark.parametrize("right", ["eps", "v"])
def test_a_model_with_the_wrong_prediction_fails(build, recorded, files, right):
    wrong = {"eps": "v", "v": "eps"}[right]
    outcomes = verify(build(wrong), recorded.of(f"small-{right}"), files)
    assert failed(outcomes) == {"latent", "image"}


def test_a_model_whose_vae_scale_is_lost_fails(build, recorded, files):
    model = build()
    model.vae.scale = 1.0
    assert failed(verify(model, recorded.of("small-eps"), files)) == {"vae.decode", "vae.encode", "image"}


def test_a_model_with_the_wrong_number_of_heads_fails(build, recorded, files):
    unet = replace(build().config.unet, levels=(Level(16, 2, 1), Level(32, 4, 0)))
    outcomes = verify(build(unet=unet), recorded.of("small-eps"), files)
    assert failed(outcomes) == {"unet", "latent", "image"}


def test_a_model_of_nan_fails(build, recorded, files):
    model = build()
    with torch.no_grad():
        model.unet.conv_out.bias.fill_(math.nan)
    outcomes = verify(model, recorded.of("small-eps"), files)
    assert failed(outcomes) == {"unet", "latent", "image"}
    assert "nan" in table(outcomes)


def test_an_error_on_the_way_is_a_failure_with_its_reason(build, recorded):
    figure = next(figure for figure in recorded.figures if figure.component == "latent")
    wrong = replace(figure, inputs={**figure.inputs, "sampler": "dice"})
    [outcome] = verify(build(), [wrong])
    assert outcome.passed is False and "'dice'" in outcome.reason


def test_without_its_files_a_figure_is_listed_and_not_measured(build, recorded):
    outcomes = verify(build(), [figure for figure in recorded.of("small-eps") if figure.component != "image"])
    left_out = {outcome.figure.component: outcome.reason for outcome in outcomes if outcome.passed is None}
    assert left_out.keys() == {"vae.encode", "vae.round_trip", "unet"}
    assert left_out["unet"] == "needs a file we do not have: context.npy"
    assert {outcome.figure.component for outcome in outcomes if outcome.passed} == {"vae.decode", "latent"}


FIGURE = Figure("a figure", ("v1",), (0.5, -0.25), 0.01, "a test")


def outcome(passed, releases, component="image"):
    got = {True: FIGURE.expected, False: (1.0, 1.0), None: None}[passed]
    return Outcome(
        replace(FIGURE, releases=releases, component=component), got, "a reason" * (passed is None)
    )


def test_a_figure_passes_up_to_its_tolerance():
    for got, passed in (((0.509, -0.25), True), ((0.5, -0.2601), False), ((0.5, math.nan), False)):
        assert Outcome(FIGURE, got).passed is passed
    assert Outcome(FIGURE).passed is None
    assert Outcome(FIGURE, (0.5, -0.5)).off_by == 0.25


def test_a_release_is_agreed_with_when_nothing_fails_and_the_unet_was_heard():
    both = ("v1", "v2")
    vae, other = outcome(True, both, "vae.decode"), outcome(None, ("v3",))
    assert verdicts([vae, outcome(True, ("v1",)), outcome(False, ("v2",)), other]) == {
        "v1": "agrees",
        "v2": "differs",
        "v3": "was not measured",
    }
    assert verdicts([vae, outcome(None, ("v1",))])["v1"].startswith("agrees in its VAE")


def test_a_model_is_well_if_it_agrees_with_one_release_or_does_not_contradict_the_one_it_is_said_to_be():
    vae, unet, wrong = (
        outcome(True, ("v1", "v2"), "vae.decode"),
        outcome(True, ("v1",)),
        outcome(False, ("v1",)),
    )
    assert satisfied([vae, unet]) and satisfied([vae, unet, outcome(False, ("v2",))])
    # The figures of v1 fail, and of v2 only the VAE was measured: a spoilt v1 looks just like this.
    assert not satisfied([vae, wrong])
    assert satisfied([vae], "v2") and not satisfied([vae]) and not satisfied([vae, wrong], "v1")
    assert not satisfied([outcome(None, ("v1",))], "v1")


def test_the_table_shows_got_and_expected_and_reasons():
    text = table([outcome(True, ("v2",)), outcome(False, ("v1",)), outcome(None, ("v1",))])
    assert text.splitlines() == [
        "v1",
        "  FAIL  a figure: off by 1.25000, tolerance 0.01",
        "        got        1.0000   1.0000",
        "        expected   0.5000  -0.2500",
        "  -     a figure: a reason",
        "",
        "v2",
        "  pass  a figure: off by 0.00000, tolerance 0.01",
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


def test_all_figures_of_the_family_are_run_or_those_of_one_release(build, recorded, monkeypatch):
    model = build("v")
    monkeypatch.setattr(run_module, "published", lambda: recorded)
    monkeypatch.setattr(run_module, "family_of", lambda config: "small-v")
    monkeypatch.setattr(run_module, "verify", lambda model, figures, folder: [Outcome(f) for f in figures])
    assert len(run(model)) == len(run(model, release="small-v")) == 10
    assert {outcome.figure.releases for outcome in run(model)} == {("small-v",)}
    with pytest.raises(LdmError, match="'small-eps' is of the family small-eps; this model is of small-v"):
        run(model, release="small-eps")
    with pytest.raises(LdmError, match="'v9'; expected one of small-eps, small-v"):
        run(model, release="v9")


def test_a_model_that_nothing_was_published_for_and_one_in_half_precision_are_refused(build):
    with pytest.raises(
        LdmError,
        match="nothing was published for a model of the sizes of 'small'.*sd1, sd1-inpaint, sd2-base",
    ):
        run(build())
    with pytest.raises(LdmError, match="torch.bfloat16; figures are compared in float32"):
        run(build().bfloat16())
