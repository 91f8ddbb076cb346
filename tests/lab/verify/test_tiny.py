r"""The published checks of tiny VAEs: what a latent in bytes is, what passes, and what is said of half a file."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ldm.checkpoints.names import rename
from ldm.checkpoints.tiny_file import tiny_rows
from ldm.lab.verify import tiny
from ldm.vae.tiny import NO_VARIANCE, TinyVAE
from ldm.vae.vae import VAE
from tests.cli.terminal import run


class Eighth(VAE):
    r"""A codec that loses everything below 8x8 pixels: means there, and back."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.gain = torch.nn.Parameter(torch.tensor(1.0))

    def encode(self, pixels):
        latent = torch.nn.functional.avg_pool2d(pixels, 8)
        return latent, torch.full_like(latent, NO_VARIANCE)

    def decode(self, latent):
        return torch.nn.functional.interpolate(self.gain * latent, scale_factor=8)


def test_a_latent_is_stored_in_bytes():
    seen = tiny.round_trip(Eighth(), torch.full((1, 3, 8, 8), 0.5))
    # 255 (0.5 / 6 + 0.5) = 148.75, so byte 149, which stands for 6 (149 / 255 - 0.5).
    assert torch.allclose(seen, torch.tensor(6 * (149 / 255 - 0.5)))
    assert tiny.round_trip(Eighth(), torch.full((1, 3, 8, 8), 9.0)).max() == pytest.approx(3.0)


def test_a_square_that_stays_passes_and_one_that_fades_fails():
    good, faded = Eighth(), Eighth()
    faded.gain.data *= 0.8
    assert tiny.square_error(good)[0] < 0.01 and tiny.square_error(faded)[0] == pytest.approx(0.2, abs=0.01)
    assert [one.passed for one in tiny.compare_tiny(good)] == [None, True]
    assert [one.passed for one in tiny.compare_tiny(faded)] == [None, False]


def test_the_publishers_noise_is_read_from_its_file_and_the_last_image_is_compared(tmp_path):
    noise = np.zeros((4, 3, 512, 512), np.float32)
    noise[-1, -1, -2:, :2] = 0.5
    np.save(tmp_path / "gaussian_noise_s=33_shape=4_3_512_512.npy", noise)
    compared, _ = tiny.compare_tiny(Eighth(), tmp_path)
    # Nothing is byte 128, a mean of 4 * 0.5 / 64 is byte 129 (128.83); the slice is of the last two channels.
    zero, some = (6 * (byte / 255 - 0.5) for byte in (128, 129))
    assert compared.got == pytest.approx([zero] * 4 + [some] * 4, abs=1e-6) and not compared.passed


@pytest.mark.parametrize("encodes", [True, False])
def test_the_command_takes_a_tiny_vae_and_says_what_is_wrong_with_it(tmp_path, monkeypatch, capsys, encodes):
    monkeypatch.setattr(
        tiny, "noise_slice", lambda vae: tiny.NOISE.expected
    )  # megapixels, which take seconds
    monkeypatch.setattr(
        tiny, "square_error", lambda vae: (float(vae.encode(torch.ones(1, 3, 8, 8))[0][0, 0, 0, 0]),)
    )
    network = TinyVAE()
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    state = rename(network.state_dict(), tiny_rows(), "diffusers")
    kept = {
        name: tensor.contiguous() for name, tensor in state.items() if encodes or name.startswith("decoder.")
    }
    save_file(kept, tmp_path / "taesd.safetensors")
    code, out, err = run(capsys, "verify", tmp_path / "taesd.safetensors")
    if encodes:
        assert code == 0 and "1 passed, 0 failed, 1 not measured" in out and "any TAESD: agrees" in out
    else:
        assert code == 1 and "has no encoder" in out and "is no working TAESD, or has no encoder" in err[-1]
