"""A list of prompts: `ldm generate --prompts FILE.txt --out DIR`.

The pictures are numbered through the list and cut into groups that are painted together. Which picture is in which
group depends on the list alone: so the result is the same, to the byte, whether one process paints it in one go, or
several do, or one is interrupted and started again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.cli.arguments import loading
from ldm.cli.new import TOGETHER, describe
from ldm.cli.output import save_new, tell
from ldm.cli.painting import check_size, check_words, load_model, paint, read_given
from ldm.diffusion.noise import pick_seed
from ldm.errors import LdmError
from ldm.files.read_write import LARGEST_TEXT, read_bounded
from ldm.images.metadata import Group, Record, read_record
from ldm.train.processes import process_group, rank, world_size

if TYPE_CHECKING:
    from PIL.Image import Image

LONGEST_PROMPT = 100_000  # characters; what is much longer would make a record too large to be read again


@dataclass(frozen=True)
class Picture:
    """One picture of a list: where it goes, and what makes it."""

    path: Path
    record: Record


def paint_many(options: argparse.Namespace) -> None:
    """Paint what is not there yet. Under torchrun each process takes every n-th group, and waits for nobody."""
    lines = read_prompts(options.prompts)
    each = 1 if options.batch is None else options.batch
    if each < 1:
        raise LdmError(f"a batch of {each} pictures; expected at least 1")
    # A seed drawn at random could not be gone on with.
    options.seed = 0 if options.seed is None else options.seed
    options.prompt = lines[0][1]
    with process_group():
        model = load_model(
            options.model or "tiny", options.dtype, options.device, options.compile, **loading(options)
        )
        first = describe(options, model)
        if rank() == 0:
            check_words(model, *(prompt for _, prompt in lines), first.negative)
            check_size(model, options.size)
        given = read_given(first)
        first = replace(first, strength=given.get("strength"))
        groups = plan(first, lines, each, options.out or Path("outputs"))
        mine = groups[rank() :: world_size()]
        missing = [[picture for picture in group if not is_there(picture)] for group in mine]
        kept = sum(map(len, mine)) - sum(map(len, missing))
        if kept:
            tell(f"{kept} of {sum(map(len, mine))} pictures are there already")
        for group, wanted in zip(mine, missing, strict=True):
            if wanted:
                prompts = [picture.record.prompt for picture in group]
                images = paint(model, group[0].record, given, prompts=prompts)
                for picture, image in zip(group, images, strict=True):
                    if picture in wanted:
                        save_once(image, picture)


def read_prompts(path: Path) -> list[tuple[int, str]]:
    """The prompts of a text file with the number of the line, from 1. Empty lines count, and are skipped."""
    try:
        lines = read_bounded(path, LARGEST_TEXT).decode("utf-8-sig").split("\n")
    except LdmError as error:
        raise LdmError(f"{error}; give a text file with a prompt on each line") from error
    except UnicodeDecodeError as error:
        raise LdmError(f"cannot read {path}: {error}; give a text file in UTF-8") from error
    for number, line in enumerate(lines, start=1):
        if len(line) > LONGEST_PROMPT:
            raise LdmError(
                f"{path}: line {number} has {len(line):,} characters; expected at most {LONGEST_PROMPT:,}"
            )
    prompts = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not prompts:
        raise LdmError(f"{path} is empty; expected a text file with a prompt on each line")
    return prompts


def plan(first: Record, lines: Sequence[tuple[int, str]], each: int, folder: Path) -> list[list[Picture]]:
    """All pictures of a list, `each` of every prompt, in the groups in which they are painted.

    A picture is named after its line and its seed: 00003-17.png. Seeds count on from `first.seed` through the list.
    Long prompts in chunks are painted one by one: in a group, which pictures share a call of the U-Net would be up to
    the prompts of all, and --from, which knows only its own picture's, could not repeat the last bits.
    """
    together = 1 if first.long_prompt == "chunk" else TOGETHER
    seed = pick_seed(first.seed, each * len(lines))
    numbered = list(enumerate((line for line in lines for _ in range(each)), start=seed))
    groups = []
    for begin in range(0, len(numbered), together):
        part = numbered[begin : begin + together]
        groups.append(
            [
                Picture(
                    folder / f"{line:05d}-{seed}.png",
                    replace(first, prompt=prompt, seed=seed, group=Group(index, len(part))),
                )
                for index, (seed, (line, prompt)) in enumerate(part)
            ]
        )
    return groups


def save_once(image: Image, picture: Picture) -> None:
    """Write a picture, unless another process has written the same one meanwhile.

    Raises `LdmError` if there is another picture under its name.
    """
    while not save_new(image, picture.path.parent, [picture.path.name], picture.record):
        if is_there(picture):
            return


def is_there(picture: Picture) -> bool:
    """Whether a picture was painted before. Files are written whole or not at all: what is there is finished.

    Raises `LdmError` if another picture is there under its name, as after a change of the list or of an option.
    """
    if not picture.path.exists():
        return False
    then, now = read_record(picture.path), picture.record
    # Another machine may go on with what one has begun; what was asked for must be the same.
    same = replace(
        then,
        group=now.group,
        versions=now.versions,
        device=now.device,
        threads=now.threads,
        model=now.model,
        vae=now.vae,
    )
    if same != now:
        raise LdmError(
            f"{picture.path} is another picture than the one asked for; give another folder, or remove it"
        )
    return True
