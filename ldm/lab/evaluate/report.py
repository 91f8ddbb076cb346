r"""All metrics of a model, with one judge.

All random numbers are fixed (see the series and seeds in each module), so the same weights give the same metrics, up to
rounding.
"""

from pathlib import Path

from ldm.lab.evaluate.adherence import SETS
from ldm.lab.evaluate.behaviour import (
    attention_metrics,
    diversity_metrics,
    guidance_metrics,
    memorisation_metrics,
    negative_metrics,
    size_metrics,
)
from ldm.lab.evaluate.judge import find_judge, read_judge
from ldm.lab.evaluate.measurements import (
    adherence_metrics,
    clip_metrics,
    composition_metrics,
    distribution_metrics,
    generate_set,
    judge_metrics,
    reconstruct,
    vae_metrics,
)
from ldm.lab.evaluate.metrics import Metric
from ldm.lab.evaluate.setup import Counts, Setup, drawings
from ldm.loading import load, load_clip


def evaluate(
    model_name: str | Path, judge_name: str | Path, out: Path, counts: Counts, compiled: bool = False
) -> list[Metric]:
    r"""Compute all metrics and write sheets to `out`. Raises `LdmError` if the model or the judge is missing.

    `compiled` compiles the U-Net with torch.compile, which changes rounding.
    """
    judge = read_judge(find_judge(judge_name))
    model = load(model_name)
    if compiled:
        model.unet.compile()
    clip, tokenizer = load_clip(model_name)
    setup = Setup(model, clip, tokenizer, judge.to(model.device), out, counts)
    seen, held_out = (drawings(split, counts.drawings, setup.size) for split in ("train", "held_out"))
    rebuilt = reconstruct(model, held_out)
    metrics = [*judge_metrics(setup, rebuilt), *vae_metrics(setup, held_out, rebuilt)]
    metrics += clip_metrics(setup, seen, held_out)
    judged = {}
    for name in SETS:
        judged[name] = generate_set(setup, name)
        metrics += adherence_metrics(name, judged[name])
    metrics += composition_metrics([image for images in judged.values() for image in images])
    metrics += [*guidance_metrics(setup, judged["seen"]), *negative_metrics(setup), *size_metrics(setup)]
    metrics += [*attention_metrics(setup), *distribution_metrics(setup, judged["seen"])]
    return [*metrics, *diversity_metrics(setup), *memorisation_metrics(setup, judged["seen"])]
