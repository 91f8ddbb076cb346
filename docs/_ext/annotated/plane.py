r"""`{plane}`: the figure in two dimensions. Its scripts, in `docs/_static/plane/`, go to the pages that have it."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from annotated.languages import language

# In the order in which they are read: each uses what stands before it.
SCRIPTS = ("maths", "field", "words", "paths", "draw", "pen", "controls", "figure")
WITHOUT = {
    "en": "The figure is drawn by JavaScript, which is turned off here.",
    "fr": "La figure est dessinée par JavaScript, qui est désactivé ici.",
}


class Plane(SphinxDirective):
    """The figure, in the page's language."""

    def run(self) -> list[nodes.Node]:
        code = language(self.env.docname)
        self.env.metadata[self.env.docname]["plane"] = "yes"
        return [
            nodes.raw(
                "",
                f'<div class="plane-figure" data-language="{code}"><p>{WITHOUT[code]}</p></div>',
                format="html",
            )
        ]


def add_scripts(app: Sphinx, pagename: str, template: str, context: dict, doctree: nodes.document) -> None:
    if "plane" in app.env.metadata.get(pagename, {}):
        app.add_css_file("plane/plane.css")
        for name in SCRIPTS:
            app.add_js_file(f"plane/{name}.js", loading_method="defer")


def setup(app: Sphinx) -> None:
    app.add_directive("plane", Plane)
    app.connect("html-page-context", add_scripts)
