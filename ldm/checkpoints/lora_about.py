r"""What `ldm inspect` says about a LoRA: its base, kind, rank and alpha, and what its metadata tells."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ldm.checkpoints.checkpoint import PART_NAMES
from ldm.checkpoints.detect import NAMES
from ldm.checkpoints.flavours import recognise
from ldm.checkpoints.lora_file import LoraFile, names_of, read_changes, sort_factors
from ldm.checkpoints.lora_fit import BASES, best_bases, claimed_base, foreign_base, names_in
from ldm.checkpoints.lora_keys import refused_kind
from ldm.errors import LdmError, some

MOST_TAGS = 10


def about(file: LoraFile) -> Iterator[tuple[str, str]]:
    """The facts about an open file, each with a heading. What is wrong with it is one of them."""
    if refused := next(filter(None, map(refused_kind, file.tensors)), None):
        yield "kind", f"{refused}: recognised, and not supported"
        return
    try:
        bases, _ = best_bases(file)
        yield "made for", _base(file, bases)
        # Whichever base has most of its names: what the factors are, they tell for an unknown one too.
        nearest = max(bases or BASES, key=lambda base: len(sort_factors(file, names_in(base))[0]))
        claimed = claimed_base(file)
        yield from _modules(file, claimed if claimed in bases else nearest)
    except LdmError as error:
        yield "damaged", str(error)
    if found := recognise(names_of(file), "lora"):
        yield "sampling", found.told()
    yield from _metadata(file.metadata)


def _base(file: LoraFile, bases: list[str]) -> str:
    claimed = claimed_base(file)
    if not bases:
        return foreign_base(file) or "a model that is not known here"
    if claimed in bases:
        return NAMES[claimed or ""]
    said = f" (its metadata says {NAMES[claimed]})" if claimed else ""
    return " or ".join(NAMES[base] for base in bases) + said


def _modules(file: LoraFile, base: str) -> Iterator[tuple[str, str]]:
    modules, names, unused = sort_factors(file, names_in(base))
    if not modules:
        return
    found = {
        f"{module}.{leaf}": change
        for module, factors in modules.items()
        for leaf, change in read_changes(file, names[module], factors)
    }
    kinds = Counter(
        f"{change.kind}{' with DoRA' * (change.magnitude is not None)}" for change in found.values()
    )
    yield "kind", ", ".join(f"{kind} ({count})" if len(kinds) > 1 else kind for kind, count in kinds.items())
    parts = Counter(name.partition(".")[0] for name in modules)
    yield "modules", ", ".join(f"{count} of the {PART_NAMES[part]}" for part, count in parts.items())
    yield "rank", _range(change.rank for change in found.values())
    yield "alpha", _range(change.rank if change.alpha is None else change.alpha for change in found.values())
    if unused:
        yield "not known", f"{len(unused)}: {some(unused)}"


def _range(values: Iterable[float | None]) -> str:
    numbers = sorted({value for value in values if value is not None})
    if not numbers:
        return "none"
    return f"{numbers[0]:g}" if len(numbers) == 1 else f"{numbers[0]:g} to {numbers[-1]:g}"


def _metadata(metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What trainers write into the header: words that the LoRA answers to, and what it was trained on."""
    phrase = metadata.get("modelspec.trigger_phrase") or metadata.get("ss_trigger_words")
    if phrase:
        yield "trigger", phrase[:300]
    tags = _tags(metadata.get("ss_tag_frequency", ""))
    if tags:
        yield "tags", ", ".join(f"{tag} ({count})" for tag, count in tags.most_common(MOST_TAGS))
    for key, heading in (
        ("ss_sd_model_name", "trained on"),
        ("modelspec.title", "title"),
        ("modelspec.author", "author"),
    ):
        if metadata.get(key):
            yield heading, metadata[key][:300]


def _tags(text: str) -> Counter[str]:
    """How often each tag stands in the captions of the training images, the frequent ones being trigger words.

    kohya's programs write {"folder": {"tag": count}}. Anything else counts as nothing.
    """
    try:
        folders: Any = json.loads(text)
    except (ValueError, RecursionError):
        return Counter()
    tags: Counter[str] = Counter()
    for folder in folders.values() if isinstance(folders, dict) else ():
        for tag, count in folder.items() if isinstance(folder, dict) else ():
            if type(count) is int and 0 < count < 10**9:
                tags[tag.strip()[:60]] += count
    return tags
