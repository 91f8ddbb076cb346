r"""The little of YAML that the original configs use."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm.checkpoints.plain_yaml import read_yaml
from ldm.errors import LdmError

TEXT = """\
---
# a comment
model:
  base_learning_rate: 1.0e-04
  target: ldm.models.diffusion.ddpm.LatentDiffusion   # where it is
  params:
    parameterization: "v"
    linear_start: 0.00085
    timesteps: 1000
    'quoted key': 'it is # no comment'
    monitor: val/loss_simple_ema
    use_ema: False
    scheduler_config: # 10000 warmup steps
      target: ldm.lr_scheduler.LambdaLinearScheduler
      params:
        warm_up_steps: [ 10000 ]
        f_start: [ 1.e-6,
          1.e-6 ]
    unet_config:
      params:
        in_channels: 4
        attention_resolutions: [ 4, 2, 1 ]
        channel_mult:
        - 1
        - 2
        context_dim: 768
        note: |
          a long text: with colons
          - and dashes
        inner: { a: 1, b: 2 }
        nothing: null
        empty:
      last: !!python/object:os.system
"""


def test_plain_values_are_read_by_their_way_through_the_tables(tmp_path):
    (tmp_path / "x.yaml").write_text(TEXT)
    params = "model.params."
    assert read_yaml(tmp_path / "x.yaml") == {
        "model.base_learning_rate": 1e-4,
        "model.target": "ldm.models.diffusion.ddpm.LatentDiffusion",
        params + "parameterization": "v",
        params + "linear_start": 0.00085,
        params + "timesteps": 1000,
        params + "quoted key": "it is # no comment",
        params + "monitor": "val/loss_simple_ema",
        params + "use_ema": False,
        params + "scheduler_config.target": "ldm.lr_scheduler.LambdaLinearScheduler",
        params + "unet_config.params.in_channels": 4,
        params + "unet_config.params.context_dim": 768,
        params + "unet_config.params.nothing": None,
        params + "unet_config.last": "!!python/object:os.system",  # a text like any other
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nwhat is this\n", "line 2: got 'what is this'; expected `key: value`"),
        ("a:\n\tb: 1\n", "line 2: got 'b: 1'; expected `key: value`, indented by spaces"),
        ("\x00\n", "line 1"),
        ("<html>\n", "line 1: got '<html>'"),
    ],
)
def test_a_line_of_another_form_is_named(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(LdmError, match=f"x.yaml, {message}"):
        read_yaml(tmp_path / "x.yaml")


def test_what_is_no_text_or_too_large_is_an_error(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(LdmError, match="not a text in UTF-8"):
        read_yaml(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text("a: 1\n" * 50_000)
    with pytest.raises(LdmError, match="expected at most 100,000"):
        read_yaml(tmp_path / "x.yaml")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(list("ab:#-[]{}|>&*!?'\"\\ \n\t9.e")), max_size=60))
def test_any_text_is_read_or_an_error_of_ours(tmp_path_factory, letters):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text("".join(letters))
    try:
        found = read_yaml(path)
    except LdmError:
        return
    assert all(isinstance(value, str | int | float | None) for value in found.values())


def test_deep_tables_and_long_numbers_cost_nothing(tmp_path):
    (tmp_path / "x.yaml").write_text("".join(" " * i + "a:\n" for i in range(400)) + "n: " + "9" * 10_000)
    assert read_yaml(tmp_path / "x.yaml") == {"n": "9" * 10_000}
