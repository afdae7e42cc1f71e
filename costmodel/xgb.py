"""Gradient-boosted trees that rank candidates. The only place that imports xgboost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import xgboost
from numpy.typing import NDArray

from costmodel.dataset import FAILED, Outcome, normalised_throughput

_SLOWEST = 0.01
"""Candidates over a hundred times slower than the best are all alike: their order is of no use."""

_FAILED = 0.005
"""What a failure counts as: half the throughput of the slowest."""

_FEWEST = 4
"""Candidates that failed, and that ran, before the validity head says anything."""

MEMBERS = 3
"""Boosters of the ensemble. They and the validity head share the rounds, to train about as long as one would."""


class XgbRanker:
    """Regression of the log of the normalised throughput (best time of the task over own time).

    Learned from 64 measured candidates of a matmul and of a convolution, this ordered the rest with
    rank correlation 0.82 and 0.79; without the log 0.77 and 0.75, XGBoost's pairwise ranking 0.78 and
    0.75, its NDCG ranking 0.57 on the matmul.

    An ensemble: `predict` is its mean, `uncertainty` how far its members disagree. A second head tells what
    will run at all. `schema` names the meaning of the rows; a saved model of another schema is not loaded.
    `threads` limits training and prediction: one is enough (0.12 s for 1,000 rows), and two wait for each other where
    others work (56 rows beside other jobs: 0.45 s instead of 0.03). Deterministic for a seed. Features that are not
    finite count as missing.
    """

    def __init__(self, schema: str, seed: int = 0, threads: int = 1, rounds: int = 100, depth: int = 6) -> None:
        self.schema = schema
        self._seed = seed
        self._rounds = max(rounds // (MEMBERS + 1), 1)
        self._parameters: dict[str, Any] = {
            "objective": "reg:squarederror",
            "tree_method": "hist",
            "max_depth": depth,
            "eta": min(0.1 * MEMBERS, 0.25),
            "max_bin": 32,  # features are few-valued: more bins cost time and order no better
            "subsample": 0.8,
            "colsample_bytree": 0.5,  # the columns repeat each other; half of them trains in half the time
            "min_child_weight": 2.0,
            "nthread": threads,
            "verbosity": 0,
        }
        self._boosters: list[xgboost.Booster] = []
        self._validity: xgboost.Booster | None = None

    @property
    def trained(self) -> bool:
        return bool(self._boosters)

    @property
    def has_validity(self) -> bool:
        """Whether enough had failed, and run, to tell what will."""
        return self._validity is not None

    def fit(
        self,
        rows: NDArray[np.float32],
        outcomes: Sequence[Outcome],
        groups: NDArray[np.int64],
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        """Learn from rows [n, d], each with its weight [n] (1 when not given). With no rows it is untrained again."""
        self._boosters, self._validity = [], None
        if not len(rows):
            return
        rows = _finite(rows)
        matrix = xgboost.DMatrix(rows, label=_target(outcomes, groups), weight=weights, nthread=self._threads)
        for member in range(MEMBERS):
            parameters = {**self._parameters, "seed": self._seed + 1000 * member}
            self._boosters.append(xgboost.train(parameters, matrix, num_boost_round=self._rounds))
        ran = np.array([o.seconds is not None or o.slower_than is not None for o in outcomes])
        if min(ran.sum(), (~ran).sum()) >= _FEWEST:
            matrix = xgboost.DMatrix(rows, label=ran.astype(np.float32), weight=weights, nthread=self._threads)
            parameters = {**self._parameters, "objective": "binary:logistic", "max_depth": 4, "seed": self._seed}
            self._validity = xgboost.train(parameters, matrix, num_boost_round=max(self._rounds // 2, 1))

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predicted log throughput [n]; zeros while untrained.

        Raises ValueError when the rows are of another length than those of `fit`.
        """
        mean: NDArray[np.float32] = self._members(rows).mean(axis=0, dtype=np.float32)
        return mean

    def uncertainty(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far the members disagree [n]: the standard deviation of their predictions; zeros while untrained."""
        deviation: NDArray[np.float32] = self._members(rows).std(axis=0, dtype=np.float32)
        return deviation

    def validity(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The probability that a candidate builds, runs and is right [n]; ones while too few have failed."""
        if self._validity is None or not len(rows):
            return np.ones(len(rows), dtype=np.float32)
        probability: NDArray[np.float32] = self._validity.inplace_predict(_finite(rows))
        return probability

    def _members(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self._boosters or not len(rows):
            return np.zeros((1, len(rows)), dtype=np.float32)
        if rows.shape[1] != self._boosters[0].num_features():
            raise ValueError(f"rows of {rows.shape[1]} columns, trained on {self._boosters[0].num_features()}")
        finite = _finite(rows)
        return np.stack([booster.inplace_predict(finite) for booster in self._boosters])

    @property
    def _threads(self) -> int:
        return int(self._parameters["nthread"])

    def save(self, path: Path) -> None:
        """Write a line of JSON (schema, SHA-256, lengths), then one UBJSON a booster.

        Raises ValueError while untrained.
        """
        if not self._boosters:
            raise ValueError("nothing has been learned that could be saved")
        heads = self._boosters if self._validity is None else [*self._boosters, self._validity]
        parts = [bytes(booster.save_raw("ubj")) for booster in heads]
        path.write_bytes(json.dumps(_head(self.schema, parts)).encode() + b"\n" + b"".join(parts))

    @classmethod
    def load(cls, path: Path, schema: str, seed: int = 0, threads: int = 1) -> Self | None:
        """A saved model, or None when it is of another schema or the file is not one whole model.

        The checksum is there because XGBoost crashes on a torn file; it is no protection from a forged
        one. Raises OSError when the file cannot be read.
        """
        line, _, content = path.read_bytes().partition(b"\n")
        try:
            head = json.loads(line)
            ends = np.cumsum(head["lengths"]).tolist()
            parts = [content[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None
        if head != _head(schema, parts) or b"".join(parts) != content or len(parts) not in (MEMBERS, MEMBERS + 1):
            return None
        model = cls(schema, seed, threads)
        boosters = [xgboost.Booster({"nthread": threads}) for _ in parts]
        for booster, part in zip(boosters, parts, strict=True):
            booster.load_model(bytearray(part))
        model._boosters = boosters[:MEMBERS]
        model._validity = boosters[MEMBERS] if len(boosters) > MEMBERS else None
        return model


def _head(schema: str, parts: Sequence[bytes]) -> dict[str, Any]:
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    return {"schema": schema, "sha256": digest, "lengths": [len(part) for part in parts]}


def _target(outcomes: Sequence[Outcome], groups: NDArray[np.int64]) -> NDArray[np.float32]:
    throughput = normalised_throughput(outcomes, groups)
    return np.log(np.where(throughput > FAILED, np.maximum(throughput, _SLOWEST), _FAILED)).astype(np.float32)


def _finite(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Infinities as missing values (XGBoost refuses them)."""
    return rows if np.isfinite(rows).all() else np.where(np.isfinite(rows), rows, np.float32(np.nan))
