"""A new picture, or many: `ldm generate PROMPT`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

from ldm.checkpoints.opening import is_own_folder
from ldm.cli.arguments import loading
from ldm.cli.output import save_output, tell
from ldm.cli.painting import (
    check_size,
    check_words,
    given_file,
    load_model,
    paint,
    read_given,
    surroundings,
)
from ldm.diffusion.noise import pick_seed
from ldm.errors import LdmError
from ldm.images.metadata import Group, Record
from ldm.loading import find
from ldm.pipeline import LatentDiffusion

# Pictures painted at once: more fill a processor better, fewer lose less to Ctrl-C and need less memory.
TOGETHER = 4


def paint_new(options: argparse.Namespace) -> None:
    batch = 1 if options.batch is None else options.batch
    if batch < 1:
        raise LdmError(f"a batch of {batch} pictures; expected at least 1")
    given, options.seed = options.seed, pick_seed(options.seed, batch)
    if options.seed != given:
        tell(f"seed {options.seed}")
    model = load_model(
        options.model or "tiny", options.dtype, options.device, options.compile, **loading(options)
    )
    check_words(model, options.prompt, options.negative or "")
    check_size(model, options.size)
    first = describe(options, model)
    given = read_given(first)
    first = replace(first, strength=given.get("strength"))
    done = 0
    try:
        for record in groups(first, batch):
            for image in paint(model, record, given, options.trace):
                seed, index = first.seed + done, done % TOGETHER
                one = replace(record, seed=seed, group=replace(record.group, index=index))
                save_output(image, options.out, str(seed), done, batch, one)
                done += 1
    except KeyboardInterrupt:
        if batch == 1:
            raise
        raise KeyboardInterrupt(
            f"interrupted; {done} of {batch} pictures were finished, and are kept"
        ) from None


def describe(options: argparse.Namespace, model: LatentDiffusion) -> Record:
    """The first picture, with the model's own defaults for what was not said."""
    defaults, name = model.config.defaults, options.model or "tiny"
    sampler = options.sampler or defaults.sampler
    width, height = options.size or (defaults.size, defaults.size)
    # The name of somebody else's file may have told what it predicts. Names change, so the record says it outright.
    predicted = None if is_own_folder(find(name)) else model.config.noise.prediction
    return Record(
        prompt=options.prompt,
        negative=options.negative or "",
        seed=options.seed,
        sampler=sampler,
        steps=model.default_steps(sampler) if options.steps is None else options.steps,
        guidance=defaults.guidance if options.guidance is None else options.guidance,
        width=width,
        height=height,
        group=Group(0, 1),
        init=None if options.init is None else given_file(options.init),
        strength=options.strength,
        mask=None if options.mask is None else given_file(options.mask),
        keep_pixels=bool(options.keep_pixels),
        traced=options.trace is not None,
        tile=bool(options.tile),
        compiled=bool(options.compile),
        weighting=not options.no_weighting,
        long_prompt=options.long_prompt or "truncate",
        config=None if options.config is None else given_file(options.config),
        weights=options.weights,
        prediction=options.prediction or predicted,
        **surroundings(model, name, options.vae),
    )


def groups(first: Record, batch: int) -> Iterator[Record]:
    """The first picture of each group, `TOGETHER` pictures in a group, fewer in the last."""
    for start in range(0, batch, TOGETHER):
        count = min(TOGETHER, batch - start)
        yield replace(first, seed=first.seed + start, group=Group(0, count))
