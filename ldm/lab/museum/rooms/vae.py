r"""The VAE: its padding, its scale, the two convolutions that one forgets, its attention; and the tiny VAE."""

from ldm.lab.museum.mistake import Mistake, Setting

WITH_TINY_VAE = Setting(file="with_tiny_vae")

MISTAKES = (
    Mistake(
        "2",
        "the VAE's encoder pads all four sides",
        "vae/encoder.py",
        before="pad=(0, 1, 0, 1)",
        after="pad=(1, 1, 1, 1)",
        why=(
            "A convolution of stride 2 needs one more row and column. Every other convolution in the network pads "
            "both sides, and `padding=1` is what one types. The VAE's encoder pads on the right and at the bottom "
            "only. No shape differs."
        ),
        setting=Setting(show="round trip"),
        seen=(
            (
                "https://github.com/kjsman/stable-diffusion-pytorch/issues/8",
                "the init image comes out 8 pixels lower and to the right, with an ugly border",
            ),
            (
                "https://github.com/divamgupta/stable-diffusion-tensorflow/pull/42",
                "latents that are shifted until the padding is right",
            ),
            (
                "https://github.com/VincentGourbin/flux-2-swift-mlx/pull/106",
                "a grey border at the top and on the left, in Flux's encoder",
            ),
        ),
    ),
    Mistake(
        "7a",
        "latents decoded without their scale",
        "vae/vae.py",
        before="self.decoder(latent / self.scale)",
        after="self.decoder(latent)",
        why=(
            "In the original code the scale is applied outside the autoencoder, by whoever calls it. Port the VAE "
            "alone, and the division by 0.18215 is nowhere."
        ),
        seen=(
            (
                "https://github.com/priyammaz/PyTorch-Adventures/issues/4",
                "the division was in the wrong place, unseen because the scale was near 1",
            ),
            (
                "https://github.com/Project-MONAI/GenerativeModels/pull/214",
                "the division before decoding was missing",
            ),
        ),
    ),
    Mistake(
        "7b",
        "the decoder without post_quant_conv",
        "vae/decoder.py",
        before="self.conv_in(self.post_quant_conv(z))",
        after="self.conv_in(z)",
        why=(
            "A 1x1 convolution before the decoder is easy to overlook: in the original it belongs neither to the "
            "encoder nor to the decoder, but to the class around both. Without it every shape still fits."
        ),
    ),
    Mistake(
        "7c",
        "the encoder without quant_conv",
        "vae/encoder.py",
        before="self.quant_conv(self.conv_out(F.silu(self.norm_out(h))))",
        after="self.conv_out(F.silu(self.norm_out(h)))",
        why=(
            "The counterpart of `post_quant_conv`, just as easy to overlook. Text to image never runs the "
            "encoder, so it shows only in image to image and inpainting."
        ),
        setting=Setting(show="round trip"),
        seen=(
            (
                "https://github.com/fuxiao0719/GeoWizard/issues/35",
                "what is `quant_conv` for, and what if it is left out?",
            ),
        ),
    ),
    Mistake(
        "7d",
        "pictures encoded without their scale",
        "vae/vae.py",
        before="return self.scale * mean,",
        after="return mean,",
        why=(
            "Text to image only needs the division when decoding. The multiplication when encoding is forgotten "
            "when image to image is added later."
        ),
        setting=Setting(init=True, options={"strength": 0.5}),
    ),
    Mistake(
        "7e",
        "a checkpoint's VAE without its scale",
        "checkpoints/infer_sizes.py",
        before="scale=SD1.vae.scale",
        after="scale=1.0",
        why=(
            "A checkpoint does not say the scale of its latents, so the code that opens it has to know it. A "
            "default of 1 is the natural thing to write, and raises nothing."
        ),
        setting=Setting(prompt="a serene lake surrounded by snow-capped mountains at sunrise"),
        standin="no_scale",
        seen=(
            ("https://github.com/hpcaitech/Open-Sora/issues/493", "another VAE with the old scale, 0.18215"),
            (
                "https://github.com/huggingface/diffusers/issues/6923",
                "washed-out images from SDXL with version 1's scale",
            ),
        ),
    ),
    Mistake(
        "13",
        "several heads in the VAE's attention",
        "vae/mid.py",
        before="Attention(channels, heads=1)",
        after="Attention(channels, heads=2)",
        why=(
            "Every other attention layer of the model has several heads; the VAE's has one. The weights fit any "
            "number that divides the channels."
        ),
        setting=Setting(show="round trip"),
    ),
    Mistake(
        "16c",
        "eps 1e-5 in the VAE's residual blocks",
        "vae/decoder.py",
        before="groups=groups, eps=1e-6",
        after="groups=groups, eps=1e-5",
        why=(
            "In the VAE every norm has an epsilon of 1e-6. Share the residual block with the U-Net, whose epsilon "
            "is PyTorch's default, and it is forgotten."
        ),
        setting=Setting(show="round trip"),
    ),
    Mistake(
        "16e",
        "eps 1e-5 before the VAE's attention",
        "vae/mid.py",
        before="nn.GroupNorm(groups, channels, eps=1e-6)",
        after="nn.GroupNorm(groups, channels, eps=1e-5)",
        why=(
            "The VAE's attention has a norm of its own, written separately from those of the residual blocks. "
            "Changing one and not the other is easily done."
        ),
        setting=Setting(show="round trip"),
    ),
    Mistake(
        "36a",
        "latents divided by a scale before the tiny VAE",
        "vae/tiny.py",
        before="self.scale = 1.0",
        after="self.scale = 0.18215",
        why=(
            "The VAE that it stands in for wants its latents divided by 0.18215, and whoever puts the tiny one in its "
            "place keeps that line. But it was trained on latents as the U-Net has them. Bent into (-3, 3), nearly "
            "every number is then one of the two ends."
        ),
        setting=WITH_TINY_VAE,
    ),
    Mistake(
        "36b",
        "the tiny VAE's latents not bent",
        "vae/tiny.py",
        before="return 3 * torch.tanh(latent / 3)",
        after="return latent",
        why=(
            "The bend is the one layer of the decoder that has no weights, so no file asks for it, and it hardly "
            "changes what is small."
        ),
        setting=WITH_TINY_VAE,
    ),
    Mistake(
        "36c",
        "the tiny VAE's pixels taken as they are",
        "vae/tiny.py",
        before="return 2 * self.conv_out(self.res[-1](h)) - 1",
        after="return self.conv_out(self.res[-1](h))",
        why=(
            "Every other decoder of Stable Diffusion gives pixels in [-1, 1]; this one was trained on [0, 1]. Taken as "
            "they are, they have half the contrast, and black is grey."
        ),
        setting=WITH_TINY_VAE,
    ),
    Mistake(
        "36d",
        "the tiny decoder's layers counted as diffusers counts them",
        "checkpoints/tiny_file.py",
        before="before=1, offset=1)",
        after="before=1, offset=0)",
        why=(
            "In the original decoder the bend is layer 0; diffusers computes it outside, so all its numbers are one "
            "lower. The encoder, which bends nothing, has the same numbers in both."
        ),
        setting=WITH_TINY_VAE,
    ),
)
