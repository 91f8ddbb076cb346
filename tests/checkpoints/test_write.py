r"""Convert and export: there and back is the identity, and whatever happens on the way, no half model is left."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import ldm.files.read_write
from ldm.checkpoints.collect import collect
from ldm.checkpoints.write import convert, export
from ldm.errors import LdmError
from ldm.files.read_write import atomic_folder
from tests.checkpoints.made import FAMILIES, random_tensors, save, single_file, with_ema
from tests.small import CONFIG, TOKENIZER, write_small_model

NAMES = {
    "sd1": "v1-5",
    "sd1-inpaint": "inpaint",
    "sd2-base": "512-base",
    "sd2-v": "768-v",
    "sd2-inpaint": "512",
}


def same(a: dict, b: dict) -> bool:
    r"""Bit for bit, and in the same dtype."""
    return a.keys() == b.keys() and all(
        a[part].keys() == b[part].keys()
        and all(a[part][n].dtype == t.dtype and torch.equal(a[part][n], t) for n, t in b[part].items())
        for part in b
    )


@pytest.fixture(
    scope="module",
    params=[pytest.param(f, marks=() if f in ("sd1", "sdxl") else pytest.mark.long) for f in FAMILIES],
)
def family(request, tmp_path_factory):
    r"""A single file of each family, its config and its tensors."""
    config = FAMILIES[request.param]
    tensors = random_tensors(config)
    path = tmp_path_factory.mktemp(request.param) / f"{NAMES.get(request.param, request.param)}.safetensors"
    return save(path, config, single_file(config, tensors)), config, tensors


@pytest.fixture
def single(tmp_path):
    config = FAMILIES["sd1"]
    return save(tmp_path / "v1.safetensors", config, single_file(config, random_tensors(config)))


def test_there_and_back_through_every_layout_is_the_identity(tmp_path, family):
    path, config, tensors = family
    convert(path, tmp_path / "ours")
    export(tmp_path / "ours", tmp_path / "theirs", "diffusers")
    export(tmp_path / "theirs", tmp_path / "one.safetensors", "compvis")
    export(tmp_path / "one.safetensors", tmp_path / "theirs again", "diffusers")
    convert(tmp_path / "theirs again", tmp_path / "ours again")
    for place in ("ours", "theirs", "one.safetensors", "theirs again", "ours again"):
        found = collect(tmp_path / place)
        assert found.model.config == config, place
        assert same(found.tensors, tensors), place


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_come_through_every_layout_unrounded(tmp_path, dtype):
    config = FAMILIES["sd2-v"]
    tensors = random_tensors(config, dtype=dtype)
    save(tmp_path / "768-v.safetensors", config, single_file(config, tensors))
    convert(tmp_path / "768-v.safetensors", tmp_path / "ours")
    export(tmp_path / "768-v.safetensors", tmp_path / "theirs", "diffusers")
    export(tmp_path / "768-v.safetensors", tmp_path / "one.safetensors", "compvis")
    for place in ("ours", "theirs", "one.safetensors"):
        assert same(collect(tmp_path / place).tensors, tensors), place


def test_a_file_that_was_written_has_every_name_of_the_one_it_came_from(tmp_path, family):
    path, _, _ = family
    export(path, tmp_path / "one.safetensors", "compvis")
    before, after = load_file(path), load_file(tmp_path / "one.safetensors")
    dropped = set(collect(path).dropped)
    assert after.keys() == before.keys() - dropped
    assert all(torch.equal(after[name], before[name]) for name in after)


def test_what_a_model_does_not_keep_is_listed(tmp_path, family):
    path, config, _ = family
    dropped = convert(path, tmp_path / "ours")
    if config.unet.added:
        texts = {"position_ids"} if config.text_2 else set()
        assert {name.rpartition(".")[2] for name in dropped} == {"sigmas", "logit_scale", *texts}
        return
    assert {"betas", "model_ema.decay"} <= set(dropped)
    if config.text.output == "penultimate":
        last = "cond_stage_model.model.transformer.resblocks.2."
        assert f"{last}attn.in_proj_weight" in dropped and "cond_stage_model.model.logit_scale" in dropped
        assert len(dropped) == 2 + 12 + 2
    else:
        assert "cond_stage_model.transformer.text_model.embeddings.position_ids" in dropped
        assert len(dropped) == 2 + 1


def test_the_other_of_averaged_and_live_weights_is_listed(tmp_path):
    config = FAMILIES["sd1"]
    save(tmp_path / "x.safetensors", config, with_ema(single_file(config, random_tensors(config))))
    dropped = convert(tmp_path / "x.safetensors", tmp_path / "ema")
    assert "model.diffusion_model.out.2.bias" in dropped
    assert "model_ema.diffusion_modelout2bias" in convert(
        tmp_path / "x.safetensors", tmp_path / "live", weights="live"
    )
    ema, live = (collect(tmp_path / name).tensors["unet"]["conv_out.bias"] for name in ("ema", "live"))
    assert not torch.equal(ema, live)


def test_a_small_model_of_our_own_keeps_its_config_and_its_words_in_one_file(tmp_path):
    folder = write_small_model(tmp_path / "small")
    dropped = export(folder, tmp_path / "one.safetensors", "compvis")
    assert dropped == ("clip.safetensors",)
    found = collect(tmp_path / "one.safetensors")
    assert found.model.config == replace(CONFIG, image=None, embedding_width=None)
    assert found.model.tokenizer.vocab == TOKENIZER.vocab and found.model.tokenizer.context_length == 32
    assert same(found.tensors, collect(folder).tensors)


def test_a_small_model_of_our_own_keeps_its_sizes_in_a_diffusers_folder(tmp_path):
    folder = write_small_model(tmp_path / "small")
    export(folder, tmp_path / "theirs", "diffusers")
    found = collect(tmp_path / "theirs")
    for part in ("text", "vae", "unet", "noise"):
        assert getattr(found.model.config, part) == getattr(CONFIG, part)
    assert found.model.config.defaults.size == CONFIG.defaults.size
    assert same(found.tensors, collect(folder).tensors)


def test_another_dtype_is_written_on_request(tmp_path, single):
    convert(single, tmp_path / "ours", dtype=torch.float32)
    assert {t.dtype for t in load_file(tmp_path / "ours/unet.safetensors").values()} == {torch.float32}


def test_a_model_that_is_not_a_number_is_not_converted(tmp_path, single):
    file = load_file(single)
    file["model.diffusion_model.out.2.bias"][0] = float("nan")
    save(tmp_path / "x.safetensors", FAMILIES["sd1"], file)
    with pytest.raises(LdmError, match="conv_out.bias has NaN or infinity"):
        convert(tmp_path / "x.safetensors", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_what_exists_is_kept_unless_forced(tmp_path, single):
    for out, write in (
        (tmp_path / "ours", lambda **o: convert(single, tmp_path / "ours", **o)),
        (tmp_path / "theirs", lambda **o: export(single, tmp_path / "theirs", "diffusers", **o)),
        (tmp_path / "x.safetensors", lambda **o: export(single, tmp_path / "x.safetensors", "compvis", **o)),
    ):
        write()
        before = out.stat().st_ino
        with pytest.raises(LdmError, match=f"{out.name} exists and is kept; to replace it, use force=True"):
            write()
        assert out.stat().st_ino == before
        write(force=True)
        assert out.stat().st_ino != before
    assert sorted(os.listdir(tmp_path)) == ["ours", "theirs", "v1.safetensors", "x.safetensors"]


def test_a_folder_that_holds_something_else_is_kept_even_if_forced(tmp_path, single):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(LdmError, match="home exists and is kept; it holds no model: give another name"):
        convert(single, tmp_path / "home", force=True)
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("to", "out", "message"), [("onnx", "x", "export to 'onnx'"), ("compvis", "x", "one file")]
)
def test_a_layout_or_name_that_is_none_is_an_error(tmp_path, single, to, out, message):
    with pytest.raises(LdmError, match=message):
        export(single, tmp_path / out, to)


WRITERS = {
    "convert": ("out", lambda source, out: convert(source, out, force=True)),
    "diffusers": ("out", lambda source, out: export(source, out, "diffusers", force=True)),
    "compvis": ("out.safetensors", lambda source, out: export(source, out, "compvis", force=True)),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("stop", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_and_ctrl_c_leave_nothing_or_the_old_model(
    tmp_path, single, monkeypatch, writer, old, stop
):
    name, write = WRITERS[writer]
    if old:
        write(single, tmp_path / name)
    before, inode = sorted(os.listdir(tmp_path)), os.stat(tmp_path / name).st_ino if old else None
    calls = []

    def fail(file):
        calls.append(file)
        if writer == "compvis" or len(calls) == 7:
            raise stop

    monkeypatch.setattr(ldm.files.read_write.os, "fsync", fail)
    error = LdmError if isinstance(stop, OSError) else KeyboardInterrupt
    with pytest.raises(
        error, match="cannot write .*No space left on device" if isinstance(stop, OSError) else None
    ):
        write(single, tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == before
    assert not old or os.stat(tmp_path / name).st_ino == inode


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    "at",
    [
        pytest.param("fsync", marks=pytest.mark.long),
        pytest.param("replace", marks=pytest.mark.long),
        "exchange",
    ],
)
def test_a_kill_leaves_no_half_model_and_the_next_run_cleans_up(tmp_path, single, caplog, writer, at):
    if writer == "compvis" and at == "exchange":
        pytest.skip("one file is renamed over another: nothing is exchanged")
    name, write = WRITERS[writer]
    write(single, tmp_path / name)
    whole = collect(tmp_path / name).tensors
    child = os.fork()
    if not child:
        place = ldm.files.read_write if at == "exchange" else os
        original = getattr(place, at)

        def die(*arguments):
            # Of the renames only the last: for a folder, after the old one was moved aside.
            if at == "fsync" or str(arguments[0]).endswith(".partial") or writer == "compvis":
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments)

        setattr(place, at, die)
        if at == "replace":
            ldm.files.read_write.exchange = lambda one, other: False  # as on a file system that cannot
        signal.alarm(60)
        try:
            write(single, tmp_path / name)
        finally:
            os._exit(1)  # whatever happened, this copy of the test run ends here
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = set(os.listdir(tmp_path)) - {name, "v1.safetensors"}
    assert left
    if writer == "compvis" or at != "replace":
        assert same(collect(tmp_path / name).tensors, whole)  # the old one is there, whole
    write(single, tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == sorted([name, "v1.safetensors"])
    assert same(collect(tmp_path / name).tensors, whole)
    assert all(file in caplog.text for file in left)


def test_what_a_running_process_writes_is_not_swept(tmp_path, single):
    with atomic_folder(tmp_path / "ours") as other:
        convert(single, tmp_path / "ours")
        assert other.is_dir()
        (other / "config.json").touch()


def test_the_settings_of_a_diffusers_folder_are_those_that_the_library_expects(tmp_path, single):
    export(single, tmp_path / "theirs", "diffusers")
    index = json.loads((tmp_path / "theirs/model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline" and index["unet"] == [
        "diffusers",
        "UNet2DConditionModel",
    ]
    unet = json.loads((tmp_path / "theirs/unet/config.json").read_text())
    assert unet["down_block_types"] == ["CrossAttnDownBlock2D", "DownBlock2D"] and unet["sample_size"] == 256
    assert (
        load_file(tmp_path / "theirs/unet/diffusion_pytorch_model.safetensors")[
            "mid_block.attentions.0.proj_in.weight"
        ].ndim
        == 4
    )
