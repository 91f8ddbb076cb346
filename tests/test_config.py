r"""Configurations: the presets say what the papers' models are, and JSON gives back what it was given."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from ldm.config import PRESETS, SD1, SD1_INPAINT, SD2_BASE, SD2_INPAINT, SD2_V, TINY, Config
from ldm.errors import LdmError

presets = pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)


def test_every_level_of_the_vae_but_the_last_halves_the_picture():
    # Both have 4 levels, so 3 halvings: 2 * 2 * 2 = 8. One level alone halves nothing.
    assert SD1.vae.factor == 8
    assert TINY.vae.factor == 8
    assert replace(TINY.vae, channels=(32,)).factor == 1


@presets
def test_a_preset_is_found_under_its_own_name(config):
    assert PRESETS[config.name] is config


@presets
def test_json_gives_back_the_same_config(config):
    assert Config.from_json(config.to_json()) == config


@presets
def test_widths_divide_into_heads_and_groups(config):
    for level in config.unet.levels:
        assert level.channels % level.heads == 0
        assert level.channels % config.unet.groups == 0
    assert all(channels % config.vae.groups == 0 for channels in config.vae.channels)
    texts = [text for text in (config.text, config.text_2) if text]
    for tower in filter(None, (*texts, config.image)):
        assert tower.width % tower.heads == 0
    assert config.unet.context_width == sum(text.width for text in texts)
    assert (config.unet.added and config.unet.added.pooled_width) == texts[-1].pooled_width
    assert config.defaults.size % config.vae.factor == 0


def test_stable_diffusion_1_has_eight_heads_everywhere_and_2_has_heads_of_width_64():
    # The shapes of the weights are equal either way, so nothing but this would notice.
    assert [level.heads for level in SD1.unet.levels] == [8, 8, 8, 8]
    assert [level.channels // level.heads for level in SD2_BASE.unet.levels] == [64, 64, 64, 64]


def test_stable_diffusion_1_and_2_read_their_text_differently():
    assert (SD1.text.activation, SD1.text.output, SD1.text.pad) == ("quick_gelu", "last", "eos")
    assert (SD2_BASE.text.activation, SD2_BASE.text.output, SD2_BASE.text.pad) == (
        "gelu", "penultimate", "zero",
    )  # fmt: skip


def test_both_halves_of_clip_have_heads_of_width_64_and_openais_has_the_quick_gelu():
    for tower in (SD1.text, SD1.image, SD2_BASE.text):
        assert tower.width // tower.heads == 64
    assert SD1.image.activation == "quick_gelu"


def test_variants_differ_only_where_they_should():
    assert replace(SD1_INPAINT, name="sd1", unet=replace(SD1_INPAINT.unet, in_channels=4)) == SD1
    assert SD2_INPAINT.unet.in_channels == SD1_INPAINT.unet.in_channels == 4 + 1 + 4
    assert SD2_V.noise.prediction == "v" and SD2_BASE.noise.prediction == "eps"
    assert SD2_V.unet == SD2_BASE.unet and SD2_V.defaults.size == 768


def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        SD1.unet.in_channels = 9


def test_a_whole_number_is_accepted_where_a_fraction_is_expected():
    data = json.loads(TINY.to_json())
    data["vae"]["scale"] = 1
    config = Config.from_json(json.dumps(data))
    assert config == TINY and isinstance(config.vae.scale, float)


def test_fields_with_a_default_may_be_left_out():
    data = json.loads(SD2_BASE.to_json())
    del data["image"], data["embedding_width"], data["unet"]["groups"], data["noise"]
    data["noise"] = {}
    assert Config.from_json(json.dumps(data)) == SD2_BASE


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("unet", "in_chanels"), 4, r"config\.unet has unknown fields \['in_chanels'\]"),
        (("unet", "in_channels"), "4", r"config\.unet\.in_channels is '4'; expected int"),
        (("unet", "in_channels"), True, r"config\.unet\.in_channels is True; expected int"),
        (("unet", "levels", 0, "heads"), None, r"config\.unet\.levels\[0\]\.heads is None; expected int"),
        (("unet", "levels", 1), 7, r"config\.unet\.levels\[1\] is 7; expected an object"),
        (("unet", "levels"), 3, r"config\.unet\.levels is 3; expected a list"),
        (("vae", "channels"), "abc", r"config\.vae\.channels is 'abc'; expected a list"),
        (("noise", "prediction"), "noise", r"config\.noise\.prediction is 'noise'; expected one of \['eps'"),
        (("image",), [], r"config\.image is \[\]; expected an object with the fields of ImageConfig"),
        (("vae", "scale"), "big", r"config\.vae\.scale is 'big'; expected float"),
    ],
)
def test_an_error_names_the_field_that_is_wrong(path, value, message):
    data = json.loads(TINY.to_json())
    inner = data
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(LdmError, match=message):
        Config.from_json(json.dumps(data))


ABSURD = [
    (("noise", "steps"), 10**9),
    (("noise", "steps"), 0),
    (("noise", "beta_start"), 10**400),
    (("noise", "beta_start"), -1.0),
    (("noise", "beta_end"), float("nan")),
    (("noise", "schedule"), ["linear"]),
    (("unet", "groups"), 0),
    (("unet", "levels", 0, "heads"), -1),
    (("unet", "levels", 1, "depth"), 10**6),
    (("unet", "levels"), []),
    (("unet", "levels"), [{"channels": 8, "heads": 1, "depth": 0}] * 9),
    (("unet", "res_per_level"), 10**6),
    (("unet", "mid_depth"), -1),
    (("vae", "channels"), []),
    (("vae", "channels", 0), 0),
    (("vae", "scale"), 0),
    (("vae", "scale"), float("inf")),
    (("vae", "latent_channels"), 10**12),
    (("text", "layers"), 10**7),
    (("text", "width"), 10**30),
    (("text", "vocab_size"), 2**63),
    (("text", "context_length"), 0),
    (("text", "activation"), {"gelu": 1}),
    (("defaults", "size"), -8),
    (("defaults", "size"), 10**9),
    (("defaults", "steps"), 0),
    (("defaults", "guidance"), float("nan")),
    (("defaults", "sampler"), ""),
    (("image", "patch"), 0),
    (("name",), "\ud800"),
    (("name",), "\x1b[2J"),
    (("name",), "x" * 10**6),
    (("embedding_width",), -1),
]


@pytest.mark.parametrize(("path", "value"), ABSURD)
def test_a_value_that_makes_no_model_is_an_error_that_names_it(path, value):
    data = json.loads(TINY.to_json())
    inner = data
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    where = r"config\." + r"\.".join(step for step in path if isinstance(step, str)).replace(
        r"levels\.", r"levels\[\d\]\."
    )
    with pytest.raises(LdmError, match=where + r"(\[\d\])? is .*; expected") as caught:
        Config.from_json(json.dumps(data))
    assert len(str(caught.value)) < 300


def test_a_config_made_in_python_has_the_same_limits():
    with pytest.raises(LdmError, match=r"config\.noise\.steps is 1000000000; expected 1 to 100,000"):
        replace(TINY, noise=replace(TINY.noise, steps=10**9))
    with pytest.raises(LdmError, match=r"config\.unet\.levels is \(\); expected of length 1 to 8"):
        replace(TINY, unet=replace(TINY.unet, levels=()))


def test_layers_are_counted_over_all_levels():
    # 64 a block is the most, and this has 3 levels of it: no field is wrong, and building it takes a minute.
    deep = tuple(replace(level, depth=64) for level in TINY.unet.levels)
    with pytest.raises(LdmError, match="has 577 transformer layers; expected at most 500"):
        replace(TINY, unet=replace(TINY.unet, levels=deep))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"name":' + "9" * 5000 + "}", '{"name": "\\ud800"', "\0"])
def test_a_text_that_python_cannot_parse_is_an_error(text):
    with pytest.raises(LdmError, match="config.json is"):
        Config.from_json(text)


def test_a_value_is_shown_in_a_line_whatever_it_is():
    with pytest.raises(LdmError) as caught:
        Config.from_json(json.dumps({"name": json.loads("[" * 900 + "]" * 900)}))
    assert len(str(caught.value)) < 300


def test_an_error_names_the_field_that_is_missing():
    data = json.loads(TINY.to_json())
    del data["text"]["heads"]
    with pytest.raises(LdmError, match=r"config\.text lacks .*heads"):
        Config.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null"])
def test_what_is_no_config_is_refused(text):
    with pytest.raises(LdmError):
        Config.from_json(text)
