r"""Checkpoints: which tensor is which, and which of two sets of weights is taken."""

from ldm.lab.museum.mistake import Mistake, Setting

MISTAKES = (
    Mistake(
        "10a",
        "queries and keys exchanged when a file is read",
        "checkpoints/key_map.py",
        before='ATTENTION = {"q": "to_q", "k": "to_k",',
        after='ATTENTION = {"q": "to_k", "k": "to_q",',
        why=(
            "In self-attention queries and keys have the same shape, and a table of names in which two lines are "
            "exchanged loads. In cross-attention they have not, and the shapes give it away, unless a loader keeps "
            "quiet about what does not fit."
        ),
        setting=Setting(file="diffusers"),
    ),
    Mistake(
        "10b",
        "OpenCLIP's stack of query, key and value cut in the reverse order",
        "checkpoints/key_map.py",
        before='enumerate("qkv")',
        after='enumerate("vkq")',
        why=(
            "OpenCLIP stacks the projections of query, key and value into one tensor. Cutting it in three is "
            "easy; the order is written nowhere in the file."
        ),
        setting=Setting(file="openclip"),
    ),
    Mistake(
        "10c",
        "queries and keys exchanged when a VAE is read from the original file",
        "checkpoints/key_map.py",
        before='"q": ("to_q", "q"), "k": ("to_k", "k")',
        after='"q": ("to_q", "k"), "k": ("to_k", "q")',
        why=(
            "The VAE's attention has had three sets of names: q, query, to_q. It has one head over all positions, "
            "and its tensors are square, so any order fits."
        ),
        setting=Setting(file="compvis", show="round trip"),
    ),
    Mistake(
        "10d",
        "a 1x1 convolution read as a transposed linear map",
        "checkpoints/names.py",
        before="return tensor[:, :, 0, 0]",
        after="return tensor[:, :, 0, 0].T",
        why=(
            "The original stores some linear maps as 1x1 convolutions. Turning one into a matrix means dropping "
            "two axes; a transpose too many is accepted wherever the matrix is square."
        ),
        setting=Setting(file="compvis"),
    ),
    Mistake(
        "11a",
        "live weights where there are averaged ones",
        "checkpoints/checkpoint.py",
        before='if weights == "live" or lacking:',
        after='if weights != "ema" or lacking:',
        why=(
            "A checkpoint from training holds the U-Net twice: live, and averaged over training (EMA). The live "
            "names are the obvious ones; the averaged ones have lost their dots. Taking the live ones gives "
            "images that are a bit worse."
        ),
        setting=Setting(file="averaged"),
        seen=(
            (
                "https://github.com/huggingface/diffusers/issues/1818",
                "`--extract_ema` had no effect: both conversions were the same",
            ),
            ("https://github.com/huggingface/diffusers/issues/1154", "images get worse after converting"),
            (
                "https://github.com/AUTOMATIC1111/stable-diffusion-webui/issues/1986",
                "averaged weights are never used",
            ),
        ),
    ),
    Mistake(
        "11b",
        "averaged weights where live ones are asked for",
        "checkpoints/checkpoint.py",
        before='if weights == "live" or lacking:',
        after="if lacking:",
        why=(
            "The other way round: somebody who goes on training asks for the live weights and silently gets the "
            "average, whose optimiser state does not fit."
        ),
        setting=Setting(file="averaged", loading={"weights": "live"}),
    ),
    Mistake(
        "11c",
        "a live weight in place of an averaged one that is missing",
        "checkpoints/checkpoint.py",
        before="{name: ema[other] for name, other in averaged.items() if other in ema}",
        after='{name: ema.get(other, groups["unet"][name]) for name, other in averaged.items()}',
        why=(
            "When some averaged tensors are missing, filling the gaps with live ones makes a network that nobody "
            "ever trained. It loads, and it generates."
        ),
        setting=Setting(file="half_averaged"),
    ),
    Mistake(
        "11d",
        "diffusers' averaged weights where live ones are asked for",
        "checkpoints/diffusers_folder.py",
        before='["non_ema"] if weights == "live" else',
        after='["non_ema", ""] if weights == "live" else',
        why=(
            'A fallback written for convenience ("if there is no such variant, take the plain file") answers a '
            "request for live weights with averaged ones, without a word."
        ),
        setting=Setting(file="diffusers_averaged", loading={"weights": "live"}),
    ),
)
