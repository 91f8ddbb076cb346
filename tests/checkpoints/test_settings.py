r"""Every setting that export writes is read back: each value is changed, one at a time, and loading notices."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ldm.checkpoints.check_settings import FOR_OTHERS
from ldm.checkpoints.checkpoint import Checkpoint
from ldm.checkpoints.infer_config import configure
from ldm.checkpoints.opening import CONFIG, TOKENIZER, open_checkpoint
from ldm.checkpoints.tokenizer_io import with_tokenizer
from ldm.checkpoints.write import convert, export
from ldm.errors import LdmError
from ldm.notes import collect_notes
from tests.checkpoints.made import FAMILIES, random_tensors, save, single_file

BASE = FAMILIES["sd2-v"]
MODEL = replace(BASE, noise=replace(BASE.noise, zero_snr=True))

# Another word that the libraries know, for every setting that is one.
WORDS = {
    "StableDiffusionPipeline": "StableDiffusion3Pipeline",
    "UNet2DConditionModel": "UNet3DConditionModel",
    "AutoencoderKL": "AutoencoderTiny",
    "CLIPTextModel": "T5EncoderModel",
    "clip_text_model": "bert",
    "CLIPTokenizer": "T5Tokenizer",
    "DDIMScheduler": "FlowMatchEulerDiscreteScheduler",
    "v_prediction": "epsilon",
    "scaled_linear": "linear",
    "trailing": "leading",
    "gelu": "quick_gelu",
    "zero": "eos",
    "encoded": "zero",
    "openai": "hf",
    "penultimate": "last",
    "v": "eps",
    "ddim": "euler",
    "sd2-v": "mine",
    "CrossAttnDownBlock2D": "DownBlock2D",
    "DownBlock2D": "CrossAttnDownBlock2D",
    "CrossAttnUpBlock2D": "UpBlock2D",
    "UpBlock2D": "CrossAttnUpBlock2D",
    "DownEncoderBlock2D": "AttnDownEncoderBlock2D",
    "UpDecoderBlock2D": "AttnUpDecoderBlock2D",
    "<|startoftext|>": "<s>",
    "<|endoftext|>": "</s>",
    "!": "<|endoftext|>",
    "pt": "tf",
}
# What is written for other programs alone: `FOR_OTHERS`, and in the tokenizer's options that texts become small
# letters, which they do here in any case.
IN_TOKENIZER = {"do_lower_case"}
LIBRARIES = {"diffusers": "diffusers_modules", "transformers": "diffusers_modules"}


def another(value):
    r"""Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value + 0.5
    if isinstance(value, str):
        return WORDS[value]
    if isinstance(value, list):  # a class stands after its library
        i = 1 if value[0] in LIBRARIES else 0
        return [*value[:i], another(value[i]), *value[i + 1 :]]
    raise TypeError(value)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    place = tmp_path_factory.mktemp("exported")
    path = save(place / "768-v.safetensors", BASE, single_file(BASE, random_tensors(BASE)))
    export(path, place / "folder", "diffusers", config=MODEL)
    export(path, place / "one.safetensors", "compvis", config=MODEL)
    convert(path, place / "ours", config=MODEL)
    return place


def seen(checkpoint: Path | Checkpoint, caplog) -> object:
    r"""Whatever comes of loading: the model's config and its words, or the error; and what was said meanwhile.

    Of loading, that is, as far as tensors are not concerned.
    """
    caplog.clear()
    with caplog.at_level(logging.INFO), collect_notes() as notes:
        try:
            checkpoint = open_checkpoint(checkpoint) if isinstance(checkpoint, Path) else checkpoint
            config, words = with_tokenizer(checkpoint, configure(checkpoint))
            found = (config, words.merges, words.vocab, words.context_length, words.pad, words.clean)
        except LdmError as error:
            found = str(error)
    return found, notes, [record.getMessage() for record in caplog.records]


def settings_written(folder) -> list[tuple[str, str]]:
    return [
        (str(file.relative_to(folder)), key)
        for file in sorted(folder.rglob("*.json"))
        if file.name != "vocab.json"
        for key in json.loads(file.read_text())
    ]


def for_others(file: str, key: str) -> bool:
    part = {"model_index.json": ""}.get(file, file.partition("/")[0])
    return key in (IN_TOKENIZER if part == "tokenizer" else FOR_OTHERS[part])


def test_every_setting_of_an_exported_folder_is_read_back_or_is_on_the_list_for_others(
    exported, tmp_path, caplog
):
    folder = shutil.copytree(exported / "folder", tmp_path / "model")
    before = seen(folder, caplog)
    assert before[0][0] == MODEL
    names = settings_written(folder)
    assert len(names) > 60
    for file, key in names:
        text = (folder / file).read_text()
        table = json.loads(text)
        value = table[key]
        if value != [None, None]:  # a part that is left out
            (folder / file).write_text(json.dumps(table | {key: another(value)}))
            assert (seen(folder, caplog) != before) != for_others(file, key), (file, key)
            (folder / file).write_text(text)


def leaves(table, way=()):
    r"""The ways to every value in tables and lists inside one another."""
    if isinstance(table, dict | list):
        inside = table.items() if isinstance(table, dict) else enumerate(table)
        for key, value in inside:
            yield from leaves(value, (*way, key))
    elif table is not None:
        yield way


def changed(table, way):
    table = json.loads(json.dumps(table))
    inner = table
    for step in way[:-1]:
        inner = inner[step]
    inner[way[-1]] = another(inner[way[-1]])
    return table


def test_every_setting_of_our_own_folder_is_read_back(exported, tmp_path, caplog):
    folder = shutil.copytree(exported / "ours", tmp_path / "model")
    before = seen(folder, caplog)
    table = json.loads((folder / "config.json").read_text())
    ways = list(leaves(table))
    assert len(ways) > 35
    for way in ways:
        (folder / "config.json").write_text(json.dumps(changed(table, way)))
        assert seen(folder, caplog) != before, way
    (folder / "config.json").write_text(json.dumps(table))
    for file, key in settings_written(folder / "tokenizer"):
        text = (folder / "tokenizer" / file).read_text()
        own = json.loads(text)
        (folder / "tokenizer" / file).write_text(json.dumps(own | {key: another(own[key])}))
        assert (seen(folder, caplog) != before) != (key in IN_TOKENIZER), (file, key)
        (folder / "tokenizer" / file).write_text(text)


def test_every_setting_of_one_exported_file_is_read_back(exported, caplog):
    checkpoint = open_checkpoint(exported / "one.safetensors")
    metadata = checkpoint.metadata
    assert metadata.keys() == {"format", CONFIG, TOKENIZER}  # "format" is for the other libraries alone
    before = seen(checkpoint, caplog)
    for name in (CONFIG, TOKENIZER):
        table = json.loads(metadata[name])
        for way in leaves({key: value for key, value in table.items() if key != "merges"}):
            other = {**metadata, name: json.dumps(changed(table, way))}
            assert seen(replace(checkpoint, metadata=other), caplog) != before, (name, way)
    words = json.loads(metadata[TOKENIZER])
    words["merges"] = words["merges"][:-1]
    other = {**metadata, TOKENIZER: json.dumps(words)}
    assert seen(replace(checkpoint, metadata=other), caplog) != before
