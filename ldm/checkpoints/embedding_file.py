r"""The file of a learned word (`ldm.adapters.textual_inversion`): one idea, and a form for every program.

    webui's .pt            {"string_to_param": {"*": [n, d]}, "name": ..., "step": ...}
    diffusers              {"<cat-toy>": [d] or [n, d]}: the name is the word
    kohya's programs       {"emb_params": [n, d]}
    Stable Diffusion XL    {"clip_l": [n, 768], "clip_g": [n, 1280]}
    the same, diffusers    {"text_encoders_0": [n, 768], "text_encoders_1": [n, 1280]}

In a prompt the word is the file's name, as in AUTOMATIC1111's web interface, or `embedding:` with that name, as in
ComfyUI, or the word in diffusers' file; or whatever the user says. The widths tell the base.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ldm.adapters.textual_inversion import Embedding
from ldm.checkpoints.formats import read_file
from ldm.checkpoints.validate import check_finite
from ldm.errors import LdmError, shown, some
from ldm.files.paths import expanded

PAIRS = {("clip_l", "clip_g"): "ComfyUI's and kohya's", ("text_encoders_0", "text_encoders_1"): "diffusers'"}
UNNAMED = {"*": "AUTOMATIC1111's", "emb_params": "kohya's"}  # names that are no words
MADE_FOR = {
    (768,): "Stable Diffusion 1",
    (1024,): "Stable Diffusion 2",
    (768, 1280): "Stable Diffusion XL",
    (1280,): "Stable Diffusion XL's second encoder",
}
IMAGES = (".png", ".webp", ".jpg", ".jpeg")
BRACKETS = set("()[]")


@dataclass(frozen=True)
class EmbeddingFile:
    """An open file, mapped and not yet read."""

    path: Path
    form: str  # whose
    token: str | None  # the word in it, in diffusers' form
    rows: tuple[Tensor, ...]  # [n, d] for each text encoder

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(rows.shape[1] for rows in self.rows)

    @property
    def base(self) -> str:
        """What it was made for, in words."""
        return MADE_FOR.get(self.widths, f"a text encoder of width {' and '.join(map(str, self.widths))}")


def open_embedding(path: Path) -> EmbeddingFile:
    """Open a file in any of the five forms. Raises `LdmError` for what is none, and for one without rows."""
    path = expanded(path)
    if path.suffix.lower() in IMAGES:
        raise LdmError(
            f"{path} is an image; a word inside one is not read: take its .safetensors or .pt file"
        )
    tensors = dict(read_file(path))
    pair = next((pair for pair in PAIRS if tensors.keys() == set(pair)), None)
    if pair is None and len(tensors) != 1:
        raise LdmError(
            f"{path} has {len(tensors)} tensors ({some([*map(shown, tensors)], 3)}); expected the file of one word, "
            "with one, or for Stable Diffusion XL clip_l and clip_g"
        )
    name = next(iter(tensors))
    rows = tuple(tensors[key] for key in pair or (name,))
    for key, tensor in zip(pair or (name,), rows):
        if tensor.ndim not in (1, 2) or not tensor.is_floating_point() or not tensor.numel():
            raise LdmError(
                f"{path}: {shown(key)} has the shape {list(tensor.shape)} in {str(tensor.dtype)[6:]}; expected the "
                "vectors of a word, [n, width] in floating point"
            )
    rows = tuple(tensor.reshape(-1, tensor.shape[-1]) for tensor in rows)
    if len({len(tensor) for tensor in rows}) > 1:
        raise LdmError(
            f"{path} has {len(rows[0])} and {len(rows[1])} vectors; expected as many for each encoder"
        )
    token = name if pair is None and name not in UNNAMED else None
    return EmbeddingFile(path, PAIRS[pair] if pair else UNNAMED.get(name, "diffusers'"), token, rows)


def read_embedding(
    path: Path, widths: Sequence[int], room: int, words: Sequence[str] | None = None
) -> Embedding:
    """A learned word for a model whose text encoders have these widths, and whose prompts have `room` for tokens.

    Raises `LdmError` for a file that is none, was made for another base, has NaN in it or more vectors than a prompt
    can hold, and for a word that cannot be written in a prompt.
    """
    file = open_embedding(path)
    rows = file.rows
    if len(widths) == 1 and len(rows) == 2 and widths[0] == 1280:  # a refiner has the second encoder alone
        rows = rows[1:]
    if tuple(tensor.shape[1] for tensor in rows) != tuple(widths):
        expected = MADE_FOR.get(tuple(widths), f"this model, of width {' and '.join(map(str, widths))}")
        raise LdmError(f"{file.path} is a word's embedding for {file.base}; expected one for {expected}")
    if len(rows[0]) > room:
        raise LdmError(
            f"{file.path} has {len(rows[0])} vectors, and a prompt of this model has room for {room}; take a smaller "
            "one"
        )
    check_finite({f"of width {tensor.shape[1]}": tensor for tensor in rows}, file.path)
    return Embedding(file.path, names_of(file, words), rows)


def names_of(file: EmbeddingFile, words: Sequence[str] | None = None) -> tuple[str, ...]:
    """What the word is called in prompts: as the user says, or the file's name and the token in it.

    Brackets in a prompt are weights, so no name has any. Raises `LdmError` if none is left.
    """
    given = [file.path.stem, file.token or ""] if words is None else [*words] or [""]
    names = dict.fromkeys(name.strip() for name in given)
    usable = tuple(name for name in names if name and not BRACKETS & set(name))
    if not usable:
        raise LdmError(
            f"{file.path} as the word {shown(given[0])}; expected some text without brackets, which are weights: give "
            "another word (--embedding FILE=WORD)"
        )
    return usable


def about_embedding(path: Path) -> Iterator[tuple[str, str]]:
    """What `ldm inspect` says about a file, each fact with a heading; what is wrong with it, too."""
    try:
        file = open_embedding(path)
        yield "made for", file.base
        yield "written as", f"{file.form} programs do"
        yield "vectors", f"{len(file.rows[0])} of width {' and '.join(map(str, file.widths))}"
        yield "word", " or ".join(names_of(file))
        for tensor in file.rows:
            check_finite({f"of width {tensor.shape[1]}": tensor}, path)
    except LdmError as error:
        yield "damaged", str(error)
