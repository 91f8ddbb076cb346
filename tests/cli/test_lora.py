r"""`ldm generate --lora`, tags in prompts, `ldm info`, `ldm inspect`, and the same image again with its LoRAs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import ldm
from ldm.cli import recorded, replay
from ldm.cli.generation import merge_loras, wanted_loras
from ldm.images.metadata import UsedLora, png_texts, read_record
from tests.cli.terminal import pixels, run
from tests.small import CONFIG


def write_lora(path: Path, seed: int, rank: int = 2) -> Path:
    r"""A strong LoRA on one attention of the small model, under our own names."""
    draw = torch.Generator().manual_seed(seed)
    file, width = {}, CONFIG.unet.levels[-1].channels
    for layer in ("self_attn_q", "self_attn_v", "self_attn_out", "cross_attn_out"):
        name = f"lora_unet_mid_attn_layers_0_{layer}"
        file[f"{name}.lora_up.weight"] = 3 * torch.randn(width, rank, generator=draw)
        file[f"{name}.lora_down.weight"] = torch.randn(rank, width, generator=draw)
    save_file(file, path)
    return path


@pytest.fixture
def weights(work, model) -> Path:
    (work / "weights").mkdir()
    (work / "weights/small").symlink_to(model)
    write_lora(work / "weights/ink.safetensors", 1)
    write_lora(work / "weights/pose.safetensors", 2)
    return work / "weights"


@pytest.fixture
def generate(capsys, work, weights):
    def run_it(*options, prompt="red dog", out="got/x.png"):
        given = ("--model", "small", "--seed", 5, "--out", out)
        code, _, told = run(capsys, "generate", prompt, *given, *options)
        assert code == 0, told
        return work / out

    return run_it


@pytest.fixture
def again(capsys):
    def run_it(*options, source="got/x.png"):
        code, _, told = run(capsys, "generate", "--from", source, "--out", "again.png", *options)
        return code, told

    return run_it


def rewrite(path: Path, **changes) -> None:
    record = replace(read_record(path), **changes)
    with Image.open(path) as image:
        image.load()
    image.save(path, pnginfo=png_texts(record))


SAME = (0, ["the same pixels as got/x.png"])


def test_an_option_and_a_tag_give_the_same_image_and_record(generate, capsys):
    plain = generate(out="plain.png")
    option = generate("--lora", "weights/ink.safetensors:0.8", out="a.png")
    tag = generate(prompt="red dog<lora:ink:0.8>", out="b.png")
    assert (pixels(option) == pixels(tag)).all() and (pixels(option) != pixels(plain)).any()
    one, other = read_record(option), read_record(tag)
    assert (one.prompt, other.prompt) == ("red dog", "red dog")
    assert [lora.strength for lora in one.loras] == [0.8] and one.loras[0].sha256 == other.loras[0].sha256
    assert Image.open(tag).info["parameters"].startswith("red dog <lora:ink:0.8>\n")
    _, out, _ = run(capsys, "info", "b.png")
    assert "LoRA        " in out and "ink.safetensors (sha256 " in out and "), strength 0.8" in out
    bare = generate("--lora", "ink:0.8", out="c.png")
    assert (pixels(bare) == pixels(option)).all()


def test_several_loras_are_recorded_in_their_order_and_come_again(generate, again, work):
    path = generate("--lora", "ink:0.5", "--lora", "weights/pose.safetensors:-1", "--batch", 2, out="got")
    for image in sorted(path.iterdir()):
        assert [Path(lora.path).stem for lora in read_record(image).loras] == ["ink", "pose"]
        assert again(source=image)[0] == 0
        assert (work / "again.png").read_bytes() == image.read_bytes()


def test_each_line_of_a_list_may_have_loras_of_its_own(generate, capsys, work):
    (work / "p.txt").write_text("red dog\nred dog <lora:ink:1>\ndog <lora:ink:1>\ndog\n", encoding="utf-8")
    options = ("--model", "small", "--prompts", "p.txt", "--out", "list")
    code, _, told = run(capsys, "generate", *options)
    assert code == 0, told
    records = [read_record(path) for path in sorted((work / "list").iterdir())]
    assert [len(record.loras) for record in records] == [0, 1, 1, 0]
    assert [(record.group.index, record.group.count) for record in records] == [
        (0, 1),
        (0, 2),
        (1, 2),
        (0, 1),
    ]
    before = {path.name: path.read_bytes() for path in (work / "list").iterdir()}
    (work / "list/00003-2.png").unlink()
    assert run(capsys, "generate", *options)[2] == ["3 of 4 images exist already"]
    assert {path.name: path.read_bytes() for path in (work / "list").iterdir()} == before


def test_the_same_image_again_with_a_lora_beside_it_or_given(generate, again, weights, work):
    generate("--lora", "ink:0.8")
    assert again() == SAME
    (weights / "ink.safetensors").rename(work / "got/ink.safetensors")
    assert again() == SAME
    (work / "got/ink.safetensors").rename(work / "ink.safetensors")
    code, [line] = again()
    assert code == 1 and "neither a name under weights/ nor beside it; add --lora " in line
    assert again("--lora", "ink.safetensors") == SAME
    assert again("--lora", "ink.safetensors:0.8") == SAME
    code, lines = again("--lora", "weights/pose.safetensors")
    assert code == 0 and lines[0].startswith("differs: LoRA 1: sha256 ") and "pixels differ" in lines[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lora", "weights/ink.safetensors:0.7"), "records a LoRA of strength 0.8, and --lora"),
        (("--lora", "weights/ink.safetensors",) * 2, "generated with 1 of --lora, not 2; give it once, or leave"),
    ],
)  # fmt: skip
def test_what_a_record_says_of_its_loras_can_be_repeated_but_not_changed(generate, again, options, message):
    generate("--lora", "ink:0.8")
    code, [line] = again(*options)
    assert code == 1 and message in line


@pytest.mark.parametrize("name", ["/private.safetensors", "../private.safetensors", "~/private.safetensors",
                                  "private.safetensors", "got/link.safetensors", "/dev/zero", ""])  # fmt: skip
def test_a_lora_elsewhere_is_named_and_not_read_even_with_its_hash(generate, again, work, monkeypatch, name):
    path = generate("--lora", "ink:0.8")
    write_lora(work / "private.safetensors", 3)
    (work / "got/link.safetensors").symlink_to(work / "private.safetensors")
    monkeypatch.setattr(recorded, "hashed", lambda path: pytest.fail("it was read"))
    monkeypatch.setattr(replay, "load_model", lambda *_, **__: pytest.fail("something was opened"))
    rewrite(path, loras=(UsedLora(name, "0" * 64, 1.0),))
    code, [line] = again()
    assert code == 1 and "which is neither a name under weights/ nor beside it; add --lora" in line


def test_a_lora_of_other_bytes_is_not_used_unasked(generate, again, weights, monkeypatch):
    generate("--lora", "ink:0.8")
    write_lora(weights / "ink.safetensors", 9)
    monkeypatch.setattr(replay, "load_model", lambda *_, **__: pytest.fail("something was opened"))
    code, [line] = again()
    assert code == 1 and "is not known to be what got/x.png was made with (" in line


def test_a_tag_in_an_old_record_is_words_as_it_was_then(generate, again, recwarn):
    path = generate(prompt="red dog")
    rewrite(path, prompt="red dog <lora:none:1>")
    code, lines = again()
    assert code == 0 and not any("no LoRA" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lora", "none"), "there is no file none, and no LoRA 'none' in "),
        (("--lora", "gone/x.safetensors"), "there is no LoRA 'gone/x.safetensors'"),
        (("--lora", ""), "there is no LoRA ''"),
        (("--lora", "weights/small/unet.safetensors"), "is no LoRA for this model: none of its "),
        (("--lora", "half.safetensors"), "has no lora_up|it has no up: half a LoRA"),
        (("--lora", "nan.safetensors"), "has NaN or infinity in it"),
        (("--lora", "empty.safetensors"), "is empty"),
    ],
)  # fmt: skip
def test_what_is_no_lora_is_one_clear_line_and_nothing_is_written(capsys, work, weights, options, message):
    name = "lora_unet_mid_attn_layers_0_self_attn_q"
    down, up = torch.ones(2, 16), torch.full((16, 2), float("nan"))
    save_file({f"{name}.lora_down.weight": down}, work / "half.safetensors")
    save_file({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}, work / "nan.safetensors")
    (work / "empty.safetensors").write_bytes(b"")
    code, out, lines = run(capsys, "generate", "red dog", "--model", "small", "--seed", 1, *options)
    assert (code, out) == (1, "") and len(lines) == 1 and "bug" not in lines[0]
    assert any(part in lines[0] for part in message.split("|"))
    assert not (work / "outputs").exists()


def test_inspect_says_what_a_lora_is(capsys, work):
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    file = {f"{name}.lora_up.weight": torch.ones(1280, 4), f"{name}.lora_down.weight": torch.ones(4, 768)}
    save_file(file, work / "x.safetensors", {"ss_tag_frequency": '{"a": {"ink": 7}}'})
    code, out, _ = run(capsys, "inspect", "x.safetensors")
    lines = out.splitlines()
    assert code == 0 and lines[0].startswith("x.safetensors: a LoRA")
    for line in ("made for    Stable Diffusion 1", "rank        4", "alpha       4", "modules     1 of the U-Net",
                 "tags        ink (7)"):  # fmt: skip
        assert line in lines, out
    assert np.array([line.startswith("ldm.load    does not open it: ") for line in lines]).sum() == 1


def test_a_lora_for_few_steps_changes_the_defaults_and_the_record_says_what_was_used(
    generate, again, weights, capsys
):
    write_lora(weights / "sdxl_lightning_2step_lora.safetensors", 3)
    record = read_record(generate("--lora", "weights/sdxl_lightning_2step_lora.safetensors"))
    assert (record.sampler, record.steps, record.guidance) == ("euler_trailing", 2, 1.0)
    given = ("--sampler", "ddim", "--steps", 3, "--guidance", 1.5)
    record = read_record(generate("--lora", "weights/sdxl_lightning_2step_lora.safetensors", *given))
    assert (record.sampler, record.steps, record.guidance) == ("ddim", 3, 1.5)
    record = read_record(generate(prompt="red dog <lora:sdxl_lightning_2step_lora>", out="got/y.png"))
    assert (record.sampler, record.steps, record.guidance) == ("euler_trailing", 2, 1.0)
    code, told = again(source="got/y.png")
    assert code == 0 and told[-1] == "the same pixels as got/y.png"


def test_each_line_of_a_list_has_the_defaults_of_its_own_loras(capsys, work, weights):
    write_lora(weights / "tcd.safetensors", 3)
    (work / "list.txt").write_text("red dog\nred dog <lora:tcd:1>\nred dog\n")
    code, _, told = run(
        capsys, "generate", "--prompts", "list.txt", "--model", "small", "--seed", 5, "--out", "got"
    )
    assert code == 0, told
    samplers = [read_record(path).sampler for path in sorted((work / "got").glob("*.png"))]
    assert samplers == [CONFIG.defaults.sampler, "tcd", CONFIG.defaults.sampler]
    assert [line for line in told if "by default 4 steps of tcd, guidance 1" in line] == told


def test_a_group_has_the_loras_of_its_record_and_no_others(weights):
    r"""The prompts of a list may have different tags."""
    model = ldm.load("small", device="cpu")
    plain, used = wanted_loras(model, "a dog <lora:pose:0.5>", ["ink"])
    assert plain == "a dog " and [lora.strength for lora in used] == [1.0, 0.5]
    for loras in (used, used[:1], (), used, used[::-1]):
        merge_loras(model, loras)
        assert [(str(one.lora.path), one.strength) for one in model.loras] == [
            (one.path, one.strength) for one in loras
        ]
