r"""Every page of the built site in a real browser, from `file://`, at the width of a phone and of a desk.

Run by `make test-docs`, where there is a Chromium.
"""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
]


def visit(pages: list[Path], width: int, folder: Path) -> tuple[list[str], list[str]]:
    """What is wrong with the pages, and what they said on the console. No name of a host is looked up."""
    harness = (Path(__file__).parent / "browser.html").read_text(encoding="utf-8")
    settings = f"PAGES = {json.dumps([page.as_uri() for page in pages])}; WIDTH = {width}"
    (folder / "harness.html").write_text(
        harness.replace("<script>", f"<script>{settings}</script><script>", 1)
    )
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += ["--allow-file-access-from-files", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=600000", "--dump-dom"]
    result = subprocess.run(
        [*command, (folder / "harness.html").as_uri()], capture_output=True, text=True, timeout=300
    )
    found = re.search(r'<pre id="problems">(.*?)</pre>', result.stdout, flags=re.DOTALL)
    assert found, result.stderr[-2000:]
    return json.loads(html.unescape(found[1])), re.findall(
        r"^.*CONSOLE.*$", result.stderr, flags=re.MULTILINE
    )


@pytest.mark.parametrize("width", [390, 1440])
def test_no_page_overflows_fails_or_asks_a_network(site, width, tmp_path):
    pages = [page for page in sorted(site.rglob("*.html")) if page != site / "index.html"]  # it only forwards
    assert visit(pages, width, tmp_path) == ([], [])


FAULTS = (
    "formula clipped",
    "nobody is told to scroll",
    "a hole of 950",
    "not folded",
    "81 links",
    "a literal <br>",
)


def test_a_page_with_every_fault_is_noticed(tmp_path):
    (tmp_path / "bad.html").write_text(
        '<p style="width: 900px">wide</p><img src="gone.png"><script src="https://example.org/a.js"></script>'
        "<script>nowhere()</script><style>.code { display: grid } .row { display: flex }</style>"
        '<div class="math" style="width: 50px; overflow: auto"><p style="width: 90px">x</p></div>'
        '<figure class="diagram" style="width: 50px; overflow: auto"><p style="width: 90px">x</p></figure>'
        '<article class="annotated"><details class="fold" open>imports</details>&lt;br&gt;'
        '<div class="row"><div class="prose"></div><div class="code">'
        '<p class="line" style="height: 950px"></p></div></div></article>'
        f'<nav class="sidebar-nav">{"<a>chapter</a>" * 81}</nav>'
    )
    problems, console = visit([tmp_path / "bad.html"], 390, tmp_path)
    for expected in ("pixels wide", "https://example.org/a.js", "gone.png is missing", *FAULTS):
        assert [p for p in problems if expected in p], (expected, problems)
    (tmp_path / "empty.html").write_text("<p>nothing</p>")
    assert "is empty" in " ".join(visit([tmp_path / "empty.html"], 390, tmp_path)[0])
    assert [line for line in console if "nowhere is not defined" in line]
