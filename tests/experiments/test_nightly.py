"""The simulated nights: noise as it is described, and rates that hold on a small sample."""

from __future__ import annotations

import numpy as np

from experiments.nightly import noise
from experiments.nightly.faults import EXPECTED, named
from experiments.nightly.noise import Noise
from experiments.nightly.rates import WARM_UP, alerts_of, candidates, found_after
from tuner.nightly import statistics


def drawn(series: int, nights: int, seed: int = 0) -> Noise:
    return noise.draw(series, nights, np.random.default_rng(seed), noise.standardized())


def test_the_core_is_what_was_measured() -> None:
    core = noise.standardized()
    assert len(core) == 200 and abs(np.median(core)) < 1e-9
    assert np.abs(core).max() > 6  # its tails are heavy


def test_what_all_series_pass_at_once_is_what_each_alone_would_be_looked_at_for() -> None:
    values = drawn(40, 61).first
    past, tonight = values[:, :60], values[:, 60] + np.linspace(-0.03, 0.03, 40)
    found = candidates(past, tonight)
    for row, now, looked_at in zip(past, tonight, found, strict=True):
        assert looked_at or not statistics.suspicion(row.tolist(), float(now)).suspect


def test_still_series_raise_no_alert_and_a_change_is_found() -> None:
    still = Noise(np.zeros((3, 100)), np.zeros((3, 100)))
    worse, better = alerts_of(still)
    assert not worse.any() and not better.any()
    quiet = drawn(30, WARM_UP + 3)
    assert found_after(quiet, 0.2, 1)[0].mean() > 0.95
    assert found_after(quiet, 0.0, 1)[0].mean() < 0.1


def test_causes_are_named() -> None:
    told = named(4, 1)
    assert set(told) == set(EXPECTED)
    assert sum(row["right"] for row in told.values()) / len(told) > 0.8
