r"""The prompts of a batch: encoded, each with its negative prompt and with what Stable Diffusion XL is told besides."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import nn

from ldm.config import AddedConfig
from ldm.diffusion.conditioning import Conditioning, ControlFn, added_up, zeroed
from ldm.diffusion.level import Level
from ldm.diffusion.micro_conditioning import MicroConditioning, Size
from ldm.errors import LdmError
from ldm.text.prompt import group_by_length
from ldm.text.tokenizer import Tokenizer

Prompt = str | Sequence[str] | Conditioning
Group = tuple[Sequence[int], Conditioning, Conditioning]  # images of a batch, prompts, negative prompts
EncodeText = Callable[[Sequence[str], bool, str, int], Conditioning]  # `LatentDiffusion.encode_text`


def encode_pairs(
    encode_text: EncodeText,
    tokenizer: Tokenizer,
    prompt: Prompt,
    negative: Prompt,
    count: int,
    weighting: bool,
    long_prompt: str,
    clip_skip: int = 1,
) -> list[Group]:
    """Encode the prompts and negative prompts of `count` images, grouped by context length.

    A group comes with the indices of its images. Only `long_prompt="chunk"` makes more than one. `clip_skip` holds for
    the negative prompts too, unlike in diffusers. Raises `LdmError` for one that would skip nothing in encoded prompts.
    """
    texts, negatives = ([one] if isinstance(one, str) else one for one in (prompt, negative))
    if isinstance(texts, Conditioning) or isinstance(negatives, Conditioning):
        if clip_skip != 1:
            raise LdmError(
                f"a clip_skip of {clip_skip} with prompts that are encoded already; give it to `encode_text`, for the "
                "negative prompt too"
            )
        cond, uncond = (
            one if isinstance(one, Conditioning) else encode_text(one, weighting, long_prompt, clip_skip)
            for one in (texts, negatives)
        )
        return [(range(count), cond, uncond)]
    groups: list[Group] = []
    for images in group_by_length(tokenizer, texts, negatives, count, weighting, long_prompt):
        here, negatives_here = (
            [each[i] for i in images] if len(each) > 1 else each for each in (texts, negatives)
        )
        both = encode_text([*here, *negatives_here], weighting, long_prompt, clip_skip)
        groups.append((images, both[: len(here)], both[len(here) :]))
    return groups


def zero_empty(pairs: Sequence[Group], negative: Prompt) -> list[Group]:
    """The pairs, with zeros in place of the context and the pooled vector of each negative prompt that is empty."""
    if isinstance(negative, Conditioning):
        return list(pairs)
    texts = [negative] if isinstance(negative, str) else negative
    found: list[Group] = []
    for images, cond, uncond in pairs:
        here = [texts[i] for i in images] if len(texts) > 1 else texts
        found.append((images, cond, zeroed(uncond, [text == "" for text in here])))
    return found


def with_micro(
    pairs: Sequence[Group],
    added: AddedConfig | None,
    size: Size,
    micro: MicroConditioning | None = None,
    negative_micro: MicroConditioning | None = None,
) -> list[Group]:
    """The pairs, with the numbers about size and crop for a model that is told them; encoded ones keep their own.

    `negative_micro` defaults to `micro`, but for the aesthetic score. Raises `LdmError` if numbers are given for a
    model that is not told any.
    """
    if added is None:
        if micro is not None or negative_micro is not None:
            raise LdmError(
                "micro-conditioning for a model without it; leave it out (Stable Diffusion XL has it)"
            )
        return list(pairs)
    micro = micro or MicroConditioning()
    negative_micro = negative_micro or replace(micro, aesthetic_score=None)
    values = micro.values(size, added.numbers)
    negatives = negative_micro.values(size, added.numbers, negative=True)
    return [
        (
            images,
            cond if cond.micro is not None else replace(cond, micro=values),
            uncond if uncond.micro is not None else replace(uncond, micro=negatives),
        )
        for images, cond, uncond in pairs
    ]


def with_control(
    pairs: Sequence[Group], control: ControlFn | Sequence[ControlFn], levels: Sequence[Level], size: Size
) -> list[Group]:
    """The pairs, with what ControlNets add inside the U-Net; without any, as they are.

    Raises `LdmError` for a network without its image.
    """
    controls = control if isinstance(control, Sequence) else [control]
    if not controls:
        return list(pairs)
    if any(isinstance(one, nn.Module) for one in controls):
        raise LdmError(
            "control is a network alone; expected it with its image: control=Control(network, image)"
        )
    made = [one(levels, size) for one in controls]
    wanted, unwanted = ([one for one in side if one is not None] for side in zip(*made, strict=True))
    residuals = added_up(wanted)
    # The same function for both, if it is: it is then evaluated once for the batch of both.
    negative = residuals if wanted == unwanted else added_up(unwanted)
    return [
        (images, replace(cond, residuals=residuals), replace(uncond, residuals=negative))
        for images, cond, uncond in pairs
    ]
