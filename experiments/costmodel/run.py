"""How well do cost models order candidates, from how many, and how long do they train? See README.md."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from costmodel.base import ConstantModel, CostModel
from costmodel.dataset import Outcome
from costmodel.xgb import XgbRanker
from kernels.features import FEATURE_LENGTH, SCHEMA
from kernels.space import ENCODING_LENGTH
from tuner import training
from tuner.search.surrogate import Surrogate
from tuner.store import SqlStore

ENCODING = slice(FEATURE_LENGTH - 3 - ENCODING_LENGTH, FEATURE_LENGTH - 3)
"""The columns of a row that are the candidate's own encoding."""


class Surrogates:
    """The Gaussian processes that screen proposals, as a cost model of the encodings alone."""

    def fit(
        self,
        rows: NDArray[np.float32],
        outcomes: Sequence[Outcome],
        groups: NDArray[np.int64],
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        self._model = Surrogate(rows[:, ENCODING], np.random.default_rng(0))
        for row, outcome in zip(rows[:, ENCODING], outcomes, strict=True):
            self._model.add(row, outcome)

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        self._model.look_at(rows[:, ENCODING])
        _, mean = self._model.judge()
        return -mean.astype(np.float32)


class Nearest:
    """As fast as the candidate it resembles most, each column by its range."""

    def fit(
        self,
        rows: NDArray[np.float32],
        outcomes: Sequence[Outcome],
        groups: NDArray[np.int64],
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        timed = [i for i, o in enumerate(outcomes) if o.seconds]
        self._span = np.maximum(np.ptp(rows, axis=0), 1e-6)
        self._rows = rows[timed] / self._span
        self._score = -np.log([outcomes[i].seconds or 1.0 for i in timed])

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        distance = ((rows[:, None] / self._span - self._rows[None]) ** 2).sum(axis=2)
        return self._score[distance.argmin(axis=1)].astype(np.float32)


class OnEncodings:
    """The trees, given nothing but the encodings."""

    def __init__(self) -> None:
        self._model = XgbRanker("encoding")

    def fit(
        self,
        rows: NDArray[np.float32],
        outcomes: Sequence[Outcome],
        groups: NDArray[np.int64],
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        self._model.fit(rows[:, ENCODING], outcomes, groups)

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._model.predict(rows[:, ENCODING])


MODELS: dict[str, Callable[[], CostModel]] = {
    "constant": ConstantModel,
    "nearest neighbour": Nearest,
    "trees, encoding": OnEncodings,
    "Gaussian processes, encoding": Surrogates,
    "trees, program": lambda: XgbRanker(SCHEMA),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", help="a record database, e.g. sqlite:///results/records.db")
    arguments = parser.parse_args()
    with SqlStore(arguments.database) as store:
        known = training.tables(store)
    for question, judge, models in (
        ("from 16 trials of the task", lambda make: training.within(known, make, 16), MODELS),
        ("from 64 trials of the task", lambda make: training.within(known, make, 64), MODELS),
        (
            "from other tasks only",
            lambda make: training.held_out(known, make),
            ("constant", "trees, encoding", "trees, program"),
        ),
    ):
        print(f"{question:32s} tasks   rho  top-10  regret")
        for name in models:
            found = list(judge(MODELS[name]).values())
            means = [np.mean([getattr(q, f) for q in found]) for f in ("correlation", "recall", "regret")]
            print(f"  {name:30s} {len(found):5d} {means[0]:5.2f} {means[1]:7.2f} {means[2]:7.3f}")
    rows = np.concatenate([t.rows for t in known])[:1000]
    outcomes = [o for t in known for o in t.outcomes][:1000]
    groups = np.concatenate([np.full(len(t.rows), i) for i, t in enumerate(known)])[:1000]
    took = []
    for _ in range(5):
        began = time.perf_counter()
        XgbRanker(SCHEMA).fit(rows, outcomes, groups)
        took.append(time.perf_counter() - began)
    print(f"training on {len(rows)} rows: {min(took):.2f} s, one thread, best of 5")


if __name__ == "__main__":
    main()
