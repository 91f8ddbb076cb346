r"""The mistakes, each as one replacement in one file of `ldm/`.

They are those that people who port Stable Diffusion make again and again. Most of them still load every checkpoint and
still paint something; a few change the output by less than a thousandth.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    """`before`, which stands exactly once in `file`, becomes `after`."""

    number: str  # the same number: variants of one mistake
    name: str
    file: str  # under ldm/
    before: str
    after: str


MISTAKES = (
    Mistake(
        "1",
        "SD1 with heads of width 64 instead of 8 heads",
        "config.py",
        "(Level(320, 8, 1), Level(640, 8, 1), Level(1280, 8, 1), Level(1280, 8, 0)), 768",
        "(Level(320, 5, 1), Level(640, 10, 1), Level(1280, 20, 1), Level(1280, 20, 0)), 768",
    ),
    Mistake(
        "2", "the VAE's encoder pads all four sides", "vae/encoder.py", "pad=(0, 1, 0, 1)", "pad=(1, 1, 1, 1)"
    ),
    Mistake(
        "3a",
        "SD1's prompt padded with zeros",
        "config.py",
        'layers=12, heads=12, activation="quick_gelu")',
        'layers=12, heads=12, activation="quick_gelu", pad="zero")',
    ),
    Mistake(
        "3b",
        "the prompt's padding set to zero",
        "text/encoder.py",
        "        return self.norm_out(x)",
        "        return self.norm_out(x) * (ids != ids[:, -1:]).unsqueeze(-1)",
    ),
    Mistake(
        "4a",
        "the text encoder without its final norm",
        "text/encoder.py",
        "        return self.norm_out(x)",
        "        return x",
    ),
    Mistake(
        "4b",
        "SD2's text read after the last layer",
        "text/encoder.py",
        'layers = config.layers - (config.output == "penultimate")',
        "layers = config.layers",
    ),
    Mistake(
        "5a",
        "sines before cosines",
        "unet/embedding.py",
        "torch.cat([angle.cos(), angle.sin()], dim=-1)",
        "torch.cat([angle.sin(), angle.cos()], dim=-1)",
    ),
    Mistake(
        "5b",
        "timestep frequencies divided by n - 1",
        "unet/embedding.py",
        "device=t.device) / half",
        "device=t.device) / (half - 1)",
    ),
    Mistake("6", "GEGLU's halves swapped", "unet/transformer.py", "value, gate = self", "gate, value = self"),
    Mistake(
        "7a",
        "latents decoded without their scale",
        "vae/vae.py",
        "self.decoder(latent / self.scale)",
        "self.decoder(latent)",
    ),
    Mistake(
        "7b",
        "the decoder without post_quant_conv",
        "vae/decoder.py",
        "self.conv_in(self.post_quant_conv(z))",
        "self.conv_in(z)",
    ),
    Mistake(
        "7c",
        "the encoder without quant_conv",
        "vae/encoder.py",
        "self.quant_conv(self.conv_out(F.silu(self.norm_out(h))))",
        "self.conv_out(F.silu(self.norm_out(h)))",
    ),
    Mistake(
        "8a",
        "DDIM's timesteps without their offset",
        "diffusion/samplers.py",
        "_timesteps(count, alpha_bar, offset=1), alpha_bar, final=alpha_bar[0])",
        "_timesteps(count, alpha_bar, offset=0), alpha_bar, final=alpha_bar[0])",
    ),
    Mistake(
        "8b",
        "DDIM ends at alpha_bar = 1",
        "diffusion/samplers.py",
        "offset=1), alpha_bar, final=alpha_bar[0])",
        "offset=1), alpha_bar, final=alpha_bar[0] * 0 + 1)",
    ),
    Mistake(
        "8c",
        "PLMS without its second look in the first stride",
        "diffusion/plms.py",
        "if i == 0 and len(path) > 1:",
        "if False:",
    ),
    Mistake(
        "9a",
        "CLIP-L with the exact GELU",
        "config.py",
        'CLIP_L_TEXT = TextConfig(49408, 77, width=768, layers=12, heads=12, activation="quick_gelu")',
        'CLIP_L_TEXT = TextConfig(49408, 77, width=768, layers=12, heads=12, activation="gelu")',
    ),
    Mistake(
        "9b",
        "quick GELU's factor rounded to 1.7",
        "text/transformer.py",
        "torch.sigmoid(1.702 * x)",
        "torch.sigmoid(1.7 * x)",
    ),
    Mistake(
        "10",
        "queries and keys exchanged when a file is read",
        "convert/rows.py",
        'ATTENTION = {"q": "to_q", "k": "to_k",',
        'ATTENTION = {"q": "to_k", "k": "to_q",',
    ),
    Mistake("12a", "upsampling that interpolates", "nn/resnet.py", 'mode="nearest"', 'mode="bilinear"'),
    Mistake(
        "12b",
        "skips used in the wrong order",
        "unet/unet.py",
        "torch.cat([h, skip], dim=1)",
        "torch.cat([skip, h], dim=1)",
    ),
    Mistake(
        "13",
        "several heads in the VAE's attention",
        "vae/mid.py",
        "Attention(channels, heads=1)",
        "Attention(channels, heads=2)",
    ),
    Mistake(
        "14a",
        "k-diffusion's samplers begin from plain noise",
        "diffusion/samplers.py",
        "return noise if self.unit_start else noise * (1 - path[0].alpha_bar).sqrt()",
        "return noise",
    ),
    Mistake(
        "14b",
        "the network's input not scaled down",
        "diffusion/sigmas.py",
        "return y * alpha_bar.sqrt()",
        "return y",
    ),
    Mistake(
        "15",
        "SD2 768's v taken for epsilon",
        "config.py",
        'noise=NoiseConfig(prediction="v")',
        'noise=NoiseConfig(prediction="eps")',
    ),
    Mistake(
        "16a",
        "eps 1e-6 in the U-Net's residual blocks",
        "unet/unet.py",
        "groups=config.groups, eps=1e-5, time_width",
        "groups=config.groups, eps=1e-6, time_width",
    ),
    Mistake(
        "16b",
        "eps 1e-5 at the head of a spatial transformer",
        "unet/transformer.py",
        "nn.GroupNorm(groups, channels, eps=1e-6)",
        "nn.GroupNorm(groups, channels, eps=1e-5)",
    ),
    Mistake(
        "16c",
        "eps 1e-5 in the VAE's residual blocks",
        "vae/decoder.py",
        "groups=groups, eps=1e-6",
        "groups=groups, eps=1e-5",
    ),
    Mistake(
        "17a",
        "GEGLU with the tanh approximation",
        "unet/transformer.py",
        "F.gelu(gate)",
        'F.gelu(gate, approximate="tanh")',
    ),
    Mistake(
        "17b",
        "LayerNorm's eps 1e-6 in the text encoder",
        "text/encoder.py",
        "nn.LayerNorm(config.width, eps=1e-5)",
        "nn.LayerNorm(config.width, eps=1e-6)",
    ),
    Mistake("19a", "runs of digits as one word", "text/words.py", r"\p{L}+|\p{N}|", r"\p{L}+|\p{N}+|"),
    Mistake(
        "19b",
        "accents not composed (transformers' cleaning)",
        "text/words.py",
        'unicodedata.normalize("NFC", _without_surrogates(text))',
        "_without_surrogates(text)",
    ),
    Mistake(
        "19c",
        "eos lost when a prompt is cut",
        "text/tokenizer.py",
        "[self.bos, *self.encode(text)[: self.context_length - 2], self.eos]",
        "[self.bos, *self.encode(text), self.eos][: self.context_length]",
    ),
    Mistake(
        "19d",
        "HTML entities opened once",
        "text/words.py",
        "html.unescape(html.unescape(text))",
        "html.unescape(text)",
    ),
    Mistake(
        "20a",
        "missing keys forgiven",
        "convert/folder.py",
        "    if found:\n        raise LdmError(",
        "    if False:\n        raise LdmError(",
    ),
)
