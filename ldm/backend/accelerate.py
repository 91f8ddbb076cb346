r"""The one place where plain modules are replaced by faster ones that compute the same.

The chapters know nothing of this. A faster class is a subclass of the plain one, has the same parameters under the same
names, and falls back to the plain version wherever it would not be faster. So it is enough to change a module's class.
"""

from typing import TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from ldm.backend import chunked_attention, matmul, winograd
from ldm.backend.allocator import mmap_large_blocks
from ldm.backend.chunked_attention import ChunkedAttention
from ldm.backend.fused_upsample import FusedUpsample
from ldm.backend.gradients import needs_gradient
from ldm.backend.memory_format import ChannelsLastDecoder, ChannelsLastEncoder, ChannelsLastUNet
from ldm.backend.winograd import WinogradConv2d
from ldm.nn.attention import Attention
from ldm.nn.resnet import Upsample
from ldm.unet.unet import UNet
from ldm.vae.decoder import Decoder
from ldm.vae.encoder import Encoder

Network = TypeVar("Network", bound=nn.Module)


class LeanDecoder(ChannelsLastDecoder):
    """Channels last, and the largest feature maps are returned to the system as soon as they are done with."""

    def enlarge(self, h: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        if needs_gradient(h):  # in training the next step needs the same memory again
            return super().enlarge(h)
        with mmap_large_blocks():
            return super().enlarge(h)


FASTER: dict[type[nn.Module], type[nn.Module]] = {
    Attention: ChunkedAttention,
    Upsample: FusedUpsample,
    nn.Conv2d: WinogradConv2d,
    UNet: ChannelsLastUNet,
    Encoder: ChannelsLastEncoder,
    Decoder: LeanDecoder,
}

# What decides between them on this machine, and between torch's two libraries for matrix products.
TRIALS = (matmul.TRIAL, chunked_attention.TRIAL, *winograd.TRIALS)


def accelerate(network: Network) -> Network:
    """Replace each plain module in a network, itself included, by its faster version; returns the same network."""
    for part in network.modules():
        part.__class__ = FASTER.get(type(part), type(part))
    return network
