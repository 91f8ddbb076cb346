r"""The table: aligned, with goals, and what meets them."""

import json

from ldm.lab.evaluate.figures import Figure, as_json, table

FIGURES = [
    Figure("sharp", "PSNR", 28.004, "dB", 28.0),
    Figure("sharp", "SSIM", 0.91234),
    Figure("adherence", "every attribute right", 0.9851, "%", 0.99),
]


def test_the_table_by_hand():
    assert table(FIGURES).splitlines() == [
        "sharp",
        "  PSNR                     28.004 dB  >= 28.000 dB  met",
        "  SSIM                         0.912",
        "",
        "adherence",
        "  every attribute right      98.51 %  >= 99.00 %   NOT MET",
    ]


def test_a_goal_is_met_when_it_is_reached_exactly():
    assert Figure("a", "b", 0.99, "%", 0.99).met is True
    assert Figure("a", "b", 0.989999, "%", 0.99).met is False
    assert Figure("a", "b", 0.5).met is None


def test_json_holds_every_figure_unrounded():
    read = json.loads(as_json(FIGURES))
    assert [entry["value"] for entry in read] == [28.004, 0.91234, 0.9851]
    assert [entry["met"] for entry in read] == [True, None, False]
    assert read[2]["goal"] == 0.99 and read[1]["goal"] is None
