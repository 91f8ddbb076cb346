r"""`ldm bench`: our arm alone."""

from pathlib import Path

from ldm.bench import run as bench
from tests.cli.terminal import run


def test_the_table_is_printed_and_the_options_arrive(capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(bench, "bench", lambda *arguments: seen.append(arguments) or "| a table |\n")
    assert run(capsys, "bench") == (0, "| a table |\n", [])
    assert run(capsys, "bench", "--quick", "--json", "b.json")[0] == 0
    assert seen == [
        ({"ldm": "ldm.bench.ours"}, False, None),
        ({"ldm": "ldm.bench.ours"}, True, Path("b.json")),
    ]
