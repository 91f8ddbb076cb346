r"""The prompts of a batch: encoded, each with its negative prompt."""

from collections.abc import Callable, Sequence

from ldm.diffusion.conditioning import Conditioning
from ldm.text.prompt import group_by_length
from ldm.text.tokenizer import Tokenizer

Prompt = str | Sequence[str] | Conditioning
Group = tuple[Sequence[int], Conditioning, Conditioning]  # images of a batch, prompts, negative prompts
EncodeText = Callable[[Sequence[str], bool, str], Conditioning]  # `LatentDiffusion.encode_text`


def encode_pairs(
    encode_text: EncodeText,
    tokenizer: Tokenizer,
    prompt: Prompt,
    negative: Prompt,
    count: int,
    weighting: bool,
    long_prompt: str,
) -> list[Group]:
    """Encode the prompts and negative prompts of `count` images, grouped by context length.

    A group comes with the indices of its images. Only `long_prompt="chunk"` makes more than one.
    """
    texts, negatives = ([one] if isinstance(one, str) else one for one in (prompt, negative))
    if isinstance(texts, Conditioning) or isinstance(negatives, Conditioning):
        cond, uncond = (
            one if isinstance(one, Conditioning) else encode_text(one, weighting, long_prompt)
            for one in (texts, negatives)
        )
        return [(range(count), cond, uncond)]
    groups: list[Group] = []
    for images in group_by_length(tokenizer, texts, negatives, count, weighting, long_prompt):
        here, negatives_here = (
            [each[i] for i in images] if len(each) > 1 else each for each in (texts, negatives)
        )
        both = encode_text([*here, *negatives_here], weighting, long_prompt)
        groups.append((images, both[: len(here)], both[len(here) :]))
    return groups
