r"""A model from a file: the four steps, LoRAs that can be merged into its weights and taken out again, learned words.

A merged weight replaces the model's own, which is kept. So taking a LoRA out restores every bit, which subtracting the
same product again would not: $(W + \Delta) - \Delta$ is rounded twice. What is kept of a weight that is mapped from its
file is the mapping, and takes no memory.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ldm.adapters.merge import Change, merged
from ldm.adapters.tags import split_prompts
from ldm.adapters.textual_inversion import Embedding, with_rows
from ldm.arguments import checked
from ldm.checkpoints.embedding_file import read_embedding
from ldm.checkpoints.lora_fit import Lora, read_lora
from ldm.config import Config, Defaults
from ldm.errors import LdmError, shown
from ldm.files.paths import expanded
from ldm.notes import log
from ldm.pipeline import LatentDiffusion
from ldm.prompts import Prompt
from ldm.text.prompt import chunk_size
from ldm.text.tokenizer import Tokenizer

SUFFIXES = (".safetensors", ".pt", ".ckpt", ".bin")


@dataclass(frozen=True)
class MergedLora:
    """A LoRA in a model, with its strength in the U-Net and in the text encoder."""

    lora: Lora
    strength: float
    text_strength: float

    def of(self, parameter: str) -> float:
        return self.text_strength if parameter.startswith("text") else self.strength


def with_few_steps(usual: Defaults, loras: Sequence[tuple[Lora, float]]) -> Defaults:
    """A model's defaults with these LoRAs, each with its strength: the last one that distils the model decides."""
    for lora, strength in reversed(loras):
        if lora.few_steps is not None and strength > 0:
            return lora.few_steps.settings(usual)
    return usual


class LoadedModel(LatentDiffusion):
    """What `ldm.load` returns."""

    def __init__(self, config: Config, tokenizer: Tokenizer):
        super().__init__(config, tokenizer)
        self.path: Path | None = None  # of its file or folder
        self.loras: tuple[MergedLora, ...] = ()
        self.embeddings: tuple[Embedding, ...] = ()
        # The model's own weights where something is merged. `model.to(device)` leaves them where they are, which costs
        # a GPU no memory; they follow when they are needed.
        self._own: dict[str, Tensor] = {}

    @property
    def defaults(self) -> Defaults:
        """The settings that the caller does not give: the model's own, or those of a few-step LoRA in it."""
        return with_few_steps(self.config.defaults, [(one.lora, one.strength) for one in self.loras])

    @checked
    def load_lora(self, path: str | Path, strength: float = 1.0, text_strength: float | None = None) -> Lora:
        """Merge a LoRA into the weights, on top of those that are merged already.

        `path` is a file, a folder of diffusers or PEFT, or the name of a file beside the model (`find_lora`).
        `strength` multiplies the change: 0 is none, 1 is as it was trained, negative subtracts it; `text_strength` is
        that of the text encoder if it differs. Returns the LoRA, with the names of the tensors that were not used.
        A LoRA for few steps (`ldm/checkpoints/flavours.py`) changes the defaults of `generate`, and a line says how.

        Raises `LdmError` for a file that is no LoRA, is damaged, or was made for another base; the model is then what
        it was before.
        """
        own = strength if text_strength is None else text_strength
        for value in (strength, own):
            if not abs(value) < float("inf"):
                raise LdmError(f"a LoRA's strength of {value}; expected a number such as 0.8")
        lora = read_lora(find_lora(path, self.path), self)
        self._merge((*self.loras, MergedLora(lora, float(strength), float(own))))
        if lora.few_steps is not None and strength > 0:
            log.info(f"{lora.path} is {lora.few_steps.told()}")
        return lora

    @checked
    def unload(self, lora: Lora | None = None) -> None:
        """Take a LoRA out again, or all of them: the weights are what they were, to the last bit.

        Raises `LdmError` for one that is not merged.
        """
        rest = tuple(one for one in self.loras if lora is not None and one.lora is not lora)
        if lora is not None and len(rest) == len(self.loras):
            raise LdmError(f"{lora.path} is not merged into this model; expected what `load_lora` returned")
        self._merge(rest)

    @checked
    def load_embedding(self, path: str | Path, word: str | Sequence[str] | None = None) -> Embedding:
        """Teach the model a word (textual inversion): its own vectors take the place of tokens.

        `path` is a file, or the name of one beside the model or in `embeddings/` there. In a prompt the word is that
        file's name, the token in it, or instead of both `word` (or each of several); `embedding:` may stand before it.

        Raises `LdmError` for a file that is none, is damaged, or was made for another base, and for a word that the
        model has learned already; the model is then what it was before.
        """
        names = [word] if isinstance(word, str) else word
        widths = [encoder.token_embedding.embedding_dim for encoder, _ in self.encoders()]
        found = find_lora(path, self.path, "embedding")
        embedding = read_embedding(found, widths, chunk_size(self.tokenizer), names)
        self._learn((*self.embeddings, embedding))
        return embedding

    @checked
    def unload_embedding(self, embedding: Embedding | None = None) -> None:
        """Forget a learned word, or all of them. Raises `LdmError` for one that is not in the model."""
        rest = tuple(one for one in self.embeddings if embedding is not None and one is not embedding)
        if embedding is not None and len(rest) == len(self.embeddings):
            raise LdmError(f"{embedding.path} is not in this model; expected what `load_embedding` returned")
        self._learn(rest)

    def _learn(self, embeddings: tuple[Embedding, ...]) -> None:
        """Make these the learned words: the tokenizer gives them ids, in the order of the rows in every table."""
        tokenizer = self.tokenizer.with_words([(one.words, one.count) for one in embeddings])
        for i, (encoder, _) in enumerate(self.encoders()):
            encoder.token_embedding = with_rows(encoder.token_embedding, [one.rows[i] for one in embeddings])
        self.tokenizer, self.embeddings = tokenizer, embeddings

    def generate(self, prompt: Prompt, negative: Prompt = "", **options: Any) -> Any:
        """As `LatentDiffusion.generate`, with `<lora:name:0.8>` in prompts: merged for these images, then taken out."""
        texts = [prompt] if isinstance(prompt, str) else prompt
        if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
            return super().generate(prompt, negative, **options)
        plain, tags = split_prompts(texts)
        if not tags:
            return super().generate(prompt, negative, **options)
        before = self.loras
        try:
            for name, strength in tags:
                self.load_lora(find_beside(name, self.path), strength)
            return super().generate(plain[0] if isinstance(prompt, str) else plain, negative, **options)
        finally:
            self._merge(before)

    def own_parameters(self) -> dict[str, Tensor]:
        """The weights without any LoRA, by name."""
        return {name: self._own.get(name, weight.data) for name, weight in self.named_parameters()}

    def _merge(self, loras: tuple[MergedLora, ...]) -> None:
        """Make these the merged LoRAs. All weights are computed first, so that an error leaves the model as it is."""
        parameters = dict(self.named_parameters())
        wanted: dict[str, list[tuple[Change, float]]] = {}
        for one in loras:
            for name, change in one.lora.changes.items():
                if one.of(name) != 0:
                    wanted.setdefault(name, []).append((change, one.of(name)))
        own = {name: self._own.get(name, parameters[name].data) for name in {*self._own, *wanted}}
        new = {}
        for name, changes in wanted.items():
            new[name] = merged(own[name].to(parameters[name]), changes)
            if not new[name].isfinite().all():
                raise LdmError(
                    f"with these LoRAs the weight {name} has NaN or infinity in it ({new[name].dtype}); lower their "
                    "strengths, or take a wider dtype"
                )
        self._own = (
            own  # before anything is replaced: after Ctrl-C in the loop, `unload` still restores every weight
        )
        for name, weight in own.items():
            parameters[name].data = new[name] if name in new else weight.to(parameters[name])
        self._own = {name: own[name] for name in wanted}
        self.loras = loras


def find_lora(given: str | Path, model: Path | None, what: str = "LoRA") -> Path:
    """The file or folder of a LoRA or an embedding: a path, or a name beside the model (`find_beside`).

    Raises `LdmError` if there is none.
    """
    path = expanded(given)
    if str(given) and os.path.exists(path):  # not "", which is a path of the folder we are in
        return path
    if len(path.parts) == 1:
        try:
            return find_beside(str(given), model, what)
        except LdmError as error:
            raise LdmError(f"there is no file {path}, and {error}") from error
    raise LdmError(
        f"there is no {what} {shown(str(given))}; give its file, or the name of one beside the model"
    )


def find_beside(name: str, model: Path | None, what: str = "LoRA") -> Path:
    """The LoRA of this name, without its suffix or with it, in the model's folder, beside it, or in `loras/` there.

    (An embedding: in `embeddings/`.)

    The name may come from a stranger's prompt, so it cannot be a path. Raises `LdmError` if there is no such file.
    """
    if model is None:
        raise LdmError(
            f"no {what} {shown(name)}: this model is from no file, so nothing is beside it; give a path"
        )
    folders = [model, model.parent] if model.is_dir() else [model.parent]
    places = [place for folder in folders for place in (folder, folder / f"{what.lower()}s")]
    if name not in ("", ".", "..") and not set(name) & set("/\\:\0"):
        for file in (place / f"{name}{suffix}" for place in places for suffix in ("", *SUFFIXES)):
            if os.path.isfile(file):
                return file
    looked = ", ".join(map(str, places))
    raise LdmError(
        f"no {what} {shown(name)} in {looked}; expected the name of a file there, without its suffix"
    )
