r"""A network as an ONNX graph without weights: a description that a browser can run.

ONNX (Open Neural Network Exchange) describes a network as a list of plain operations: MatMul, Conv, Softmax. torch
writes such a list by running the network once and recording what it does; onnxruntime runs it anywhere, in a web page
too. Three networks are needed to generate an image, and a fourth to begin with one; each gets a graph:

    text      ids [b, n]                                    -> context [b, n, d]
    unet      x [b, z, h, w], t [b], context [b, n, d]      -> out [b, z, h, w], attention [b, n, h, w]
    decoder   latent [1, z, h, w]                           -> pixels [1, 3, f h, f w]
    encoder   pixels [1, 3, f h, f w]                       -> latent [1, z, h, w]

The batch of the first two may have any size (with guidance, 2); all other sizes are those of the model's config and of
its default image size.

A graph usually carries its weights. These do not: the weights stay inputs here, and `weights.py` then points each of
them to its place in a .safetensors file. So a graph is a hundred kilobytes, and no weight is stored twice.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.backend.accelerate import FASTER
from ldm.errors import LdmError
from ldm.nn.attention import Attention
from ldm.pipeline import LatentDiffusion
from ldm.unet.transformer import BasicTransformerBlock, SpatialTransformer
from ldm.unet.watch import chosen_heads

OPSET = 20  # the version of ONNX's list of operations: the first that has GELU


class TextGraph(nn.Module):
    """Token ids to context."""

    def __init__(self, model: LatentDiffusion):
        super().__init__()
        self.text = model.text

    def forward(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        return self.text(ids)


class UNetGraph(nn.Module):
    """The U-Net, and where it read each token: its cross-attention weights as one map per token.

    The maps are those of DAAM (Tang et al. 2023, section 2.2), as in `ldm/lab/trace/recorder.py`: the weights of the
    heads that `config.map_heads` names, or of all, are enlarged to the latent's size and averaged. At each position
    they sum to one.
    """

    def __init__(self, model: LatentDiffusion):
        super().__init__()
        self.unet = model.unet
        self.heads = chosen_heads(model.config, model.unet)

    def forward(
        self, x: Float[Tensor, "b z h w"], t: Float[Tensor, "b"], context: Float[Tensor, "b n d"]
    ) -> tuple[Float[Tensor, "b z h w"], Float[Tensor, "b n h w"]]:
        maps: list[Tensor] = []
        level = (1, 1)

        def measure(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            nonlocal level
            level = (int(inputs[0].shape[-2]), int(inputs[0].shape[-1]))

        def keep(
            chosen: list[int], _: nn.Module, inputs: object, weights: Float[Tensor, "b heads m n"]
        ) -> None:
            share = weights[:, chosen].sum(dim=1) / sum(map(len, self.heads.values()))
            small = rearrange(share, "b (h w) n -> b n h w", h=level[0])
            maps.append(F.interpolate(small, size=x.shape[-2:], mode="bilinear"))

        with ExitStack() as undo:
            for name, part in self.unet.named_modules():
                if isinstance(part, SpatialTransformer):
                    undo.callback(part.register_forward_pre_hook(measure).remove)
                if isinstance(part, BasicTransformerBlock) and name in self.heads:
                    probe = part.cross_attn.weights_probe
                    undo.callback(probe.register_forward_hook(partial(keep, self.heads[name])).remove)
            out = self.unet(x, t, context)
        if not maps:
            raise LdmError("this U-Net has no cross-attention: it would paint the same for every prompt")
        return out, torch.stack(maps).sum(dim=0)


class DecoderGraph(nn.Module):
    """A scaled latent to pixels in [-1, 1]."""

    def __init__(self, model: LatentDiffusion):
        super().__init__()
        self.vae = model.vae

    def forward(self, latent: Float[Tensor, "b z h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        return self.vae.decode(latent)


class EncoderGraph(nn.Module):
    """Pixels in [-1, 1] to the mean of their scaled latent."""

    def __init__(self, model: LatentDiffusion):
        super().__init__()
        self.vae = model.vae

    def forward(self, pixels: Float[Tensor, "b 3 h2 w2"]) -> Float[Tensor, "b z h w"]:
        return self.vae.encode(pixels)[0]


def make_graphs(model: LatentDiffusion) -> dict[str, Any]:
    """The graphs (`onnx.ModelProto`) of a model in float32; its weights, "unet.conv_in.weight", are further inputs.

    Takes about half a minute. Raises `LdmError` if the packages that write ONNX are not installed.
    """
    config = model.config
    side = config.defaults.size // model.vae.factor
    ids = model.tokenizer(["", ""]).to(model.device)
    x = torch.zeros(2, config.unet.in_channels, side, side, device=model.device)
    t = torch.zeros(2, device=model.device)
    context = torch.zeros(2, config.text.context_length, config.unet.context_width, device=model.device)
    latent = torch.zeros(1, config.vae.latent_channels, side, side, device=model.device)
    pixels = torch.zeros(1, 3, config.defaults.size, config.defaults.size, device=model.device)
    with as_written(model):
        return {
            "text": make_graph(TextGraph(model), {"ids": ids}, ["context"]),
            "unet": make_graph(UNetGraph(model), {"x": x, "t": t, "context": context}, ["out", "attention"]),
            "decoder": make_graph(DecoderGraph(model), {"latent": latent}, ["pixels"]),
            "encoder": make_graph(EncoderGraph(model), {"pixels": pixels}, ["latent"]),
        }


@contextmanager
def as_written(model: LatentDiffusion) -> Iterator[None]:
    """The model with plain modules and attention by hand, whose weights can be seen; afterwards as it was."""
    plain = {faster: kind for kind, faster in FASTER.items()}
    kinds = {part: part.__class__ for part in model.modules()}
    layers = {part: part.by_hand for part in kinds if isinstance(part, Attention)}
    for part, kind in kinds.items():
        part.__class__ = plain.get(kind, kind)
    for layer in layers:
        layer.by_hand = True
    try:
        yield
    finally:
        for part, kind in kinds.items():
            part.__class__ = kind
        for layer, before in layers.items():
            layer.by_hand = before


def make_graph(network: nn.Module, inputs: dict[str, Tensor], outputs: list[str]) -> Any:
    """One network's graph; a first axis of more than one stays free."""
    try:
        from onnxscript import optimizer
    except ImportError as error:
        raise LdmError(
            f"{error.name} is not installed; it comes with pip install -e '.[playground]'"
        ) from error
    batch = torch.export.Dim("batch", min=1, max=64)
    free = tuple({0: batch} if len(value) > 1 else None for value in inputs.values())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own notes on deprecated parts of torch
        program: Any = torch.onnx.export(
            network.eval(),
            tuple(inputs.values()),
            dynamo=True,
            verbose=False,
            optimize=False,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=free,
            opset_version=OPSET,
        )
        # A weight that is a constant would be folded into others: a weight that is an input stays what it is.
        graph = program.model.graph
        for name in [name for name in graph.initializers if name in network.state_dict()]:
            weight = graph.initializers.pop(name)
            weight.const_value = None
            graph.inputs.append(weight)
        optimizer.optimize(program.model)
    return program.model_proto
