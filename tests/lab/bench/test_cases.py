r"""Our cases find the numbers that the table needs. (How large they are does not matter here.)"""

import math
from functools import partial

import pytest

import ldm
from ldm.backend.cpu import instruction_sets
from ldm.backend.int8 import INSTRUCTIONS
from ldm.lab.bench import images, networks, stopwatch
from ldm.lab.bench.stopwatch import conv_flops, matmul_flops, random_normal
from tests.lab.bench import without
from tests.lab.bench.conftest import SIZES
from tests.lab.bench.ours import CASES
from tests.lab.bench.rows import ROWS, is_gain


def needed(case: str) -> set[str]:
    return {row.number for row in ROWS if row.case == case}


def marks(case: str) -> list[pytest.MarkDecorator]:
    slow = case.startswith(("cuda-", "gain-", "train", "four-", "rounding-int8"))
    able = "int8" not in case or set(INSTRUCTIONS) & set(instruction_sets())
    return [pytest.mark.long] * slow + [
        pytest.mark.skipif(not able, reason="no instructions for 8-bit integers")
    ]


COMPILED = {"train-compiled", "cuda-unet-compiled", "gain-compile"}


# The compiler does not get along with the shapes' checks that tests are run with.
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=marks(case))
        for case in sorted(CASES.keys() - COMPILED - {"generate", "throughput"})
    ],
)
def test_a_case_finds_its_numbers(folder, case, monkeypatch):
    """Those of a card too, as far as a CPU goes: there they take the same path, in another place."""
    for module in (stopwatch, networks):
        monkeypatch.setattr(module, "matmul_flops", partial(matmul_flops, side=64))
    monkeypatch.setattr(networks, "conv_flops", partial(conv_flops, channels=16, side=16))
    found = CASES[case](folder, SIZES)
    assert all(math.isfinite(number) and number >= 0 for number in found.values())
    # A small picture takes hardly any memory, and one small tile has no seams.
    assert all(found[number] for number in needed(case) & set(found) - {"memory"}) or case == "seams"
    if is_gain(case):
        assert set(found) == set(without.CASES[case](folder, SIZES)) >= {"seconds"}
    if case.startswith("layers-"):  # which kinds of layers there are depends on the model
        found = {name: found[name] for name in needed(case)}
    assert needed(case) ^ set(found) <= {"memory"}  # needed in one number format, and where the system tells


def test_throughput_is_measured_at_each_batch(folder, monkeypatch):
    model = ldm.load(folder, config=SIZES.config)
    made = []

    def generate(*args, batch=1, **options):
        made.append(batch)

    monkeypatch.setattr(images, "load", lambda *args, **options: model)
    monkeypatch.setattr(model, "generate", generate)
    monkeypatch.setattr(images, "matmul_flops", lambda dtype: 1e9)
    monkeypatch.setattr(images, "seconds", lambda work: work() or 0.5)
    monkeypatch.setattr(images, "operations", lambda sizes, work="unet": {"unet": 7, "decode": 30}[work])
    found = images.throughput(folder, SIZES)
    assert made == [1, 1, 2] and (found["1"], found["2"]) == (2.0, 4.0)
    steps = model.config.defaults.steps
    assert found["share"] == 100 * 4.0 * (7 * steps + 30) / 1e9


def test_an_evaluation_is_the_pipelines_own_with_guidance(folder, monkeypatch):
    model = ldm.load(folder)
    seen = []
    model.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    networks.evaluation(model, SIZES)()
    [(x_t, t, context)] = seen
    assert x_t.shape == (2, 4, 8, 8) and t == 500 and context.shape == (2, 32, 8)


def test_the_inputs_are_the_same_in_every_process():
    assert (random_normal(1, 3, 4) == random_normal(1, 3, 4)).all() and (
        random_normal(1, 3) != random_normal(2, 3)
    ).all()
