"""What a night is expected to take: of cells that were measured, and of those that were not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuner.nightly.synthetic import result
from tuner.errors import ConfigError
from tuner.nightly import plan
from tuner.nightly.config import NightConfig, load, parse
from tuner.nightly.plan import Plan

ROOT = Path(__file__).resolve().parents[3]

MEASURED = {
    "encoder": 188, "softmax": 84, "depthwise": 90, "squeezenet": 201, "matmul": 78, "convolution": 65,
    "mobilenet_v2": 343, "pnpoly": 18,
}  # fmt: skip
"""Seconds of the default night's cells in their first night, on two idle cores."""


@pytest.fixture
def night(monkeypatch: pytest.MonkeyPatch) -> NightConfig:
    monkeypatch.chdir(ROOT)
    return load("configs/nightly.yaml")


def test_an_unmeasured_cell_takes_what_its_request_says(night: NightConfig) -> None:
    for cell in night.cells:
        if cell.name in MEASURED:
            assert MEASURED[cell.name] == pytest.approx(plan.estimated_s(cell, night), rel=0.4)
    assert plan.estimated_s(night.cells[0], night) > plan.estimated_s(night.cells[3], night)


def test_a_measured_cell_takes_what_it_last_took(night: NightConfig) -> None:
    past = [result(n, {"rebuilt/reference": 0.0}, wall_s=s) for n, s in enumerate((5.0, 90.0, 70.0, 500.0))]
    assert plan.expected_s(night.cells[0], night, past) == 70.0
    assert plan.expected_s(night.cells[0], night, [result(1, {}, wall_s=0.1)]) == plan.estimated_s(
        night.cells[0], night
    )


def test_what_does_not_fit_is_told_and_what_fits_behind_it_is_measured() -> None:
    planned = Plan({"a": 50.0, "b": 100.0, "c": 30.0}, 90.0)
    assert (planned.left_out, planned.total_s) == (["b"], 180.0)
    assert planned.words() == "3 cells to measure, about 3m of a budget of 1m30s"
    assert "b will be missing" in planned.warning() and "budget: 3m" in planned.warning()
    planned.require_any("night.yaml")
    assert Plan({"a": 50.0}, 60.0).warning() == ""


def test_a_budget_that_measures_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"night\.yaml: budget: 5s is too short for any cell: a takes about 50s"):
        Plan({"b": 90.0, "a": 50.0}, 5.0).require_any("night.yaml")
    Plan({}, 5.0).require_any("night.yaml")  # all its cells are missing: it says so
    assert Plan({}, 5.0).words() == "no cell is left that can be measured here"


def test_the_page_has_the_seconds_of_each_kind_of_cell() -> None:
    """The table of docs/nightly.md is what `estimated_s` says."""
    text = (ROOT / "docs" / "nightly.md").read_text("utf-8")
    night = parse("cells: [{name: a, run: x}]", "n")
    for cell in (
        "kind: kernel, run: x, budget: 20s, baselines: [torch]", "run: x, budget: 2m, baselines: [torch, onnxruntime]",
        "kind: space, space: x, evaluations: 200, seeds: 5",
    ):  # fmt: skip
        seconds = plan.estimated_s(parse(f"cells: [{{name: a, {cell}}}]", "n").cells[0], night)
        assert f"| about {seconds:.0f} s |" in text
