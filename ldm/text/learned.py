r"""Learned words (textual inversion) in a text: how they are found, and which ids stand for them.

    a drawing of <toy>, (badhands:1.2)

A learned word is not made of tokens. It has names, and one id for each of its vectors, counted on from the end of the
vocabulary; whose rows they look up says `ldm.adapters.textual_inversion`. So it has to be found before the text is
cleaned and split: as a whole word, in capitals or not, with `embedding:` before it (as ComfyUI writes it) or without.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ldm.errors import LdmError, shown
from ldm.text.pretokenize import END_OF_WORD


@dataclass(frozen=True)
class Learned:
    r"""Which learned words a tokenizer knows; by default none."""

    # By "embedding:name", which no other word is.
    ids: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tokens: tuple[str, ...] = ()  # what each id is called, in their order
    pattern: re.Pattern[str] | None = None

    def split(self, text: str) -> Iterator[tuple[bool, str]]:
        r"""The parts of a text, learned words apart: "a Toy" -> (False, "a "), (True, "embedding:toy")."""
        for i, part in enumerate(self.pattern.split(text) if self.pattern else [text]):
            yield (True, f"embedding:{part.lower()}") if i % 2 else (False, part)

    def without(self, text: str) -> str:
        r"""The text with the learned words taken out."""
        return "".join(part for is_learned, part in self.split(text) if not is_learned)


def learn(words: Sequence[tuple[Sequence[str], int]], first: int) -> Learned:
    r"""Learned words, each given by its names and the number of its vectors, with ids from `first` on.

    Of two names that fit, the longer is found. Raises `LdmError` for a name that two words have.
    """
    ids: dict[str, tuple[int, ...]] = {}
    tokens: list[str] = []
    for names, count in words:
        begin = first + len(tokens)
        tokens += [names[0] + f"_{i}" * (i > 0) + END_OF_WORD * (i == count - 1) for i in range(count)]
        for name in dict.fromkeys(name.lower() for name in names):
            if name in ids:
                raise LdmError(f"two embeddings for the word {shown(name)}; give one of them another word")
            ids[name] = tuple(range(begin, begin + count))
    longest_first = "|".join(re.escape(name) for name in sorted(ids, key=len, reverse=True))
    pattern = re.compile(rf"(?<!\w)(?:embedding:)?({longest_first})(?!\w)", re.IGNORECASE)
    return Learned({f"embedding:{name}": ids[name] for name in ids}, tuple(tokens), pattern if ids else None)
