"""Finding a mix of precisions: from the fastest on, the fewest steps that keep the bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tuner.commands.mixing import Judge, Mix, find, keep, ladder, read
from tuner.config import AccuracyConfig
from tuner.measure.quality import Outputs

TIMES: Sequence[Mapping[str, float]] = (
    {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0},
    {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0},
    {"float32": 1.0, "bfloat16": 2.0},
)
LOSS = {"float32": 0.0, "bfloat16": 0.001, "int8": 0.01}
WEIGHT = (1.0, 8.0, 1.0)
"""How much each layer's error moves the output."""


def _outputs(mix: Sequence[str]) -> list[Outputs]:
    lost = [weight * LOSS[precision] for weight, precision in zip(WEIGHT, mix, strict=False)]
    return [[np.array([1.0, *lost])]]


def _found(largest: float) -> Mix:
    right = [[np.array([1.0, 0.0, 0.0, 0.0])]]
    return find(TIMES, _padded, Judge(AccuracyConfig(metric="max_error", at_most=largest), right), "float32")


def _padded(mix: Sequence[str]) -> list[Outputs]:
    return _outputs([*mix, *["float32"] * (3 - len(mix))])


def test_a_loose_bound_gives_the_fastest_mix() -> None:
    mix = _found(1.0)
    assert mix.layers == ("int8", "int8", "float32") and mix.kept
    assert mix.looked_at[-1][0] == 3.0


def test_a_tighter_bound_slows_those_layers_that_lose_most_for_their_time() -> None:
    assert _found(0.05).layers == ("int8", "bfloat16", "float32")
    assert _found(0.005).layers[0] == "bfloat16"
    assert _found(0.0).layers == ("float32", "float32", "float32")


def test_what_no_mix_keeps_is_said() -> None:
    assert not _found(-1.0).kept


def test_a_layer_takes_its_own_steps_in_order() -> None:
    errors = [{"float32": 0.0, "bfloat16": 0.001, "int8": 0.01}]
    assert ladder(TIMES[:1], errors, ["int8"], "float32") == [(0, "bfloat16"), (0, "float32")]


def test_a_decision_is_kept_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    mix = Mix(("int8", "float32"), (0.1, 0.0), ((1.0, 0.2),), True)
    assert read(tmp_path) is None
    keep(mix, tmp_path)
    assert read(tmp_path) == mix
    (tmp_path / "mix.json").write_text("{}")
    assert read(tmp_path) is None
