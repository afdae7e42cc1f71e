"""Optuna's samplers over a design space, by ask and tell. The only place that imports optuna."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import Trial, TrialState, create_trial

from tuner.protocols import Proposal
from tuner.records import Measurement
from tuner.search.base import CandidatePool, belongs, teaches, time_or_bound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kernels.space import Candidate, DesignSpace

_STARTUP = 16
"""Random trials before a model-based sampler starts: one batch."""

_ASKS = 3
"""Trials that may repeat known candidates before the rest of the batch is mutations of the last of them."""


def _gp(seed: int) -> GPSampler:
    """Slow beside the others (0.1 to 0.3 s a trial on one core), so with fewer starts of its inner search."""
    sampler = GPSampler(seed=seed, n_startup_trials=_STARTUP, warn_independent_sampling=False)
    sampler._n_local_search = 4  # noqa: SLF001 - Optuna has no public name for it; its own value is 10
    return sampler


SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed, n_startup_trials=_STARTUP, constant_liar=True),
    "cmaes": lambda seed: CmaEsSampler(seed=seed, n_startup_trials=_STARTUP, warn_independent_sampling=False),
    "gp": _gp,
    "qmc": lambda seed: QMCSampler(
        seed=seed, scramble=True, warn_asynchronous_seeding=False, warn_independent_sampling=False
    ),
    "random": lambda seed: RandomSampler(seed=seed),
}


class OptunaStrategy:
    """One study over a unit cube that all samplers can handle; it minimises the log of the seconds.

    The cube has one axis for the sketch, one for each knob position up to the longest sketch, and
    one for each pass. Knob lists are ordered so that neighbours are alike, which is what makes a
    number on an axis mean something. Half of a pass's axis is its default setting: a pass away from
    its default is seldom better, and a uniform draw would move five of eight.
    """

    def __init__(self, space: DesignSpace, sampler: str, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._name = sampler
        self._pool = CandidatePool(space, seed)
        self._knobs = max(len(s.knobs) for s in space.sketches)
        axes = ["sketch", *(f"k{i}" for i in range(self._knobs)), *(f"p.{name}" for name in space.pass_names)]
        self._axes: dict[str, BaseDistribution] = {axis: FloatDistribution(0.0, 1.0) for axis in axes}
        self._waiting: dict[Candidate, Trial] = {}
        self._values: dict[Candidate, float] = {}
        self._worst: float | None = None
        with warnings.catch_warnings():
            # Arguments that Optuna calls experimental may change; the version is pinned.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(direction="minimize", sampler=SAMPLERS[sampler](seed))

    def ask(self, count: int, refine: bool = False) -> list[Proposal]:
        proposals: list[Proposal] = []
        repeated: Candidate | None = None
        while len(proposals) < count:
            candidate = self._sampled() if repeated is None else self._pool.mutation(repeated)
            if candidate is None:
                break
            if self._pool.claim(candidate):
                proposals.append(Proposal(candidate, self._name if candidate in self._waiting else "mutate"))
            else:
                repeated = candidate
        return proposals

    def tell(self, candidate: Candidate, measurement: Measurement) -> None:
        self._pool.claim(candidate)
        trial = self._waiting.pop(candidate, None)
        if not teaches(measurement):
            if trial is not None:
                self._study.tell(trial, state=TrialState.FAIL)
            return
        seconds = time_or_bound(measurement)
        value = self._failed if seconds is None else math.log(seconds)
        self._values[candidate] = value
        if seconds is not None:
            self._worst = value if self._worst is None else max(self._worst, value)
        if trial is not None:
            self._study.tell(trial, value)
        elif belongs(self._space, candidate):
            self._study.add_trial(create_trial(params=self._point(candidate), distributions=self._axes, value=value))

    @property
    def _failed(self) -> float:
        """What a failure counts as: 2.7 times slower than the slowest that ran; 2.7 s before there is one."""
        return 1.0 if self._worst is None else self._worst + 1.0

    def _sampled(self) -> Candidate:
        """What the sampler wants next; a candidate that was known before if it insists on one."""
        for _ in range(_ASKS):
            trial = self._study.ask(self._axes)
            candidate = self._candidate(trial.params)
            if candidate in self._pool:
                self._waiting[candidate] = trial
                break
            self._settle(trial, candidate)
        return candidate

    def _settle(self, trial: Trial, candidate: Candidate) -> None:
        """Tell the study of a trial that will not be run: the known outcome, or that there is none."""
        if not self._space.legal(candidate):
            self._study.tell(trial, self._failed)
        elif candidate in self._values:
            self._study.tell(trial, self._values[candidate])
        else:
            self._study.tell(trial, state=TrialState.FAIL)

    # --- between the cube and the space ----------------------------------------------------------

    def _candidate(self, point: Mapping[str, float]) -> Candidate:
        sketch = _index(point["sketch"], len(self._space.sketches))
        sizes = self._space.sizes(sketch)
        knobs = len(self._space.sketches[sketch].knobs)
        indices = [_index(point[f"k{i}"], n) for i, n in enumerate(sizes[:knobs])]
        for name, n in zip(self._space.pass_names, sizes[knobs:], strict=True):
            u = point[f"p.{name}"]
            indices.append(0 if u < 0.5 or n == 1 else 1 + _index(2 * u - 1, n - 1))
        return self._space.from_indices(sketch, indices)

    def _point(self, candidate: Candidate) -> dict[str, float]:
        """The middle of the cell of the cube that means the candidate; unused axes at one half."""
        sizes = self._space.sizes(candidate.sketch)
        indices = self._space.to_indices(candidate)
        knobs = len(self._space.sketches[candidate.sketch].knobs)
        point = dict.fromkeys(self._axes, 0.5)
        point["sketch"] = (candidate.sketch + 0.5) / len(self._space.sketches)
        for i in range(knobs):
            point[f"k{i}"] = (indices[i] + 0.5) / sizes[i]
        for name, n, i in zip(self._space.pass_names, sizes[knobs:], indices[knobs:], strict=True):
            point[f"p.{name}"] = 0.25 if i == 0 else 0.5 + 0.5 * (i - 0.5) / (n - 1)
        return point


def _index(u: float, n: int) -> int:
    return min(math.floor(u * n), n - 1)
