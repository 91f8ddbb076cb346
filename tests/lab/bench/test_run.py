r"""All of it, but for the measuring."""

import json

import pytest

from ldm.errors import LdmError
from ldm.lab.bench import run
from ldm.lab.bench.compare import OURS, Turn
from ldm.lab.bench.sizes import FULL, QUICK


def test_the_model_is_written_measured_and_gone_again(monkeypatch, tmp_path, capsys):
    seen = {}

    def write_model(folder, config, tokenizer):
        folder.mkdir()
        seen["config"], seen["words"] = config, tokenizer.vocab_size

    def compare(arms, folder, quick, found, progress, keep):
        assert folder.is_dir() and list(progress([Turn("unet-bfloat16", OURS)])) == [
            Turn("unet-bfloat16", OURS)
        ]
        seen["folder"], seen["arms"] = folder, arms
        found = {"unet-bfloat16": {OURS: [{"seconds": 1.5}]}}
        keep(found)
        return found

    monkeypatch.setattr(run, "write_model", write_model)
    monkeypatch.setattr(run, "compare", compare)
    for quick, sizes in ((False, FULL), (True, QUICK)):
        page = run.bench(run.ARMS, quick, tmp_path / "kept.json")
        assert "| 1.5 s |" in page and ("quick run" in page) is quick
        *others, kept = json.loads((tmp_path / "kept.json").read_text())["runs"]
        assert kept["table"][0]["ldm"] == 1.5 and kept["quick"] is quick and len(others) == quick
        assert seen["config"] == sizes.config and seen["words"] == 49408
        assert not seen["folder"].exists() and seen["arms"] == run.ARMS
    out, err = capsys.readouterr()
    assert out == "" and "unet-bfloat16, ldm" in err


def test_a_table_in_which_nothing_stands_is_an_error_and_is_not_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "write_model", lambda *arguments: None)
    monkeypatch.setattr(run, "compare", lambda *arguments: {})
    with pytest.raises(LdmError, match="nothing could be measured"):
        run.bench(run.ARMS, True, tmp_path / "kept.json")
    assert not (tmp_path / "kept.json").exists()


def test_an_interrupted_run_goes_on_where_it_was_and_those_of_other_machines_stay(monkeypatch, tmp_path):
    seen, path = [], tmp_path / "kept.json"

    def compare(arms, folder, quick, found, progress, keep):
        seen.append(found)
        keep({"unet-bfloat16": {OURS: [{"seconds": 1.5}]}})
        raise KeyboardInterrupt

    def interrupted(quick: bool = False, json=path):
        with pytest.raises(KeyboardInterrupt):
            run.bench(run.ARMS, quick, json)
        return seen[-1]

    monkeypatch.setattr(run, "write_model", lambda *arguments: None)
    monkeypatch.setattr(run, "compare", compare)
    assert interrupted() == {} and interrupted() == {"unet-bfloat16": {OURS: [{"seconds": 1.5}]}}
    assert interrupted(quick=True) == {} and len(run.read_runs(path)) == 2
    monkeypatch.setattr(run, "machine", lambda: {"processor": "Z80"})
    assert interrupted() == {} and [kept.machine["processor"] for kept in run.read_runs(path)][2] == "Z80"
    assert interrupted() != {} and len(run.read_runs(path)) == 3
    monkeypatch.setattr(run, "turns", lambda arms, quick: [Turn("unet-bfloat16", OURS)])
    assert interrupted() == {}  # it was complete
    path.write_text("{}")
    with pytest.raises(LdmError, match="cannot read the runs kept in .*kept.json: KeyError.'runs'."):
        run.bench(run.ARMS, False, path)
    assert interrupted(json=None) == {}  # nothing is kept, and nothing read
