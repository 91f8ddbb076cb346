r"""The whole report: every figure of every chapter, from one model folder and one judge.

All draws are fixed (series and seeds stand in the chapters), so the same weights give the same figures, up to the
last bits of a machine's arithmetic.
"""

from pathlib import Path

from ldm.lab.evaluate.adherence import SETS
from ldm.lab.evaluate.bench import Bench, Counts, drawings
from ldm.lab.evaluate.chapters import (
    adherence_figures,
    clip_figures,
    crowd_figures,
    diversity_figures,
    judge_figures,
    paint_set,
    reconstruct,
    vae_figures,
)
from ldm.lab.evaluate.figures import Figure
from ldm.lab.evaluate.judge import find_judge, read_judge
from ldm.loading import load, load_clip


def evaluate(
    model: str | Path, judge: str | Path, out: Path, counts: Counts, compiled: bool = False
) -> list[Figure]:
    r"""Measure everything; sheets go to `out`. Raises `LdmError` if the model or the judge is missing.

    `compiled` has torch compile the U-Net, which changes the last bits of what it paints.
    """
    examiner = read_judge(find_judge(judge))
    painter = load(model)
    if compiled:
        painter.unet.compile()
    clip, tokenizer = load_clip(model)
    bench = Bench(painter, clip, tokenizer, examiner.to(painter.device), out, counts)
    seen, held_out = (drawings(split, counts.drawings, bench.size) for split in ("train", "held_out"))
    rebuilt = reconstruct(painter, held_out)
    figures = [*judge_figures(bench, rebuilt), *vae_figures(bench, held_out, rebuilt)]
    figures += clip_figures(bench, seen, held_out)
    painted = {}
    for name in SETS:
        painted[name] = paint_set(bench, name)
        figures += adherence_figures(name, painted[name])
    return [*figures, *crowd_figures(bench, painted["seen"]), *diversity_figures(bench, painted["seen"])]
