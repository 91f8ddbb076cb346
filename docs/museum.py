r"""`make museum`: show every mistake with the tiny model, into docs/museum.md and docs/museum/.

Each image is kept in outputs/museum/ under a hash of the code, the model and the setting, so an interrupted run goes on
where it was, and only what changed is generated anew. `make museum ARGS="5a 6"` shows only those; `ARGS=page` writes
the page again from what was measured last.
"""

import json
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ldm.checkpoints.finding import find
from ldm.files.read_write import atomic_path
from ldm.lab.museum.layers import Beginning
from ldm.lab.museum.mistake import Mistake
from ldm.lab.museum.painting import Exhibit, show
from ldm.lab.museum.rooms import MISTAKES, find_mistake
from ldm.lab.museum.symptoms import SYMPTOMS, Measures
from ldm.lab.museum.words import difference_lines, numbers_words, setting_words, standin_words

DOCS = Path(__file__).resolve().parent
STRIPS, MEASURED, PAGE = DOCS / "museum", DOCS / "museum" / "measured.json", DOCS / "museum.md"
WORK = Path("outputs/museum/kept").resolve()

OPENING = """\
# The museum of mistakes

You port Stable Diffusion. Every tensor loads, no shape differs, and yet the images are wrong; or the images are right
and the numbers are not. Here are {count} mistakes that do this, each in a line or two of this project's own code. `make
mutants` makes each of them in a copy and checks that a test [fails](mutants.md). `make museum` generates the same image
with and without the mistake and measures the difference. Nothing on this page was sorted by hand: [a few
measures](../ldm/lab/museum/symptoms.py) of the two images choose the heading, which need not be the one that your eye
would choose, so look under its neighbours, too. On your own machine, `ldm museum 5a` shows one of them.

Every strip has the right image on the left, the wrong one in the middle, and on the right their difference, amplified
until its largest value is white. "48 % off" is the largest difference in a layer's output, relative to the largest
number in it. All images come from the tiny model, so yours may look different; the first layer that differs is the same
in every model. Where a mistake needs inputs that the tiny model does not have (some of Stable Diffusion XL's), it is
given untrained ones: then the right image is a smear, too.

If your own port is wrong, find what you see in this list, compare the lines with yours, then look at the layer named
there. With a forward hook on every layer of both programs, the first layer whose output differs says more than any
image ([notebook 12](../notebooks/12_museum.ipynb) shows how).

## My images are ...

{contents}
"""


def museum(numbers: Sequence[str] = ()) -> None:
    """Show every mistake, or those with these numbers; write strips, measurements and the page, each whole."""
    model = find("tiny").resolve()
    measured = read() if MEASURED.exists() else {}
    for mistake in [find_mistake(number) for number in numbers] or MISTAKES:
        exhibit, strip = show(mistake, model, WORK)
        with atomic_path(STRIPS / f"{mistake.number}.webp") as path:
            strip.save(path, format="WEBP", quality=78, method=6)
        measured[mistake.number] = exhibit
        write({m.number: measured[m.number] for m in MISTAKES if m.number in measured})
        print(f"{mistake.number}: {exhibit.symptom}", file=sys.stderr)
    for path in STRIPS.glob("*.webp"):
        if path.stem not in {mistake.number for mistake in MISTAKES}:
            path.unlink()
    missing = [mistake.number for mistake in MISTAKES if mistake.number not in measured]
    if missing:
        print(f"Not yet on the page: {' '.join(missing)}", file=sys.stderr)
    else:
        write_page()


def write(measured: dict[str, Exhibit]) -> None:
    with atomic_path(MEASURED) as path:
        table = {number: asdict(exhibit) for number, exhibit in measured.items()}
        path.write_text(json.dumps(rounded(table), indent=1) + "\n", encoding="utf-8")


def rounded(value: Any) -> Any:
    """Numbers to four digits, so that another machine's roundings do not show."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return value


def read() -> dict[str, Exhibit]:
    """What `make museum` measured last, by number."""
    found = {}
    for number, entry in json.loads(MEASURED.read_text(encoding="utf-8")).items():
        parts = {"measures": Measures, "beginning": Beginning}
        made = {key: kind(**entry[key]) if entry[key] else None for key, kind in parts.items()}
        found[number] = Exhibit(**{**entry, **made})
    return found


def write_page() -> None:
    with atomic_path(PAGE) as path:
        path.write_text(page(read()), encoding="utf-8")


# --- the page ------------------------------------------------------------------------------------------------


def page(measured: dict[str, Exhibit]) -> str:
    tests = noticing()
    groups = {name: [m for m in MISTAKES if measured[m.number].symptom == name] for name in SYMPTOMS}
    shown = {name: mistakes for name, mistakes in groups.items() if mistakes}
    contents = "\n".join(
        f"- [{SYMPTOMS[name]}](#{anchor(SYMPTOMS[name])}) ({len(mistakes)})"
        for name, mistakes in shown.items()
    )
    parts = [OPENING.format(count=len(MISTAKES), contents=contents)]
    for name, mistakes in shown.items():
        parts.append(f"## {SYMPTOMS[name][:1].upper()}{SYMPTOMS[name][1:]}\n")
        for mistake in mistakes:
            parts.append("\n".join(entry(mistake, measured[mistake.number], tests.get(mistake.number, []))))
    return "\n".join(parts)


def entry(mistake: Mistake, exhibit: Exhibit, tests: list[str]) -> Iterator[str]:
    yield f"### {mistake.number}. {mistake.name}\n"
    alternative = f"{mistake.name}: the right image, the wrong one, and their difference".replace('"', "")
    yield f"![{alternative}](museum/{mistake.number}.webp)\n"
    words = setting_words(mistake.setting)
    yield f"*{words[:1].upper()}{words[1:]}.{' ' * bool(mistake.standin)}{standin_words(mistake)}*\n"
    yield f"In [`{mistake.file}`](../ldm/{mistake.file}):\n"
    yield "```diff"
    yield from difference_lines(mistake)
    yield "```\n"
    yield f"{mistake.why}\n"
    if exhibit.measures is None:
        yield "```text"
        for line in numbers_words(exhibit):
            yield from textwrap.wrap(line, 80, subsequent_indent=" " * 7)
        yield "```\n"
    else:
        yield "- **How far off:** " + " ".join(numbers_words(exhibit))
    if tests:
        yield f"- **Caught by** {test_words(tests[0])}."
    if mistake.seen:
        links = "; ".join(f"[{what}]({address})" for address, what in mistake.seen)
        yield f"- **Seen elsewhere:** {links}."
    yield ""


def test_words(test: str) -> str:
    """A test's name, which is a claim, and its file."""
    file, _, name = test.partition("::")
    claim = re.sub(r"\[.*", "", name).removeprefix("test_").replace("_", " ")
    return f"`tests/{file}`: {claim}"


def noticing() -> dict[str, list[str]]:
    """The tests that turned red for each mistake, as `make mutants` wrote them down."""
    text = (DOCS / "mutants.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+\w?) \| .* \| (.*) \|$", text, re.MULTILINE)
    return {number: re.findall(r"`(.*?)`", cell) for number, cell in rows}


def anchor(title: str) -> str:
    """What a heading is called in an address, on GitHub and on the site."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


if __name__ == "__main__":
    write_page() if sys.argv[1:] == ["page"] else museum(sys.argv[1:])
