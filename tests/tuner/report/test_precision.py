"""The section on precision: what was asked, what was lost, and who computes in something else."""

from __future__ import annotations

from typing import Any

from tuner.report import end_to_end, figures, precision

QUALITY: dict[str, Any] = {
    "samples": 2, "errors": [{"relative": 0.01, "largest": 0.2, "cosine": 0.9999}], "agreement": 0.5, "metric": "top1",
    "score": 0.5, "bound": 0.75, "met": False, "data": "v.npz",
}  # fmt: skip
STATED: dict[str, Any] = {
    "precision": {
        "asked": "int8",
        "layers": [
            {"name": "matmul 8x8 by 8x8", "precision": "int8", "error": 0.01},
            {"name": "conv2d_3x3 3x8x8 to 4", "precision": "float32", "error": None},
        ],
        "quality": QUALITY,
        "entries": {"openvino": "float32", "openvino_int8": "int8"},
        "errors": {"tuned": 0.01, "openvino": 1e-7},
        "mixes": [{"seconds": 0.001, "error": 0.01}, {"seconds": 0.002, "error": 0.0}],
    },
    "end_to_end": {
        "tuned_s": 0.001, "untuned_s": None, "interval_s": None, "verified": True, "max_rel_error": None,
        "baselines": {
            name: {"median_s": 0.002, "interval_s": None, "verdict": "FASTER"} for name in ("openvino", "openvino_int8")
        },
    },
}  # fmt: skip


def test_what_was_lost_and_whether_the_bound_is_kept() -> None:
    text = " ".join(precision.sentences(STATED))
    assert "1 in int8, 1 in float32" in text and "relative error 0.01" in text and "50.0 %" in text
    assert "MISSED, so the model is not exported: top1 is 0.5 on v.npz, the bound is 0.75" in text
    table = precision.table(STATED)
    assert table is not None and table.rows[0] == ("matmul 8x8 by 8x8", "int8", "0.01")


def test_nothing_is_said_where_nothing_was_asked() -> None:
    assert precision.stated({}) == {} and precision.table({}) is None
    without = {"precision": {**STATED["precision"], "quality": None, "layers": []}}
    assert precision.sentences(without) == ["Asked for: int8.", "How good the outputs are could not be told."]


def test_who_computes_in_something_else_says_so() -> None:
    names = {entry.key: entry.name for entry in end_to_end.entries(STATED)}
    assert names["openvino"] == "OpenVINO (in float32, not int8)" and names["openvino_int8"] == "OpenVINO, int8"


def test_the_trade_is_a_picture() -> None:
    points = precision.points(STATED, end_to_end.entries(STATED))
    assert [name for name, _, _ in points] == ["tuned (this run)", "OpenVINO (in float32, not int8)"]
    picture = figures.trade(points, precision.mixes(STATED))
    assert picture is not None and "1.00 ms with an error of 0.01" in picture.alt and picture.png[:4] == b"\x89PNG"
    assert figures.trade(points[:1], []) is None
