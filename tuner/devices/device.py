"""What a run needs of the hardware it tunes for: ceilings, a bench, rivals, and a way to put the winners back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tuner.protocols import Bench, ImportedModel, Task

if TYPE_CHECKING:
    from kernels.space import Candidate
    from tuner.graph import Lowered
    from tuner.measure.models import ModelComparison
    from tuner.tuning.phase import SearchResult

Finished = tuple["ModelComparison | None", "dict[str, Any] | None"]
"""What the comparison of whole models found, where there was one, and the export's manifest, where there is one."""


class Device(Protocol):
    """`ceilings` as `measure.ceilings.Ceilings.op_measure` answers them."""

    ceilings: dict[str, Any]
    bench: Bench

    def lower_bound_s(self, task: Task) -> float:
        """The least seconds that a kernel of this task can take."""

    def kernel_baselines(self, found: SearchResult) -> dict[str, dict[str, list[float]]]:
        """Samples (seconds) of rivals for each task that has a counterpart, by task key and name."""

    def parts(self, found: SearchResult, winners: Mapping[str, Candidate]) -> Mapping[str, Any]:
        """By workload key what the model is put together from, in place of TVM's own kernels."""

    def whole_model(
        self, model: ImportedModel, graph: Lowered, parts: Mapping[str, Any], versions: Mapping[str, str]
    ) -> Finished:
        """Put the winners into the model, check it, time it beside its rivals, and export it if it may be."""

    def close(self) -> None: ...
