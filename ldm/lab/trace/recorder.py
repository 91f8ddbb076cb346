r"""Record what happens while an image is generated: latents, guidance and attention at every step.

    with record(model, "a dog with glasses") as recording:
        images = model.generate("a dog with glasses", seed=42, progress=recording.watch())
    recording.steps[0].t, recording.steps[0].x_t   # the initial noise
    recording.decode("x0")                         # the predictions of the finished image
    recording.heat_map(recording.words[1])         # the attention to "dog"

The recorder observes three things: the steps, which pass through `watch` on their way to the progress bar; the U-Net's
output, through a forward hook; and the cross-attention weights, through a hook that evaluates each layer again by hand
(`ldm/nn/attention.py`). Everything is removed when the block ends, and other threads that use the same model meanwhile
are not affected.

The maps are those of DAAM: Tang et al. 2023, "What the DAAM: Interpreting Stable Diffusion Using Cross Attention",
section 2.2. In each cross-attention layer, the weights of every pixel over the tokens sum to one; upsampled to the
latent's size and averaged over heads and layers, the weights of one token form a map of where it was attended to. We
upsample bilinearly (bicubic interpolation can become negative, which no weight is) and average over the steps, where
DAAM sums.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ldm.arguments import checked
from ldm.diffusion.level import Time
from ldm.diffusion.sample import Step
from ldm.errors import LdmError
from ldm.images.pixels import to_images
from ldm.nn.attention import Attention
from ldm.nn.hooks import add_hook
from ldm.pipeline import LatentDiffusion, Progress
from ldm.text.pretokenize import END_OF_WORD
from ldm.text.tokenizer import Tokenizer
from ldm.text.weighting import weighted_parts
from ldm.unet.transformer import SpatialTransformer

MAP_SIDE = 64  # the maximum size of maps: 50 steps of 77 maps take at most 63 MB per image


@dataclass(frozen=True)
class Word:
    """A word of the prompt and the positions of its tokens."""

    text: str  # as the tokenizer cleaned it
    positions: tuple[int, ...]  # in the context, where 0 is the start token


@dataclass(frozen=True)
class RecordedStep:
    """One sampling step of a batch of b images. All tensors are float32 and on the CPU."""

    t: Time
    alpha_bar: float  # before the step: x_t contains sqrt(alpha_bar) times the signal
    x_t: Float[Tensor, "b z h w"]  # the latent before the step
    x0: Float[Tensor, "b z h w"]  # the prediction, from x_t, of the finished latent
    x_prev: Float[Tensor, "b z h w"]  # the latent after the step
    # How much the prompt changed the U-Net's prediction, one number per image; None without guidance (scale 1), when
    # only the conditional prediction is made. The negative prompt, if there is one, counts as unconditional.
    guidance_size: tuple[float, ...] | None  # |cond - uncond| / |uncond|, before the guidance scale
    guidance_angle: tuple[float, ...] | None  # between the two predictions, in degrees
    # The weight of each pixel on each token of the prompt, including the start and the end token. The rest of a sum of
    # one is on the padding. At most MAP_SIDE high and wide.
    attention: Float[Tensor, "b n mh mw"]

    @property
    def snr(self) -> float:
        r"""The signal-to-noise ratio of x_t, $\bar\alpha_t / (1 - \bar\alpha_t)$ (Kingma et al. 2021, eq. 2)."""
        return self.alpha_bar / (1 - self.alpha_bar)


def encoded_parts(prompt: str, weighting: bool) -> list[str]:
    """The text that is encoded; with `weighting`, without brackets and weights."""
    return [part for part, _ in weighted_parts(prompt)] if weighting else [prompt]


def prompt_words(tokenizer: Tokenizer, prompt: str, weighting: bool = True) -> list[Word]:
    """The words of the prompt with the positions of their tokens; words that are truncated away are left out."""
    parts = encoded_parts(prompt, weighting)
    tokens, words, position = iter([token for part in parts for token in tokenizer.tokens(part)]), [], 1
    for text in [word for part in parts for word in tokenizer.words(part)]:
        first = position
        for token in tokens:
            position += 1
            if token.endswith(END_OF_WORD) or token == text:  # a special token has no end-of-word suffix
                break
        # The last position is for the end token.
        kept = range(first, min(position, tokenizer.context_length - 1))
        if kept:
            words.append(Word(text, tuple(kept)))
    return words


def guidance_size_and_angle(
    uncond: Float[Tensor, "b *shape"], cond: Float[Tensor, "b *shape"]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    r"""The size $|\epsilon_c - \epsilon_\varnothing| / |\epsilon_\varnothing|$ of the guidance vector, and the angle
    between $\epsilon_c$ and $\epsilon_\varnothing$ in degrees, for each image.

    (Or those of v or x0, if the model predicts those.)
    """
    a, b = (x.detach().cpu().double().flatten(1) for x in (uncond, cond))  # small angles need the precision
    size = (b - a).norm(dim=1) / a.norm(dim=1)
    cosine = F.cosine_similarity(a, b, dim=1, eps=0.0).clamp(-1, 1)
    return tuple(size.tolist()), tuple(cosine.acos().rad2deg().tolist())


def attention_map(
    weights: Float[Tensor, "b heads n m"], level: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "b m h w"]:
    """One layer's weights, n pixels by m tokens, as m maps of `size`; `level` is the layer's (height, width)."""
    mean = reduce(weights.float(), "b heads n m -> b n m", "mean")
    maps = rearrange(mean, "b (h w) m -> b m h w", h=level[0])
    return F.interpolate(maps, size=size, mode="bilinear", antialias=size[0] < level[0])


class Recording:
    """What `record` observed of one call of `generate`. `steps` are in the order of sampling, from noise to image."""

    def __init__(self, model: LatentDiffusion, prompt: str, weighting: bool = True):
        self.prompt = prompt
        parts, tokenizer = encoded_parts(prompt, weighting), model.tokenizer
        tokens = [token for part in parts for token in tokenizer.tokens(part)]
        self.tokens = tokens[: tokenizer.context_length - 2]
        self.words = prompt_words(tokenizer, prompt, weighting)
        self.steps: list[RecordedStep] = []
        self._model = model
        self._evaluation: _Evaluation | None = None

    def watch(self, progress: Progress | None = None) -> Progress:
        """Returns a `progress` for `generate` that records each step and passes it on to another one, if given."""

        def watched(sampling: Iterator[Step], count: int) -> Iterable[Step]:
            if self.steps:
                raise LdmError("this recording is complete; open a new one with `record` for the next call")
            recorded = self._record(sampling)
            return recorded if progress is None else progress(recorded, count)

        return watched

    def decode(
        self, which: Literal["x_t", "x0"], index: int = 0, steps: Sequence[int] | None = None, batch: int = 4
    ) -> list[Image.Image]:
        """Decode x_t, or the prediction of x0, of image `index`, `batch` steps at a time.

        `steps` are indices into the list of that name; None for all.
        """
        chosen = range(len(self.steps)) if steps is None else steps
        latents = [getattr(self.steps[i], which)[index] for i in chosen]
        images: list[Image.Image] = []
        with torch.no_grad():
            for start in range(0, len(latents), batch):
                images += to_images(self._model.vae.decode(torch.stack(latents[start : start + batch])))
        return images

    def heat_map(self, word: Word, index: int = 0, step: int | None = None) -> Float[Tensor, "mh mw"]:
        """Each pixel's attention to a word, at one step or averaged over all; in [0, 1], usually far below 1.

        The weights of the word's tokens are summed. (DAAM's code takes their mean, which looks the same once a map is
        rescaled for display.)
        """
        steps = self.steps if step is None else [self.steps[step]]
        positions = list(word.positions)
        return torch.stack([s.attention[index, positions].sum(0) for s in steps]).mean(0)

    def _record(self, sampling: Iterator[Step]) -> Iterator[Step]:
        for step in sampling:
            evaluation, self._evaluation = self._evaluation, None
            if evaluation is None or evaluation.out is None:
                raise LdmError(
                    "a step without an evaluation of the U-Net; call `generate` inside the block of `record`, in its "
                    "thread"
                )
            batch_size = len(step.x_t)
            if evaluation.batch_size != batch_size:
                raise LdmError(
                    f"{batch_size} images that do not share one evaluation of the U-Net; record one prompt at a time"
                )
            size = angle = None
            if evaluation.guided:  # both predictions in one batch, the unconditional ones first
                size, angle = guidance_size_and_angle(*evaluation.out.chunk(2))
            attention = (evaluation.maps / evaluation.layers)[-batch_size:].cpu()
            x_t, x0, x_prev = (x.detach().to("cpu", torch.float32) for x in (step.x_t, step.x0, step.x_prev))
            self.steps.append(
                RecordedStep(step.level.t, step.level.alpha**2, x_t, x0, x_prev, size, angle, attention)
            )
            yield step


class _Evaluation:
    """The first model evaluation of a step, while it runs. (Some samplers take a second one, not at x_t.)"""

    def __init__(self, x: Float[Tensor, "b c h w"]):
        height, width = x.shape[-2:]
        self.guided = len(x) % 2 == 0 and bool((x[: len(x) // 2] == x[len(x) // 2 :]).all())
        self.batch_size = len(x) // 2 if self.guided else len(x)
        shrink = min(1.0, MAP_SIDE / max(height, width))
        self.size = (max(1, round(shrink * height)), max(1, round(shrink * width)))
        self.maps: Tensor = torch.zeros((), device="cpu")  # the sum over layers
        self.layers = 0
        self.out: Tensor | None = None  # set when it has finished


@checked
@contextmanager
def record(model: LatentDiffusion, prompt: str, weighting: bool = True) -> Iterator[Recording]:
    """Record one call of `model.generate(prompt, progress=recording.watch())`; see the top of this file.

    The images are the same as without a recorder up to rounding (attention by hand instead of the fused kernel).
    `prompt` and `weighting` must be those of the call, because the maps are labelled with its words. The call must
    come from the thread that opened the recording. Raises `LdmError` for a U-Net without cross-attention.
    """
    layers = [m for m in model.unet.modules() if isinstance(m, SpatialTransformer) and len(m.layers)]
    if not layers:
        raise LdmError("this U-Net has no cross-attention, so there are no attention maps to record")
    recording = Recording(model, prompt, weighting)
    with ExitStack() as undo:
        for transformer in layers:
            _watch_attention(transformer, recording, undo)

        def begin(_: Any, inputs: tuple[Tensor, ...]) -> None:
            if recording._evaluation is None:
                recording._evaluation = _Evaluation(inputs[0])

        def end(_: Any, inputs: Any, out: Tensor) -> None:
            if recording._evaluation is not None and recording._evaluation.out is None:
                recording._evaluation.out = out

        undo.callback(add_hook(model.unet, begin, before=True).remove)
        undo.callback(add_hook(model.unet, end).remove)
        yield recording


def _watch_attention(transformer: SpatialTransformer, recording: Recording, undo: ExitStack) -> None:
    tokens = len(recording.tokens) + 2
    level = (1, 1)

    def measure(_: Any, inputs: tuple[Tensor, ...]) -> None:
        nonlocal level
        level = (inputs[0].shape[-2], inputs[0].shape[-1])

    def add_map(_: Any, inputs: Any, weights: Tensor) -> None:
        seen = recording._evaluation
        if seen is not None and seen.out is None:
            seen.maps = seen.maps.to(weights.device) + attention_map(weights[..., :tokens], level, seen.size)
            seen.layers += 1

    undo.callback(add_hook(transformer, measure, before=True).remove)
    for layer in transformer.layers:
        attention = layer.cross_attn
        assert isinstance(attention, Attention)
        by_hand = _by_hand_copy(attention)
        by_hand.weights_probe.register_forward_hook(add_map)
        undo.callback(add_hook(attention, partial(_replace_output, by_hand)).remove)


def _by_hand_copy(attention: Attention) -> Attention:
    """A layer with the same weights that computes attention by hand; switching the layer itself affects all threads."""
    by_hand = copy(attention)
    by_hand._modules = {**attention._modules, "weights_probe": nn.Identity()}
    by_hand.by_hand = True
    return by_hand


def _replace_output(by_hand: Attention, _: Any, inputs: tuple[Tensor, Tensor], out: Tensor) -> Tensor:
    return by_hand.forward(*inputs)  # not a call, which would run the layer's hooks, including this one
