"""(workload, candidate, scheduled program) -> numbers a cost model can learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.s_tir import Schedule

from kernels.metaschedule import meta_schedule
from kernels.roofline import FEATURES as PREDICTED
from kernels.space import ENCODING_LENGTH, Candidate, TraceApplier
from kernels.space.gpu_work import judge
from kernels.workload import Workload

_PER_STORE = 164
"""Columns of TVM's per-store features, see tvm/s_tir/meta_schedule/feature_extractor/per_store_feature.py."""

FEATURE_LENGTH = 2 * _PER_STORE + ENCODING_LENGTH + 3 + PREDICTED
ENCODING = slice(2 * _PER_STORE, 2 * _PER_STORE + ENCODING_LENGTH)
"""The columns of a row that are the candidate's own encoding."""

SCHEMA = f"per-store-{_PER_STORE}-max-sum/encoding-{ENCODING_LENGTH}/workload-3/judge-{PREDICTED}/1"
"""Names the meaning of a row; rows and models of another schema are not used."""


class FeatureExtractor:
    """Rows of FEATURE_LENGTH float32 for candidates of one workload."""

    def __init__(self, workload: Workload, applier: TraceApplier) -> None:
        self._applier = applier
        self._extractor: Any = meta_schedule().feature_extractor.PerStoreFeature()
        self._shape = np.log2(
            np.array([workload.flops, workload.bytes, workload.flops / max(workload.bytes, 1)]) + 1.0
        ).astype(np.float32)

    def row(self, candidate: Candidate, schedule: Schedule) -> NDArray[np.float32]:
        """Features of one candidate, whose scheduled program is `schedule`; that stays as it is.

        Per-store features pooled over the program's stores by maximum and by sum (of what are
        already log-scaled values), then the candidate's own encoding, then log2 of the workload's
        flops, bytes and intensity, then what the static judge says of a tiled GPU candidate (zeros otherwise).
        """
        ms = meta_schedule()
        [stores] = self._extractor.extract_from(self._applier.context, [ms.MeasureCandidate(schedule, [])])
        table = np.asarray(stores.numpy(), dtype=np.float32)
        own = self._applier.space.encode(candidate)
        parts = [table.max(axis=0), table.sum(axis=0), own, self._shape, self._predicted(candidate)]
        return np.concatenate(parts).astype(np.float32)

    def _predicted(self, candidate: Candidate) -> NDArray[np.float32]:
        model = None if candidate.is_default else self._applier.space.sketches[candidate.sketch].gpu
        if model is None:
            return np.zeros(PREDICTED, np.float32)
        return np.array(judge(model, candidate.decisions).features(), np.float32)
