r"""All of it, but for the measuring."""

import json

import pytest

from ldm.bench import run
from ldm.bench.compare import OURS, Turn
from ldm.bench.sizes import FULL, QUICK
from ldm.errors import LdmError


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
        assert (tmp_path / "kept.json.part").is_file()
        return found

    monkeypatch.setattr(run, "write_model", write_model)
    monkeypatch.setattr(run, "compare", compare)
    for quick, sizes in ((False, FULL), (True, QUICK)):
        page = run.bench(run.ARMS, quick, tmp_path / "kept.json")
        assert "| 1.5 s |" in page and ("quick run" in page) is quick
        kept = json.loads((tmp_path / "kept.json").read_text())
        assert kept["table"][0]["ldm"] == 1.5 and kept["quick"] is quick
        assert seen["config"] == sizes.config and seen["words"] == 49408
        assert not seen["folder"].exists() and seen["arms"] == run.ARMS
        assert not (tmp_path / "kept.json.part").exists()
    out, err = capsys.readouterr()
    assert out == "" and "unet-bfloat16, ldm" in err


def test_a_table_in_which_nothing_stands_is_an_error_and_is_not_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "write_model", lambda *arguments: None)
    monkeypatch.setattr(run, "compare", lambda *arguments: {})
    with pytest.raises(LdmError, match="nothing could be measured"):
        run.bench(run.ARMS, True, tmp_path / "kept.json")
    assert not (tmp_path / "kept.json").exists()


def test_an_interrupted_run_goes_on_where_it_was(monkeypatch, tmp_path):
    seen = []

    def compare(arms, folder, quick, found, progress, keep):
        seen.append(found)
        keep({"unet-bfloat16": {OURS: [{"seconds": 1.5}]}})
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "write_model", lambda *arguments: None)
    monkeypatch.setattr(run, "compare", compare)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run.bench(run.ARMS, False, tmp_path / "kept.json")
    assert seen == [None, {"unet-bfloat16": {OURS: [{"seconds": 1.5}]}}]
    with pytest.raises(LdmError, match="kept.json.part was left by another machine, other versions or sizes"):
        run.bench(run.ARMS, True, tmp_path / "kept.json")
    (tmp_path / "kept.json.part").write_text("{}")
    with pytest.raises(LdmError, match="cannot read .*kept.json.part, where a run left off"):
        run.bench(run.ARMS, False, tmp_path / "kept.json")
    with pytest.raises(KeyboardInterrupt):
        run.bench(run.ARMS, False, None)  # nothing is kept, and nothing read
    assert seen[-1] is None
