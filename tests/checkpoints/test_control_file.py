r"""ControlNets' files: in both layouts, for the right base, and everything else by its name."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ldm.adapters.controlnet import ControlNet
from ldm.checkpoints.control_file import control_rows, open_control, read_control
from ldm.checkpoints.inspect import inspect
from ldm.checkpoints.loaded import LoadedModel
from ldm.checkpoints.names import rename
from ldm.config import SD1, SD2_BASE, SDXL
from ldm.errors import LdmError
from ldm.loading import load, load_control
from tests.small import CONFIG, TOKENIZER

HINT = (4, 6)


def small_control(seed: int = 5) -> ControlNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ControlNet(CONFIG.unet, HINT)
        for parameter in network.parameters():
            parameter.data = torch.randn(parameter.shape) * 0.3
    return network.eval().requires_grad_(False)


def tensors_of(network: ControlNet, layout: str) -> dict[str, torch.Tensor]:
    named = rename(network.state_dict(), control_rows(CONFIG.unet, len(HINT)), layout)
    return {name: tensor.contiguous() for name, tensor in named.items()}


def write_control(path: Path, layout: str = "compvis", prefix: str = "control_model.", seed: int = 5) -> Path:
    tensors = tensors_of(small_control(seed), layout)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({prefix + name: tensor for name, tensor in tensors.items()}, path)
    return path


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return LoadedModel(CONFIG, TOKENIZER).eval().requires_grad_(False)


def same(network: ControlNet, other: ControlNet) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "layout", "prefix"),
    [("a.safetensors", "compvis", "control_model."), ("b.safetensors", "compvis", ""),
     ("c.safetensors", "diffusers", "")],
)  # fmt: skip
def test_a_file_of_each_layout_is_the_same_network(tmp_path, model, name, layout, prefix):
    assert same(load_control(write_control(tmp_path / name, layout, prefix), model), small_control())


def test_a_pickle_and_a_file_with_the_whole_model_open_too(tmp_path, model):
    tensors = {f"control_model.{n}": t for n, t in tensors_of(small_control(), "compvis").items()}
    torch.save(
        {"state_dict": tensors | {"model.diffusion_model.out.2.bias": torch.zeros(4)}}, tmp_path / "a.pth"
    )
    assert same(load_control(tmp_path / "a.pth", model), small_control())


def test_a_folder_of_diffusers_opens_and_its_config_says_whether_to_average(tmp_path, model):
    write_control(tmp_path / "net/diffusion_pytorch_model.safetensors", "diffusers", "")
    config = {"_class_name": "ControlNetModel", "global_pool_conditions": True}
    (tmp_path / "net/config.json").write_text(json.dumps(config), encoding="utf-8")
    network = load_control(tmp_path / "net", model)
    assert same(network, small_control()) and network.pool
    assert load_control(tmp_path / "net/diffusion_pytorch_model.safetensors", model).pool
    config["controlnet_conditioning_channel_order"] = "bgr"
    (tmp_path / "net/config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(LdmError, match="reads its image as BGR, which is not supported"):
        open_control(tmp_path / "net")


def test_a_difference_is_added_to_the_models_own_weights(tmp_path, model):
    network = small_control()
    changed = tensors_of(network, "compvis") | {"difference": torch.tensor([])}
    save_file(changed, tmp_path / "d.safetensors")
    found = load_control(tmp_path / "d.safetensors", model)
    own = model.unet.state_dict()
    for name, tensor in found.state_dict().items():
        change = network.state_dict()[name]
        assert torch.equal(tensor, change + own[name] if name in own else change), name


KEYS = {"sd1": (SD1, False), "sd2": (SD2_BASE, True), "sdxl": (SDXL, True)}


@pytest.mark.parametrize(
    ("name", "parameters"), [("sd1", 361_279_120), ("sd2", 364_228_240), ("sdxl", 1_251_014_160)]
)
def test_names_and_shapes_are_those_of_the_published_ones(name, parameters):
    config, linear = KEYS[name]
    with torch.device("meta"):
        network = ControlNet(config.unet)
    assert sum(p.numel() for p in network.parameters()) == parameters
    state = rename(network.state_dict(), control_rows(config.unet, linear_projection=linear), "compvis")
    path = Path(__file__).parent / f"keys/controlnet_{name}.json.gz"
    assert {n: list(t.shape) for n, t in state.items()} == json.loads(gzip.decompress(path.read_bytes()))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ("lora_controlnet", "is a Control-LoRA: recognised, and not supported"),
        ("lllite_unet_input_blocks_1", "is a ControlNet-LLLite: recognised"),
        ("task_embedding", "is a ControlNet Union: recognised"),
        ("adapter.body.0.weight", "is no ControlNet, but a T2I-Adapter"),
        ("unet.down.lora_A.weight", "is no ControlNet, but a LoRA"),
        ("x", "is no ControlNet, but a file of 1 tensors, such as x"),
    ],
)
def test_other_files_are_named(tmp_path, tensor, message):
    save_file({tensor: torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(LdmError, match=message):
        open_control(tmp_path / "a.safetensors")


def test_one_for_another_base_or_with_tensors_missing_is_refused(tmp_path, model):
    path = write_control(tmp_path / "a.safetensors")
    wide = replace(CONFIG, unet=replace(CONFIG.unet, context_width=768))
    with pytest.raises(
        LdmError, match="for a model whose text is 16 wide; expected one for Stable Diffusion 1"
    ):
        read_control(path, LoadedModel(wide, TOKENIZER))
    deep = replace(CONFIG, unet=replace(CONFIG.unet, res_per_level=2))
    with pytest.raises(LdmError, match="no whole ControlNet for this model; .* missing: "):
        read_control(path, LoadedModel(deep, TOKENIZER))
    four = replace(CONFIG, vae=replace(CONFIG.vae, channels=(8, 8, 16)))
    with pytest.raises(LdmError, match="reads images 2 times as large as the latent; expected 4 times"):
        read_control(path, LoadedModel(four, TOKENIZER))
    tensors = tensors_of(small_control(), "compvis")
    tensors["zero_convs.1.0.bias"] = torch.zeros(3)
    del tensors["middle_block_out.0.weight"]
    save_file(tensors, tmp_path / "b.safetensors")
    with pytest.raises(LdmError, match="1 missing: middle_block_out.0.weight; 1 misshapen: zero.1.bias"):
        read_control(tmp_path / "b.safetensors", model)
    with pytest.raises(LdmError, match="there is no ControlNet .*gone"):
        read_control(tmp_path / "gone", model)


def test_nan_is_refused(tmp_path, model):
    tensors = tensors_of(small_control(), "compvis")
    tensors["zero_convs.1.0.bias"][0] = torch.nan
    save_file({n: t.half() for n, t in tensors.items()}, tmp_path / "b.safetensors")
    with pytest.raises(LdmError, match="zero.1.bias has NaN"):
        load_control(tmp_path / "b.safetensors", model)


def test_as_a_model_it_is_named_with_the_option_that_takes_it_and_inspect_says_what_it_wants(tmp_path):
    path = write_control(tmp_path / "sd15_canny.safetensors")
    with pytest.raises(
        LdmError, match=r"is a ControlNet: it steers a model, and is none \(--control takes it\)"
    ):
        load(path)
    write_control(tmp_path / "net/diffusion_pytorch_model.safetensors", "diffusers", "")
    (tmp_path / "net/config.json").write_text('{"_class_name": "ControlNetModel"}', encoding="utf-8")
    with pytest.raises(LdmError, match=r"net is a ControlNet: it steers a model"):
        load(tmp_path / "net")
    assert "its image   of a kind that its name does not tell" in inspect(tmp_path / "net", hash=False).text()
    text = inspect(path, hash=False).text()
    assert "ControlNet  " in text and "U-Net" not in text
    assert "made for    a model that is not known here" in text
    assert "its image   white edges on black (--control-prepare canny makes it)" in text
