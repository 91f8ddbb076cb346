r"""Options of `generate` that do not go together: said before anything is computed."""

from PIL import Image
from torch import Tensor

from ldm.errors import LdmError


def check_options(
    output: str,
    latents: Tensor | None,
    init: Image.Image | None,
    keep_pixels: bool,
    start: float,
    stop: float,
    window: int | None,
    reuse: int | None,
) -> None:
    """Raise an `LdmError` that says which of the options of `LatentDiffusion.generate` to leave out."""
    if output == "latent" and keep_pixels:
        raise LdmError('keep_pixels with output="latent", which has no pixels; leave one of the two out')
    if (start > 0 and (latents is None or init is not None)) or (stop < 1 and output != "latent"):
        raise LdmError(
            f"a start of {start} and a stop of {stop}; expected `latents` to start from (and no `init`), and "
            'output="latent" to stop early'
        )
    if window is not None and reuse is not None:
        raise LdmError("a `window` with `reuse`: features of one window are not another's; leave one out")
