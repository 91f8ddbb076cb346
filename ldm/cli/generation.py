"""What new images and replayed ones share: loading a model, describing it in a record, generating one group."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import PIL
import torch
from PIL.Image import Image

import ldm
from ldm.adapters.tags import split_strength, split_tags
from ldm.backend.choice import SMALL
from ldm.backend.int8 import use_int8
from ldm.backend.matmul import use_onednn_matmul
from ldm.backend.memory_format import rearrange_kernels
from ldm.checkpoints.loaded import LoadedModel, find_beside, find_lora
from ldm.checkpoints.lora_file import lora_file
from ldm.cli.hashes import cached_sha256
from ldm.cli.output import print_path, progress_bar, tell
from ldm.cli.preview import Wrap
from ldm.diffusion.micro_conditioning import MicroConditioning
from ldm.diffusion.noise import check_seed
from ldm.hires import generate_large
from ldm.image_to_image import pick_strength
from ldm.images.metadata import Record, UsedEmbedding, UsedLora, Versions
from ldm.images.reading import read_mask, read_picture
from ldm.pipeline import LatentDiffusion
from ldm.refiner import generate_refined

# To `generate`, as recorded.
PASSED_ON = (
    *("steps", "guidance", "sampler", "spacing", "tile", "weighting", "long_prompt", "clip_skip"),
    *("empty_negative", "window", "guidance_interval", "reuse"),
)


def load_model(
    name: str,
    dtype: str | None = None,
    device: str | None = None,
    compiled: bool | None = None,
    int8: bool | None = None,
    **loading: Any,
) -> LoadedModel:
    """Load a model as the command line asks for it; `loading` is as from `ldm.cli.arguments.loading`.

    With `compiled`, torch compiles the U-Net when it is first used; with `int8`, most of it computes in 8 bits.
    """
    use_onednn_matmul()
    model = ldm.load(name, dtype=dtype, device=device, **loading)
    if sum(weight.numel() for weight in model.unet.parameters()) <= SMALL:
        rearrange_kernels(model.unet)
    if compiled:
        model.unet.compile()
    if int8:
        use_int8(model.unet)
    return model


def surroundings(
    model: LatentDiffusion, name: str, vae: str | None = None, unet: str | None = None
) -> dict[str, Any]:
    """The part of a `Record` that was not chosen for the image: names, versions, and the machine."""
    return {
        "model": name,
        "vae": vae,
        "unet": unet,
        "versions": Versions(ldm.__version__, torch.__version__, platform.python_version(), PIL.__version__),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "threads": torch.get_num_threads(),
    }


def wanted_loras(model: LoadedModel, prompt: str, options: Sequence[str]) -> tuple[str, tuple[UsedLora, ...]]:
    """A prompt without its tags, and the LoRAs of `--lora` options and of the tags, found and hashed."""
    plain, tags = split_tags(prompt)
    asked = [(find_lora(name, model.path), strength) for name, strength in map(split_strength, options)]
    asked += [(find_beside(name, model.path), strength) for name, strength in tags]
    files = [(lora_file(path), strength) for path, strength in asked]
    return plain, tuple(UsedLora(from_here(path), cached_sha256(path), strength) for path, strength in files)


def from_here(path: Path) -> str:
    """A path as a record names it: `--from` trusts one under weights/, but none from the root."""
    here = Path.cwd()
    return str(path.relative_to(here) if here in path.parents else path)


def merge_loras(model: LoadedModel, loras: Sequence[UsedLora]) -> None:
    """Make these, and no others, the LoRAs that are merged into the model."""
    if [(str(one.lora.path), one.strength) for one in model.loras] != [(o.path, o.strength) for o in loras]:
        model.unload()
        for lora in loras:
            model.load_lora(lora.path, lora.strength)


def split_word(text: str) -> tuple[str, str | None]:
    """A file and its word as the command line takes them: "toy.pt=<toy>" -> ("toy.pt", "<toy>")."""
    name, equals, word = text.partition("=")
    return (name, word) if equals and name and word and not os.path.exists(text) else (text, None)


def wanted_embeddings(model: LoadedModel, options: Sequence[str]) -> tuple[UsedEmbedding, ...]:
    """The learned words of `--embedding` options, found, hashed, and learned by the model."""
    here, used = Path.cwd(), []  # see `wanted_loras`
    for name, word in map(split_word, options):
        path = find_lora(name, model.path, "embedding")
        place = path.relative_to(here) if here in path.parents else path
        used.append(UsedEmbedding(str(place), cached_sha256(path), model.load_embedding(place, word).words))
    return tuple(used)


def learn_embeddings(model: LoadedModel, embeddings: Sequence[UsedEmbedding]) -> None:
    """Make these, and no others, the words that the model has learned."""
    if [(str(one.path), one.words) for one in model.embeddings] != [(e.path, e.words) for e in embeddings]:
        model.unload_embedding()
        for embedding in embeddings:
            model.load_embedding(embedding.path, embedding.words)


def read_inputs(record: Record) -> dict[str, Any]:
    """The arguments of `generate` that come from the record's init image; empty without one."""
    if record.init is None:
        return {}

    inputs: dict[str, Any] = {"keep_pixels": record.keep_pixels}
    for name, file, read in (("init", record.init, read_picture), ("mask", record.mask, read_mask)):
        if file is not None:
            inputs[name] = read(file.path)
            tell_of_size(inputs[name], file.path, record)
    # The default strength is recorded as a number, so that a later default changes no replay.
    inputs["strength"] = pick_strength(
        inputs["init"], record.strength, inputs.get("mask"), record.keep_pixels
    )
    return inputs


def tell_of_size(image: Image, path: str, record: Record) -> None:
    """Say that an image is of another size than what is generated."""
    width, height = image.size
    if (width, height) != (record.width, record.height):
        size = f"{record.width}x{record.height}"
        tell(f"{path} is {width}x{height} pixels: scaled and cropped to the central {size}")


def micro_of(record: Record) -> MicroConditioning | None:
    """What a record says about sizes and crop, if it says anything."""
    names = ("original_size", "crop", "target_size", "aesthetic_score")
    said = {name: getattr(record, name) for name in names if getattr(record, name) is not None}
    return MicroConditioning(**said) if said else None


def generate_group(
    model: LoadedModel,
    record: Record,
    inputs: dict[str, Any],
    trace: Path | None = None,
    prompts: Sequence[str] | None = None,
    preview: Wrap = lambda record, progress: progress,
) -> list[Image]:
    """All images of the record's group. `inputs` is as from `read_inputs`, with ControlNets and the refiner, if there
    are any; `trace` a folder for a report.

    `prompts` are the group's prompts where they differ from the record's.
    """
    seed = record.seed - record.group.index
    check_seed(seed)  # `generate` takes -1 for a random seed
    merge_loras(model, record.loras)
    learn_embeddings(model, record.embeddings)
    with ExitStack() as stack:
        progress: Any = preview(record, progress_bar)
        if trace is not None:
            from ldm.lab.trace import recorder, report

            recording = stack.enter_context(recorder.record(model, record.prompt, record.weighting))
            progress = recording.watch(progress)
        # Tags were taken out of the prompt already; in a record from before there were any, they are words.
        generate: Any = partial(LatentDiffusion.generate, model)
        if record.refiner is not None:
            generate = partial(generate_refined, model, inputs["refiner"], switch_at=record.refiner.switch_at)
        elif record.hires is not None:
            how: dict[str, Any] = {
                "scale": record.hires,
                "mode": record.hires_mode,
                "strength": record.hires_strength,
            }
            generate = partial(generate_large, model, generate=generate, **how)
        images: list[Image] = generate(
            prompts or record.prompt,
            record.negative,
            seed=seed,
            size=(record.width, record.height),
            batch=None if prompts else record.group.count,
            progress=progress,
            micro=micro_of(record),
            **{name: getattr(record, name) for name in PASSED_ON},
            **{name: value for name, value in inputs.items() if name != "refiner"},
        )
    if trace is not None:
        for path in report.write_report(recording, images, trace):
            print_path(path)
    return images
