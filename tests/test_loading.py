r"""`ldm.load`: where a model is looked for."""

import copy
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import ldm
from ldm import loading as module
from ldm import pipeline
from ldm.backend import choice
from ldm.checkpoints import finding
from ldm.checkpoints.finding import find
from ldm.checkpoints.write import convert, export
from ldm.errors import LdmError
from ldm.lab.trace.recorder import record
from tests.checkpoints.made import FAMILIES, random_tensors, save, single_file, with_ema
from tests.small import CONFIG, write_small_model

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def places(tmp_path, monkeypatch):
    r"""An empty working folder, and an empty repository with the package in it."""
    work, package = tmp_path / "work", tmp_path / "repository" / "ldm"
    work.mkdir()
    package.mkdir(parents=True)
    monkeypatch.chdir(work)
    monkeypatch.setattr(finding, "_PACKAGE", package)
    return work, package


def put(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_name_is_found_in_the_package_the_repository_and_the_working_folder_the_latter_first(places):
    work, package = places
    for root in (package, package.parent, work):
        folder = put(root / "weights" / "toy")
        assert find("toy").resolve() == folder


def test_a_folder_in_the_working_folder_goes_before_a_name(places):
    work, _ = places
    put(work / "weights" / "toy")
    folder = put(work / "toy")
    assert find("toy").resolve() == folder


def test_a_path_is_that_folder_and_no_name(places, tmp_path):
    work, _ = places
    folder = put(tmp_path / "elsewhere" / "toy")
    assert find(folder) == find(str(folder)) == folder
    assert find("../elsewhere/toy").resolve() == folder
    put(work / "weights" / "deep" / "toy")
    with pytest.raises(LdmError):
        find("deep/toy")
    assert find("weights/deep/toy").resolve() == work / "weights" / "deep" / "toy"


def test_a_model_that_is_nowhere_is_an_error_that_lists_the_places(places):
    work, package = places
    (work / "weights" / "toy").mkdir(parents=True)  # a folder without config.json is no model
    with pytest.raises(
        LdmError, match="no model 'toy': .*toy is a folder with no checkpoint in it"
    ) as caught:
        find("toy")
    for root in (work, package.parent, package):
        assert str(root / "weights" / "toy") in str(caught.value)


def test_in_the_repository_each_place_is_listed_once(places, monkeypatch):
    _, package = places
    monkeypatch.chdir(package.parent)
    with pytest.raises(LdmError) as caught:
        find("toy")
    assert str(caught.value).count(str(package.parent / "weights" / "toy")) == 1


def test_of_a_path_only_that_path_is_listed(places, tmp_path):
    with pytest.raises(LdmError) as caught:
        ldm.load(tmp_path / "no" / "model")
    assert str(caught.value).startswith(f"there is no model {tmp_path / 'no' / 'model'};")


def test_load_opens_a_model_that_paints(places):
    work, _ = places
    write_small_model(work / "weights" / "toy")
    by_name, by_path = ldm.load("toy", device="cpu"), ldm.load(work / "weights" / "toy", device="cpu")
    assert by_name.config == CONFIG and not by_name.training
    pictures = [np.asarray(model.generate("red dog", seed=1)[0]) for model in (by_name, by_path)]
    assert (pictures[0] == pictures[1]).all()
    assert ldm.load("toy", torch.bfloat16, "cpu").dtype == torch.bfloat16


def test_the_package_hands_out_load_as_often_as_it_is_asked():
    # A module named ldm.load would take the function's place after its first use.
    assert ldm.load is ldm.load is module.load and ldm.load_clip is module.load_clip
    assert ldm.LatentDiffusion is pipeline.LatentDiffusion
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        _ = ldm.paint


def test_tiny_is_what_is_loaded_when_nothing_is_said(places):
    work, _ = places
    with pytest.raises(LdmError, match="no model 'tiny'"):
        ldm.load()
    with pytest.raises(LdmError, match="no model 'tiny'"):
        ldm.load_clip()
    write_small_model(work / "weights" / "tiny")
    assert ldm.load(device="cpu").config.name == "small"


def test_load_clip_opens_both_encoders_and_their_tokenizer(places):
    work, _ = places
    write_small_model(work / "weights" / "toy")
    clip, tokenizer = ldm.load_clip("toy", device="cpu")
    with torch.no_grad():
        similarity = clip.similarity(torch.zeros(2, 3, 16, 16), tokenizer(["red dog", "dog", "red"]))
    assert similarity.shape == (2, 3) and similarity.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_the_fastest_device_at_hand_is_picked(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choice.pick_device() == torch.device(expected)


def test_load_is_still_a_function_after_it_was_used(tmp_path):
    r"""A module ldm/load.py, once imported, would stand in the function's place."""
    write_small_model(tmp_path)
    for use in (ldm.load, ldm.load_clip, ldm.load):
        use(tmp_path, device="cpu")
    assert callable(ldm.load) and callable(ldm.load_clip)


# --- checkpoints of others ---------------------------------------------------------------------------------


@pytest.fixture
def single(tmp_path):
    config = FAMILIES["sd1"]
    return save(tmp_path / "v1-5.safetensors", config, single_file(config, random_tensors(config)))


def test_every_layout_gives_the_same_model(tmp_path, single):
    convert(single, tmp_path / "ours")
    export(single, tmp_path / "theirs", "diffusers")
    export(tmp_path / "ours", tmp_path / "one.safetensors", "compvis")
    models = [
        ldm.load(tmp_path / name, device="cpu")
        for name in ("v1-5.safetensors", "ours", "theirs", "one.safetensors")
    ]
    first = models[0].state_dict()
    for model in models:
        assert model.config == FAMILIES["sd1"] and not model.training
        state = model.state_dict()
        assert state.keys() == first.keys() and all(torch.equal(state[name], first[name]) for name in first)
        assert model.dtype == torch.float32  # a small one


def test_a_ckpt_speaks_with_clips_own_words(tmp_path):
    config = FAMILIES["sd2-v"]
    config = replace(config, text=replace(config.text, vocab_size=49408, context_length=77))
    torch.save({"state_dict": single_file(config, random_tensors(config))}, tmp_path / "768-v.ckpt")
    model = ldm.load(tmp_path / "768-v.ckpt")
    assert model.config == config and model.tokenizer.vocab_size == 49408 and model.tokenizer.pad == "zero"
    with pytest.raises(
        LdmError, match="the text encoder has .* give a folder with the model's own tokenizer"
    ):
        small = FAMILIES["sd1"]
        torch.save(single_file(small, random_tensors(small)), tmp_path / "x.ckpt")
        ldm.load(tmp_path / "x.ckpt")


def test_a_file_is_found_by_its_name_under_weights(places, single):
    work, _ = places
    (work / "weights").mkdir()
    single.rename(work / "weights" / "mine.safetensors")
    assert ldm.load("mine.safetensors", device="cpu").config.name == "sd1"


def is_mapped(tensor: torch.Tensor, path: Path) -> bool:
    r"""Whether the tensor's memory is the file's (Linux lists what a process has mapped)."""
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    areas = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines]
    return any(begin <= tensor.data_ptr() < end for begin, end in areas)


def test_a_tensor_that_keeps_its_dtype_stays_in_the_file(single):
    model = ldm.load(single, torch.float16, "cpu")
    weight = model.unet.down[0].res[0].conv_1.weight
    assert is_mapped(weight, single)
    assert ldm.load(single, torch.bfloat16, "cpu").dtype == torch.bfloat16


@pytest.mark.parametrize("layout", ["theirs", "ours"])
def test_numbers_of_full_precision_are_loaded_to_the_last_bit_and_rounded_only_once(tmp_path, layout):
    config = FAMILIES["sd1"]
    tensors = random_tensors(config, dtype=torch.float32)
    path = save(tmp_path / "v1-5.safetensors", config, single_file(config, tensors))
    if layout == "ours":
        path = tmp_path / "ours"
        convert(tmp_path / "v1-5.safetensors", path)
    for dtype in (torch.float32, torch.bfloat16):
        state = ldm.load(path, dtype, "cpu").state_dict()
        for part, own in tensors.items():
            kind = torch.float32 if part == "text" else dtype  # as in the file
            for name, tensor in own.items():
                loaded = state[f"{part}.{name}"]
                assert loaded.dtype == kind and torch.equal(loaded, tensor.to(kind))


@pytest.mark.parametrize("layout", ["theirs", "ours"])
@pytest.mark.parametrize(
    ("stored", "asked", "expected"),
    [
        (torch.float32, torch.bfloat16, torch.float32),
        (torch.float32, torch.float16, torch.float32),
        (torch.float32, torch.float64, torch.float64),
        (torch.float16, torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32, torch.float32),
    ],
)
def test_a_text_encoder_in_full_precision_stays_in_its_file(tmp_path, layout, stored, asked, expected):
    config = FAMILIES["sd1"]
    path = save(
        tmp_path / "v1-5.safetensors", config, single_file(config, random_tensors(config, dtype=stored))
    )
    if layout == "ours":
        path = tmp_path / "ours"
        convert(tmp_path / "v1-5.safetensors", path)
    model = ldm.load(path, asked, "cpu")
    assert {p.dtype for p in model.text.parameters()} == {expected}
    assert {p.dtype for part in (model.unet, model.vae) for p in part.parameters()} == {asked}
    assert model.dtype == asked and model.encode_text(["a dog"]).context.isfinite().all()
    if stored == expected and layout == "theirs":
        weight = model.text.layers[0].mlp.fc_1.weight
        assert is_mapped(weight, path)


def test_numbers_at_odd_places_of_a_file_are_moved(tmp_path, single):
    data = single.read_bytes()
    length = int.from_bytes(data[:8], "little")
    odd = (length + 1).to_bytes(8, "little") + data[8 : 8 + length] + b" " + data[8 + length :]
    (tmp_path / "odd.safetensors").write_bytes(odd)
    state = ldm.load(tmp_path / "odd.safetensors", torch.float16, "cpu").state_dict()
    expected = ldm.load(single, torch.float16, "cpu").state_dict()
    for name, tensor in state.items():
        assert tensor.data_ptr() % 2 == 0 and torch.equal(tensor, expected[name])


def test_averaged_or_live_weights_and_the_prediction_are_the_callers_choice(tmp_path):
    config = FAMILIES["sd2-base"]
    file = with_ema(single_file(config, random_tensors(config)))
    path = save(tmp_path / "512-base.safetensors", config, file)
    live = file["model.diffusion_model.out.2.bias"].float()
    bias = {w: ldm.load(path, weights=w, device="cpu").unet.conv_out.bias for w in (None, "ema", "live")}
    assert torch.equal(bias["live"], live)
    assert torch.equal(bias["ema"], bias[None]) and not torch.equal(bias["ema"], live)
    assert ldm.load(path, prediction="v").config.noise.prediction == "v"
    for wrong in ({"prediction": "noise"}, {"weights": "all"}):
        with pytest.raises(LdmError, match="expected 'e"):
            ldm.load(path, **wrong)


def test_a_config_overrides_what_is_detected(tmp_path, single):
    config = FAMILIES["sd1"]
    four = tuple(replace(level, heads=4) for level in config.unet.levels)
    config = replace(config, name="four", unet=replace(config.unet, levels=four))
    (tmp_path / "config.json").write_text(config.to_json())
    for given in (config, tmp_path / "config.json", str(tmp_path / "config.json")):
        model = ldm.load(single, config=given)
        assert model.config == config and model.unet.mid.attn.layers[0].self_attn.heads == 4
    with pytest.raises(LdmError, match="cannot read .*nowhere.json"):
        ldm.load(single, config=tmp_path / "nowhere.json")
    with pytest.raises(LdmError, match="misshapen"):
        ldm.load(single, config=replace(config, vae=replace(config.vae, channels=(32, 32))))


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_found_and_its_tensor_named(tmp_path, single, spoilt):
    file = load_file(single)
    file["first_stage_model.decoder.conv_out.bias"][1] = spoilt
    save(tmp_path / "x.safetensors", FAMILIES["sd1"], file)
    with pytest.raises(LdmError, match="decoder.conv_out.bias has NaN or infinity"):
        ldm.load(tmp_path / "x.safetensors", torch.float32)


def test_a_lone_vae_and_a_lone_text_encoder_are_opened(tmp_path, single):
    whole = ldm.load(single)
    for prefix, load, own in (
        ("first_stage_model.", module.load_vae, whole.vae),
        ("cond_stage_model.transformer.", module.load_text, whole.text),
    ):
        file = {n.removeprefix(prefix): t for n, t in load_file(single).items() if n.startswith(prefix)}
        save_file(file, tmp_path / "part.safetensors")
        state, expected = load(tmp_path / "part.safetensors").state_dict(), own.state_dict()
        assert all(torch.equal(state[name], expected[name]) for name in expected)
        with pytest.raises(LdmError, match="open it with ldm.loading.load_"):
            ldm.load(tmp_path / "part.safetensors")
    with pytest.raises(LdmError, match="holds a text encoder; expected a VAE"):
        module.load_vae(tmp_path / "part.safetensors")


@pytest.mark.parametrize(
    ("numbers", "device", "capable", "expected"),
    [
        (10_000_000, "cpu", True, torch.float32),
        (10_000_000, "cuda", True, torch.float32),
        (1_000_000_000, "cpu", True, torch.bfloat16),
        (1_000_000_000, "cpu", False, torch.float32),
        (1_000_000_000, "cuda", False, torch.float16),
        (1_000_000_000, "mps", False, torch.float16),
    ],
)
def test_the_dtype_follows_the_size_and_the_device(monkeypatch, numbers, device, capable, expected):
    monkeypatch.setattr(choice, "bfloat16_instructions", lambda: "AMX" if capable else None)
    assert choice.pick_dtype(numbers, torch.device(device)) == expected


@pytest.mark.parametrize("asked", [{"device": "cpu"}, {"dtype": torch.float32}, {}])
def test_what_was_chosen_is_logged_of_a_model_that_is_not_small(single, caplog, monkeypatch, asked):
    monkeypatch.setattr(choice, "pick_device", lambda: torch.device("cpu"))
    with caplog.at_level("INFO", logger="ldm"):
        ldm.load(single, **asked)
        assert "parameters" not in caplog.text
        monkeypatch.setattr(module, "SMALL", 10)
        monkeypatch.setattr(module, "pick_dtype", lambda numbers, device: torch.float32)
        ldm.load(single, **asked)
    assert "parameters in float32 on cpu" in caplog.text


def test_nothing_is_logged_where_nothing_was_chosen(single, caplog, monkeypatch):
    monkeypatch.setattr(module, "SMALL", 10)
    with caplog.at_level("DEBUG", logger="ldm"):
        ldm.load(single, dtype=torch.float32, device="cpu")
    assert "parameters" not in caplog.text


@pytest.mark.parametrize("text", [None, "", "{}", "[" * 100_000, "\xff"])
def test_a_config_that_cannot_be_read_is_an_error_that_names_it(single, tmp_path, text):
    if text is not None:
        (tmp_path / "c.json").write_text(text, encoding="latin-1")
    with pytest.raises(LdmError, match="config"):
        ldm.load(single, config=tmp_path / "c.json")


def test_to_load_draws_no_random_numbers(single):
    state = torch.get_rng_state()
    ldm.load(single)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.long
def test_loading_and_painting_wake_no_compiler(tmp_path):
    # torch._dynamo and what it imports take a second and more to import.
    folder = write_small_model(tmp_path / "small")
    export(folder, tmp_path / "diffusers", "diffusers")
    code = """
import sys, ldm
for folder in sys.argv[1:]:
    ldm.load(folder, device="cpu").generate("a dog", seed=0, steps=1)
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "diffusers")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("layout", ["ours", "diffusers"])
def test_a_model_in_bfloat16_on_a_cpu_has_its_channels_last(tmp_path, layout):
    folder = write_small_model(tmp_path / "small")
    if layout == "diffusers":
        export(folder, tmp_path / "diffusers", "diffusers")
        folder = tmp_path / "diffusers"
    for dtype, expected in ((torch.bfloat16, True), (torch.float32, False)):
        model = ldm.load(folder, dtype, "cpu")
        for weight in (model.unet.conv_out.weight, model.vae.decoder.conv_out.weight):
            assert weight.is_contiguous(memory_format=torch.channels_last) is expected
            assert weight.is_contiguous() is not expected


# --- how the caller's surroundings are, and how arguments may be given --------------------------------------


@pytest.mark.parametrize("name", ["bfloat16", "torch.bfloat16", torch.bfloat16])
def test_a_dtype_may_be_given_by_its_name(tmp_path, name):
    write_small_model(tmp_path)
    assert ldm.load(tmp_path, dtype=name, device="cpu").dtype == torch.bfloat16
    assert next(ldm.loading.load_vae(tmp_path, name, "cpu").parameters()).dtype == torch.bfloat16
    assert next(ldm.load_clip(tmp_path, name, "cpu")[0].parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", ["half-ish", "int8", torch.int8, torch.complex64])
def test_a_dtype_that_networks_do_not_compute_in_is_an_error(tmp_path, dtype):
    write_small_model(tmp_path)
    for load in (ldm.load, ldm.load_clip, ldm.loading.load_text):
        with pytest.raises(LdmError, match="expected one of float32, bfloat16, float16, float64"):
            load(tmp_path, dtype=dtype)


@pytest.mark.parametrize("device", ["cud", "", "cpu:x", "meta", torch.device("meta")])
def test_a_device_that_is_not_here_is_an_error(tmp_path, device):
    write_small_model(tmp_path)
    for load in (ldm.load, ldm.load_clip, ldm.loading.load_vae):
        with pytest.raises(LdmError, match=r"^device '.*; give another, .*or none to take the fastest"):
            load(tmp_path, device=device)


def test_choosing_among_the_weights_of_our_own_folder_is_an_error(tmp_path):
    write_small_model(tmp_path)
    for weights in ("ema", "live"):
        with pytest.raises(LdmError, match="which has one set of weights; leave it out"):
            ldm.load(tmp_path, weights=weights)


@pytest.fixture
def meta_by_default():
    r"""torch makes tensors on the meta device unless it is told: whatever is not told holds no numbers."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def layouts(folder):
    r"""A model in every form that is read."""
    single = FAMILIES["sd1"]
    path = save(folder / "a.safetensors", single, single_file(single, random_tensors(single)))
    convert(path, folder / "ours")
    export(path, folder / "theirs", "diffusers")
    return [path, folder / "ours", folder / "theirs"]


def test_torchs_default_device_changes_nothing_about_a_model_or_its_pictures(tmp_path, request):
    paths = layouts(tmp_path)
    write_small_model(tmp_path / "small")

    def everything():
        states = [ldm.load(path, device="cpu").state_dict() for path in paths]
        states += [
            ldm.load_clip(tmp_path / "small", device="cpu")[0].state_dict(),
            ldm.loading.load_vae(paths[1], device="cpu").state_dict(),
            ldm.loading.load_text(paths[2], torch.float16, "cpu").state_dict(),
        ]
        model = ldm.load(tmp_path / "small", device="cpu")
        picture, mask = Image.new("RGB", (16, 16), "red"), Image.new("L", (16, 16), 255)
        options = {"seed": 1, "steps": 2}
        images = model.generate(["red dog " * 20, "(dog:1.3)"], long_prompt="chunk", **options)
        images += model.generate("red", init=picture, mask=mask, sampler="dpmpp_2m_karras", **options)
        images += model.generate("red", sampler="ddpm", tile=True, size=(160, 16), **options)
        with record(model, "red") as recording:
            model.generate("red", progress=recording.watch(), **options)
        states.append({str(i): step.attention for i, step in enumerate(recording.steps)})
        return states, [np.asarray(image) for image in images + recording.decode("x0")]

    states, images = everything()
    request.getfixturevalue("meta_by_default")
    again, images_again = everything()
    for before, after in zip(states, again, strict=True):
        assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    assert all((a == b).all() for a, b in zip(images, images_again, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_torchs_default_dtype_changes_nothing_about_a_model_or_its_pictures(tmp_path, dtype):
    write_small_model(tmp_path)

    def latents():
        steps = []
        ldm.load(tmp_path, device="cpu").generate(
            "(red:1.3) dog",
            seed=1,
            sampler="euler",  # which asks about t = 499.5: 500 in bfloat16
            steps=3,
            progress=lambda path, _: (steps.append(step) or step for step in path),
        )
        return torch.cat([step.x_prev for step in steps])

    expected = latents()
    torch.set_default_dtype(dtype)
    try:
        assert torch.equal(latents(), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_copied_or_pickled_model_paints_the_same(tmp_path):
    write_small_model(tmp_path)
    model = ldm.load(tmp_path, device="cpu")
    expected = np.asarray(model.generate("red dog", seed=1)[0])
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert (np.asarray(other.generate("red dog", seed=1)[0]) == expected).all()


def test_a_model_loaded_in_inference_mode_paints_outside_of_it(tmp_path):
    write_small_model(tmp_path)
    expected = np.asarray(ldm.load(tmp_path, device="cpu").generate("red dog", seed=1)[0])
    with torch.inference_mode():
        model = ldm.load(tmp_path, device="cpu")
        assert (np.asarray(model.generate("red dog", seed=1)[0]) == expected).all()
    assert (np.asarray(model.generate("red dog", seed=1)[0]) == expected).all()
