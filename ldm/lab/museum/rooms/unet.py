r"""The U-Net: heads, timesteps, gates, skips, and the epsilons of its norms."""

from ldm.lab.museum.mistake import Mistake, Setting

MISTAKES = (
    Mistake(
        "1a",
        "SD1 with heads of width 64 instead of 8 heads",
        "config.py",
        before="(UNetLevel(320, 8, 1), UNetLevel(640, 8, 1), UNetLevel(1280, 8, 1), UNetLevel(1280, 8, 0)), 768",
        after="(UNetLevel(320, 5, 1), UNetLevel(640, 10, 1), UNetLevel(1280, 20, 1), UNetLevel(1280, 20, 0)), 768",
        why=(
            "Stable Diffusion 2 has heads of width 64, and so have most transformers. Stable Diffusion 1 has 8 "
            "heads at every level, of width 40, 80 and 160. The projections have the same shapes either way, so "
            "every tensor fits."
        ),
        standin="heads_of_width_64",
        seen=(
            (
                "https://github.com/Stability-AI/stablediffusion/issues/36",
                "every tensor fits, and ports generate garbage: version 2 has heads of one width",
            ),
        ),
    ),
    Mistake(
        "1b",
        "heads of width 64 where SD1's are read off a file",
        "checkpoints/infer_sizes.py",
        before="return 8\n",
        after="return max(1, width // HEAD_WIDTH)\n",
        why=(
            "Shapes do not tell how many heads an attention layer has. Code that infers sizes from a file has to "
            "know the family, and a rule that holds for one family (width // 64) looks like a rule for all."
        ),
        setting=Setting(prompt="a serene lake surrounded by snow-capped mountains at sunrise"),
        standin="heads_of_width_64",
    ),
    Mistake(
        "1c",
        "diffusers' number of heads, which it calls their width, taken for their width",
        "checkpoints/settings.py",
        before='level["heads"] if number is None else number',
        after='level["heads"] if number is None else level["channels"] // number',
        why=(
            "In diffusers' config of a U-Net, `attention_head_dim` holds the number of heads. The name was a "
            "mistake that could no longer be changed once files had it. Whoever believes the name divides the "
            "width by it."
        ),
        setting=Setting(file="diffusers"),
        seen=(
            (
                "https://github.com/huggingface/diffusers/issues/2011",
                "the argument holds the number of heads, not their width (diffusers)",
            ),
        ),
    ),
    Mistake(
        "5a",
        "sines before cosines",
        "unet/embedding.py",
        before="torch.cat([angle.cos(), angle.sin()], dim=-1)",
        after="torch.cat([angle.sin(), angle.cos()], dim=-1)",
        why=(
            "The transformer paper and DDPM's code put sines first; Stable Diffusion puts cosines first, which "
            "diffusers calls `flip_sin_to_cos`. With sines first the network is told a timestep, but one it has "
            "never seen."
        ),
        seen=(
            (
                "https://github.com/flashinfer-ai/flashinfer/pull/3819",
                "sharp images that lose the composition; the output is 37 % off",
            ),
            ("https://github.com/huggingface/diffusers/pull/1369", "the order was fixed in the Flax version"),
        ),
    ),
    Mistake(
        "5b",
        "timestep frequencies divided by n - 1",
        "unet/embedding.py",
        before="device=t.device) / half",
        after="device=t.device) / (half - 1)",
        why=(
            "Two formulas are in use: frequencies spaced over n - 1 intervals, so that the last is exactly "
            "1/10000 (DDPM's code), or over n (Stable Diffusion's; diffusers' `downscale_freq_shift`). The slow "
            "ones differ by some per cent."
        ),
        seen=(
            ("https://github.com/hojonathanho/diffusion/issues/15", "why n - 1, when the formula says n?"),
        ),
    ),
    Mistake(
        "6",
        "GEGLU's halves swapped",
        "unet/transformer.py",
        before="value, gate = self",
        after="gate, value = self",
        why=(
            "GEGLU splits its projection into a value and a gate. Which half is which is a convention: torch's "
            "own `F.glu` takes the second half as the gate, others the first. Both halves have the same shape."
        ),
        seen=(("https://github.com/lucidrains/x-transformers/pull/9", "which half is the gate?"),),
    ),
    Mistake(
        "12a",
        "upsampling that interpolates",
        "nn/resnet.py",
        before='mode="nearest"',
        after='mode="bilinear"',
        why=(
            "Bilinear interpolation looks smoother and is the better choice for photographs. The network was "
            "trained with repeated pixels, and the convolution after them has learned to smooth exactly those."
        ),
    ),
    Mistake(
        "12b",
        "skips used in the wrong order",
        "unet/unet.py",
        before="torch.cat([h, skip], dim=1)",
        after="torch.cat([skip, h], dim=1)",
        why=(
            "The up path concatenates its own feature map with the skip. The order is a convention, both halves "
            "may have the same number of channels, and the sum of the channels is the same either way."
        ),
    ),
    Mistake(
        "16a",
        "eps 1e-6 in the U-Net's residual blocks",
        "unet/unet.py",
        before="groups=config.groups, eps=1e-5, time_width",
        after="groups=config.groups, eps=1e-6, time_width",
        why=(
            "PyTorch's default epsilon is 1e-5, the VAE's is 1e-6, and in one file both are needed. It matters "
            "only where a channel hardly varies."
        ),
        seen=(
            (
                "https://github.com/MegEngine/MegDiffusion/issues/5",
                "1e-5 by default, 1e-6 in the code that was ported",
            ),
        ),
    ),
    Mistake(
        "16b",
        "eps 1e-5 at the head of a spatial transformer",
        "unet/transformer.py",
        before="nn.GroupNorm(groups, channels, eps=1e-6)",
        after="nn.GroupNorm(groups, channels, eps=1e-5)",
        why=(
            "The norm at the head of a spatial transformer has 1e-6, the U-Net's other norms 1e-5. The original "
            "took that norm over from the autoencoder's code."
        ),
        seen=(
            (
                "https://github.com/ml-explore/mlx-examples/issues/1434",
                "the framework's default, where the reference has 1e-6",
            ),
        ),
    ),
    Mistake(
        "16d",
        "eps 1e-6 at the U-Net's end",
        "unet/unet.py",
        before="first.channels, eps=1e-5)",
        after="first.channels, eps=1e-6)",
        why=(
            "The last norm of the U-Net has PyTorch's default again, 1e-5. Whoever has just learned that the "
            "transformers have 1e-6 sets it here, too."
        ),
    ),
    Mistake(
        "17a",
        "GEGLU with the tanh approximation",
        "unet/transformer.py",
        before="F.gelu(gate)",
        after='F.gelu(gate, approximate="tanh")',
        why=(
            "The tanh approximation of GELU was once the only fast one, and is still the default of some "
            "libraries (JAX, for one). It agrees with the exact one to three digits."
        ),
        seen=(
            ("https://github.com/jax-ml/jax/issues/4428", "`jax.nn.gelu` is the approximation by default"),
            (
                "https://github.com/kyutai-labs/pocket-tts/pull/278",
                "the other way round, measured: 0.35 % off, never audible",
            ),
        ),
    ),
    Mistake(
        "17c",
        "LayerNorm's eps 1e-6 before cross-attention",
        "unet/transformer.py",
        before="self.norm_2 = nn.LayerNorm(width, eps=1e-5)",
        after="self.norm_2 = nn.LayerNorm(width, eps=1e-6)",
        why=(
            "The LayerNorms inside a transformer block have PyTorch's default, 1e-5, right beside a GroupNorm "
            "with 1e-6. One value for all of them is tidier, and wrong."
        ),
    ),
)
