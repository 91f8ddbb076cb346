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

    def compare(arms, folder, quick, progress):
        assert folder.is_dir() and list(progress([Turn("unet-bfloat16", OURS)])) == [
            Turn("unet-bfloat16", OURS)
        ]
        seen["folder"], seen["arms"] = folder, arms
        return {"unet-bfloat16": {OURS: [{"seconds": 1.5}]}}

    monkeypatch.setattr(run, "write_model", write_model)
    monkeypatch.setattr(run, "compare", compare)
    for quick, sizes in ((False, FULL), (True, QUICK)):
        page = run.bench(run.ARM, quick, tmp_path / "kept.json")
        assert "| 1.5 s |" in page and ("quick run" in page) is quick
        kept = json.loads((tmp_path / "kept.json").read_text())
        assert kept["table"][0]["ldm"] == 1.5 and kept["quick"] is quick
        assert seen["config"] == sizes.config and seen["words"] == 49408
        assert not seen["folder"].exists() and seen["arms"] == {"ldm": "ldm.bench.ours"}
    out, err = capsys.readouterr()
    assert out == "" and "unet-bfloat16, ldm" in err


def test_a_table_in_which_nothing_stands_is_an_error_and_is_not_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "write_model", lambda *arguments: None)
    monkeypatch.setattr(run, "compare", lambda *arguments: {})
    with pytest.raises(LdmError, match="nothing could be measured"):
        run.bench(run.ARM, True, tmp_path / "kept.json")
    assert not (tmp_path / "kept.json").exists()
