"""New images: `ldm generate PROMPT`, or `ldm generate --prompts FILE.txt --out DIR` for each line of a file.

Images are generated in groups of four, whatever their number. Generated alone, an image would differ from the same
seed in a group by up to 1/255, because sums are split differently, so each record says which group its image belongs
to. In a list the groups depend on the list alone: the images are the same, to the byte, whether one process generates
them in one go, several share them, or an interrupted run is started again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from ldm.checkpoints.finding import find
from ldm.checkpoints.loaded import LoadedModel, with_few_steps
from ldm.checkpoints.lora_fit import read_lora
from ldm.checkpoints.opening import is_own_folder
from ldm.cli.arguments import loading
from ldm.cli.controls import load_controls, wanted_controls
from ldm.cli.generation import (
    generate_group,
    load_model,
    read_inputs,
    surroundings,
    wanted_embeddings,
    wanted_loras,
)
from ldm.cli.hashes import beside, files_of, hashed
from ldm.cli.output import save_new, save_output, tell
from ldm.cli.preview import make_preview
from ldm.cli.refiner import load_refiner, wanted_refiner
from ldm.config import Defaults
from ldm.diffusion.noise import pick_seed
from ldm.diffusion.samplers import find_spacing
from ldm.errors import LdmError, some
from ldm.files.read_write import LARGEST_TEXT, read_text
from ldm.hires import STRENGTHS, large_size
from ldm.images.metadata import Group, Record, read_record
from ldm.pipeline import LatentDiffusion
from ldm.text.unknown import unknown_words
from ldm.train.processes import process_group, rank, world_size
from ldm.vae.tiles import must_tile

Files = Callable[[], dict[str, Any]]  # as from `hashes.files_of`

GROUP_SIZE = 4  # larger groups use a processor better; smaller ones lose less to Ctrl-C and need less memory
LONGEST_PROMPT = 100_000  # characters; with a longer one a record would be too large to be read again


def generate_new(options: argparse.Namespace) -> None:
    """Generate the images of one prompt."""
    count = batch_size(options)
    seed = pick_seed(options.seed, count)
    if seed != options.seed:
        tell(f"seed {seed}")
    model, [first], inputs, files = prepare(options, [options.prompt], seed)
    preview = make_preview(options, model)
    done = 0
    try:
        for group in grouped([replace(first, seed=seed + i) for i in range(count)]):
            images = generate_group(model, group[0], inputs, options.trace, preview=preview)
            for record, image in zip(group, images, strict=True):
                save_output(image, options.out, str(record.seed), done, count, replace(record, **files()))
                done += 1
    except KeyboardInterrupt:
        if count == 1:
            raise
        raise KeyboardInterrupt(f"interrupted; {done} of {count} images are finished and kept") from None


def generate_list(options: argparse.Namespace) -> None:
    """Generate what is missing of a list. Under torchrun each process takes every n-th group, independently.

    An image is named after its line and its seed: 00003-17.png. Seeds count on through the list, from 0 by default: a
    random one could not be continued. Long prompts in chunks are generated one by one: how many share an evaluation of
    the U-Net would depend on the other prompts, which `--from` does not know.
    """
    lines, each = read_prompts(options.prompts), batch_size(options)
    first_seed = pick_seed(options.seed or 0, each * len(lines))
    folder = options.out or Path("outputs")

    def path(record: Record) -> Path:
        line, _ = lines[(record.seed - first_seed) // each]
        return folder / f"{line:05d}-{record.seed}.png"

    with process_group():
        model, described, inputs, files = prepare(options, [prompt for _, prompt in lines], first_seed)
        of_each = [record for record in described for _ in range(each)]
        records = [replace(record, seed=first_seed + i) for i, record in enumerate(of_each)]
        groups = grouped(records, 1 if described[0].long_prompt == "chunk" else GROUP_SIZE)[
            rank() :: world_size()
        ]
        missing = [
            [record for record in group if not exists(path(record), record, files)] for group in groups
        ]
        count = sum(map(len, groups))
        if kept := count - sum(map(len, missing)):
            tell(f"{kept} of {count} images exist already")
        for group, wanted in zip(groups, missing, strict=True):
            if wanted:
                group_prompts = [record.prompt for record in group]
                images = generate_group(model, group[0], inputs, prompts=group_prompts)
                for record, image in zip(group, images, strict=True):
                    name, whole = path(record).name, replace(record, **files())
                    if record in wanted and not save_new(image, folder, [name], whole):
                        exists(path(record), record, files)  # another process wrote it: the same, or an error


def batch_size(options: argparse.Namespace) -> int:
    batch: int = 1 if options.batch is None else options.batch
    if batch < 1:
        raise LdmError(f"a batch of {batch} images; expected at least 1")
    return batch


def prepare(
    options: argparse.Namespace, prompts: Sequence[str], seed: int
) -> tuple[LoadedModel, list[Record], dict[str, Any], Files]:
    """The model, the record of the first image of each prompt, what `read_inputs` gives for the first, and what the
    records still lack: the files, whose hashes are computed meanwhile."""
    model = load_model(
        options.model or "tiny",
        options.dtype,
        options.device,
        options.compile,
        options.int8,
        **loading(options),
    )
    files = beside(partial(files_of, options.model or "tiny", options.vae, options.unet, quiet=True))
    wanted = [wanted_loras(model, prompt, options.lora or ()) for prompt in prompts]
    # An error in any of them comes before the first image.
    paths = dict.fromkeys(lora.path for _, loras in wanted for lora in loras)
    read = {path: read_lora(Path(path), model) for path in paths}
    embeddings = wanted_embeddings(model, options.embedding or ())
    records: dict[Defaults, Record] = {}  # a few-step LoRA changes the defaults
    described = []
    for plain, loras in wanted:
        usual = with_few_steps(model.config.defaults, [(read[lora.path], lora.strength) for lora in loras])
        if usual not in records:
            records[usual] = replace(describe(options, model, seed, usual), embeddings=embeddings)
        described.append(replace(records[usual], prompt=plain, loras=loras))
    first = described[0]
    if rank() == 0:
        warn_of_unknown_words(model, *(plain for plain, _ in wanted), first.negative)
        own = model.config.defaults.size
        if options.size not in (None, (own, own)) and options.window is None:
            tell(f"this model was trained at {own}x{own}; at other sizes it may repeat itself")
        if options.hires:
            tell(
                f"this model was trained at {own}x{own}; if the second pass repeats it, lower --hires-strength"
            )
    inputs = read_inputs(first)
    if first.controls:
        inputs["control"] = load_controls(model, first)
    if first.refiner:
        inputs["refiner"] = load_refiner(model, first, bool(options.compile))
    strength = inputs.get("strength")
    return model, [replace(record, strength=strength) for record in described], inputs, files


def describe(options: argparse.Namespace, model: LatentDiffusion, seed: int, defaults: Defaults) -> Record:
    """The record of the first image without its prompt and files; the defaults take the place of missing options."""
    name = options.model or "tiny"
    sampler = options.sampler or defaults.sampler
    width, height = options.size or (defaults.size, defaults.size)
    mode = None if options.hires is None else options.hires_mode or "pixels"
    large = (
        (width, height)
        if options.hires is None
        else large_size((width, height), options.hires, model.vae.factor)
    )
    # What somebody else's checkpoint predicts may follow from its file name. Names change, so it is recorded.
    predicted = None if is_own_folder(find(name)) else model.config.noise.prediction
    return Record(
        prompt="",
        negative=options.negative or "",
        seed=seed,
        sampler=sampler,
        steps=model.default_steps(sampler, defaults) if options.steps is None else options.steps,
        guidance=defaults.guidance if options.guidance is None else options.guidance,
        width=width,
        height=height,
        group=Group(0, 1),
        init=options.init and hashed(options.init),
        strength=options.strength,
        mask=options.mask and hashed(options.mask),
        keep_pixels=bool(options.keep_pixels),
        traced=options.trace is not None,
        tile=must_tile(large, model.device) if options.tile is None else options.tile,
        compiled=bool(options.compile),
        weighting=not options.no_weighting,
        long_prompt=options.long_prompt or "truncate",
        config=options.config and hashed(options.config),
        weights=options.weights,
        prediction=options.prediction or predicted,
        clip_skip=1 if options.clip_skip is None else options.clip_skip,
        spacing=options.spacing and find_spacing(options.spacing),
        original_size=options.original_size,
        crop=options.crop,
        target_size=options.target_size,
        aesthetic_score=options.aesthetic_score,
        empty_negative=options.empty_negative,
        controls=wanted_controls(options),
        window=options.window,
        guidance_interval=options.guidance_interval,
        reuse=options.reuse,
        int8=bool(options.int8),
        hires=options.hires,
        hires_mode=mode,
        hires_strength=STRENGTHS[mode] if mode and options.hires_strength is None else options.hires_strength,
        refiner=wanted_refiner(options),
        model_files=(),
        **surroundings(model, name, options.vae, options.unet),
    )


def grouped(records: Sequence[Record], size: int = GROUP_SIZE) -> list[list[Record]]:
    """The records in groups of at most `size` with the same LoRAs, each with its place in its group."""
    parts = []
    for _, same in groupby(records, key=lambda record: record.loras):
        run = list(same)
        parts += [run[begin : begin + size] for begin in range(0, len(run), size)]
    return [[replace(r, group=Group(i, len(part))) for i, r in enumerate(part)] for part in parts]


def warn_of_unknown_words(model: LatentDiffusion, *texts: str) -> None:
    words = list(dict.fromkeys(word for text in texts for word in unknown_words(model.tokenizer, text)))
    if words:
        tell(f"this model has not learned the words: {some(words, longest=40)}; they have no reliable effect")


def read_prompts(path: Path) -> list[tuple[int, str]]:
    """The prompts of a text file, each with its line number from 1. Empty lines are counted and skipped."""
    lines = read_text(path, LARGEST_TEXT).removeprefix("\ufeff").split("\n")
    for number, line in enumerate(lines, start=1):
        if len(line) > LONGEST_PROMPT:
            raise LdmError(
                f"{path}: line {number} has {len(line):,} characters; expected at most {LONGEST_PROMPT:,}"
            )
    prompts = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not prompts:
        raise LdmError(f"{path} is empty; expected a text file with a prompt on each line")
    return prompts


def exists(path: Path, record: Record, files: Files) -> bool:
    """Whether this image was generated before. Files are written whole or not at all, so what exists is finished.

    Raises `LdmError` if there is a different image at its path, as after a change of the list or of an option.
    """
    if not path.exists():
        return False
    # Another machine may continue what this one began, so only what was asked for must be equal.
    ignored = ("group", "versions", "device", "threads", "model", "vae", "unet")
    then, now = read_record(path), replace(record, **files())
    if replace(then, **{name: getattr(now, name) for name in ignored}) != now:
        raise LdmError(
            f"{path} is a different image from the one asked for; give another folder, or remove it"
        )
    return True
