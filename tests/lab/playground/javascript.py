r"""JavaScript run for its value: by node where there is one, else by a headless Chromium."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.lab.trace.chromium import PROGRAM

SOURCES = Path(__file__).resolve().parents[3] / "ldm" / "lab" / "playground"
NODE = shutil.which("node")
CAN_RUN = bool(NODE or PROGRAM)


def evaluate(names: list[str], code: str, data: Any, folder: Path) -> Any:
    r"""The value that `code`, the body of an async function of `data`, returns after the scripts of these names."""
    sources = "\n".join((SOURCES / f"{name}.js").read_text("utf-8") for name in names)
    argument = json.dumps(data).replace("<", r"\u003c")
    call = f"(async (data) => {{ {code} }})({argument})"
    if NODE:
        script = folder / "script.js"
        script.write_text(f"{sources}\n{call}.then((value) => console.log(JSON.stringify(value)))", "utf-8")
        result = subprocess.run([NODE, str(script)], capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)
    page = folder / "page.html"
    shown = 'document.body.append(Object.assign(document.createElement("pre"), { textContent: JSON.stringify(value) }))'
    script = f"<script>{sources}\n{call}.then((value) => {shown})</script>"
    page.write_text(f'<!doctype html><meta charset="utf-8"><body>{script}</body>', "utf-8")
    command = [
        str(PROGRAM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
    ]
    command += ["--virtual-time-budget=60000", "--dump-dom", page.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search("<pre>(.*)</pre>", result.stdout, re.DOTALL)
    assert found, result.stderr[-2000:]
    return json.loads(html.unescape(found[1]))
