"""The exercises about the networks: the parts of U-Net and VAE."""

from ldm.lab.exercises.exercise import Exercise, wrong

IN_NETWORKS = (
    Exercise(
        "res_block",
        "a residual block, which the timestep enters in the middle",
        "ldm.nn.resnet",
        "ResBlock.forward",
        ("tests/nn/test_resnet.py",),
        (
            wrong("forgets to add the input at the end", "self.skip(x) + h", "h"),
            wrong(
                "adds x itself, where the width may have changed and needs the skip convolution",
                "self.skip(x) + h",
                "x + h",
            ),
            wrong("gives the time embedding to the map without its SiLU", "F.silu(time)", "time"),
            wrong(
                "applies the SiLU before the norm",
                "F.silu(self.norm_1(x))",
                "self.norm_1(F.silu(x))",
                "F.silu(self.norm_2(h))",
                "self.norm_2(F.silu(h))",
            ),
        ),
    ),
    Exercise(
        "timestep_embedding",
        "the sines and cosines that tell the U-Net how noisy its input is",
        "ldm.unet.embedding",
        "timestep_embedding",
        ("tests/unet/test_embedding.py",),
        (
            wrong(
                "puts the sines before the cosines",
                "[angle.cos(), angle.sin()]",
                "[angle.sin(), angle.cos()]",
            ),
            wrong(
                "divides by n - 1 instead of n: the slowest frequency is then 1/10000 itself",
                "/ half",
                "/ (half - 1)",
            ),
            wrong(
                "lets sines and cosines alternate, as the paper does and Stable Diffusion does not",
                "torch.cat([angle.cos(), angle.sin()], dim=-1)",
                "torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)",
            ),
            wrong("has frequencies that rise: the exponent's sign is missing", "-math.log", "math.log"),
        ),
    ),
    Exercise(
        "geglu",
        "a feed-forward layer whose hidden units have gates",
        "ldm.unet.transformer",
        "FeedForward.forward",
        ("tests/unet/test_transformer.py",),
        (
            wrong(
                "takes the first half for the gate and the second for the value",
                "value, gate =",
                "gate, value =",
            ),
            wrong("uses the tanh approximation of GELU", "F.gelu(gate)", 'F.gelu(gate, approximate="tanh")'),
            wrong("opens the gates with a sigmoid (GLU, not GEGLU)", "F.gelu(gate)", "gate.sigmoid()"),
            wrong(
                "applies the GELU to the product instead of the gate alone",
                "value * F.gelu(gate)",
                "F.gelu(value * gate)",
            ),
        ),
    ),
    Exercise(
        "unet_skips",
        "the U-Net's way up, which takes in what the way down has kept",
        "ldm.unet.unet",
        "UpLevel.forward",
        ("tests/unet/test_unet.py::test_the_unet_is_its_parts_in_the_order_of_the_drawing_at_any_size",),
        (
            wrong("puts the skip first and the features second", "[h, skip]", "[skip, h]"),
            wrong(
                "uses the skips in the wrong order: they come in the order in which they are used",
                "zip(self.res, skips",
                "zip(self.res, reversed(skips)",
            ),
            wrong("adds the skip instead of concatenating it", "torch.cat([h, skip], dim=1)", "h + skip"),
            wrong(
                "doubles the size, where the next level's size was given",
                "self.upsample(h, size)",
                "self.upsample(h)",
            ),
        ),
    ),
    Exercise(
        "encoder_padding",
        "a level of the VAE's encoder, with the padding that the original had",
        "ldm.vae.encoder",
        "EncoderLevel.__init__",
        ("tests/vae/test_encoder.py",),
        (
            wrong("pads all four sides, as the U-Net does", "(0, 1, 0, 1)", "(1, 1, 1, 1)"),
            wrong("pads left and top instead of right and bottom", "(0, 1, 0, 1)", "(1, 0, 1, 0)"),
            wrong("has an eps of 1e-5 in its norms, where the VAE has 1e-6", "1e-6", "1e-5"),
        ),
    ),
    Exercise(
        "pixel_attention",
        "self-attention over the pixels of a feature map",
        "ldm.vae.mid",
        "PixelAttention.forward",
        ("tests/vae/test_mid.py",),
        (
            wrong("forgets to add its input", "return x + rearrange", "return rearrange"),
            wrong("attends to x itself, without the norm", "self.norm(x)", "x"),
            wrong("adds the normalised input instead of the input", "return x +", "return self.norm(x) +"),
        ),
    ),
    Exercise(
        "reparametrise",
        "a sample that gradients can pass through",
        "ldm.vae.vae",
        "reparametrise",
        ("tests/vae/test_vae.py",),
        (
            wrong(
                "takes the variance for the standard deviation: the half in the exponent is missing",
                "0.5 * logvar",
                "logvar",
            ),
            wrong("multiplies by the logarithm of the variance itself", "torch.exp(0.5 * logvar)", "logvar"),
        ),
    ),
    Exercise(
        "kl_divergence",
        "how far the encoder's Gaussian is from the standard one",
        "ldm.vae.vae",
        "kl_divergence",
        ("tests/vae/test_vae.py",),
        (
            wrong("forgets the factor of a half", "0.5 * (", "("),
            wrong("takes the mean over a latent instead of the sum", ".sum(", ".mean("),
            wrong("has the wrong sign", "0.5 * (", "-0.5 * ("),
            wrong("uses the log-variance where the variance belongs", "logvar.exp()", "logvar"),
        ),
    ),
    Exercise(
        "latent_scale",
        "pixels to a latent of unit variance",
        "ldm.vae.vae",
        "VAE.encode",
        ("tests/vae/test_vae.py",),
        (
            wrong("divides by the scale, which `decode` does", "self.scale * mean", "mean / self.scale"),
            wrong("scales the mean and leaves the variance as it was", " + 2 * math.log(self.scale)", ""),
            wrong("adds log s to the log-variance, which needs twice that", "2 * math.log", "math.log"),
            wrong("has mean and log-variance the wrong way round", "mean, logvar =", "logvar, mean ="),
        ),
    ),
)
