"""Realistic noise of a series: log ratios of two entries that are paired within a night, and of its second run.

The core is measured: A/A comparisons of real kernels (results/amd-epyc/verdicts-aa.jsonl), in units of their robust
deviation, heavy tails included. Each series has a scale of its own; most models are noisier than a kernel.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import ROOT
from tuner.nightly.statistics import NOISY, SEVERAL, threshold

Array = NDArray[np.float64]

RECORDS = ROOT / "results" / "amd-epyc" / "verdicts-aa.jsonl"

SCALE = 0.0025
"""The median over the series of the deviation within a night: twice what the kernels on record show."""
SPREAD = 0.7
"""The deviation of the logarithm of that scale: one series in twenty has 0.8 % and more."""
MODAL = 0.3
"""The share of series with two modes, in which whole nights stand elsewhere."""
MODE = 0.004
"""The deviation of how far the second mode stands."""
DRIFT = 0.0001
"""The deviation of a night's step of a random walk: 0.2 % a year."""
STEPS_A_YEAR, STEP = 2.0, 0.002
"""Steps that nobody made (code placement after an update), and the deviation of their size."""
TRIAL = 60
"""Nights of one comparison each, before those that count."""
SHARED = 0.2
"""The chance that what disturbs a night's first run disturbs its second one, too. On record, none of five outliers was
followed by another one of the same kernel, minutes later."""


@dataclass(frozen=True)
class Noise:
    """`first` and `second` [series, nights]: the values of a night's comparison and of its second, reversed run."""

    first: Array
    second: Array


def standardized() -> Array:
    """The A/A log ratios on record, in units of their robust deviation."""
    ratios = [json.loads(line)["ratio"] for line in RECORDS.read_text("utf-8").splitlines()]
    logs = np.log(np.array([ratio for ratio in ratios if ratio is not None]))
    centred = logs - np.median(logs)
    scaled: Array = centred / (1.4826 * np.median(np.abs(centred)))
    return scaled


def draw(series: int, nights: int, rng: np.random.Generator, core: Array) -> Noise:
    """The noise of many series. One that shows in TRIAL nights that a comparison is too noisy gets several a night."""
    shape = (series, nights)
    scale = SCALE * np.exp(SPREAD * rng.standard_normal(series))[:, None]
    modal = rng.random(series) < MODAL
    often = rng.uniform(0.05, 0.3, series)
    away = MODE * rng.standard_normal(series) * modal
    mode = np.where(rng.random(shape) < often[:, None], away[:, None], 0.0)
    drift = np.cumsum(DRIFT * rng.standard_normal(shape), axis=1)
    steps = np.cumsum((rng.random(shape) < STEPS_A_YEAR / 365.0) * STEP * rng.standard_normal(shape), axis=1)
    common = mode + drift + steps
    trial = common[:, :TRIAL] + scale * core[rng.integers(len(core), size=(series, min(nights, TRIAL)))]
    noisy = threshold(np.diff(trial, axis=-1))[:, None] > NOISY
    one, two = (core[rng.integers(len(core), size=(SEVERAL, *shape))] for _ in range(2))
    two = np.where((np.abs(one) > 3.0) & (rng.random(one.shape) < SHARED), one, two)
    first, second = (np.where(noisy, np.median(runs, axis=0), runs[0]) for runs in (one, two))
    return Noise(common + scale * first, common + scale * second)
