r"""What the reader does on a page: the list of exercises with its hints, and questions that wait for a guess.

The scripts and the style are in `docs/_static/practice/`; what a reader did is kept in the browser.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ldm.chapters import headings
from ldm.lab.exercises.exercise import Exercise, exercises_in

# The scripts of a page, by what it has.
SCRIPTS = {"exercises": ("memory", "solved"), "predictions": ("memory", "predict")}


class Exercises(SphinxDirective):
    """The exercises, chapter by chapter; each with the function that it asks for, which `links.py` makes a link."""

    def run(self) -> list[nodes.Node]:
        self.env.metadata[self.env.docname]["practice"] = "exercises"
        result: list[nodes.Node] = [nodes.paragraph("", "", classes=["solved-count"])]
        for heading, chapter in headings():
            exercises = [exercise for module in chapter.full_names for exercise in exercises_in(module)]
            if exercises:
                items = nodes.bullet_list("", *map(self.item, exercises), classes=["exercises"])
                result += [nodes.rubric("", heading), items]
        return result

    def item(self, exercise: Exercise) -> nodes.list_item:
        label = f"{exercise.name} is solved"
        box = f'<input type="checkbox" hidden data-exercise="{exercise.name}" aria-label="{label}" title="{label}">'
        text = nodes.paragraph("", "", nodes.strong("", exercise.name), nodes.Text(f": {exercise.task}, "))
        text += nodes.literal("", f"{exercise.module}.{exercise.function}")
        mistakes = nodes.bullet_list("", *(self.told(f"It {m.description}.") for m in exercise.mistakes))
        folded = fold("What often goes wrong", [mistakes])
        return nodes.list_item("", raw(box), text, *self.steps(exercise.hints), *folded)

    def steps(self, hints: tuple[str, ...], number: int = 1) -> list[nodes.Node]:
        """Each hint folded into the one before it."""
        if not hints:
            return []
        inside = [self.inline(hints[0]), *self.steps(hints[1:], number + 1)]
        return fold("Hint" if number == 1 else "Another hint", inside)

    def told(self, text: str) -> nodes.list_item:
        return nodes.list_item("", self.inline(text))

    def inline(self, text: str) -> nodes.paragraph:
        found, messages = self.state.inline_text(text, self.lineno)
        return nodes.paragraph("", "", *found, *messages)


def raw(html: str) -> nodes.raw:
    return nodes.raw("", html, format="html")


def fold(summary: str, content: list[nodes.Node]) -> list[nodes.Node]:
    return [raw(f"<details><summary>{summary}</summary>"), *content, raw("</details>")]


def add_scripts(app: Sphinx, pagename: str, template: str, context: dict, doctree: nodes.document) -> None:
    predictions = "predictions" if pagename.startswith("notebooks/") else None
    kind = app.env.metadata.get(pagename, {}).get("practice", predictions)
    if kind:
        app.add_css_file("practice/practice.css")
        for name in SCRIPTS[kind]:
            app.add_js_file(f"practice/{name}.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("exercises", Exercises)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
