r"""Previews: what the image looks like at each step, while it is still being made.

A sampler's latent is full of noise until the end. But each evaluation of the network gives an estimate of the finished
latent, and that can be decoded. At high noise it is the mean of all images that may still come of it, and therefore
blurred; step by step it is decided what is in the image, and at last its detail.

    save = lambda step, images: images[0].save(f"{step}.png")
    model.generate("a dog", seed=42, progress=previews(model.decode, save))

Decoding is the dear part, once for each step. With a tiny VAE (`ldm/vae/tiny.py`) it is cheap, and blurs a little more;
the finished image still comes from the model's own decoder. (Other programs also offer a linear map of a latent's four
numbers to red, green and blue, fitted by least squares. It takes no time and shows little: colours, at an eighth of the
size.)
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import count

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ldm.diffusion.sample import Step
from ldm.pipeline import Progress

Decode = Callable[[Float[Tensor, "b z h w"]], list[Image.Image]]
Show = Callable[[int, list[Image.Image]], object]


def previews(decode: Decode, show: Show, progress: Progress = lambda sampling, steps: sampling) -> Progress:
    """A `progress` for `generate` that calls `show(n, images)` after the n-th step, counted from 1.

    The images are those of the estimates of x0, one for each image of the batch. It passes all steps on to `progress`.
    Used for several calls in turn, as the hires fix does, it counts on.
    """
    numbers = count(1)

    def shown(sampling: Iterator[Step]) -> Iterator[Step]:
        for step in sampling:
            show(next(numbers), decode(step.x0))
            yield step

    def watched(sampling: Iterator[Step], steps: int) -> Iterable[Step]:
        return progress(shown(sampling), steps)

    return watched
