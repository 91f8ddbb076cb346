r"""A model too small to take time, measured like the large one."""

from pathlib import Path

import pytest

from ldm.lab.bench.workload import Sizes, write_model
from tests.checkpoints.made import FAMILIES, tokenizer

SIZES = Sizes(FAMILIES["sd1"], side=16, steps=2, prompts=3, training=1, batch=2, batches=(1, 2))


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "model"
    write_model(path, SIZES.config, tokenizer(SIZES.config))
    return path
