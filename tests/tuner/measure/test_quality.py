"""Errors against float64, shares of classes, and whether a bound is kept."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tuner.measure.quality import Quality, agreement_of, errors_of, in_words, relative_error, scored

RIGHT = [[np.array([[0.1, 0.9, 0.0], [0.5, 0.2, 0.3]])], [np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])]]
OFF = [[np.array([[0.9, 0.1, 0.0], [0.5, 0.2, 0.3]])], [np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])]]


def test_errors_and_agreement() -> None:
    [error] = errors_of(OFF, RIGHT)
    assert error.largest == pytest.approx(0.8) and 0 < error.relative < 1 and 0.7 < error.cosine < 1
    assert agreement_of(OFF, RIGHT) == 0.75
    assert agreement_of([[np.zeros(1)]], [[np.zeros(1)]]) is None  # no classes
    assert relative_error([np.array([np.nan])], [np.array([1.0])]) is None


def test_metrics() -> None:
    labels = np.array([1, 0, 0, 2])
    assert scored("top1", RIGHT, RIGHT, labels) == 1.0
    assert scored("top1", OFF, RIGHT, labels) == 0.75 == scored("top1", OFF, RIGHT)
    assert scored("top5", OFF, RIGHT, labels) == 1.0
    assert scored("mse", OFF, RIGHT) == pytest.approx(2 * 0.64 / 12)
    assert scored("max_error", OFF, RIGHT) == pytest.approx(0.8)
    assert scored("cosine", RIGHT, RIGHT) == pytest.approx(1.0)
    assert scored("snr", RIGHT, RIGHT) == 300.0 and scored("snr", OFF, RIGHT) < 10
    assert math.isnan(scored("top1", RIGHT, RIGHT, labels[:3]))  # as many labels as rows
    nothing = [[np.full((2, 3), np.nan)], [np.full((2, 3), np.nan)]]
    assert scored("top1", nothing, RIGHT) == 0.0 and math.isnan(scored("cosine", nothing, RIGHT))


def test_a_bound_is_kept_from_its_own_side_and_never_by_what_is_not_known() -> None:
    assert Quality(1, metric="top1", score=0.8, bound=0.8).met
    assert Quality(1, metric="mse", score=0.8, bound=0.7).met is False
    assert Quality(0, metric="top1", bound=0.1).met is False
    assert Quality(1, metric="top1", score=math.nan, bound=0.1).met is False
    assert Quality(1, metric="top1", score=0.5).met is None
    missed = Quality(4, metric="top1", score=0.5, bound=0.75, data="v.npz").to_json()
    assert in_words(missed) == "top1 is 0.5 on 4 samples of v.npz, and at least 0.75 is asked"
