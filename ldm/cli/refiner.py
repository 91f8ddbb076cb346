"""A refiner on the command line: from its options into a record, and from a record into `generate_refined`."""

from __future__ import annotations

import argparse

from ldm.checkpoints.loaded import LoadedModel
from ldm.cli.generation import load_model
from ldm.cli.hashes import hashed_files
from ldm.errors import LdmError
from ldm.images.metadata import Record, UsedRefiner
from ldm.pipeline import LatentDiffusion
from ldm.refiner import SWITCH_AT, check_refiner


def wanted_refiner(options: argparse.Namespace) -> UsedRefiner | None:
    """The refiner of the command line, hashed. Raises `LdmError` for a share of the way that leaves it nothing."""
    if options.refiner is None:
        return None
    switch_at = SWITCH_AT if options.switch_at is None else options.switch_at
    if not 0 < switch_at < 1:
        raise LdmError(f"a refiner that takes over at {switch_at}; expected more than 0 and less than 1")
    return UsedRefiner(options.refiner, hashed_files(options.refiner, "model"), switch_at)


def load_refiner(model: LatentDiffusion, record: Record, compiled: bool) -> LoadedModel | None:
    """The refiner of a record, with the dtype of the model and on its device. Raises `LdmError` if it does not fit."""
    if record.refiner is None:
        return None
    refiner = load_model(record.refiner.model, record.dtype, str(model.device), compiled, record.int8)
    check_refiner(model, refiner)
    return refiner
