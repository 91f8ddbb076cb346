r"""diffusers folders: variants, shards, old names, and what is missing."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from ldm.checkpoints.collect import collect
from ldm.checkpoints.diffusers_folder import read_folder
from ldm.checkpoints.opening import open_checkpoint
from ldm.checkpoints.write import export
from ldm.errors import LdmError
from tests.checkpoints.made import FAMILIES, random_tensors, save, single_file
from tests.text.test_tokenizer_files import one_table

CONFIG = FAMILIES["sd2-v"]
TENSORS = random_tensors(CONFIG)
UNET = "unet/diffusion_pytorch_model"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    place = tmp_path_factory.mktemp("exported")
    path = save(place / "768-v.safetensors", CONFIG, single_file(CONFIG, TENSORS))
    export(path, place / "model", "diffusers")
    return place / "model"


@pytest.fixture
def folder(exported, tmp_path):
    r"""One that a test may damage."""
    return shutil.copytree(exported, tmp_path / "model")


def assert_same(path, weights=None) -> None:
    found = collect(path, weights=weights)
    assert found.model.config == CONFIG
    for part, tensors in TENSORS.items():
        assert found.tensors[part].keys() == tensors.keys()
        assert all(torch.equal(found.tensors[part][name], tensor) for name, tensor in tensors.items())


def rename(folder, before: str, after: str):
    (folder / before).rename(folder / after)


def shard(folder, stem: str, variant: str = "", index: str = "{stem}.index.json") -> list[str]:
    r"""Cut one file into two shards with an index; returns the shards' names."""
    place, _, base = stem.rpartition("/")
    path = folder / f"{stem}.safetensors"
    tensors = load_file(path)
    names = sorted(tensors)
    shards = [f"{base}{variant}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    for name, half in zip(shards, halves):
        save_file({key: tensors[key] for key in half}, folder / place / name)
    where = {key: name for name, half in zip(shards, halves) for key in half}
    (folder / place / index).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    path.unlink()
    return shards


def test_what_was_exported_is_read_with_all_its_settings(folder):
    assert_same(folder)


def test_a_variant_is_taken_where_there_is_no_full_file(folder):
    for part in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        rename(folder, f"{part}.safetensors", f"{part}.fp16.safetensors")
    assert_same(folder)
    other = {name: t + 1 for name, t in load_file(folder / f"{UNET}.fp16.safetensors").items()}
    save_file(other, folder / f"{UNET}.safetensors")
    found = read_folder(folder).parts["unet"]
    assert found.source.name == "diffusion_pytorch_model.safetensors"
    assert torch.equal(found.tensors["conv_in.bias"], other["conv_in.bias"])


def test_live_weights_are_a_variant(folder):
    with pytest.raises(LdmError, match="has no live weights .a .non_ema file."):
        read_folder(folder, "live")
    rename(folder, f"{UNET}.safetensors", f"{UNET}.non_ema.safetensors")
    assert_same(folder, "live")
    with pytest.raises(
        LdmError, match="unet has no weights; expected one of diffusion_pytorch_model.safetensors"
    ):
        read_folder(folder)


def test_bin_files_are_read(folder):
    for part, after in (
        ("unet/diffusion_pytorch_model", "unet/diffusion_pytorch_model"),
        ("text_encoder/model", "text_encoder/pytorch_model"),
    ):
        torch.save(load_file(folder / f"{part}.safetensors"), folder / f"{after}.bin")
        (folder / f"{part}.safetensors").unlink()
    assert_same(folder)


@pytest.mark.parametrize(
    ("variant", "index"),
    [
        ("", "diffusion_pytorch_model.safetensors.index.json"),
        (".fp16", "diffusion_pytorch_model.safetensors.index.fp16.json"),
        (".fp16", "diffusion_pytorch_model.fp16.safetensors.index.json"),
    ],
)
def test_shards_are_put_together(folder, variant, index):
    shard(folder, UNET, variant, index)
    assert_same(folder)


def test_shards_that_do_not_fit_their_index_are_named(folder):
    index = "diffusion_pytorch_model.safetensors.index.json"
    first, second = shard(folder, UNET, index=index)
    whole = json.loads((folder / "unet" / index).read_text())
    for where, message in (
        ("../x.safetensors", "names the shard '../x.safetensors'; expected a file beside it"),
        (7, "has no weight_map"),
        (first, f"{first} lacks"),
    ):
        changed = dict.fromkeys(whole["weight_map"], where)
        (folder / "unet" / index).write_text(json.dumps({"weight_map": changed}))
        with pytest.raises(LdmError, match=message):
            read_folder(folder)
    (folder / "unet" / index).write_text(json.dumps(whole))
    (folder / "unet" / second).unlink()
    with pytest.raises(LdmError, match=f"{second} is missing: .* says it is a shard"):
        read_folder(folder)
    (folder / "unet" / index).unlink()
    with pytest.raises(LdmError, match="has 1 shards but no index"):
        read_folder(folder)


def test_old_names_of_the_vaes_attention_are_read(folder):
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(path)
    for new, name in old.items():
        for key in [key for key in tensors if f"attentions.0.{new}." in key]:
            tensors[key.replace(new, name)] = tensors.pop(key)
    assert sum("proj_attn" in name for name in tensors) == 4
    save_file(tensors, path)
    assert_same(folder)


def test_text_encoders_without_their_prefix_and_with_positions_are_read(folder):
    path = folder / "text_encoder/model.safetensors"
    tensors = {name.removeprefix("text_model."): t for name, t in load_file(path).items()}
    save_file(tensors | {"embeddings.position_ids": torch.arange(32)[None]}, path)
    assert_same(folder)


@pytest.mark.parametrize(
    ("file", "key", "value", "message"),
    [
        ("unet", "act_fn", "gelu", "unet: its config has act_fn = 'gelu'; expected 'silu'"),
        ("unet", "attention_head_dim", [1], "has heads for 1 levels; its tensors make 2"),
        ("unet", "attention_head_dim", "many", "heads is 'many'; expected int"),
        ("unet", "norm_num_groups", 7, "its sizes make no model"),
        ("unet", "attention_head_dim", -1, r"config\.unet\.levels\[0\]\.heads is -1; expected 1 to 1,000"),
        ("vae", "scaling_factor", "wide", "scale is 'wide'; expected float"),
        ("text_encoder", "hidden_act", "relu", "activation is 'relu'; expected one of"),
        ("scheduler", "prediction_type", [1], r"\[1\]"),
        ("scheduler", "prediction_type", "flow", "has 'flow'; expected one of epsilon, v_prediction"),
    ],
)
def test_settings_that_make_another_network_are_errors(folder, file, key, value, message):
    path = folder / file / ("scheduler_config.json" if file == "scheduler" else "config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(LdmError, match=message):
        collect(folder)


def test_what_a_diffusers_folder_lacks_is_named(folder):
    (folder / "vae/config.json").write_text("{")
    with pytest.raises(LdmError, match="vae/config.json is not valid JSON"):
        collect(folder)
    (folder / "vae/config.json").unlink()
    with pytest.raises(LdmError, match="cannot read .*vae/config.json"):
        collect(folder)
    for file in (folder / "vae").iterdir():
        file.unlink()
    (folder / "vae").rmdir()
    with pytest.raises(LdmError, match="there is no VAE in it; give one with vae="):
        collect(folder)


def test_one_network_in_a_folder_of_its_own_is_found(folder):
    found = open_checkpoint(folder / "vae")
    assert list(found.parts) == ["vae"] and found.parts["vae"].layout == "diffusers"
    with pytest.raises(LdmError, match="vae is only a VAE; open it with ldm.loading.load_vae"):
        collect(folder / "vae")
    assert list(open_checkpoint(folder / "text_encoder").parts) == ["text"]
    with pytest.raises(LdmError, match="is a folder with no checkpoint in it"):
        open_checkpoint(folder / "scheduler")


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("model_index.json", {"_class_name": "StableDiffusion3Pipeline"}, "is a Stable Diffusion 3 model .its model_i"),
        ("model_index.json", {"_class_name": "FluxPipeline"}, "is a Flux model .its model_index.json names FluxPip"),
        ("model_index.json", {"_class_name": "KandinskyPipeline"}, "its model_index.json names Kand"),
        ("model_index.json", {"_class_name": ["my_pipeline", "Mine"]}, "its model_index.json names"),
        ("model_index.json", {"text_encoder": ["x", "RobertaSeriesModelWithTransformation"]}, "is AltDiffusion"),
        ("model_index.json", {"tokenizer": ["transformers", "T5Tokenizer"]}, "its tokenizer's config names T5Tok"),
        ("unet/config.json", {"_class_name": "UNetMotionModel"}, "its unet's config names UNetMotion"),
        ("vae/config.json", {"_class_name": "AutoencoderTiny"}, "its vae's config names AutoencoderTiny"),
        ("text_encoder/config.json", {"architectures": ["T5EncoderModel"]}, "its text_encoder's config names T5"),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "FlowMatchEulerDiscreteScheduler"},
            "another kind of model .its scheduler's config names FlowMatchEulerDiscreteScheduler",
        ),
    ],
)  # fmt: skip
def test_a_folder_of_other_classes_is_named(folder, file, changes, message):
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | changes))
    with pytest.raises(LdmError, match=message):
        collect(folder)


@pytest.mark.parametrize("damage", ["unet", "text_encoder/model.safetensors", "text_encoder/config.json"])
def test_a_folder_of_another_family_is_named_whatever_else_it_lacks(folder, damage):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    shutil.rmtree(folder / damage) if (folder / damage).is_dir() else (folder / damage).unlink()
    with pytest.raises(LdmError, match="is a Flux model"):
        collect(folder)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("model_index.json", "StableDiffusionImg2ImgPipeline"),
        ("model_index.json", "StableDiffusionInpaintPipelineLegacy"),
        ("scheduler/scheduler_config.json", "EulerAncestralDiscreteScheduler"),
        ("scheduler/scheduler_config.json", "UniPCMultistepScheduler"),
    ],
)
def test_other_classes_of_the_same_model_are_nothing_to_speak_of(folder, file, name, caplog):
    table = {
        key: v for key, v in json.loads((folder / file).read_text()).items() if key != "timestep_spacing"
    }
    (folder / file).write_text(json.dumps(table | {"_class_name": name}))
    assert_same(folder)
    assert not caplog.records


def test_what_stands_around_a_stable_diffusion_is_named_and_left_out(folder, caplog):
    file, name = "model_index.json", "StableDiffusionControlNetPipeline"
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | {"_class_name": name}))
    assert_same(folder)
    assert f"names {name}: the Stable Diffusion in it is opened, without that" in caplog.text


def test_a_second_text_encoder_that_nothing_reads_is_said(folder, caplog):
    second = folder / "text_encoder_2"
    shutil.copytree(folder / "text_encoder", second)
    said = json.loads((second / "config.json").read_text())
    (second / "config.json").write_text(json.dumps(said | {"architectures": ["CLIPTextModelWithProjection"]}))
    assert_same(folder)
    assert "its second text encoder is not used" in caplog.text


def test_the_tokenizer_json_of_today_is_enough(folder):
    expected = collect(folder).model.tokenizer
    table = one_table(expected)
    for name in ("vocab.json", "merges.txt", "special_tokens_map.json"):
        (folder / "tokenizer" / name).unlink()
    (folder / "tokenizer/tokenizer.json").write_text(json.dumps(table))
    assert_same(folder)
    assert collect(folder).model.tokenizer("a red dog!").tolist() == expected("a red dog!").tolist()


def test_averaged_weights_are_those_that_have_live_ones_beside_them(folder):
    with pytest.raises(LdmError, match="nothing in it says that they are averaged .EMA.; to take them"):
        read_folder(folder, "ema")
    assert not read_folder(folder).ema
    shutil.copy(folder / f"{UNET}.safetensors", folder / f"{UNET}.non_ema.safetensors")
    assert read_folder(folder).ema and read_folder(folder, "ema").ema


def test_fewer_layers_in_the_json_than_in_the_file_are_read_as_transformers_reads_them(folder):
    # The test's encoder has two layers in the file, of three; with one less, the state after the first is read.
    path = folder / "text_encoder/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 1}))
    found = collect(folder)
    assert found.model.config.text.layers == 2 and any("layers.1." in name for name in found.dropped)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 10**9}))
    with pytest.raises(LdmError, match="num_hidden_layers = 1000000000; its tensors make 2"):
        collect(folder)


def test_a_network_of_another_class_in_a_folder_of_its_own_is_named(folder):
    (folder / "vae/config.json").write_text(json.dumps({"_class_name": "VQModel"}))
    with pytest.raises(LdmError, match="vae is another kind of network .VQModel."):
        open_checkpoint(folder / "vae")
