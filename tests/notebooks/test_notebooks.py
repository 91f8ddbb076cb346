r"""The notebooks: what is committed was made from the plain files, and every one runs. Run by `make test-notebooks`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("jupytext", reason="the notebooks need the `notebooks` extra: make test-notebooks")

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "notebooks"))

import nbformat  # noqa: E402

import build  # noqa: E402
from french import BLOCK, in_french  # noqa: E402

pytestmark = pytest.mark.notebooks
# Seconds on two cores of a CPU with matrix units (AMX), as the goal says; without them, twice that before it fails.
PATIENCE = 1 if torch.cpu.get_capabilities().get("amx_bf16") else 2
# Where pytest-xdist runs several at once (-n 2), each has one thread, and twice the time.
ALONE = "PYTEST_XDIST_WORKER" not in os.environ
THREADS = 2 if ALONE else 1
EACH, ALL = 120 * PATIENCE * 2 // THREADS, 480 * PATIENCE
SOURCES = {path.stem: path for path in build.sources()}
FRENCH = {name: path for name, path in SOURCES.items() if build.french_source(path).exists()}
LINES = 14  # of code in a cell

spent: dict[str, float] = {}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> Path:
    return SOURCES[request.param]


@pytest.fixture
def built(source: Path) -> nbformat.NotebookNode:
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def test_the_committed_notebook_has_the_cells_of_its_source(source, built):
    cells = [(cell.id, cell.cell_type, cell.source) for cell in built.cells]
    wanted = [(cell.id, cell.cell_type, cell.source) for cell in build.read_source(source).cells]
    assert cells == wanted, f"{source.stem} was changed: make notebooks ARGS={source.name}"


def test_what_answers_a_prediction_is_folded_and_nothing_else(built):
    asked = False
    for cell in built.cells:
        if cell.cell_type == "markdown":
            asked = "*Predict" in cell.source
        folded = cell.metadata.get("jupyter", {}).get("outputs_hidden", False)
        assert folded == (asked and cell.cell_type == "code"), cell.source
        assert folded == ("hide-cell" in cell.metadata.get("tags", []))


def test_no_notebook_is_without_its_source():
    assert {path.stem for path in build.FOLDER.glob("*.ipynb")} == {
        *SOURCES,
        *(f"{name}.fr" for name in FRENCH),
    }


@pytest.mark.parametrize("name", FRENCH)
def test_a_french_notebook_has_its_own_prose_and_the_code_and_outputs_of_the_english_one(name):
    english, french = (
        nbformat.read(FRENCH[name].with_suffix(suffix), as_version=4) for suffix in (".ipynb", ".fr.ipynb")
    )
    wanted = build.read_french(FRENCH[name], english)
    assert french == wanted, f"{name} was changed: make notebooks ARGS='--prose {name}.py'"
    assert [cell for cell in french.cells if cell.cell_type == "code"] == [
        cell for cell in english.cells if cell.cell_type == "code"
    ]


def in_both(text: str) -> dict[str, list[str]]:
    """What a notebook's prose has in common with its other half: headings, formulas, solutions, links."""
    formulas = re.findall(r"\$\$.+?\$\$|\$[^$]+\$", BLOCK.sub("", text), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)]+)\)", text)
    return {
        "headings": re.findall(r"^#+ ", text, flags=re.MULTILINE),
        "formulas": [" ".join(formula.split()) for formula in formulas],
        "solutions": re.findall("</?details>", text),
        "links": sorted({link.replace("/fr/", "/").replace(".fr.", ".") for link in links}),
    }


@pytest.mark.parametrize("name", FRENCH)
def test_the_french_prose_has_the_formulas_solutions_and_links_of_the_english(name):
    cells = build.read_source(FRENCH[name]).cells
    english = in_both("\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))
    french = in_both(build.french_source(FRENCH[name]).read_text(encoding="utf-8"))
    assert set(english.pop("links")) <= set(french.pop("links"))
    assert set(french.pop("formulas")) == set(english.pop("formulas"))  # word order may differ
    assert french == english


def test_french_prose_that_does_not_fit_the_code_is_refused():
    cells = [
        {"cell_type": "markdown", "source": "# One\n\n```python\nx = 1\n```"},
        {"cell_type": "code", "source": "y = 2"},
        {"cell_type": "markdown", "source": "The end."},
    ]
    english = nbformat.NotebookNode(cells=[nbformat.NotebookNode(cell) for cell in cells])
    french = in_french(english, "# Un : `a : b`\n\n```python\n```\n---\n« Fin » !\n")
    assert [cell.source for cell in french] == [
        "# Un\N{NO-BREAK SPACE}: `a : b`\n\n```python\nx = 1\n```",
        "y = 2",
        "«\N{NO-BREAK SPACE}Fin\N{NO-BREAK SPACE}»\N{NARROW NO-BREAK SPACE}!",
    ]
    with pytest.raises(ValueError, match="1 pieces of French prose, expected 2"):
        in_french(english, "# Un\n\n```python\n```\n")
    with pytest.raises(ValueError, match="1 empty blocks"):
        in_french(english, "# Un\n---\nFin.\n")


def test_no_sentence_stands_on_the_line_that_opens_a_cell(source):
    lines = source.read_text(encoding="utf-8").splitlines()  # it would be lost
    assert [line for line in lines if line.startswith("# %%")] == [
        line for line in lines if line in ("# %%", "# %% [markdown]")
    ]


def test_outputs_are_kept_for_the_same_code_only():
    [old, same, other] = (
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code, outputs=outputs)])
        for code, outputs in (
            ("x", [{"output_type": "stream", "name": "stdout", "text": "1"}]),
            ("x", []),
            ("y", []),
        )
    )
    build.keep_outputs(same, old)
    assert same.cells[0].outputs == old.cells[0].outputs != []
    with pytest.raises(SystemExit, match="has to run"):
        build.keep_outputs(other, old)


def test_every_cell_was_run_in_order_and_none_failed(built):
    code = [cell for cell in built.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert "stderr" not in {output.get("name") for output in outputs}


def test_the_committed_notebook_is_small_and_has_pictures_of_one_kind(source, built):
    assert source.with_suffix(".ipynb").stat().st_size <= build.LIMIT
    kinds = [
        set(output.data) for cell in built.cells for output in cell.get("outputs", []) if "data" in output
    ]
    assert {"image/png"} in kinds
    assert not {"image/jpeg", "image/svg+xml", "text/html"} & set().union(*kinds)


def test_nothing_tells_on_which_machine_it_was_made(source):
    text = source.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert not re.findall(r"/(?:home|root|tmp|usr|work|Users)/[^ \"]*|0x[0-9a-f]{9,}", text)


def test_cells_are_short_and_import_what_they_show(source):
    for cell in build.read_source(source).cells:
        if cell.cell_type == "code":
            lines = [line for line in cell.source.splitlines() if line.strip()]
            assert len(lines) <= LINES or set(lines[0].split()) & {"import", "from"}, cell.source


def test_it_asks_predicts_asserts_and_ends_with_exercises(source):
    cells = build.read_source(source).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert prose.startswith("# ") and "predict" in prose.lower() and "assert " in code
    assert re.search("[Ee]xercise", cells[-1].source) and build.solutions(build.read_source(source))


@pytest.mark.slow
def test_it_runs_from_top_to_bottom_without_a_network_and_so_do_its_solutions(source):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment |= {"OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS)}
    command = [sys.executable, str(ROOT / "tests" / "notebooks" / "offline.py"), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-4000:]
    spent[source.stem] = float(result.stdout.splitlines()[-1])
    print(f"{source.stem}: {spent[source.stem]:.0f} s")
    assert spent[source.stem] <= EACH


@pytest.mark.slow
@pytest.mark.skipif(not ALONE, reason="each process knows the seconds of its own notebooks only")
def test_all_of_them_together_leave_time_for_coffee():
    assert sum(spent.values()) <= ALL, spent
