r"""A notebook in French: its prose stands in NN_name.fr.md, its code and its outputs are those of NN_name.ipynb.

In the Markdown file, a line `---` stands for the cells of code between two pieces of prose, and an empty
block of Python, in a solution, for the code of the English solution. So no line of code is written twice, and building
a French notebook runs nothing. It lies beside the English one, so `import show` and all links work in both.
"""

import re

from nbformat import NotebookNode

GAP = re.compile(r"^---\n", flags=re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
NO_PROSE = re.compile(r"(```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\))", flags=re.DOTALL)


def in_french(english: NotebookNode, text: str) -> list[NotebookNode]:
    """The cells of a built notebook, with the prose of its French file. Raises `ValueError` where they do not fit."""
    prose = [cell for cell in english.cells if cell.cell_type == "markdown"]
    pieces = GAP.split(text)
    if len(pieces) != len(prose):
        raise ValueError(f"{len(pieces)} pieces of French prose, expected {len(prose)}, as in English")
    code = [block for cell in prose for block in BLOCK.findall(cell.source)]
    if len(BLOCK.findall(text)) != len(code) or "".join(BLOCK.findall(text)):
        raise ValueError(f"expected {len(code)} empty blocks of Python in French, one for each in English")
    blocks, french = iter(code), iter(pieces)
    filled = (BLOCK.sub(lambda _: f"```python\n{next(blocks)}```", piece.strip()) for piece in french)
    cells = []
    for cell in english.cells:
        cells.append(NotebookNode(cell))
        if cell.cell_type == "markdown":
            cells[-1].source = unbroken(next(filled))
    return cells


def unbroken(text: str) -> str:
    """French prose whose spaces before `: ; ! ?` and inside « » do not break."""
    parts = NO_PROSE.split(text)  # every other part is code, a formula or an address
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"(?<=«) | (?=»)| (?=:)", "\N{NO-BREAK SPACE}", parts[i])
        parts[i] = re.sub(r" (?=[;!?])", "\N{NARROW NO-BREAK SPACE}", parts[i])
    return "".join(parts)
