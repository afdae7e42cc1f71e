"""(workload, candidate, scheduled program) -> numbers a cost model can learn from, each with a name.

Features are stored with their names (COLUMNS), so that a column can be added without losing those stored before:
DEFAULTS says what it is in them. A name never changes its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.s_tir import Schedule

from kernels import access
from kernels.metaschedule import meta_schedule
from kernels.passes import PASSES
from kernels.passes.persist import Persist
from kernels.passes.stream_k import StreamK
from kernels.roofline import FEATURE_NAMES
from kernels.space import ENCODING_COLUMNS, ENCODING_LENGTH, Candidate, TraceApplier
from kernels.workload import Workload

_PER_STORE = 164
"""TVM's features of one store, see tvm/s_tir/meta_schedule/feature_extractor/per_store_feature.py."""

_STORE_COLUMNS = tuple(f"store.{pooled}.{i}" for pooled in ("max", "sum") for i in range(_PER_STORE))
_REST_COLUMNS = (
    "workload.flops", "workload.bytes", "workload.intensity", *(f"roofline.{name}" for name in FEATURE_NAMES),
    *(f"access.{name}" for name in access.FEATURE_NAMES),
)  # fmt: skip

COLUMNS: tuple[str, ...] = (*_STORE_COLUMNS, *ENCODING_COLUMNS, *_REST_COLUMNS)
"""The names of the features of a vector, in order; `FeatureExtractor.vector` says what they are."""

FEATURE_LENGTH = len(COLUMNS)
ENCODING = slice(len(_STORE_COLUMNS), len(_STORE_COLUMNS) + ENCODING_LENGTH)
"""The columns of a vector that are the candidate's encoding."""

DEFAULTS: Mapping[str, float] = {
    **dict.fromkeys(COLUMNS, 0.0),
    **{f"pass.{name}": kind().number() for name, kind in PASSES.items()},
}
"""The value of a column in vectors that were stored before there was the column: a pass that did not exist was at its
default. (Vectors of the untuned program have zeros for passes instead, which a model hardly notices.)"""

SCHEMA = "kernel-features/1"
"""Names the meaning of the columns. Cost models of another schema are not loaded, unless EARLIER_SCHEMAS has it."""

EARLIER_SCHEMAS: Mapping[str, tuple[str, ...]] = {
    "per-store-164-max-sum/encoding-40/workload-3/judge-9/1": (
        *(f"store.max.{i}" for i in range(164)),
        *(f"store.sum.{i}" for i in range(164)),
        *(f"encoding.{i}" for i in range(26)),
        "pass.unroll", "pass.vectorize", "pass.vector_width", "pass.llvm_opt", "pass.storage_rewrite", "pass.cse",
        "pass.noalias", "pass.fast_math", "pass.async_copy", "pass.merged_shared", "pass.cuda_math", "pass.ptxas_opt",
        "pass.register_cap", "pass.vector_math",
        "workload.flops", "workload.bytes", "workload.intensity",
        "roofline.seconds", "roofline.arithmetic", "roofline.shared_memory", "roofline.l2", "roofline.device_memory",
        "roofline.latency", "roofline.occupancy", "roofline.waves", "roofline.last_wave",
    ),
}  # fmt: skip
"""The columns of cost models that earlier versions saved without names, by schema. What is here never changes."""


class FeatureExtractor:
    """Feature vectors of candidates of one workload."""

    def __init__(self, workload: Workload, applier: TraceApplier) -> None:
        self._applier = applier
        self._target = applier.context.target
        self._extractor: Any = meta_schedule().feature_extractor.PerStoreFeature()
        self._of_workload = np.log2(
            np.array([workload.flops, workload.bytes, workload.flops / max(workload.bytes, 1)]) + 1.0
        ).astype(np.float32)

    def vector(self, candidate: Candidate, schedule: Schedule) -> NDArray[np.float32]:
        """The features of one candidate [FEATURE_LENGTH]. `schedule` is its scheduled program, which is not changed.

        `store`: TVM's per-store features, which are log-scaled, pooled over the program's stores by maximum and by sum.
        `encoding` and `pass`: the candidate's encoding. `workload`: log2 of flops + 1, bytes + 1 and intensity + 1.
        `roofline`: the analytical model's prediction for a tiled GPU candidate, zeros for others. `access`: what the
        warps of a GPU candidate ask of memory (`kernels.access.features`), zeros for others; of its tiles, which thread
        block ever computes them.
        """
        ms = meta_schedule()
        [of_stores] = self._extractor.extract_from(self._applier.context, [ms.MeasureCandidate(schedule, [])])
        stores = np.asarray(of_stores.numpy(), dtype=np.float32)
        encoding = self._applier.space.encode(candidate)
        groups = [
            stores.max(axis=0), stores.sum(axis=0), encoding, self._of_workload, self._predicted(candidate),
            self._accesses(candidate, schedule),
        ]  # fmt: skip
        return np.concatenate(groups).astype(np.float32)

    def _accesses(self, candidate: Candidate, schedule: Schedule) -> NDArray[np.float32]:
        if candidate.is_default or self._target.kind.name == "llvm":
            return np.zeros(len(access.FEATURE_NAMES), np.float32)
        of_tiles = candidate.passes.replace(StreamK()).replace(Persist())  # loops whose length the block decides
        function = of_tiles.applied(schedule.mod["main"], self._target).function
        return np.array(access.features(tvm.IRModule({"main": function}), self._target), np.float32)

    def predicted_s(self, candidate: Candidate) -> float:
        """The seconds that the analytical model gives a tiled GPU candidate; 0 for others."""
        estimate = self._applier.space.estimate(candidate)
        return 0.0 if estimate is None else estimate.seconds

    def _predicted(self, candidate: Candidate) -> NDArray[np.float32]:
        estimate = self._applier.space.estimate(candidate)
        if estimate is None:
            return np.zeros(len(FEATURE_NAMES), np.float32)
        return np.array(estimate.features(), np.float32)
