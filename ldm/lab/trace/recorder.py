r"""Record what happens while an image is generated: latents, guidance and attention at every step.

    with record(model, "a dog with glasses") as recording:
        images = model.generate("a dog with glasses", seed=42, progress=recording.watch())
    recording.steps[0].t, recording.steps[0].x_t   # the initial noise
    recording.decode("x0")                         # the predictions of the finished image
    recording.heat_map(recording.words[1])         # the attention to "dog"

The recorder observes three things: the steps, which pass through `watch` on their way to the progress bar; the U-Net's
output, through a forward hook; and the cross-attention weights (`ldm/unet/watch.py`). Everything is removed
when the block ends, and other threads that use the same model meanwhile are not affected.

The maps are those of DAAM: Tang et al. 2023, "What the DAAM: Interpreting Stable Diffusion Using Cross Attention",
section 2.2. In each cross-attention layer, the weights of every pixel over the tokens sum to one; upsampled to the
latent's size and averaged over the heads of all layers, the weights of one token form a map of where it was attended
to. We upsample bilinearly (bicubic interpolation can become negative, which no weight is) and average over the steps,
where DAAM sums. Most heads of a small network look elsewhere than at the thing that a word names, so a model's config
may name those whose maps are shown, chosen by a measurement (`map_heads`; `ldm/lab/evaluate/attention_maps.py`).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ldm.arguments import checked
from ldm.diffusion.level import Time
from ldm.diffusion.sample import Step
from ldm.errors import LdmError
from ldm.images.pixels import to_images
from ldm.nn.hooks import add_hook
from ldm.pipeline import LatentDiffusion, Progress
from ldm.text.positions import Word, encoded_parts, prompt_words
from ldm.unet.watch import attention_map, chosen_heads, watch_attention

MAP_SIDE = 64  # the maximum size of maps: 50 steps of 77 maps take at most 63 MB per image


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
            attention = (evaluation.maps / evaluation.heads)[-batch_size:].cpu()
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
        self.maps: Tensor = torch.zeros((), device="cpu")  # the sum over heads
        self.heads = 0
        self.out: Tensor | None = None  # set when it has finished


@checked
@contextmanager
def record(model: LatentDiffusion, prompt: str, weighting: bool = True) -> Iterator[Recording]:
    """Record one call of `model.generate(prompt, progress=recording.watch())`; see the top of this file.

    The images are the same as without a recorder up to rounding (attention by hand instead of the fused kernel).
    `prompt` and `weighting` must be those of the call, because the maps are labelled with its words. The call must
    come from the thread that opened the recording. Raises `LdmError` for a U-Net without cross-attention.
    """
    heads = chosen_heads(model.config, model.unet)
    if not heads:
        raise LdmError("this U-Net has no cross-attention, so there are no attention maps to record")
    recording = Recording(model, prompt, weighting)
    tokens = len(recording.tokens) + 2
    with ExitStack() as undo:

        def see(layer: str, level: tuple[int, int], weights: Tensor) -> None:
            seen, chosen = recording._evaluation, heads.get(layer)
            if chosen and seen is not None and seen.out is None:
                maps = attention_map(weights[..., :tokens], level, seen.size, chosen)
                seen.maps = seen.maps.to(weights.device) + len(chosen) * maps
                seen.heads += len(chosen)

        undo.enter_context(watch_attention(model.unet, see))

        def begin(_: Any, inputs: tuple[Tensor, ...]) -> None:
            if recording._evaluation is None:
                recording._evaluation = _Evaluation(inputs[0])

        def end(_: Any, inputs: Any, out: Tensor) -> None:
            if recording._evaluation is not None and recording._evaluation.out is None:
                recording._evaluation.out = out

        undo.callback(add_hook(model.unet, begin, before=True).remove)
        undo.callback(add_hook(model.unet, end).remove)
        yield recording
