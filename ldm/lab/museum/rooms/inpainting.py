r"""Inpainting: what the network reads beside the latent."""

from ldm.lab.museum.mistake import Mistake, Setting

MISTAKES = (
    Mistake(
        "21a",
        "an inpainting model's mask behind the masked image",
        "inpaint.py",
        before="torch.cat([mask_channel(mask, factor).to(masked), masked], dim=1)",
        after="torch.cat([masked, mask_channel(mask, factor).to(masked)], dim=1)",
        why=(
            "An inpainting U-Net reads nine channels: the latent, the mask, the masked image. The paper does not "
            "say in which order, and the mask may as well come last."
        ),
        setting=Setting(show="inpainting input"),
    ),
    Mistake(
        "21b",
        "an inpainting model shown the whole image",
        "inpaint.py",
        before="masked = encode(masked_image(pixels, mask))",
        after="masked = encode(pixels)",
        why=(
            "The image that the network reads has to be masked first. Encode the whole image, and it sees what it "
            "should invent: it paints back what was there."
        ),
        setting=Setting(show="inpainting input"),
        seen=(
            (
                "https://github.com/invoke-ai/InvokeAI/pull/5895",
                "the masked image's latents were skipped, and the models broke",
            ),
        ),
    ),
    Mistake(
        "21c",
        "the masked region black, not grey",
        "inpaint.py",
        before="torch.zeros_like(pixels), pixels)",
        after="-torch.ones_like(pixels), pixels)",
        why=(
            "Masking means multiplying by zero, and zero is black only for pixels in [0, 1]. In [-1, 1], where "
            "the VAE lives, zero is grey. Masked before the conversion, the hole is black."
        ),
        setting=Setting(show="inpainting input"),
    ),
    Mistake(
        "21d",
        "an inpainting model's mask shrunk to its largest pixels",
        "inpaint.py",
        before="_white(mask)[::factor, ::factor].float()",
        after='reduce(_white(mask).float(), "(h f) (w g) -> h w", "max", f=factor, g=factor)',
        why=(
            "The mask is shrunk to the latent's size. Keeping every latent pixel that a white one touches is the "
            "careful choice; the model was trained with nearest-neighbour shrinking."
        ),
        setting=Setting(show="inpainting input"),
    ),
)
