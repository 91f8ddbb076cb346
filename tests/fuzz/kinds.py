r"""The kinds of files: an original of each, how it is mutated, how it is read, and what says that it was read right.

A case is right if the reader raised our own error, or if what it gave is what another reader finds in the same file:
Python's `json`, `zipfile` and `pickle` (its functions replaced by notes), or for safetensors ten plain lines. Where a
whole model is opened, its tensors must be those of the original, and its config what the changed JSON says.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.loras import make_loras, mutate_lora, read_loras, wrong_lora
from tests.fuzz.models import (
    make_config,
    make_diffusers,
    make_own,
    make_single,
    make_yaml,
    mutate_config,
    mutate_single,
    mutate_texts,
    read_model,
    read_own_config,
    wrong_config,
    wrong_diffusers,
    wrong_own,
    wrong_single,
    wrong_yaml,
)  # fmt: skip
from tests.fuzz.parts import (
    make_controls,
    make_tiny,
    make_words,
    mutate_network,
    mutate_words,
    read_controls,
    read_tiny,
    read_words,
    wrong_network,
    wrong_words,
)
from tests.fuzz.texts import (
    RECORD,
    make_tokenizer,
    mutate_png,
    read_png,
    read_tokenizer,
    wrong_record,
    wrong_tokenizer,
)
from tests.fuzz.weights import (
    Files,
    make_checkpoints,
    make_headers,
    make_old,
    mutate_checkpoint,
    mutate_header,
    mutate_old,
    nothing_may_be_read,
    read_checkpoint,
    read_old,
    read_safe,
    wrong_checkpoint,
    wrong_safe,
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    r"""One kind of files. `share`: how many of a thousand cases are of it."""

    name: str
    share: int
    make: Callable[[Path], Any]  # puts the originals into a folder; returns what the others want to know
    mutate: Callable[[Random, Any], Files]  # the files that are changed, by name
    read: Callable[[Path, Any], Any]
    wrong: Callable[[Path, Any, Any], str | None]  # what is wrong with what was read; None: it is right


KINDS = (
    Kind("checkpoints (.ckpt)", 310, make_checkpoints, mutate_checkpoint, read_checkpoint, wrong_checkpoint),
    Kind("checkpoints before torch 1.6", 50, make_old, mutate_old, read_old, nothing_may_be_read),
    Kind("safetensors", 240, make_headers, mutate_header, read_safe, wrong_safe),
    Kind("LoRAs", 30, make_loras, mutate_lora, read_loras, wrong_lora),
    Kind("learned words", 25, make_words, mutate_words, read_words, wrong_words),
    Kind("ControlNets", 20, make_controls, mutate_network, read_controls, wrong_network),
    Kind("tiny VAEs", 10, make_tiny, mutate_network, read_tiny, wrong_network),
    Kind("config.json", 110, make_config, mutate_config, read_own_config, wrong_config),
    Kind("tokenizers", 80, make_tokenizer, mutate_texts, read_tokenizer, wrong_tokenizer),
    Kind("records in PNG files", 80, lambda folder: json.dumps(RECORD), mutate_png, read_png, wrong_record),
    Kind("model folders of ours", 15, make_own, mutate_texts, read_model, wrong_own),
    Kind("model folders of diffusers", 15, make_diffusers, mutate_texts, read_model, wrong_diffusers),
    Kind("metadata of a single file", 10, make_single, mutate_single, read_model, wrong_single),
    Kind("YAML beside a single file", 5, make_yaml, mutate_texts, read_model, wrong_yaml),
)
assert sum(kind.share for kind in KINDS) == 1000
