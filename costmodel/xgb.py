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


class XgbRanker:
    """Regression of the log of the normalised throughput (best time of the task over own time).

    Learned from 64 measured candidates of a matmul and of a convolution, this ordered the rest with
    rank correlation 0.82 and 0.79; without the log 0.77 and 0.75, XGBoost's pairwise ranking 0.78 and
    0.75, its NDCG ranking 0.57 on the matmul.

    `schema` names the meaning of the rows; a saved model of another schema is not loaded.
    `threads` limits training and prediction. Deterministic for a seed. Features that are not finite
    count as missing.
    """

    def __init__(self, schema: str, seed: int = 0, threads: int = 1, rounds: int = 100, depth: int = 6) -> None:
        self.schema = schema
        self._rounds = rounds
        self._parameters: dict[str, Any] = {
            "objective": "reg:squarederror",
            "tree_method": "hist",
            "max_depth": depth,
            "eta": 0.1,
            "max_bin": 32,  # features are few-valued: more bins cost time and order no better
            "subsample": 0.8,
            "colsample_bytree": 0.5,  # the columns repeat each other; half of them trains in half the time
            "min_child_weight": 2.0,
            "seed": seed,
            "nthread": threads,
            "verbosity": 0,
        }
        self._booster: xgboost.Booster | None = None

    @property
    def trained(self) -> bool:
        return self._booster is not None

    def fit(self, rows: NDArray[np.float32], outcomes: Sequence[Outcome], groups: NDArray[np.int64]) -> None:
        """Learn from rows [n, d]. With no rows at all the model is untrained again."""
        if not len(rows):
            self._booster = None
            return
        matrix = xgboost.DMatrix(_finite(rows), label=_target(outcomes, groups), nthread=self._threads)
        self._booster = xgboost.train(self._parameters, matrix, num_boost_round=self._rounds)

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predicted log throughput [n]; zeros while untrained.

        Raises ValueError when the rows are of another length than those of `fit`.
        """
        if self._booster is None or not len(rows):
            return np.zeros(len(rows), dtype=np.float32)
        if rows.shape[1] != self._booster.num_features():
            raise ValueError(f"rows of {rows.shape[1]} columns, trained on {self._booster.num_features()}")
        scores: NDArray[np.float32] = self._booster.inplace_predict(_finite(rows))
        return scores

    @property
    def _threads(self) -> int:
        return int(self._parameters["nthread"])

    def save(self, path: Path) -> None:
        """Write one line of JSON (schema, SHA-256), then the model as UBJSON. Raises ValueError while untrained."""
        if self._booster is None:
            raise ValueError("nothing has been learned that could be saved")
        content = bytes(self._booster.save_raw("ubj"))
        head = {"schema": self.schema, "sha256": hashlib.sha256(content).hexdigest()}
        path.write_bytes(json.dumps(head).encode() + b"\n" + content)

    @classmethod
    def load(cls, path: Path, schema: str, seed: int = 0, threads: int = 1) -> Self | None:
        """A saved model, or None when it is of another schema or the file is not one whole model.

        The checksum is there because XGBoost crashes on a torn file; it is no protection from a forged
        one. Raises OSError when the file cannot be read.
        """
        head, _, content = path.read_bytes().partition(b"\n")
        try:
            expected = json.loads(head)
        except (ValueError, RecursionError):
            return None
        if expected != {"schema": schema, "sha256": hashlib.sha256(content).hexdigest()}:
            return None
        model = cls(schema, seed, threads)
        model._booster = xgboost.Booster({"nthread": threads})
        model._booster.load_model(bytearray(content))
        return model


def _target(outcomes: Sequence[Outcome], groups: NDArray[np.int64]) -> NDArray[np.float32]:
    throughput = normalised_throughput(outcomes, groups)
    return np.log(np.where(throughput > FAILED, np.maximum(throughput, _SLOWEST), _FAILED)).astype(np.float32)


def _finite(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Infinities as missing values (XGBoost refuses them)."""
    return rows if np.isfinite(rows).all() else np.where(np.isfinite(rows), rows, np.float32(np.nan))
