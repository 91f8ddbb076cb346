r"""The sidebar: chapters in reading order, of which only the one that is open lists its pages.

It is made from the captions and entries of the front page's tables of contents, so nothing is listed twice. Beside
each chapter stands a frame of an image that forms: noise at chapter 0, the finished image at the last one.
"""

from dataclasses import dataclass
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

from annotated.languages import FRENCH_PAGES, language
from ldm.chapters import APPENDICES, CHAPTERS

FRAMES = "_static/chapters"
TITLES = {"en": ("Chapters", "Appendices", "Chapter"), "fr": ("Chapitres", "Annexes", "Chapitre")}
PARTS = {  # of the front page, beside a French page
    "Start here": "Pour commencer (en anglais)",
    "Notebooks": "Notebooks (en anglais)",
    "Using and checking it": "Utiliser et vérifier (en anglais)",
}


@dataclass(frozen=True)
class Group:
    """A part of the table of contents: "7. The U-Net" and its pages."""

    title: str
    pages: tuple[str, ...]

    @property
    def chapter(self) -> int | None:
        """Its number, if it is a chapter; -1 for an appendix."""
        number, dot, title = self.title.partition(". ")
        if not dot or title not in {chapter.title for chapter in (*CHAPTERS, *APPENDICES)}:
            return None
        return int(number) if number.isdecimal() else -1


def groups(app: Sphinx, spoken: str = "en") -> list[Group]:
    """The parts of the front page's hidden tables of contents, in their order; before them those of the French one."""
    homes = [app.config.root_doc]
    if spoken == "fr":
        homes.insert(0, f"{FRENCH_PAGES}index")
    parts = []
    for home in homes:
        for tree in app.env.tocs[home].findall(addnodes.toctree):
            pages = [page for _, page in tree["entries"] if page in app.env.titles]
            title, french = tree["caption"] or "", home != app.config.root_doc
            if french:
                pages.insert(0, home)  # which is not in its own table
            elif spoken == "fr":
                title, pages = PARTS.get(title, title), [p for p in pages if language(p) != "fr"]
            parts.append(Group(title, tuple(pages)))
    return [part for part in parts if part.pages]


def sidebar(app: Sphinx, page: str, spoken: str) -> str:
    """The navigation as HTML, seen from one page."""
    parts = groups(app, spoken)
    chapters = [part for part in parts if part.chapter is not None and part.chapter >= 0]
    appendices = [part for part in parts if part.chapter == -1]
    others = [part for part in parts if part.chapter is None]
    heading, more, _ = TITLES[spoken]
    shown = [folding(app, page, part, is_open=part is others[0]) for part in others]
    shown.insert(1, f"<p class=caption>{heading}</p><ol class=chapters>{_chapters(app, page, chapters)}</ol>")
    inside = any(page in part.pages for part in appendices)
    shown.append(
        f"<details{' open' if inside else ''}><summary>{more}</summary>"
        f"<ol class=chapters>{_chapters(app, page, appendices)}</ol></details>"
    )
    return "".join(shown)


def folding(app: Sphinx, page: str, part: Group, is_open: bool) -> str:
    """A part that is folded away unless one is in it."""
    is_open = is_open or page in part.pages
    links = "".join(f"<li>{link(app, page, target)}</li>" for target in part.pages)
    return f"<details{' open' if is_open else ''}><summary>{escape(part.title)}</summary><ul>{links}</ul></details>"


def _chapters(app: Sphinx, page: str, parts: list[Group]) -> str:
    rows = []
    for part in parts:
        number, _, title = part.title.partition(". ")
        here = page in part.pages
        frame = (
            f'<img src="{up(page)}{FRAMES}/{number}.webp" alt="" width="28" height="28">'
            if part.chapter != -1
            else ""
        )
        head = (
            f"{frame or f'<b>{number}</b>'}<span>{f'<b>{number}</b> ' if frame else ''}{escape(title)}</span>"
        )
        first = next((p for p in part.pages if not p.endswith("__init__")), part.pages[0])
        inner = "".join(f"<li>{link(app, page, target)}</li>" for target in part.pages) if here else ""
        rows.append(
            f'<li{" class=here" if here else ""}><a class=chapter href="{app.builder.get_relative_uri(page, first)}">'
            f"{head}</a>{f'<ul>{inner}</ul>' if here else ''}</li>"
        )
    return "".join(rows)


def link(app: Sphinx, page: str, target: str) -> str:
    current = ' aria-current="page"' if target == page else ""
    title = app.env.titles[target].astext()
    return f'<a href="{app.builder.get_relative_uri(page, target)}"{current}>{escape(title)}</a>'


def up(page: str) -> str:
    return "../" * page.count("/")


def place(app: Sphinx, page: str, spoken: str) -> str:
    """Above a module's title: the chapter it belongs to, and how far one is in it."""
    for part in groups(app):
        if page in part.pages and part.chapter is not None:
            number, _, title = part.title.partition(". ")
            name = f"{TITLES[spoken][2]} {number}" if part.chapter >= 0 else "Appendix " + number
            where = f"{part.pages.index(page) + 1} / {len(part.pages)}"
            return f'<p class="place"><b>{name}</b> {escape(title)} <span>{where}</span></p>'
    return ""


def add_context(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    if app.config.root_doc in app.env.tocs:
        context["sidebar_navigation"] = sidebar(app, page, language(page))
        context["place"] = place(app, page, language(page))


def write_frames(app: Sphinx, error: Exception | None) -> None:
    """The pictures beside the chapters."""
    if error or app.builder.format != "html" or app.config.root_doc not in app.env.tocs:
        return
    if not any(part.chapter for part in groups(app)):  # a test's small site
        return
    from docs.outputs import chapters  # it imports torch

    folder = Path(app.outdir) / FRAMES
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(chapters(len(CHAPTERS))):
        image.resize((56, 56)).save(folder / f"{number}.webp", quality=80)


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", add_context)
    app.connect("build-finished", write_frames)
