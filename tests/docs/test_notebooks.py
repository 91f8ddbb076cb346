r"""The notebooks as pages of the site. Run by `make test-docs`."""

import json
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs
NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def test_every_notebook_is_a_page_with_its_pictures_and_folded_solutions(site):
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        page = (site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        pictures = sum("image/png" in output.get("data", {}) for output in outputs)
        solutions = sum("".join(cell["source"]).count("<details>") for cell in cells)
        addresses = set(re.findall(r'<img [^>]*src="([^"]+)"', page))
        assert len({a for a in addresses if a.endswith(".png")}) >= pictures, path.stem
        assert all((site / "notebooks" / address).resolve().exists() for address in addresses), path.stem
        article = page[page.index("<article") :]  # not the sidebar, which folds its lists
        assert solutions == article.count("<details>") > 0, path.stem  # a folded answer has a class
        assert page.count("<details") == page.count("</details>"), path.stem


@pytest.mark.parametrize(("front", "up", "french"), [("index", "../", False), ("fr/index", "../../", True)])
def test_the_front_page_of_each_language_leads_to_its_notebooks(site, front, up, french):
    page = (site / "docs" / f"{front}.html").read_text(encoding="utf-8")
    mine = [path.stem for path in NOTEBOOKS if path.stem.endswith(".fr") == french]
    assert mine and all(f'href="{up}notebooks/{name}.html"' in page for name in mine)
