r"""Weights in 8 bits, graphs that point into files, and what the page is told about a model."""

from dataclasses import replace

import pytest
import torch

from ldm.checkpoints.safetensors_file import map_tensors
from ldm.config import Head, TextConfig, UNetConfig, UNetLevel, VAEConfig
from ldm.errors import LdmError
from ldm.lab.playground.build import PIECE, on_disk, read_settings
from ldm.lab.playground.graphs import UNetGraph, as_written
from ldm.lab.playground.runtime import read_runtime
from ldm.lab.playground.weights import from_eight_bits, read_slices, to_eight_bits, write_eight_bits
from ldm.lab.trace.recorder import record
from ldm.pipeline import LatentDiffusion
from ldm.unet.watch import head_counts
from tests.small import CONFIG, MERGES, Tokenizer

# None of these sizes is the shipped model's.
OTHER = replace(
    CONFIG,
    text=TextConfig(CONFIG.text.vocab_size, 40, width=16, layers=1, heads=2, activation="quick_gelu"),
    vae=VAEConfig(channels=(8, 16), res_per_level=1, latent_channels=8, scale=0.5, groups=4),
    unet=UNetConfig(
        (UNetLevel(8, 2, 1), UNetLevel(16, 2, 1)),
        16,
        in_channels=8,
        out_channels=8,
        res_per_level=1,
        groups=4,
    ),
)


def other_model(randomise):
    return randomise(LatentDiffusion(OTHER, Tokenizer(MERGES, context_length=40))).float()


def test_one_row_worked_by_hand():
    q, scale = to_eight_bits(torch.tensor([[1.27, -0.64, 0.0], [0.0, 0.0, 0.0]]))
    assert q.tolist() == [[127, -64, 0], [0, 0, 0]]
    assert scale.tolist() == [[pytest.approx(0.01, rel=1e-3)], [1.0]]


def test_no_weight_moves_by_more_than_half_a_step():
    weight = (
        torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
        * torch.logspace(-3, 2, 6)[:, None, None, None]
    )
    q, scale = to_eight_bits(weight)
    assert (
        (weight - q * scale.float()).abs() <= 0.505 * scale.float()
    ).all()  # the scale is rounded to float16


def test_what_is_written_is_where_it_is_said_to_be(tmp_path):
    tensors = {"conv.weight": torch.randn(5, 3, 3, 3), "conv.bias": torch.randn(5), "norm": torch.rand(7)}
    path = tmp_path / "w.safetensors"
    write_eight_bits(path, tensors)
    again, data = map_tensors(path), path.read_bytes()
    assert sorted(again) == ["conv.bias", "conv.weight", "conv.weight.scale", "norm"]
    for name, place in read_slices(path).items():
        found = torch.frombuffer(
            bytearray(data[place.offset : place.offset + place.length]), dtype=again[name].dtype
        )
        assert torch.equal(found.reshape(place.shape), again[name]), name
    for name, weight in from_eight_bits(again).items():
        assert (weight - tensors[name]).abs().max() < 0.02, name


def test_the_page_is_told_the_models_own_sizes(randomise):
    settings = read_settings(other_model(randomise))
    assert settings["latent"] == [8, 8, 8] and settings["tokenizer"]["contextLength"] == 40
    assert settings["sampler"] == "dpmpp_2m"  # the model's own is DDIM, which the page has not
    assert len(settings["alphaBar"]) == 1000 and settings["guidance"] == 2.0


def test_a_model_that_the_page_cannot_use_is_refused(randomise):
    unet = replace(CONFIG.unet, in_channels=9)
    model = LatentDiffusion(replace(CONFIG, unet=unet), Tokenizer(MERGES, context_length=32))
    with pytest.raises(LdmError, match="inpainting"):
        read_settings(model)
    model = LatentDiffusion(CONFIG, Tokenizer(MERGES, context_length=32, clean="hf"))
    with pytest.raises(LdmError, match="'hf'"):
        read_settings(model)


def test_a_large_file_becomes_scripts_that_are_each_whole(tmp_path):
    (tmp_path / "file").mkdir()
    data = torch.randint(0, 256, (PIECE + 1000,), dtype=torch.uint8).numpy().tobytes()
    listed = on_disk(tmp_path, "x", data)
    assert listed.urls == ["file/x.0.js", "file/x.1.js"]
    assert listed.size == sum((tmp_path / url).stat().st_size for url in listed.urls)


def test_another_package_is_not_taken_for_the_runtime(tmp_path):
    path = tmp_path / "ort.tgz"
    path.write_bytes(b"something else")
    with pytest.raises(LdmError, match=r"not onnxruntime-web 1\.30\.0"):
        read_runtime(path)


# --- graphs: these need the packages that write ONNX ---------------------------------------------------------------


@pytest.mark.parametrize("named", [(), ((0, 1), (-1, 0), (-1, 1))])
def test_the_maps_are_those_that_a_trace_records(randomise, named):
    model = other_model(randomise)
    layers = list(head_counts(model.unet))
    heads = tuple(Head(layers[layer], head) for layer, head in named)
    model.config = replace(model.config, map_heads=heads)
    with record(model, "red dog") as recording:
        model.generate("red dog", seed=7, steps=1, size=(24, 16), guidance=1.0, progress=recording.watch())
    [step] = recording.steps
    with torch.no_grad(), as_written(model):
        context = model.encode_text(["red dog"]).context
        maps = UNetGraph(model)(step.x_t, torch.tensor([float(step.t)]), context)[1]
    torch.testing.assert_close(maps[:, :4], step.attention, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(maps.sum(dim=1), torch.ones(1, *maps.shape[2:]))


@pytest.mark.docs
def test_graphs_of_another_model_compute_what_its_networks_compute(randomise, tmp_path):
    pytest.importorskip("onnxscript", reason="writing graphs needs the `playground` extra: make playground")
    from onnx.external_data_helper import load_external_data_for_model
    from onnx.reference import ReferenceEvaluator

    from ldm.checkpoints.folder import write_tensors
    from ldm.lab.playground.graphs import make_graphs
    from ldm.lab.playground.weights import point_to

    model = other_model(randomise)
    for part in ("text", "unet", "vae"):
        write_tensors(tmp_path / f"{part}.safetensors", getattr(model, part).state_dict())
        getattr(model, part).load_state_dict(
            {k: v.float() for k, v in map_tensors(tmp_path / f"{part}.safetensors").items()}
        )
    graphs = make_graphs(model)

    def run(name, part, **inputs):
        file = f"{part}.safetensors"
        graph = point_to(graphs[name], part, file, read_slices(tmp_path / file))
        assert len(graph.SerializeToString()) < 200_000
        load_external_data_for_model(graph, str(tmp_path))
        return ReferenceEvaluator(graph).run(None, {key: value.numpy() for key, value in inputs.items()})

    ids = model.tokenizer(["red dog", ""])
    [context] = run("text", "text", ids=ids)
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(context), model.text(ids), rtol=0, atol=1e-5)
        for batch in (1, 2):
            x, t = torch.randn(batch, 8, 8, 8), torch.full((batch,), 700.0)
            states = torch.randn(batch, 40, 16)
            out, attention = run("unet", "unet", x=x, t=t, context=states)
            torch.testing.assert_close(torch.tensor(out), model.unet(x, t, states), rtol=0, atol=1e-4)
            assert attention.shape == (batch, 40, 8, 8)
            torch.testing.assert_close(torch.tensor(attention).sum(1), torch.ones(batch, 8, 8))
            with as_written(model):
                expected = UNetGraph(model)(x, t, states)[1]
            torch.testing.assert_close(torch.tensor(attention), expected, rtol=0, atol=1e-5)
        latent = torch.randn(1, 8, 8, 8)
        [pixels] = run("decoder", "vae", latent=latent)
        torch.testing.assert_close(torch.tensor(pixels), model.vae.decode(latent), rtol=0, atol=1e-4)
        image = torch.rand(1, 3, 16, 16) * 2 - 1
        [encoded] = run("encoder", "vae", pixels=image)
        torch.testing.assert_close(torch.tensor(encoded), model.vae.encode(image)[0], rtol=0, atol=1e-4)
