r"""Stage 3: compress an image and reconstruct it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ldm.checkpoints.folder import fill, read_config, read_tensors, write_clip, write_config, write_tensors
from ldm.errors import LdmError
from ldm.text.clip import CLIP
from ldm.train import vae as stage
from ldm.train.data import CaptionedImages
from ldm.train.loop import Recipe, train
from ldm.train.perceptual import perceptual_loss
from ldm.train.vae import (
    DECODER_ONLY,
    DECODER_ONLY_FROM,
    JOINT,
    VAEGAN,
    crop_at,
    latent_std,
    reconstruction_loss,
    reconstruction_psnr,
    slope_ratio,
    train_vae,
    vae_loss,
)
from ldm.vae.vae import VAE
from tests.small import CONFIG, TOKENIZER


def new_vae(**changes) -> VAE:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return VAE(replace(CONFIG.vae, scale=1.0, **changes))


def new_clip() -> CLIP:
    assert CONFIG.image is not None and CONFIG.embedding_width is not None
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return CLIP(CONFIG.text, CONFIG.image, CONFIG.embedding_width)


def test_the_reconstruction_loss_by_hand():
    r"""One channel of 2 x 2 is off by  0  1 , the others are right: of 12 numbers,
                                        0  3
    the absolute errors add up to 4 and the squares to 10. The error's slopes: to the right 1 and 3, of 6
    differences; downwards 0 and 2, of 6. The loss is 4/12 + 10/12 + (4/6 + 2/6) / 2 = 5/3."""
    pixels = torch.full((1, 3, 2, 2), 0.25, dtype=torch.float64)
    error = torch.zeros_like(pixels)
    error[0, 1] = torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    assert reconstruction_loss(pixels, pixels + error).item() == pytest.approx(5 / 3, abs=1e-12)
    assert reconstruction_loss(pixels, pixels - error).item() == pytest.approx(5 / 3, abs=1e-12)
    assert reconstruction_loss(pixels, pixels).item() == 0
    tenfold = reconstruction_loss(pixels, pixels + error, squared=10.0).item()
    assert tenfold == pytest.approx(5 / 3 + 9 * 10 / 12, abs=1e-12)


def test_of_two_errors_as_large_the_blurred_edge_costs_more():
    pixels = torch.zeros(1, 3, 4, 4)
    shift, edge = torch.full_like(pixels, 0.5), torch.full_like(pixels, 0.5)
    edge[..., 2:] = -0.5
    assert reconstruction_loss(pixels, edge) > reconstruction_loss(pixels, shift) + 0.1


class Constant(VAE):
    r"""Replaces the VAE: the encoder returns `mean` and `logvar`, the decoder the mean of the latent."""

    def __init__(self, mean: float, logvar: float):
        nn.Module.__init__(self)
        self.mean, self.logvar = mean, logvar

    def encode(self, pixels):
        latent = torch.zeros(len(pixels), 2, 3, 3)
        return latent + self.mean, latent + self.logvar

    def decode(self, latent):
        return torch.zeros(len(latent), 3, 6, 6) + latent.mean()


def plain_loss(vae: VAE, pixels: Tensor, seed: int) -> Tensor:
    r"""Without CLIP and discriminator; the noise is drawn with `seed`."""
    shape = vae.encode(pixels)[0].shape
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return vae_loss(VAEGAN(vae), None, pixels, noise, JOINT)


def test_the_kl_term_is_per_latent_number_and_light():
    r"""Mean 2 and variance 1: (4 + 1 - 1 - 0) / 2 = 2 nats for each latent number, whatever their number."""
    pixels = torch.zeros(5, 3, 6, 6)
    certain, off = plain_loss(Constant(0.0, 0.0), pixels, 0), plain_loss(Constant(2.0, 0.0), pixels, 0)
    noise = torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(0)).mean()
    reconstructed = torch.zeros_like(pixels)
    torch.testing.assert_close(certain, reconstruction_loss(pixels, reconstructed + noise, JOINT.squared))
    expected = reconstruction_loss(pixels, reconstructed + noise + 2, JOINT.squared) + JOINT.kl * 2
    torch.testing.assert_close(off, expected, rtol=1e-6, atol=0)
    assert 1e-5 * expected < JOINT.kl * 2  # otherwise the tolerance would hide it


def test_the_decoder_is_shown_a_sample_and_not_the_mean():
    vae, pixels = new_vae().eval(), torch.zeros(2, 3, 16, 16)
    losses = [plain_loss(vae, pixels, seed).item() for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_from_one_sum_vae_and_discriminator_each_get_their_own_gradient():
    r"""The discriminator's gradient comes from its own loss alone, which has no gradient for the VAE."""
    vaegan = VAEGAN(new_vae())
    vae, judge = vaegan.vae, vaegan.discriminator
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = torch.zeros_like(vae.encode(pixels)[0])

    def gradients(module, loss):
        return torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)

    def loss(adversarial):
        return vae_loss(vaegan, None, pixels, noise, replace(JOINT, adversarial=adversarial))

    for half, all_of_it in zip(*(gradients(judge, loss(w)) for w in (0.05, 0.1)), strict=True):
        torch.testing.assert_close(half, all_of_it)
    assert all(gradient is None for gradient in gradients(judge, loss(0.0)))
    last = vae.decoder.conv_out.weight
    (before,), (after,) = (torch.autograd.grad(loss(w), last) for w in (0.0, 0.1))
    # `adaptive_weight` gives the adversarial gradient the norm of the other terms without KL, times 0.1.
    assert (after - before).norm().item() == pytest.approx(0.1 * before.norm().item(), rel=0.05)


@pytest.mark.parametrize("perceptual", [0.0, 0.5])
def test_the_perceptual_term_counts_as_its_weight_says(perceptual):
    vae, pixels = new_vae(), torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise, clip = torch.zeros_like(vae.encode(pixels)[0]), new_clip()
    with torch.no_grad():
        plain = vae_loss(VAEGAN(vae), None, pixels, noise, JOINT)
        got = vae_loss(VAEGAN(vae), clip, pixels, noise, replace(JOINT, perceptual=perceptual))
        reconstructed = vae.decode(vae.encode(pixels)[0])
        term = perceptual_loss(clip.image, pixels, reconstructed, clip.image_size)
    assert term > 0.01 and (got - plain).item() == pytest.approx(perceptual * term.item(), rel=1e-5, abs=1e-7)


def test_in_the_decoder_only_phase_the_encoder_is_frozen():
    vaegan, clip = VAEGAN(new_vae()), new_clip().requires_grad_(False)
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = torch.zeros_like(vaegan.vae.encode(pixels)[0])
    for phase, encoder, judge in (JOINT, True, False), (DECODER_ONLY, False, True):
        vaegan.zero_grad()
        vae_loss(vaegan, clip, pixels, noise, phase).backward()
        learns = {name for name, p in vaegan.named_parameters() if p.grad is not None}
        assert any(name.startswith("vae.encoder.") for name in learns) == encoder == (not phase.encoder_rests)
        assert any(name.startswith("discriminator.") for name in learns) == judge
        assert "vae.decoder.conv_out.weight" in learns


class OffBy(VAE):
    r"""Reconstructs every image with an error of 0.2 in all values."""

    def __init__(self):
        nn.Module.__init__(self)

    def encode(self, pixels):
        return pixels, pixels

    def decode(self, latent):
        return torch.where(latent > 0, latent - 0.2, latent + 0.2)


@pytest.mark.parametrize("count", [1000, 3])
def test_psnr_by_hand(images, count):
    r"""The range is 2, the squared error 0.04: 10 log10(4 / 0.04) = 20 dB."""
    assert reconstruction_psnr(OffBy(), images(8), count) == pytest.approx(20.0, abs=1e-3)


class Overshooting(OffBy):
    def decode(self, latent):
        return super().decode(latent) + 100 * (latent == 1) - 100 * (latent == -1)


def test_psnr_forgives_overshooting_for_images_are_clipped(images):
    pixels = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    pixels[:, 0] = 255
    pixels[:, 1] = 51
    two = CaptionedImages(images(2).scenes, pixels)
    # A quarter of the rows are off by 0.2, the others beyond the range and clipped to the right value.
    assert reconstruction_psnr(Overshooting(), two) == pytest.approx(10 * np.log10(4 / 0.01), abs=1e-3)


class Blurring(OffBy):
    """Neighbouring columns are averaged, and contrast is halved."""

    def decode(self, latent):
        return (latent + latent.roll(1, dims=-1)) / 4


def test_the_slope_ratio_by_hand(images):
    pixels = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    pixels[:, :, ::2] = 255  # columns, white and black: the mean of each two is grey
    pixels[1] = pixels[1].transpose(
        1, 0, 2
    )  # rows: averaging columns leaves them alone, at half the contrast
    two = CaptionedImages(images(2).scenes, pixels)
    assert slope_ratio(OffBy(), two) == pytest.approx(0.8, abs=1e-3)
    assert slope_ratio(Blurring(), two) == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("count", [2000, 10])
def test_the_latents_spread_is_measured_on_all_the_images_asked_for(images, count):
    # The pixels are their own latents here.
    expected = images(40, repeat=2).batch(np.arange(min(80, count))).std().item()
    assert latent_std(OffBy(), images(40, repeat=2), count) == pytest.approx(expected, rel=1e-5)


@pytest.mark.long
def test_a_handful_of_images_is_learned(images, tmp_path):
    vae, four = new_vae(), images(4)
    before = reconstruction_psnr(vae, four)
    recipe = Recipe(steps=80, batch=4, lr=5e-3, warmup=5, ema=0.9)

    def loss_at(step):
        return plain_loss(vae, four.batch(np.arange(4)), step)

    average = train(vae, loss_at, recipe, tmp_path)
    assert reconstruction_psnr(average, four) > before + 6 and reconstruction_psnr(average, four) > 15


def test_the_stage_writes_a_vae_whose_latents_have_unit_variance(tmp_path, images):
    write_config(tmp_path, CONFIG)
    write_clip(tmp_path, new_clip())
    TOKENIZER.save(tmp_path / "tokenizer")
    recipe = Recipe(steps=5, batch=4, lr=1e-3, warmup=1)  # the last of them are decoder-only
    reached = train_vae(tmp_path, tmp_path / "run", images(40), images(8), recipe, seed=5, resume=False)
    psnr_name, slopes_name = "PSNR, held-out combinations (dB)", "slopes, as a share of the originals'"
    assert list(reached) == [psnr_name, slopes_name, "latent scale"]
    config = read_config(tmp_path)
    assert config == replace(CONFIG, vae=replace(CONFIG.vae, scale=reached["latent scale"]))
    vae = VAE(config.vae)
    path = tmp_path / "vae.safetensors"
    fill(vae, read_tensors(path), path)
    with torch.no_grad():
        mean, _ = vae.encode(images(40).batch(np.arange(40)))
    assert mean.std().item() == pytest.approx(1.0, abs=0.01)
    assert reconstruction_psnr(vae, images(8)) == pytest.approx(reached[psnr_name], abs=0.05)
    assert slope_ratio(vae, images(8)) == pytest.approx(reached[slopes_name], rel=0.01)


@pytest.mark.long
def test_the_last_part_of_the_training_is_decoder_only_and_losses_can_be_left_out(
    tmp_path, images, monkeypatch
):
    write_config(tmp_path, CONFIG)
    write_clip(tmp_path, new_clip())
    TOKENIZER.save(tmp_path / "tokenizer")
    phases = []

    def loss(vaegan, clip, pixels, noise, phase):
        phases.append((phase, clip is None))
        return vaegan.vae.decoder.conv_out.weight.sum()

    monkeypatch.setattr(stage, "vae_loss", loss)
    recipe = Recipe(steps=100, batch=1, lr=1e-9, warmup=1)
    assert DECODER_ONLY_FROM == 0.72
    for without in (), ("adversarial",), ("perceptual", "adversarial"), ("kl",):
        run, drawn = tmp_path / "-".join(("run", *without)), images(4)
        train_vae(tmp_path, run, drawn, drawn, recipe, seed=5, resume=False, without=without)
        zero = dict.fromkeys(without, 0.0)
        learn, polish = replace(JOINT, **zero), replace(DECODER_ONLY, **zero)
        blind = "perceptual" in without
        assert phases == [(learn, blind)] * 72 + [(polish, blind)] * 28
        phases.clear()


def test_a_crop_is_taken_at_the_given_corner():
    pixels = torch.arange(2 * 3 * 5 * 5.0).reshape(2, 3, 5, 5)
    pieces = crop_at(pixels, np.array([[0, 2], [3, 1]]), 2)
    assert pieces.shape == (2, 3, 2, 2)
    assert pieces[0, 0].tolist() == [[2, 3], [7, 8]] and pieces[0, 2, 0, 0] == 52
    assert pieces[1, 0].tolist() == [[91, 92], [96, 97]]
    assert torch.equal(crop_at(pixels, np.zeros((2, 2), dtype=int), 5), pixels)


def test_random_crops_cover_the_whole_image(tmp_path, images, monkeypatch):
    write_config(tmp_path, CONFIG)
    TOKENIZER.save(tmp_path / "tokenizer")
    three_primes = np.array([251, 241, 239])  # whose remainders tell each place from all others
    numbered = np.arange(32 * 32).reshape(1, 32, 32, 1) % three_primes
    one = CaptionedImages(images(1).scenes, numbered.astype(np.uint8))
    seen = set()

    def loss(vaegan, clip, pixels, noise, phase):
        assert pixels.shape[-2:] == (16, 16) and noise.shape[-2:] == (16 // vaegan.vae.factor,) * 2
        assert len(pixels) == len(noise) == 4
        corners = ((pixels[:, :, 0, 0] + 1) * 127.5).round().int().tolist()
        for corner in corners:
            (place,) = np.argwhere((numbered[0] == corner).all(-1)).tolist()
            seen.add(tuple(place))
        return vaegan.vae.decoder.conv_out.weight.sum()

    monkeypatch.setattr(stage, "vae_loss", loss)
    recipe = Recipe(steps=300, batch=4, lr=1e-9, warmup=1)
    train_vae(tmp_path, tmp_path / "run", one, one, recipe, 5, False, ("perceptual", "adversarial"), crop=16)
    rows, columns = ({place[i] for place in seen} for i in (0, 1))
    assert rows == columns == set(range(17))  # from one edge to the other
    assert len(seen) > 150  # of 289: rows and columns are drawn apart


@pytest.mark.parametrize("crop", [24, 7, 0])
def test_crops_that_do_not_fit_are_refused(crop, tmp_path, images):
    write_config(tmp_path, CONFIG)
    recipe = Recipe(steps=1, batch=1, lr=1e-3)
    with pytest.raises(LdmError, match=f"crops of {crop} pixels; expected a multiple of 2, from 2 to 16"):
        one = images(1)
        without = ("perceptual", "adversarial")
        train_vae(tmp_path, tmp_path / "run", one, one, recipe, 5, False, without, crop=crop)


def test_training_starts_from_the_weights_of_another_model(tmp_path, images, monkeypatch):
    write_config(tmp_path, CONFIG)
    write_tensors(tmp_path / "other" / "vae.safetensors", new_vae().state_dict(), torch.float32)
    started, without, one = [], ("perceptual", "adversarial"), images(1)

    def train(vaegan, *_, identity, **options):
        started.append((vaegan.vae.state_dict(), identity["start"]))
        return vaegan

    monkeypatch.setattr(stage, "train", train)
    monkeypatch.setattr(stage, "write_vae", lambda *_: {})
    recipe = Recipe(steps=1, batch=1, lr=1e-3)
    for start_from in (None, tmp_path / "other"):
        train_vae(tmp_path, tmp_path / "run", one, one, recipe, 5, False, without, start_from=start_from)
    (fresh, nothing), (grown, start) = started
    for name, weight in new_vae().state_dict().items():
        assert torch.equal(grown[name], weight), name
    assert not torch.equal(fresh["encoder.conv_in.weight"], grown["encoder.conv_in.weight"])
    assert nothing == "" != start  # a run that starts elsewhere is another run


def test_crops_smaller_than_what_clip_reads_are_refused_where_clip_judges(tmp_path, images):
    write_config(tmp_path, CONFIG)
    write_clip(tmp_path, new_clip())
    TOKENIZER.save(tmp_path / "tokenizer")
    recipe, one = Recipe(steps=1, batch=1, lr=1e-3), images(1)
    with pytest.raises(LdmError, match="crops of 8 pixels with the perceptual loss, whose CLIP reads 16x16"):
        train_vae(tmp_path, tmp_path / "run", one, one, recipe, 5, False, crop=8)
