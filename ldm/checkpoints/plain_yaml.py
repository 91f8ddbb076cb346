r"""The little of YAML that the configs of original checkpoints use: `model.yaml` beside `model.ckpt`.

    model:
      params:
        parameterization: "v"
        linear_start: 0.00085

becomes {"model.params.parameterization": "v", "model.params.linear_start": 0.00085, ...}. Only tables nested by
indentation and plain values are read. Lists are skipped, because nothing that is needed stands in one. Anchors, tags
and other features of YAML are read as plain text, so no file can grow beyond its own length here.
"""

import re
from pathlib import Path

from ldm.errors import LdmError
from ldm.files.read_write import read_text

LARGEST = 100_000  # bytes; Stable Diffusion's have 2000

Value = str | int | float | bool | None

WORDS: dict[str, Value] = {"true": True, "false": False, "null": None, "~": None}


def read_yaml(path: Path) -> dict[str, Value]:
    """Every plain value of the file, by its path through the tables. Raises `LdmError` that names a line."""
    found: dict[str, Value] = {}
    tables: list[tuple[int, str]] = []  # the open ones, each with its indentation
    skipped: int | None = None  # the indentation of a list or a long text, to which all further right belongs
    for number, line in enumerate(read_text(path, LARGEST).splitlines(), start=1):
        text = _without_comment(line)
        indent = len(text) - len(text.lstrip(" "))
        text = text.strip()
        if not text or text == "---" or (skipped is not None and indent > skipped):
            continue
        skipped = None
        if text[0] in "-]}":  # a list's item, or a closing bracket on a line of its own
            skipped = indent if text[0] == "-" else None
            continue
        match = re.fullmatch(r"""["']?([^\s"':][^"':]*)["']?\s*:(?:\s+(.*))?""", text)
        if match is None or "\t" in line[: indent + 1]:
            raise LdmError(
                f"{path}, line {number}: got {text[:60]!r}; expected `key: value`, indented by spaces"
            )
        while tables and tables[-1][0] >= indent:
            tables.pop()
        key, value = match[1].strip(), match[2] or ""
        name = f"{tables[-1][1]}.{key}" if tables else key
        if not value:
            tables.append((indent, name))
        elif value[0] in "[{|>":
            skipped = indent
        else:
            found[name] = _value(value)
    return found


def _without_comment(line: str) -> str:
    """A comment begins at a # that follows a space, outside quotes."""
    quote = ""
    for i, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'" and line[:i].rstrip()[-1:] in ("", ":", "[", ","):
            quote = letter
        elif letter == "#" and line[i - 1 : i] in ("", " ", "\t"):
            return line[:i].rstrip()
    return line.rstrip()


def _value(text: str) -> Value:
    if text[0] in "\"'" and text[-1] == text[0] and len(text) > 1:
        return text[1:-1]
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if re.fullmatch(r"[-+]?\d{1,15}", text):
        return int(text)
    if re.fullmatch(r"[-+]?(\d{1,15}\.?\d{0,20}|\.\d{1,20})([eE][-+]?\d{1,3})?", text):
        return float(text)
    return text
