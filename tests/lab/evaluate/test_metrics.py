r"""The table: aligned, with goals, and what meets them."""

import json

from ldm.lab.evaluate.metrics import Metric, metrics_json, metrics_table

METRICS = [
    Metric("sharp", "PSNR", 28.004, "dB", 28.0),
    Metric("sharp", "SSIM", 0.91234),
    Metric("adherence", "every attribute right", 0.9851, "%", 0.99),
]


def test_the_table_by_hand():
    assert metrics_table(METRICS).splitlines() == [
        "sharp",
        "  PSNR                     28.004 dB  >= 28.000 dB  met",
        "  SSIM                         0.912",
        "",
        "adherence",
        "  every attribute right      98.51 %  >= 99.00 %   NOT MET",
    ]


def test_a_goal_is_met_when_it_is_reached_exactly():
    assert Metric("a", "b", 0.99, "%", 0.99).met is True
    assert Metric("a", "b", 0.989999, "%", 0.99).met is False
    assert Metric("a", "b", 0.5).met is None


def test_json_holds_every_metric_unrounded():
    read = json.loads(metrics_json(METRICS))
    assert [entry["value"] for entry in read] == [28.004, 0.91234, 0.9851]
    assert [entry["met"] for entry in read] == [True, None, False]
    assert read[2]["goal"] == 0.99 and read[1]["goal"] is None
