r"""`ldm bench`."""

from pathlib import Path

from ldm.lab.bench import run as bench
from tests.cli.terminal import run


def test_the_table_is_printed_and_the_options_arrive(capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(bench, "bench", lambda *arguments: seen.append(arguments) or "| a table |\n")
    assert run(capsys, "bench") == (0, "| a table |\n", [])
    assert run(capsys, "bench", "--quick", "--json", "b.json")[0] == 0
    assert seen == [
        (False, None),
        (True, Path("b.json")),
    ]


def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_measured(capsys, monkeypatch, work):
    monkeypatch.setattr(bench, "bench", None)
    (work / "file").touch()
    (work / "folder").mkdir()
    for place, message in (
        ("file/b.json", "ldm: cannot write file/b.json: file is not a folder; give another place"),
        ("folder", "ldm: --json folder is a folder; give a file name"),
    ):
        assert run(capsys, "bench", "--json", place) == (1, "", [message])


def test_where_the_time_goes_is_measured_in_one_round_and_nothing_else(capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(
        bench, "measure_all", lambda order, *rest: seen.append((order, rest)) or [bench.Run({}, True, {})]
    )
    monkeypatch.setattr(bench, "bfloat16_instructions", lambda: "AMX")
    monkeypatch.setattr(bench, "section", lambda run: ["a table"])
    assert run(capsys, "bench", "--layers", "--quick") == (0, "# Speed and memory\na table\n", [])
    [(order, (_, quick, path, _))] = seen
    assert [trial.case for trial in order] == ["layers-bfloat16", "layers-float32"] and quick and path is None
    message = "ldm: --layers prints its tables and keeps nothing; leave out --json"
    assert run(capsys, "bench", "--layers", "--json", "b.json") == (1, "", [message])
