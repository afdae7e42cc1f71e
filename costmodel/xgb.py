"""Gradient-boosted trees that rank candidates. The only place that imports xgboost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import xgboost
from numpy.typing import NDArray

from costmodel.dataset import FAILED, CandidateOutcome, normalised_throughput

_SLOWEST = 0.01
"""Candidates over a hundred times slower than the best are all alike: their order is of no use."""

_FAILED = 0.005
"""The throughput that a failure counts as: half that of the slowest."""

_FEWEST = 4
"""Candidates that failed, and that ran, from which the validity head is trained."""

MEMBERS = 3
"""Boosters of the ensemble. They and the validity head share the rounds, to train about as long as one would."""


class XgbRanker:
    """Regression of the log of the normalised throughput (best time of the task over own time).

    Trained on 64 measured candidates of a matmul and of a convolution, it ordered the rest with rank correlation 0.82
    and 0.79; without the log 0.77 and 0.75, XGBoost's pairwise ranking 0.78 and 0.75, its NDCG ranking 0.57 on the
    matmul.

    An ensemble: `predict` is its mean, `uncertainty` the deviation of its members. A second head predicts what runs at
    all. Deterministic for a seed. Features that are not finite count as missing. `threads` limits training and
    prediction: one is enough (0.12 s for 1,000 vectors), and two wait for each other beside other work (56 vectors:
    0.45 s instead of 0.03).

    `schema` names the meaning of the features, and `columns` are their names; without names a feature means the same by
    its position. A saved model is loaded where its schema is known and all its columns still exist.
    """

    def __init__(
        self,
        schema: str,
        seed: int = 0,
        threads: int = 1,
        rounds: int = 100,
        depth: int = 6,
        columns: Sequence[str] = (),
    ) -> None:
        self.schema = schema
        self.columns = tuple(columns)
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
        self._selected: NDArray[np.intp] | None = None
        """Positions of the columns that the boosters were trained on; None for all."""

    @property
    def trained(self) -> bool:
        return bool(self._boosters)

    @property
    def trained_columns(self) -> tuple[str, ...]:
        """The columns that predictions depend on: those of `fit`, or of the file that the model was loaded from."""
        return self.columns if self._selected is None else tuple(self.columns[i] for i in self._selected)

    @property
    def has_validity(self) -> bool:
        """Whether enough candidates had failed, and run, to train the validity head."""
        return self._validity is not None

    def fit(
        self,
        features: NDArray[np.float32],
        outcomes: Sequence[CandidateOutcome],
        groups: NDArray[np.int64],
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        """Learn from feature vectors [n, d], each with its weight [n] (1 when not given). With none it is untrained.

        Raises ValueError when the model has named columns, and d is another number.
        """
        self._boosters, self._validity, self._selected = [], None, None
        if not len(features):
            return
        if self.columns and features.shape[1] != len(self.columns):
            raise ValueError(f"{features.shape[1]} features for {len(self.columns)} columns")
        features = _finite(features)
        matrix = xgboost.DMatrix(features, label=_target(outcomes, groups), weight=weights, nthread=self._threads)
        for member in range(MEMBERS):
            parameters = {**self._parameters, "seed": self._seed + 1000 * member}
            self._boosters.append(xgboost.train(parameters, matrix, num_boost_round=self._rounds))
        ran = np.array([o.seconds is not None or o.slower_than is not None for o in outcomes])
        if min(ran.sum(), (~ran).sum()) >= _FEWEST:
            matrix = xgboost.DMatrix(features, label=ran.astype(np.float32), weight=weights, nthread=self._threads)
            parameters = {**self._parameters, "objective": "binary:logistic", "max_depth": 4, "seed": self._seed}
            self._validity = xgboost.train(parameters, matrix, num_boost_round=max(self._rounds // 2, 1))

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predicted log throughput [n]; zeros while untrained.

        Raises ValueError when the vectors have another length than those of `fit`, or than the named columns.
        """
        mean: NDArray[np.float32] = self._members(features).mean(axis=0, dtype=np.float32)
        return mean

    def uncertainty(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The standard deviation of the members' predictions [n]; zeros while untrained."""
        deviation: NDArray[np.float32] = self._members(features).std(axis=0, dtype=np.float32)
        return deviation

    def validity(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The probability that a candidate builds, runs and is right [n]; ones while too few have failed."""
        if self._validity is None or not len(features):
            return np.ones(len(features), dtype=np.float32)
        probability: NDArray[np.float32] = self._validity.inplace_predict(self._input(features))
        return probability

    def _members(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The prediction of each member [members, n]."""
        if not self._boosters or not len(features):
            return np.zeros((1, len(features)), dtype=np.float32)
        columns = self._input(features)
        return np.stack([booster.inplace_predict(columns) for booster in self._boosters])

    def _input(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The columns that the boosters were trained on."""
        wanted = len(self.columns) or self._boosters[0].num_features()
        if features.shape[1] != wanted:
            raise ValueError(f"vectors of {features.shape[1]} features, trained on {wanted}")
        return _finite(features if self._selected is None else np.ascontiguousarray(features[:, self._selected]))

    @property
    def _threads(self) -> int:
        return int(self._parameters["nthread"])

    def save(self, path: Path) -> None:
        """Write a line of JSON (schema, columns, SHA-256, lengths), then one UBJSON for each booster.

        Raises ValueError while untrained.
        """
        if not self._boosters:
            raise ValueError("an untrained model cannot be saved")
        heads = self._boosters if self._validity is None else [*self._boosters, self._validity]
        parts = [bytes(booster.save_raw("ubj")) for booster in heads]
        header = _header(self.schema, self.trained_columns, parts)
        path.write_bytes(json.dumps(header).encode() + b"\n" + b"".join(parts))

    @classmethod
    def load(
        cls,
        path: Path,
        schema: str,
        seed: int = 0,
        threads: int = 1,
        columns: Sequence[str] = (),
        earlier: Mapping[str, Sequence[str]] | None = None,
    ) -> Self | None:
        """A saved model, which predicts from vectors of `columns` by those it was trained on.

        None when it is of another schema, when one of its columns is not among `columns`, or when the file is not one
        whole model. `earlier` are further schemas, of models that were saved without column names, each with the
        columns they mean. The checksum is there because XGBoost crashes on a torn file; it does not protect from a
        forged one. Raises OSError when the file cannot be read.
        """
        saved = _read(path.read_bytes(), schema, earlier or {})
        if saved is None or not set(saved.columns) <= set(columns) or bool(saved.columns) != bool(columns):
            return None
        boosters = [xgboost.Booster({"nthread": threads}) for _ in saved.parts]
        for booster, part in zip(boosters, saved.parts, strict=True):
            booster.load_model(bytearray(part))
        if columns and any(booster.num_features() != len(saved.columns) for booster in boosters):
            return None
        model = cls(schema, seed, threads, columns=columns)
        model._boosters = boosters[:MEMBERS]
        model._validity = boosters[MEMBERS] if len(boosters) > MEMBERS else None
        if saved.columns != model.columns:
            position = {name: i for i, name in enumerate(columns)}
            model._selected = np.array([position[name] for name in saved.columns], np.intp)
        return model


@dataclass(frozen=True)
class _Saved:
    """The content of a file: column names, and the boosters as UBJSON."""

    columns: tuple[str, ...]
    parts: tuple[bytes, ...]


def _read(content: bytes, schema: str, earlier: Mapping[str, Sequence[str]]) -> _Saved | None:
    """A file's content; None when it is of no known schema or not one whole model."""
    line, _, body = content.partition(b"\n")
    try:
        header = json.loads(line)
        ends = np.cumsum(header["lengths"]).tolist()
        parts = [body[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        stated, columns = str(header["schema"]), tuple(map(str, header.get("columns", ())))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    whole = header == _header(stated, columns, parts) and b"".join(parts) == body
    if not whole or len(parts) not in (MEMBERS, MEMBERS + 1):
        return None
    if stated in earlier and not columns:
        return _Saved(tuple(earlier[stated]), tuple(parts))
    return _Saved(columns, tuple(parts)) if stated == schema else None


def _header(schema: str, columns: Sequence[str], parts: Sequence[bytes]) -> dict[str, Any]:
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    names = {"columns": list(columns)} if columns else {}
    return {"schema": schema, **names, "sha256": digest, "lengths": [len(part) for part in parts]}


def _target(outcomes: Sequence[CandidateOutcome], groups: NDArray[np.int64]) -> NDArray[np.float32]:
    throughput = normalised_throughput(outcomes, groups)
    return np.log(np.where(throughput > FAILED, np.maximum(throughput, _SLOWEST), _FAILED)).astype(np.float32)


def _finite(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Infinities as missing values (XGBoost rejects them)."""
    return features if np.isfinite(features).all() else np.where(np.isfinite(features), features, np.float32(np.nan))
