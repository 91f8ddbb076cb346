r"""ControlNet: the image that it reads, what it adds to the U-Net, when, and for which half of the batch."""

from ldm.lab.museum.mistake import Mistake, Setting

EDGES = Setting(file="with_control", control=({"prepare": "canny"},))
COLOURS = Setting(file="with_control", control=({"prepare": "tile"},))
GUESS = Setting(file="with_control", control=({"prepare": "tile", "guess": True},))

MISTAKES = (
    Mistake(
        "35a",
        "a ControlNet's image in [-1, 1]",
        "adapters/hints.py",
        before=".double() / 255",
        after=".double() / 127.5 - 1",
        why=(
            "Every other image in a latent diffusion model is in [-1, 1], and in the code that trains a ControlNet the "
            "two ranges stand one below the other. Black becomes -1: a ground that no training image had."
        ),
        setting=EDGES,
        seen=(
            ("https://github.com/lllyasviel/ControlNet/issues/112", "why the two ranges differ"),
            (
                "https://github.com/huggingface/diffusers/pull/2545",
                "a training script with hints in [-1, 1], noticed in the review",
            ),
        ),
    ),
    Mistake(
        "35b",
        "red and blue exchanged in a ControlNet's image",
        "adapters/hints.py",
        before="torch.from_numpy(pixels.copy()).permute(2, 0, 1)",
        after="torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1)",
        why=(
            "The original code reads images with OpenCV, which has blue first, so a port from it exchanges them "
            "once too often or once too rarely. Edges are white and do not care; poses and normals are wrong."
        ),
        setting=COLOURS,
        seen=(
            (
                "https://github.com/Mikubill/sd-webui-controlnet/issues/71",
                "images that collapsed from a normal map",
            ),
            (
                "https://github.com/huggingface/diffusers/pull/2407",
                "RGB exchanged to BGR, and back in the review",
            ),
        ),
    ),
    Mistake(
        "35c",
        "a ControlNet's middle without its zero convolution",
        "adapters/controlnet.py",
        before="+ [self.zero_mid(h)]",
        after="+ [h]",
        why=(
            "The skips have a list of convolutions, one each, and the middle has one of its own that is easy to "
            "overlook. Its name in the files, middle_block_out, sounds like a part of the middle block."
        ),
        setting=EDGES,
    ),
    Mistake(
        "35d",
        "a ControlNet that never sees its image",
        "adapters/controlnet.py",
        before="h = self.conv_in(x_t) + hint",
        after="h = self.conv_in(x_t)",
        why=(
            "The hint is added once, after the first convolution; everything after that runs without it just as well. "
            "Zero convolutions let a forgotten hint pass as a ControlNet that has not learned much yet."
        ),
        setting=COLOURS,
    ),
    Mistake(
        "35e",
        "guess mode's weights the wrong way round",
        "adapters/control.py",
        before="10 ** (-(count - 1 - i) / (count - 1))",
        after="10 ** (-i / (count - 1))",
        why=(
            "The weights go from a tenth to one. The finest skip gets the tenth; but in the list of the skips, as in "
            "the U-Net's way down, the finest one comes first."
        ),
        setting=GUESS,
    ),
    Mistake(
        "35f",
        "guess mode for the negative prompt too",
        "adapters/control.py",
        before="None if self.guess or network.pool else residuals",
        after="residuals",
        why=(
            "Prompt and negative prompt are one batch, and what is added to a batch is added to all of it. Guidance "
            "then amplifies the difference of two predictions that both follow the image."
        ),
        setting=GUESS,
    ),
    Mistake(
        "35g",
        "a ControlNet that acts from the first step on, whatever its start",
        "adapters/control.py",
        before="step / steps >= start and",
        after="",
        why=(
            "Most people set only the end, so the start is tried last. The first steps decide on the layout: "
            "with them, the ControlNet has done most of what it does."
        ),
        setting=Setting(file="with_control", control=({"prepare": "tile", "start": 0.5},)),
    ),
    Mistake(
        "35h",
        "of several ControlNets only the first",
        "diffusion/conditioning.py",
        before="[sum(same[1:], start=same[0])",
        after="[same[0]",
        why=(
            "The residuals of one ControlNet are a list, those of several a list of lists, and a loop that is meant to "
            "add them up needs a start value. Starting with the first is right; ending with it is not."
        ),
        setting=Setting(file="with_control", control=({"prepare": "canny"}, {"prepare": "tile"})),
    ),
    Mistake(
        "35i",
        "the difference from the U-Net taken for a ControlNet's weights",
        "loading.py",
        before="change.float() + base.to",
        after="change.float() + 0 * base.to",
        why=(
            "Such a file has all the right names and shapes, and one tensor more, `difference`, that a loader may well "
            "drop as not needed. What is left is a copy of the U-Net with hardly any weights."
        ),
        setting=EDGES,
    ),
    Mistake(
        "35j",
        "Canny's edges without asking whether they are connected",
        "adapters/hints.py",
        before="thin & (magnitude > high), thin)",
        after="thin, thin)",
        why=(
            "There are two thresholds. The lower one alone finds nearly the same lines; the speckles that it finds "
            "besides are just those that the higher one is there to keep out."
        ),
        setting=Setting(file="with_control", control=({"prepare": "canny", "drawing": 24},)),
    ),
)
