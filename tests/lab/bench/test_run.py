r"""`ldm bench`: the model, the table, and runs that were interrupted."""

import json

import pytest

from ldm.errors import LdmError
from ldm.lab.bench import run
from ldm.lab.bench.run import OURS, Run, Trial, bench, machine, name_of, quantity, read_runs, section
from ldm.lab.bench.workload import FULL, QUICK


@pytest.fixture
def order(monkeypatch):
    r"""Two trials of one case, and a model that takes no time to write."""
    found = [Trial("unet-float32", OURS)] * 2
    monkeypatch.setattr(run, "trials", lambda rows, programs, quick, rounds: found)
    monkeypatch.setattr(run, "write_model", lambda *_: None)
    return found


def test_the_model_is_written_measured_and_gone_again(monkeypatch, tmp_path, capsys, order):
    seen = {}

    def write_model(folder, config, tokenizer):
        folder.mkdir()
        seen["config"], seen["words"] = config, tokenizer.vocab_size

    def measure(module, case, folder, quick):
        assert folder.is_dir() and module == "ldm.lab.bench.cases"
        seen["folder"] = folder
        return {"seconds": 1.5}

    monkeypatch.setattr(run, "write_model", write_model)
    monkeypatch.setattr(run, "measure", measure)
    for quick, sizes in ((False, FULL), (True, QUICK)):
        page = bench(quick, tmp_path / "kept.json")
        assert "| U-Net step with guidance, float32 | 1.5 s |" in page and ("quick run" in page) is quick
        *others, kept = json.loads((tmp_path / "kept.json").read_text())["runs"]
        [row] = [row for row in kept["table"] if row[OURS] is not None]
        assert row == {
            "what": "U-Net step with guidance, float32",
            "case": "unet-float32",
            "unit": "s",
            OURS: 1.5,
        }
        assert kept["quick"] is quick and len(others) == quick
        assert kept["processes"] == {"unet-float32": {OURS: [{"seconds": 1.5}] * 2}}
        assert seen["config"] == sizes.config and seen["words"] == 49408 and not seen["folder"].exists()
    out, err = capsys.readouterr()
    assert out == "" and "unet-float32, ldm" in err


def test_if_everything_fails_it_is_an_error_and_nothing_is_kept(monkeypatch, tmp_path, order):
    def measure(*_):
        raise LdmError("no")

    monkeypatch.setattr(run, "measure", measure)
    with pytest.raises(LdmError, match="nothing could be measured"):
        bench(True, tmp_path / "kept.json")
    assert not (tmp_path / "kept.json").exists()


def test_an_interrupted_run_continues_and_those_of_other_machines_stay(monkeypatch, tmp_path, order):
    path, left = tmp_path / "kept.json", []

    def measure(*_):
        if not left:
            raise KeyboardInterrupt
        return {"seconds": left.pop()}

    def interrupted(*seconds: float, quick: bool = False, json=path) -> None:
        left[:] = seconds
        with pytest.raises(KeyboardInterrupt):
            bench(quick, json)

    def kept() -> list[list[float]]:
        found = [r.results["unet-float32"][OURS] for r in read_runs(path)]
        return [[numbers["seconds"] for numbers in processes] for processes in found]

    monkeypatch.setattr(run, "measure", measure)
    interrupted(1.0)
    interrupted(2.0, quick=True)
    assert kept() == [[1.0], [2.0]]
    left[:] = [3.0]
    bench(False, path)
    assert kept() == [[2.0], [1.0, 3.0]]  # the first run continued
    interrupted(4.0)
    assert kept() == [[2.0], [4.0]]  # it was complete, and started again
    monkeypatch.setattr(run, "machine", lambda: {"processor": "Z80"})
    interrupted(5.0)
    assert kept() == [[2.0], [4.0], [5.0]]
    path.write_text("{}")
    with pytest.raises(LdmError, match=r"cannot read the runs kept in .*kept.json: KeyError.'runs'."):
        bench(False, path)
    interrupted(json=None)  # nothing is kept, and nothing read


def test_the_table_has_what_was_measured_under_its_machine():
    found = {
        "start": {OURS: [{"import": 0.0123, "help": 120.4}]},
        "decode-float32": {OURS: [{"seconds": 7.5}]},
    }
    text = "\n".join(section(Run({"processor": "Z80", "bfloat16": "none"}, False, found)))
    assert text.startswith("\n## Z80, bfloat16: none\n\nprocessor: Z80, bfloat16: none.\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[1:] == [
        "| VAE decode, float32 | 7.5 s |",
        "| `import ldm` | 0.0123 s |",
        "| `ldm --help` | 120 s |",
    ]
    assert quantity(None, "s") == "not measured" and quantity(5610.2, "MiB") == "5610 MiB"


def test_two_processors_of_one_name_have_different_headings():
    about = {"processor": "Z80", "bfloat16": "none", "generation": "cpu family 25, model 17, stepping 1"}
    assert name_of(Run(about, False, {})) == "Z80 (cpu family 25, model 17), bfloat16: none"


def test_machine_versions_and_threads_are_reported():
    import torch

    found = machine()
    assert found["torch"] == torch.__version__ and found["threads"] == torch.get_num_threads()
    assert found["openvino"]  # its version, or that it is not installed
    assert found["cores"] > 0 and found["bfloat16"] in ("AMX", "AVX-512", "none") and "processor" in found
