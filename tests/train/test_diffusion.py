r"""Stage 4: the U-Net learns to predict the noise."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ldm.checkpoints.folder import fill, read_tensors, write_tensors
from ldm.config import NoiseConfig
from ldm.diffusion.schedule import make_alpha_bar
from ldm.errors import LdmError
from ldm.loading import load
from ldm.pipeline import LatentDiffusion
from ldm.train import diffusion as stage
from ldm.train.diffusion import (
    CAPTION_DROPOUT,
    EncodedImages,
    diffusion_loss,
    min_snr_weights,
    random_timesteps,
    train_diffusion,
)
from ldm.train.loop import Recipe, train
from ldm.unet.unet import UNet
from ldm.vae.vae import VAE
from tests.small import CONFIG, TOKENIZER, write_small_model


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("batch", "steps"), [(8, 1000), (32, 1000), (1, 1000), (5, 7)])
def test_one_timestep_comes_from_each_of_equal_stretches(batch, steps):
    for seed in range(20):
        t = random_timesteps(batch, steps, gen(seed))
        assert t.dtype == torch.int64 and t.shape == (batch,)
        assert t.min() >= 0 and t.max() < steps
        for i, value in enumerate(t.tolist()):
            assert math.floor(steps * i / batch) <= value <= math.ceil(steps * (i + 1) / batch)


def test_every_timestep_is_about_as_likely_as_any_other():
    generator = gen()
    counts = torch.bincount(
        torch.cat([random_timesteps(4, 20, generator) for _ in range(1000)]), minlength=20
    )
    assert counts.sum() == 4000 and counts.min() > 150 and counts.max() < 250  # 200 each


@pytest.mark.parametrize("batch", [8, 32, 256])
def test_the_highest_random_number_is_no_timestep_too_many(monkeypatch, batch):
    # 31 + 0.99999994 is 32 in float32.
    highest = 1 - 2**-24
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, highest))
    assert random_timesteps(batch, 1000, gen()).max() == 999


class Saying(nn.Module):
    r"""Replaces the U-Net and predicts `answer(x_t, t)`."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x_t, t, context):
        return self.answer(x_t, t)


def loss_of(unet, latents, context, noise_config, generator):
    r"""The loss at timesteps and noise that `generator` draws."""
    t = random_timesteps(len(latents), noise_config.steps, generator)
    eps = torch.randn(latents.shape, generator=generator)
    return diffusion_loss(unet, latents, t, eps, context, noise_config)


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_a_perfect_prediction_has_no_loss(draw, prediction):
    latents, noise = draw(16, 4, 8, 8).float(), NoiseConfig(prediction=prediction)

    def answer(x_t, t):
        a = make_alpha_bar(noise)[t].reshape(-1, 1, 1, 1)
        eps = (x_t - a.sqrt() * latents) / (1 - a).sqrt()
        return {"eps": eps, "x0": latents, "v": a.sqrt() * eps - (1 - a).sqrt() * latents}[prediction]

    loss = loss_of(Saying(answer), latents, torch.zeros(16, 2, 3), noise, gen())
    assert loss.item() < 1e-8


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_predicting_zero_gives_a_loss_of_one(draw, prediction):
    latents, noise = draw(64, 4, 8, 8).float(), NoiseConfig(prediction=prediction)
    silent = Saying(lambda x_t, t: torch.zeros_like(x_t))
    loss = loss_of(silent, latents, torch.zeros(64, 2, 3), noise, gen())
    assert loss.item() == pytest.approx(1.0, abs=0.05)  # the mean of 16384 squares: 1 +- 0.011


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_an_error_counts_by_what_it_does_to_the_image(prediction):
    r"""Whatever the network predicts, the same error of x0 counts min(SNR, 5), but for the mean over all levels."""
    noise = NoiseConfig(prediction=prediction)
    a = make_alpha_bar(noise).double()
    snr = a / (1 - a)
    # An error of 1 in x0 at a fixed x_t is one of a / s in eps, and of 1 / s in v (as v = (a x_t - x0) / s).
    in_prediction = {"eps": snr, "v": 1 / (1 - a), "x0": torch.ones_like(a)}[prediction]
    counts = min_snr_weights(noise).double() * in_prediction / snr.clamp(max=5)
    torch.testing.assert_close(counts, counts[0].expand(1000), rtol=1e-4, atol=0)
    assert min_snr_weights(noise).mean().item() == pytest.approx(1.0, abs=1e-5)
    assert 0 < (snr > 5).sum() < 1000  # both sides of the clamp occur


@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_at_zero_terminal_snr_the_last_timestep_counts_as_much_as_its_noisy_neighbours(prediction):
    w = min_snr_weights(NoiseConfig(prediction=prediction, zero_snr=True))
    assert w[999].item() == pytest.approx(w[950].item(), rel=0.01) and w[999] > 0.3
    assert w.mean().item() == pytest.approx(1.0, abs=1e-5)


def test_at_zero_terminal_snr_a_wrong_answer_from_pure_noise_costs(draw):
    r"""There v is -x0: a network that says 0 is wrong by x0, of variance 1."""
    latents, t = draw(64, 4, 8, 8).float(), torch.full((64,), 999)
    noise = NoiseConfig(prediction="v", zero_snr=True)
    silent = Saying(lambda x_t, t: torch.zeros_like(x_t))
    loss = diffusion_loss(silent, latents, t, draw(64, 4, 8, 8).float(), torch.zeros(64, 2, 3), noise)
    torch.testing.assert_close(loss, min_snr_weights(noise)[999] * latents.square().mean())
    assert loss > 0.5


def test_the_weighted_loss_by_hand():
    r"""Two latents, an error of 1 in every number of the first and of 2 in the second: (w_0 + 4 w_900) / 2."""
    zero, t = torch.zeros(2, 1, 2, 2), torch.tensor([0, 900])
    off = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
    loss = diffusion_loss(Saying(lambda *_: off), zero, t, zero, torch.zeros(2, 2, 3), NoiseConfig())
    w = min_snr_weights(NoiseConfig())
    torch.testing.assert_close(loss, (w[0] + 4 * w[900]) / 2)
    assert w[900] > 100 * w[0]


def test_important_positions_count_more():
    r"""Errors of 1 and 2 in two positions, of which the second counts three times as much as the first."""
    zero, t = torch.zeros(1, 1, 1, 2), torch.tensor([900])
    off, importance = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2), torch.tensor([0.5, 1.5]).reshape(1, 1, 2)
    given = (Saying(lambda *_: off), zero, t, zero, torch.zeros(1, 2, 3), NoiseConfig())
    w = min_snr_weights(NoiseConfig())[900]
    torch.testing.assert_close(diffusion_loss(*given, importance), w * (0.5 * 1 + 1.5 * 4) / 2)
    torch.testing.assert_close(diffusion_loss(*given, torch.ones(1, 1, 2)), diffusion_loss(*given))


def test_the_network_is_shown_all_noise_levels_and_its_context(draw):
    latents, context, seen = draw(16, 4, 8, 8).float(), draw(16, 2, 3).float(), []

    class Watching(nn.Module):
        def forward(self, x_t, t, given):
            seen.append((t, given))
            return x_t

    loss_of(Watching(), latents, context, NoiseConfig(steps=160), gen())
    [(t, given)] = seen
    assert (t // 10).tolist() == list(range(16)) and given is context


def test_the_loss_depends_on_the_generator_alone(draw):
    latents, zero = draw(4, 4, 8, 8).float(), Saying(lambda x_t, t: torch.zeros_like(x_t))
    losses = [loss_of(zero, latents, torch.zeros(4, 2, 3), NoiseConfig(), gen(s)).item() for s in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


class OwnLatents(VAE):
    r"""Replaces the VAE: the pixels are the mean, the standard deviation is 0.1."""

    def __init__(self):
        nn.Module.__init__(self)

    def encode(self, pixels):
        return pixels, torch.full_like(pixels, 2 * math.log(0.1))


def test_latents_are_the_encoded_images_in_order_and_sampled_with_their_spread(images):
    many = images(40, repeat=2)  # more than one portion of 50
    latents = EncodedImages(OwnLatents(), many)
    torch.testing.assert_close(latents.mean, many.batch(np.arange(80)))
    indices = np.array([70, 3, 3])
    sample = latents.sample(indices, gen(2))
    noise = torch.randn(sample.shape, generator=gen(2))
    torch.testing.assert_close(sample, many.batch(indices) + 0.1 * noise)


@pytest.mark.long
def test_a_handful_of_latents_is_learned(draw, tmp_path):
    latents, context = draw(2, 4, 4, 4).float().repeat(8, 1, 1, 1), torch.zeros(16, 2, 16)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        unet = UNet(CONFIG.unet)
    recipe = Recipe(steps=100, batch=16, lr=5e-3, warmup=5, ema=0.9)
    losses = []

    def loss_at(step):
        losses.append(loss_of(unet, latents, context, CONFIG.noise, gen(step)))
        return losses[-1]

    train(unet, loss_at, recipe, tmp_path)
    assert sum(losses[:5]) / 5 > 0.9
    assert sum(losses[-10:]) / 10 < 0.6


@pytest.fixture
def folder(tmp_path):
    folder = write_small_model(tmp_path / "model")
    (folder / "unet.safetensors").unlink()
    return folder


def test_one_caption_in_ten_is_emptied_in_training_and_none_when_measuring(
    folder, tmp_path, images, monkeypatch
):
    prompts = []
    call = LatentDiffusion.encode_text
    monkeypatch.setattr(
        LatentDiffusion, "encode_text", lambda self, texts: (prompts.append(texts), call(self, texts))[1]
    )
    # One step with many images, in which the loss is only evaluated.
    in_training = []

    def only_look(networks, loss_at, recipe, run, resume, **_):
        loss_at(0)
        in_training.extend(prompts)
        prompts.clear()
        return networks

    monkeypatch.setattr(stage, "train", only_look)
    recipe = Recipe(steps=1, batch=1000, lr=1e-3)
    train_diffusion(folder, tmp_path / "run", images(40), images(8), recipe, 0, False)
    [batch] = in_training
    assert CAPTION_DROPOUT == 0.1 and len(batch) == 1000
    assert 70 < batch.count("") < 130  # 100, give or take 9.5 (one standard deviation)
    assert len(prompts) == 16 and not any("" in batch for batch in prompts)


@pytest.mark.long
def test_the_stage_writes_the_average_and_measures_it_on_held_out_images(folder, tmp_path, images):
    recipe = Recipe(steps=3, batch=4, lr=1e-3, warmup=1)
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    reached = train_diffusion(folder, tmp_path / "run", images(40), images(8), recipe, 5, False)
    [(name, loss)] = reached.items()
    assert name == "loss, held-out combinations" and 0.5 < loss < 1.5
    unet, path = UNet(CONFIG.unet), folder / "unet.safetensors"
    fill(unet, read_tensors(path), path)
    saved = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["average"]
    for name, tensor in unet.state_dict().items():
        assert torch.equal(tensor, saved[f"unet.{name}"].half().float()), name
    for name, tensor in read_tensors(folder / "text.safetensors").items():
        assert torch.equal(tensor, saved[f"text.{name}"].half().float()), name
    for path, content in before.items():  # the text encoder learns, too; the VAE stays as it is
        assert (path.read_bytes() == content) == (path.name != "text.safetensors")
    text = folder / "text.safetensors"
    text.write_bytes(before[text])  # where the text encoder began
    again = train_diffusion(folder, tmp_path / "again", images(40), images(8), recipe, 5, False)
    assert again == reached
    text.write_bytes(before[text])
    other = train_diffusion(folder, tmp_path / "other", images(40), images(8), recipe, 6, False)
    assert other != reached


def test_the_unet_starts_from_another_ones_weights(folder, tmp_path, images):
    start = UNet(CONFIG.unet)
    (tmp_path / "trained").mkdir()
    write_tensors(tmp_path / "trained/unet.safetensors", {n: w.half() for n, w in start.state_dict().items()})
    standing, drawn = Recipe(steps=1, batch=2, lr=0.0), images(8)
    train_diffusion(
        folder, tmp_path / "run", drawn, drawn, standing, 5, False, start_from=tmp_path / "trained"
    )
    saved = read_tensors(folder / "unet.safetensors")
    assert all(torch.equal(saved[name], weight.half()) for name, weight in start.state_dict().items())
    other = tmp_path / "other"
    other.mkdir()
    write_tensors(other / "unet.safetensors", {"conv_in.weight": torch.zeros(1)})
    with pytest.raises(LdmError, match="unet.safetensors"):
        train_diffusion(folder, tmp_path / "again", drawn, drawn, standing, 5, False, start_from=other)


@pytest.mark.long
def test_the_unet_is_compiled_if_asked_for(folder, tmp_path, images, monkeypatch):
    asked = []  # the compiler does not work with the shape checks of these tests; the benchmark runs it
    monkeypatch.setattr(UNet, "compile", lambda unet: asked.append(unet))
    recipe, drawn = Recipe(steps=1, batch=2, lr=1e-3), images(8)
    for compiled in (False, True):
        train_diffusion(folder, tmp_path / str(compiled), drawn, drawn, recipe, 0, False, compiled)
        assert len(asked) == compiled


def test_the_text_encoder_is_used_in_the_same_way_as_when_sampling(folder, tmp_path, images, monkeypatch):
    r"""Training uses the context that the finished model computes."""
    contexts = []

    def watch(unet, latents, t, eps, context, noise_config, importance):
        contexts.append(context)
        return torch.zeros(())

    monkeypatch.setattr(stage, "diffusion_loss", watch)
    monkeypatch.setattr(stage, "train", lambda networks, loss_at, *_, **__: (loss_at(0), networks)[1])
    texts = []
    call = LatentDiffusion.encode_text
    monkeypatch.setattr(
        LatentDiffusion, "encode_text", lambda self, t: (texts.append(list(t)), call(self, t))[1]
    )
    recipe = Recipe(steps=1, batch=4, lr=1e-3)
    train_diffusion(folder, tmp_path / "run", images(8), images(8), recipe, 0, False)
    model = load(folder, dtype="float32", device="cpu")
    assert model.tokenizer.vocab == TOKENIZER.vocab
    with torch.no_grad():
        torch.testing.assert_close(contexts[0], model.encode_text(texts[0]).context)


def test_each_image_of_a_batch_is_weighed_by_its_own_map(folder, tmp_path, images, monkeypatch):
    drawn, seen = images(8), []
    size = drawn.pixels.shape[1] // CONFIG.vae.factor
    maps = np.arange(8, dtype=np.float32)[:, None, None] * np.ones((size, size), np.float32)
    monkeypatch.setattr(stage, "diffusion_loss", lambda *given: (seen.append(given[-1]), torch.zeros(()))[1])
    monkeypatch.setattr(stage, "train", lambda networks, loss_at, *_, **__: (loss_at(0), networks)[1])
    recipe = Recipe(steps=1, batch=4, lr=1e-3)
    train_diffusion(folder, tmp_path / "run", replace(drawn, importance=maps), drawn, recipe, 5, False)
    indices = np.random.default_rng([5, 0]).integers(8, size=4)
    torch.testing.assert_close(seen[0], torch.from_numpy(maps[indices]))
    assert seen[1:] == [None] * 16  # measured without
