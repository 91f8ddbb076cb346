r"""The recorder: what happens while a picture is painted, noted from outside.

    with record(model, "a dog with glasses") as recording:
        images = model.generate("a dog with glasses", seed=42, progress=recording.watch())
    recording.moments[0].t, recording.moments[0].x_t   # the noise it began with
    recording.pictures("x0")                           # the guesses of the finished picture, decoded
    recording.heat_map(recording.words[1])             # where "dog" was looked for

Three windows are opened, and closed again when the block ends, however it ends: the steps, which pass through
`watch` on their way to the progress bar; the U-Net's output, through a forward hook; and the cross-attention's
weights, through another, which computes the layer once more with its by-hand face (`ldm/nn/attention.py`). Nothing of
this exists without a recorder, nor for other threads that paint with the same model meanwhile.

The maps are those of DAAM: Tang et al. 2023, "What the DAAM: Interpreting Stable Diffusion Using Cross Attention",
section 2.2. In each cross-attention layer every pixel spreads a weight of one over the tokens; upscaled to the
latent's size and averaged over heads and layers, the weights of one token are a picture of where it was read. We
upscale bilinearly (bicubic overshoots below zero, where no weight is), and average over the steps where DAAM sums.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
from ldm.pipeline import LatentDiffusion
from ldm.text.pretokenize import END_OF_WORD
from ldm.text.tokenizer import Tokenizer
from ldm.text.weighting import weighted_parts
from ldm.unet.transformer import SpatialTransformer

MAP_SIDE = 64  # maps are kept no larger: 50 steps of 77 of them are then at most 63 MB a picture

Progress = Callable[[Iterator[Step], int], Iterable[Step]]


@dataclass(frozen=True)
class Word:
    """A word of the prompt, and where its pieces stand in the context."""

    text: str  # as the tokenizer cleaned it
    positions: tuple[int, ...]  # in the context, where 0 is the beginning-of-text mark


@dataclass(frozen=True)
class Moment:
    """One step of sampling, for a batch of b pictures. All tensors are float32, on the CPU."""

    t: Time
    alpha_bar: float  # the noise level before the step: x_t holds sqrt(alpha_bar) of signal
    x_t: Float[Tensor, "b z h w"]  # the latent before the step
    x0: Float[Tensor, "b z h w"]  # the guess, from here, of what the finished latent will be
    x_prev: Float[Tensor, "b z h w"]  # the latent after the step
    # How much the prompt changed the U-Net's prediction, a number a picture; None at guidance 1, where only the
    # conditional prediction is made. ("Unconditional" stands for the negative prompt, if there is one.)
    guidance_size: tuple[float, ...] | None  # |cond - uncond| / |uncond|, not yet multiplied by the guidance
    guidance_angle: tuple[float, ...] | None  # between the two predictions, in degrees
    # For each pixel, its weight on each token of the prompt: the beginning mark, the pieces, the end mark. What is
    # missing to a sum of one lies on the padding. At most MAP_SIDE high and wide.
    attention: Float[Tensor, "b n mh mw"]

    @property
    def snr(self) -> float:
        r"""The signal-to-noise ratio of x_t, $\bar\alpha_t / (1 - \bar\alpha_t)$ (Kingma et al. 2021, eq. 2)."""
        return self.alpha_bar / (1 - self.alpha_bar)


def parts(prompt: str, weighting: bool) -> list[str]:
    """What the text encoder reads of a prompt; with `weighting`, brackets and weights are no part of it."""
    return [part for part, _ in weighted_parts(prompt)] if weighting else [prompt]


def prompt_words(tokenizer: Tokenizer, prompt: str, weighting: bool = True) -> list[Word]:
    """The prompt's words with their places in the context; what is cut off at the context's end is left out."""
    read = parts(prompt, weighting)
    pieces, words, position = iter([piece for part in read for piece in tokenizer.pieces(part)]), [], 1
    for text in [word for part in read for word in tokenizer.words(part)]:
        first = position
        for piece in pieces:
            position += 1
            if piece.endswith(END_OF_WORD) or piece == text:  # a literal special token has no end mark
                break
        kept = range(first, min(position, tokenizer.context_length - 1))  # the last place is the end mark's
        if kept:
            words.append(Word(text, tuple(kept)))
    return words


def guidance_numbers(
    uncond: Float[Tensor, "b *shape"], cond: Float[Tensor, "b *shape"]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    r"""The size $|\epsilon_c - \epsilon_\varnothing| / |\epsilon_\varnothing|$ of the guidance vector, and the angle
    between $\epsilon_c$ and $\epsilon_\varnothing$ in degrees, for each picture. (Or of v, or x0: what is predicted.)
    """
    a, b = (x.detach().cpu().double().flatten(1) for x in (uncond, cond))  # small angles need the digits
    size = (b - a).norm(dim=1) / a.norm(dim=1)
    cosine = F.cosine_similarity(a, b, dim=1, eps=0.0).clamp(-1, 1)
    return tuple(size.tolist()), tuple(cosine.acos().rad2deg().tolist())


def attention_map(
    weights: Float[Tensor, "b heads n m"], level: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "b m h w"]:
    """One layer's weights, n pixels by m tokens, as m maps of `size`; `level` is the layer's own (height, width)."""
    mean = reduce(weights.float(), "b heads n m -> b n m", "mean")
    maps = rearrange(mean, "b (h w) m -> b m h w", h=level[0])
    return F.interpolate(maps, size=size, mode="bilinear", antialias=size[0] < level[0])


class Recording:
    """What `record` saw of one call of `generate`. Its `moments` are in the order of sampling, noise first."""

    def __init__(self, model: LatentDiffusion, prompt: str, weighting: bool = True):
        self.prompt = prompt
        pieces = [piece for part in parts(prompt, weighting) for piece in model.tokenizer.pieces(part)]
        self.pieces = pieces[: model.tokenizer.context_length - 2]
        self.words = prompt_words(model.tokenizer, prompt, weighting)
        self.moments: list[Moment] = []
        self._model = model
        self._evaluation: _Evaluation | None = None

    def watch(self, progress: Progress | None = None) -> Progress:
        """A `progress` for `generate` that notes each step and then hands it on to another one, if there is one."""

        def watched(path: Iterator[Step], steps: int) -> Iterable[Step]:
            if self.moments:
                raise LdmError(
                    "this recording holds a painting already; open a new one for the next with `record`"
                )
            noted = self._note(path)
            return noted if progress is None else progress(noted, steps)

        return watched

    def pictures(
        self,
        which: Literal["x_t", "x0"],
        picture: int = 0,
        moments: Sequence[int] | None = None,
        batch: int = 4,
    ) -> list[Image.Image]:
        """What the VAE makes of x_t, or of the guess of x0, at some moments (all): decoded now, `batch` at once.

        `picture` is its number in the batch, `moments` are places in the list of that name.
        """
        chosen = range(len(self.moments)) if moments is None else moments
        latents = [getattr(self.moments[i], which)[picture] for i in chosen]
        images: list[Image.Image] = []
        with torch.no_grad():
            for start in range(0, len(latents), batch):
                images += to_images(self._model.vae.decode(torch.stack(latents[start : start + batch])))
        return images

    def heat_map(self, word: Word, picture: int = 0, moment: int | None = None) -> Float[Tensor, "mh mw"]:
        """Each pixel's weight on a word, at one moment or averaged over all; in [0, 1], mostly far below 1.

        The weights of the word's pieces are added: together they are what the pixel takes from the word. (DAAM's
        code takes their mean, which looks the same once a map is scaled to be seen.)
        """
        moments = self.moments if moment is None else [self.moments[moment]]
        places = list(word.positions)
        return torch.stack([m.attention[picture, places].sum(0) for m in moments]).mean(0)

    def _note(self, path: Iterator[Step]) -> Iterator[Step]:
        for step in path:
            evaluation, self._evaluation = self._evaluation, None
            if evaluation is None or evaluation.out is None:
                raise LdmError(
                    "a step, but no evaluation of the U-Net; call `generate` inside the block of `record`, in its "
                    "thread"
                )
            pictures = len(step.x_t)
            if evaluation.pictures != pictures:
                raise LdmError(
                    f"{pictures} pictures that do not share a call of the U-Net; record them one prompt at a time"
                )
            size = angle = None
            if evaluation.guided:  # both predictions in one batch, the unconditional first
                size, angle = guidance_numbers(*evaluation.out.chunk(2))
            attention = (evaluation.maps / evaluation.layers)[-pictures:].cpu()
            x_t, x0, x_prev = (x.detach().to("cpu", torch.float32) for x in (step.x_t, step.x0, step.x_prev))
            self.moments.append(
                Moment(step.level.t, step.level.alpha**2, x_t, x0, x_prev, size, angle, attention)
            )
            yield step


class _Evaluation:
    """The U-Net's first evaluation of a step, while it runs. (A step may take another one, elsewhere than at x_t.)"""

    def __init__(self, x: Float[Tensor, "b c h w"]):
        height, width = x.shape[-2:]
        self.guided = len(x) % 2 == 0 and bool((x[: len(x) // 2] == x[len(x) // 2 :]).all())
        self.pictures = len(x) // 2 if self.guided else len(x)
        shrink = min(1.0, MAP_SIDE / max(height, width))
        self.size = (max(1, round(shrink * height)), max(1, round(shrink * width)))
        self.maps: Tensor = torch.zeros((), device="cpu")  # the sum over layers
        self.layers = 0
        self.out: Tensor | None = None  # set when it has finished


@checked
@contextmanager
def record(model: LatentDiffusion, prompt: str, weighting: bool = True) -> Iterator[Recording]:
    """Watch one call of `model.generate(prompt, progress=recording.watch())`; see the top of this file.

    The pictures are the same as without, up to the last bits of the arithmetic (by-hand attention instead of the
    fused kernel). `prompt` and `weighting` must be those of the painting: the maps are labelled with its words. The
    painting must happen in the thread that opened the recording. Raises `LdmError` for a U-Net without cross-attention.
    """
    layers = [m for m in model.unet.modules() if isinstance(m, SpatialTransformer) and len(m.layers)]
    if not layers:
        raise LdmError("this U-Net has no cross-attention; a recorder needs some to see where words are read")
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
    tokens = len(recording.pieces) + 2
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
        twin = _by_hand(attention)
        twin.weights.register_forward_hook(add_map)
        undo.callback(add_hook(attention, partial(_instead, twin)).remove)


def _by_hand(attention: Attention) -> Attention:
    """A layer with the same weights and its by-hand face. (To switch the layer itself would reach all threads.)"""
    twin = copy(attention)
    twin._modules = {**attention._modules, "weights": nn.Identity()}
    twin.by_hand = True
    return twin


def _instead(twin: Attention, _: Any, inputs: tuple[Tensor, Tensor], out: Tensor) -> Tensor:
    return twin.forward(*inputs)  # past the layer's hooks, of which this is one
