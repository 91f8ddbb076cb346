r"""Stable Diffusion XL: two text encoders, a pooled vector, and what the network is told about sizes."""

from ldm.lab.museum.mistake import Mistake, Setting

XL = Setting(file="like_xl")

MISTAKES = (
    Mistake(
        "18a",
        "sizes told with the width first",
        "diffusion/micro_conditioning.py",
        before="numbers = (height, width, top, left, *last)",
        after="numbers = (width, height, top, left, *last)",
        why=(
            "Nearly everything else that takes a size takes the width first. Square images, with which everybody tries "
            "a port out, do not show it."
        ),
        setting=Setting(file="like_xl", options={"size": (128, 96)}),
        seen=(("https://github.com/mosaicml/diffusion/pull/67", "sizes passed as width and height"),),
    ),
    Mistake(
        "18b",
        "SDXL's text normalised after the second-to-last layer",
        "text/encoder.py",
        before='        if self.output != "hidden":\n            context = self.norm_out(context)',
        after="        context = self.norm_out(context)",
        why=(
            "Stable Diffusion 2 also reads the second-to-last layer, and applies the final norm to it. XL does not, "
            "although it has the norm: the pooled vector needs it."
        ),
        setting=XL,
        seen=(
            (
                "https://github.com/easydiffusion/sdkit/pull/56",
                "the last layer, normalised, unless somebody asked for a clip skip",
            ),
        ),
    ),
    Mistake(
        "18c",
        "the pooled vector taken from the second-to-last layer",
        "text/encoder.py",
        before="self.projection(pool(self.norm_out(states[-1]), known))",
        after="self.projection(pool(context, known))",
        why=(
            "The context is at hand, and its layer was chosen just above. But the pooled vector is what CLIP was "
            "trained to compare with images: the end of the last layer, normalised."
        ),
        setting=XL,
    ),
    Mistake(
        "18d",
        "the pooled vector without its projection",
        "text/encoder.py",
        before="self.projection(pool(self.norm_out(states[-1]), known))",
        after="pool(self.norm_out(states[-1]), known)",
        why=(
            "transformers has two classes for this encoder, and the one without the projection calls its unprojected "
            "state `pooler_output`. Both are 1,280 numbers wide."
        ),
        setting=XL,
    ),
    Mistake(
        "18e",
        "the pooled vector's projection transposed",
        "checkpoints/key_map.py",
        before='"projection.weight", "text_projection.weight", "text_projection", transposed=("compvis",)',
        after='"projection.weight", "text_projection.weight", "text_projection"',
        why=(
            "OpenCLIP multiplies a text by this matrix W as it is, x W; a linear layer computes x W^T. The matrix is "
            "square, so no shape tells."
        ),
        setting=Setting(file="like_xl_compvis"),
        seen=(
            (
                "https://github.com/mindspore-lab/mindone/pull/399",
                "not transposed where a file was converted",
            ),
        ),
    ),
    Mistake(
        "18f",
        "the pooled vector taken from the first text encoder",
        "text/joint.py",
        before="encoded[-1][1]",
        after="encoded[0][1]",
        why=(
            "Two encoders, and a vector for the whole prompt: which of them it belongs to is said once in the paper. "
            "CLIP-L's would be 768 numbers wide; here the first encoder has none, and the U-Net says so."
        ),
        setting=XL,
        seen=(
            (
                "https://github.com/lllyasviel/LayerDiffuse_DiffusersCLI/issues/7",
                "a pooled output asked of both encoders alike",
            ),
        ),
    ),
    Mistake(
        "18g",
        "the contexts of the two encoders joined the other way round",
        "text/joint.py",
        before="[context for context, _ in encoded]",
        after="[context for context, _ in reversed(encoded)]",
        why=(
            "768 and 1,280 numbers are 2,048 in either order. The cross-attention reads each where the other belongs, "
            "and the prompt is lost."
        ),
        setting=XL,
    ),
    Mistake(
        "18h",
        "both text encoders' prompts padded alike",
        "networks.py",
        before="self.tokenizer.padding(self.config.text_2.pad)",
        after="self.tokenizer.pad_id",
        why=(
            "Both have the same vocabulary, so one tokenizer seems to be enough. One was trained with prompts padded "
            "with end marks, the other with zeros, and the padding is most of what a short prompt's context is."
        ),
        setting=XL,
        seen=(
            (
                "https://github.com/Comfy-Org/ComfyUI/issues/9849",
                "the right padding reported as a bug, since token 0 is an exclamation mark",
            ),
        ),
    ),
    Mistake(
        "18i",
        "an empty negative prompt encoded where SDXL reads zeros",
        "pipeline.py",
        before='if (empty_negative or defaults.empty_negative) == "zero":',
        after='if empty_negative == "zero":',
        why=(
            "An empty text is a text, and in Stable Diffusion 1 and 2 it was encoded. XL's training dropped the whole "
            "context, which is said in no paper, only in a setting of a JSON file."
        ),
        setting=XL,
        seen=(
            (
                "https://github.com/apple/ml-stable-diffusion/pull/357",
                "the other way round: XL's zeros used for every model",
            ),
            (
                "https://github.com/Haoming02/sd-webui-forge-classic/issues/664",
                "other images than elsewhere when the negative prompt is empty",
            ),
        ),
    ),
    Mistake(
        "18j",
        "zeros for an empty negative prompt's context, but not for its pooled vector",
        "diffusion/conditioning.py",
        before="return replace(cond, context=cond.context.masked_fill(zero[:, None, None], 0), pooled=pooled)",
        after="return replace(cond, context=cond.context.masked_fill(zero[:, None, None], 0))",
        why=(
            "The context is what a negative prompt has been since Stable Diffusion 1. The pooled vector came with XL, "
            "goes another way through the program, and still says: an empty text."
        ),
        setting=XL,
    ),
    Mistake(
        "18k",
        "the sizes before the pooled vector",
        "unet/added.py",
        before="torch.cat([pooled, numbers], dim=1)",
        after="torch.cat([numbers, pooled], dim=1)",
        why=(
            "The two are joined to 2,816 numbers, in either order. The name of the argument in the original code, y, "
            "and diffusers' add_embeds leave it open which comes first."
        ),
        setting=XL,
    ),
)
