r"""`ldm generate --preview DIR`, with the model's own VAE and with a tiny one."""

from dataclasses import replace

import pytest
from safetensors.torch import save_file

from ldm.checkpoints.names import rename
from ldm.checkpoints.tiny_file import tiny_rows
from ldm.images.metadata import read_record
from ldm.vae.tiny import TinyVAE
from tests.cli.terminal import pixels, run, wrong
from tests.golden.compare import filled
from tests.small import CONFIG, write_small_model

GIVEN = ("--seed", 5, "--steps", 2, "--sampler", "euler")


@pytest.fixture(scope="module")
def eightfold(tmp_path_factory):
    r"""A small model whose latents have an eighth of the image's size, as a tiny VAE's."""
    vae = replace(CONFIG.vae, channels=(8, 8, 8, 8))
    return write_small_model(tmp_path_factory.mktemp("preview") / "eightfold", replace(CONFIG, vae=vae))


@pytest.fixture
def tiny(work):
    state = rename(filled(TinyVAE(), tiny_rows()).state_dict(), tiny_rows(), "compvis")
    halves = {half: {n: t for n, t in state.items() if n.startswith(half)} for half in ("encoder", "decoder")}
    for half, tensors in halves.items():
        save_file({n.partition(".")[2]: t.float() for n, t in tensors.items()}, f"taesd_{half}.safetensors")
    return "taesd_decoder.safetensors"


def test_a_png_for_each_step_and_seed_of_which_the_last_is_the_image(capsys, work, model):
    options = ("--model", model, *GIVEN, "--batch", 2, "--out", "x.png", "--preview", "steps")
    code, out, _ = run(capsys, "generate", "red dog", *options)
    assert code == 0 and "steps" not in out
    names = [f"{seed}-00{step}.png" for seed in (5, 6) for step in (1, 2)]
    assert sorted(path.name for path in (work / "steps").iterdir()) == names
    assert (pixels(work / "steps/6-002.png") == pixels(work / "x-1.png")).all()
    assert (pixels(work / "steps/6-001.png") != pixels(work / "x-1.png")).any()
    code, _, told = run(
        capsys, "generate", "--from", "x-1.png", "--model", model, "--out", "y.png", "--preview", "again"
    )
    assert code == 0 and told[-1] == "the same pixels as x-1.png"
    assert (pixels(work / "again/6-001.png") == pixels(work / "steps/6-001.png")).all()


def test_a_tiny_vae_decodes_previews_or_the_image_itself(capsys, work, eightfold, tiny):
    given = ("--model", eightfold, *GIVEN)
    assert run(capsys, "generate", "red dog", *given, "--out", "own.png")[0] == 0
    options = ("--out", "x.png", "--preview", "steps", "--preview-vae", tiny)
    assert run(capsys, "generate", "red dog", *given, *options)[0] == 0
    assert run(capsys, "generate", "red dog", *given, "--vae", tiny, "--out", "tiny.png")[0] == 0
    assert (pixels(work / "x.png") == pixels(work / "own.png")).all()
    assert (pixels(work / "steps/5-002.png") == pixels(work / "tiny.png")).all()
    assert (pixels(work / "tiny.png") != pixels(work / "own.png")).any()
    assert [file.path for file in read_record(work / "tiny.png").vae_files] == [
        "taesd_decoder.safetensors",
        "taesd_encoder.safetensors",
    ]
    options = ("--model", eightfold, "--init", "own.png", "--vae", tiny, "--strength", 0.5, "--out", "z.png")
    assert run(capsys, "generate", "red dog", *GIVEN, *options)[0] == 0  # the encoder was found


def test_a_vae_of_another_size_is_one_clear_line(capsys, work, model, tiny):
    options = ("--model", model, "--preview", "steps", "--preview-vae", tiny)
    code, _, [*_, line] = run(capsys, "generate", "red dog", *options)
    assert code == 1 and "makes 8 pixels along a side of each position of a latent" in line
    assert "this model's VAE makes 2" in line and not (work / "steps").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("red dog", "--preview-vae", "a"), "there are no previews: leave out --preview-vae, or give --preview DIR"),
        (("--prompts", "a.txt", "--preview", "p"), "--prompts generates a list: leave out --preview"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_wrong_usage(capsys, options, message):
    assert message in wrong(capsys, "generate", *options)


def test_a_place_that_is_no_folder_is_refused_before_anything_is_opened(capsys, work):
    (work / "file").write_text("")
    code, _, [line] = run(capsys, "generate", "red dog", "--model", "none", "--preview", "file/steps")
    assert code == 1 and "cannot write file/steps: " in line
