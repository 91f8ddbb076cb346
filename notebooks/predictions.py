r"""What answers a prediction is folded: the cells after a `*Predict:*`, up to the next prose.

Jupyter shows such a cell as a line with three dots, to be opened or run after a guess. On the site it is folded, too,
and `docs/_static/practice/predict.js` asks for the guess first.
"""

from nbformat import NotebookNode

QUESTION = "*Predict"
FOLDED = {"jupyter": {"outputs_hidden": True, "source_hidden": True}, "tags": ["hide-cell"]}


def fold_answers(notebook: NotebookNode) -> None:
    """Fold the code cells that answer a question; change nothing else."""
    asked = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            asked = QUESTION in cell.source
        elif asked:
            cell.metadata = NotebookNode({**FOLDED, "jupyter": NotebookNode(FOLDED["jupyter"])})
