r"""Which parts of an image count in the U-Net's loss: a small thing as much as a large one.

A boat covers a tenth of a postcard, a scarf as much. In a loss that counts every position the same they are a tenth of
the gradient, and the sky is most of it: a network learns skies first, and boats long after. So each thing, animal and
garment counts, on top of the image itself, as a quarter of the image, spread over its box:

$$m = 1 + \sum_k \min\!\left(4, \frac{n / 4}{\sum c_k}\right) c_k, \qquad w = m / \overline{m}$$

where $c_k$ is how much of each of the n cells of the latent the box of thing k covers. The clamp keeps the tiniest from
taking everything.

The weights do not change the optimum: at every position, the best prediction is the mean of the target given the noisy
latent and the caption, whatever positive weight its error has. They change what is learned first, and where a network
too small for the optimum comes nearest to it. (`min_snr_weights` does the same over noise levels. Trainers of LoRAs
call it a masked loss, where the weights are 0 and 1.) Only drawings say where their things are; in your own images,
every part counts the same.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ldm.postcards import Box
from ldm.postcards.scene import ANIMALS, GARMENTS, THINGS

SHARE, LARGEST = 0.25, 4.0  # of the image; of a cell's own weight


def importance(boxes: Sequence[Box], cells: int) -> Float[np.ndarray, "h w"]:
    """How much each of cells x cells parts of a drawing counts, with a mean of 1; `boxes` say where its things are."""
    found = np.ones((cells, cells))
    for box in boxes:
        if box.word in (*THINGS, *ANIMALS, *GARMENTS):
            covered = box.coverage(cells, cells)
            found += covered * min(LARGEST, SHARE * cells**2 / max(covered.sum(), 1.0))
    return found / found.mean()
