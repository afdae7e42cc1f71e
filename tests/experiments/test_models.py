"""The table of models: the best baseline is the one over which the tuned model gains least."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.models.run import mean_speedup, rows, table


def entries(**ratios: float) -> dict[str, object]:
    found: dict[str, object] = {
        name: {"median_s": 2e-3, "ratio": ratio, "verdict": "FASTER"} for name, ratio in ratios.items()
    }
    return found | {"tuned": {"median_s": 1e-3, "ratio": None, "verdict": None}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    summary = {
        "target": {"threads": 2},
        "kernels": [
            {"weight": 2, "tuned_s": 4e-4, "untuned_s": 1.0},
            {"weight": 1, "tuned_s": None, "untuned_s": 1e-4},
        ],
        "account": {"end_to_end_s": 1e-3},
        "end_to_end": {
            "verified": True,
            "states": {
                "together": {"noise_floor": 0.01, "entries": entries(openvino=0.8, ncnn=0.5)},
                "apart": {"noise_floor": 0.01, "entries": entries(openvino=0.5, ncnn=1.25)},
            },
            "first_calls": entries(openvino=0.9),
        },
    }
    run = tmp_path / "resnet" / "20260101-000000-x"
    run.mkdir(parents=True)
    (run / "summary.json").write_text(json.dumps(summary))
    return tmp_path


def test_a_row_for_each_state_with_the_best_baseline(folder: Path) -> None:
    together, apart = rows(folder)
    assert (together["best"], together["speedup"]) == ("openvino", 1.25)
    assert (apart["best"], apart["speedup"]) == ("ncnn", 0.8)
    assert together["certified_s"] / together["inside_s"] == pytest.approx(0.9)
    assert together["first_call"] == pytest.approx(1 / 0.9)


def test_the_mean_takes_the_worst_state_of_each_model(folder: Path) -> None:
    found = list(rows(folder))
    assert mean_speedup(found) == pytest.approx(0.8)
    assert mean_speedup([]) is None
    assert "| resnet | together | 1 ms | openvino | 1.250 | FASTER |" in table(found)
