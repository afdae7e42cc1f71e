"""Measurements and records that contradict themselves, and the names that earlier versions stored."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.assets.records import ASSETS
from tests.contracts.record_store import make_record
from tuner.records import Fidelity, Measurement, Status


@pytest.mark.parametrize(
    "changes",
    [
        {"samples_s": ()},
        {"samples_s": (1.0, -1.0)},
        {"samples_s": (math.nan,)},
        {"samples_s": (math.inf,)},
        {"status": Status.RUN_FAILED},
        {"status": Status.CENSORED, "samples_s": ()},
        {"censored_at_s": 1.0},
        {"run_s": math.nan},
        {"run_s": -1.0},
        {"build_s": math.inf},
    ],
)
def test_a_measurement_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    Measurement(Status.OK, (1.0,))
    with pytest.raises(ValueError, match=r"seconds|status|samples|censored"):
        Measurement(**{"status": Status.OK, "samples_s": (1.0,), **changes})


def test_features_have_a_name_each_or_none() -> None:
    make_record(features=(1.0, 2.0), columns=("a", "b"))
    make_record(features=(1.0, 2.0), columns=())
    for columns in (("a",), ("a", "b", "c")):
        with pytest.raises(ValueError, match="2 features with"):
            make_record(features=(1.0, 2.0), columns=columns)


def test_the_names_that_earlier_versions_wrote_are_read() -> None:
    data = json.loads((ASSETS / "measurement-v2.json").read_text())
    measurement = Measurement.from_json(data)
    assert measurement.fidelity is Fidelity.RANK
    assert measurement.conditions.excluded == "the GPU was throttled"
    conditions = {"cost_s": 0.5, "samples_preempted": 3, "involuntary_switches": 7}
    assert measurement.conditions.to_json() == conditions | {"excluded": "the GPU was throttled"}
    assert Measurement.from_json(measurement.to_json()) == measurement
