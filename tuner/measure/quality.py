"""How good a model's outputs are: against those of float64, or against what the user says they should be.

A sample is one call of the model. Where a model takes several rows at once, classes are looked at row by row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.metrics import LESS_IS_BETTER, keeps
from tuner.protocols import Array

Outputs = Sequence[Array]


@dataclass(frozen=True)
class OutputError:
    """An output's errors against float64 over all samples: the root mean square relative to that of the output, the
    largest, and the cosine of the angle between both (1: none)."""

    relative: float
    largest: float
    cosine: float


@dataclass(frozen=True)
class Quality:
    """What became of a model's outputs. `errors` are by output, against float64, and `agreement` is the share of rows
    whose top class is that of float64; none where there is no such run, or no such output. `score` is that of the
    metric, `bound` what it was to reach; None where nothing was asked, or nothing could be told."""

    samples: int
    errors: tuple[OutputError, ...] = ()
    agreement: float | None = None
    metric: str = ""
    score: float | None = None
    bound: float | None = None
    data: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bound is kept; None where there is none. An unknown score keeps none."""
        return None if self.bound is None else keeps(self.metric, self.score, self.bound)

    def to_json(self) -> dict[str, Any]:
        """Numbers that are not finite become None."""
        errors = [{"relative": _known(e.relative), "largest": _known(e.largest), "cosine": _known(e.cosine)}
                  for e in self.errors]  # fmt: skip
        return {
            "samples": self.samples, "errors": errors, "agreement": self.agreement, "metric": self.metric,
            "score": _known(self.score), "bound": self.bound, "met": self.met, "data": self.data,
        }  # fmt: skip


def errors_of(outputs: Sequence[Outputs], right: Sequence[Outputs]) -> tuple[OutputError, ...]:
    """The errors of each output; `outputs` and `right` are by sample."""
    return tuple(
        _error(_flat([one[index] for one in outputs]), _flat([one[index] for one in right]))
        for index in range(len(right[0]))
    )


def relative_error(outputs: Outputs, right: Outputs) -> float | None:
    """The error of all outputs together, relative to their size; None where one is no number."""
    got, want = (_flat([a.astype(np.float64) for a in side if a.dtype.kind in "biuf"]) for side in (outputs, right))
    return _known(_error(got, want).relative)


def agreement_of(outputs: Sequence[Outputs], right: Sequence[Outputs]) -> float | None:
    """The share of rows of the first output with classes whose largest is that of `right`; None where none has any."""
    index = classes_in(right[0])
    if index is None:
        return None
    same = [_top(a[index], 1)[..., 0] == _top(b[index], 1)[..., 0] for a, b in zip(outputs, right, strict=True)]
    return float(np.mean(np.concatenate([np.ravel(rows) for rows in same])))


def classes_in(outputs: Outputs) -> int | None:
    """The first output that may hold a score for each of several classes along its last axis."""
    shaped = [i for i, a in enumerate(outputs) if a.dtype.kind == "f" and a.ndim >= 1 and a.shape[-1] > 1]
    return shaped[0] if shaped else None


def scored(metric: str, outputs: Sequence[Outputs], right: Sequence[Outputs], labels: Array | None = None) -> float:
    """The metric of outputs: of labels, where there are some (one for each row), else of the outputs that are right.

    top1 and top5: the share of rows whose label (or largest element of what is right) is among the largest 1 or 5.
    cosine, snr (dB) and mse: over all elements of all outputs. max_error: the largest error. NaN where an output is not
    finite, and where there are no classes for a share.
    """
    if metric in ("top1", "top5"):
        return _share(1 if metric == "top1" else 5, outputs, right, labels)
    got, want = (_flat([a for one in side for a in one]) for side in (outputs, right))
    if not np.isfinite(got).all():
        return math.nan
    difference = got - want
    if metric == "mse":
        return float((difference**2).mean())
    if metric == "max_error":
        return float(np.abs(difference).max(initial=0.0))
    if metric == "cosine":
        return _error(got, want).cosine
    noise, signal = float((difference**2).sum()), float((want**2).sum())
    return 300.0 if noise == 0.0 else 10.0 * math.log10(max(signal, 1e-300) / noise)


def _share(count: int, outputs: Sequence[Outputs], right: Sequence[Outputs], labels: Array | None) -> float:
    index = classes_in(outputs[0])
    if index is None:
        return math.nan
    found = np.concatenate([_top(one[index], count).reshape(-1, min(count, one[index].shape[-1])) for one in outputs])
    if labels is None:
        wanted = np.concatenate([_top(one[index], 1).reshape(-1) for one in right])
    else:
        wanted = np.asarray(labels).reshape(-1)
    if len(wanted) != len(found):
        return math.nan
    return float((found == wanted[:, None]).any(axis=1).mean())


def _top(scores: Array, count: int) -> Array:
    """The indices of the largest elements of each row. A row with what is no number has none: -1."""
    order: Array = np.argsort(-scores, axis=-1, kind="stable")[..., :count]
    return np.where(np.isnan(scores).any(axis=-1, keepdims=True), -1, order)


def _error(got: Array, want: Array) -> OutputError:
    if not got.size:
        return OutputError(0.0, 0.0, 1.0)
    if not np.isfinite(got).all():
        return OutputError(math.nan, math.nan, math.nan)
    difference = got - want
    size, own = float(np.linalg.norm(want)), float(np.linalg.norm(got))
    wrong = float(np.linalg.norm(difference))
    relative = wrong / size if size else (0.0 if wrong == 0.0 else math.inf)
    cosine = float(got @ want) / (size * own) if size and own else float(wrong == 0.0)
    return OutputError(relative, float(np.abs(difference).max()), cosine)


def _flat(arrays: Sequence[Array]) -> Array:
    """Numbers of several arrays in a row, as float64; of what is right, numbers alone."""
    numbers = [np.ravel(a).astype(np.float64) for a in arrays if a.dtype.kind in "biuf"]
    return np.concatenate(numbers) if numbers else np.zeros(0)


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def in_words(stated: Mapping[str, Any]) -> str:
    """A quality as `to_json` has it: what was asked, and what was reached."""
    if stated["bound"] is None:
        return ""
    side = "at most" if stated["metric"] in LESS_IS_BETTER else "at least"
    score = "could not be computed" if stated["score"] is None else f"is {stated['score']:.9g}"
    where = stated["data"] or "the inputs of the run"
    on = f"{stated['samples']} samples of {where}"
    return f"{stated['metric']} {score} on {on}, and {side} {stated['bound']:.9g} is asked"
