"""The seams of the program: small protocols, each with one contract suite in tests/contracts.

`numpy` arrays cross the seams as inputs and outputs; nothing heavier is imported.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tuner.records import Fidelity, Measurement, Record, Status

if TYPE_CHECKING:
    from kernels.space import Candidate
    from kernels.workload import Workload

Array = NDArray[Any]

# --- measuring -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """When to stop sampling. Seconds throughout.

    A block of calls is at least `block_s` long. Sampling goes on until there are `min_samples`
    blocks and `min_time_s` of timed work, and then until the relative half-width of the median's
    95 % interval is at most `half_width` (0 = do not wait for it) or `max_time_s` is spent.
    `give_up_above_s`: when the first sample is above it, stop and call the measurement censored.
    `enough_above_s`: a median above it is known well enough once there are `min_samples` blocks.
    """

    fidelity: Fidelity
    min_samples: int
    min_time_s: float
    max_time_s: float
    half_width: float
    block_s: float = 0.002
    warmup_s: float = 0.0
    give_up_above_s: float | None = None
    enough_above_s: float | None = None


SCREEN = Policy(Fidelity.SCREEN, min_samples=3, min_time_s=0.02, max_time_s=1.0, half_width=0.0)
RANK = Policy(Fidelity.RANK, min_samples=10, min_time_s=0.1, max_time_s=3.0, half_width=0.02)
CERTIFY = Policy(Fidelity.CERTIFY, min_samples=10, min_time_s=0.5, max_time_s=15.0, half_width=0.005, warmup_s=0.05)


IDLE_S = 0.02
"""After a longer rest the caches, the clock and sleeping threads are no longer as they are in use."""

LONG_CALL_S = 0.5
"""A call this long warms itself up within a few per cent of its time: hosts run no warm call before it."""


class Prepared(Protocol):
    """Something ready to be called again and again on fixed inputs."""

    def launch(self, count: int) -> None:
        """Run `count` calls back to back and return when the last one is finished."""

    def outputs(self) -> list[Array]:
        """The outputs of the last call, as numpy arrays in the model's own layout."""


class Launchable(Protocol):
    """A thing that can be timed: a tuned kernel, a whole model, or a rival."""

    @property
    def key(self) -> str: ...

    def prepare(self, inputs: Sequence[Array]) -> Prepared: ...


class Runner(Protocol):
    """Times a launchable by a policy, in the process it is called in."""

    def run(self, launchable: Launchable, inputs: Sequence[Array], policy: Policy) -> Measurement: ...


# --- tasks and candidates ---------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A workload on a target. `weight` is how often one inference calls it."""

    workload: Workload
    target: str
    weight: int = 1

    @property
    def key(self) -> str:
        return self.workload.key

    @property
    def name(self) -> str:
        return self.workload.name


@dataclass(frozen=True)
class Artifact:
    """What a build made. `path` is a shared library (CPU) or a cubin (CUDA)."""

    path: Path
    entry: str
    sha256: str
    build_s: float
    resources: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """What a workload must answer on its seeded inputs: a .npz file (arr_0, arr_1, ...).

    `dtype` is that of the arithmetic and `reduction` the longest sum; both set the tolerance.
    """

    path: Path
    dtype: str
    reduction: int


@dataclass(frozen=True)
class BuildFailure:
    """A build that made nothing; becomes a Measurement with the same status and reason."""

    status: Status
    reason: str
    build_s: float = 0.0


class Strategy(Protocol):
    """Proposes candidates for one task and learns from what became of them."""

    def ask(self, count: int, refine: bool = False) -> list[Proposal]:
        """At most `count` candidates never proposed before; an empty list when the space is used up.

        `refine`: the search is about to end; what is near the fastest is worth more than what may be learned elsewhere.
        """

    def tell(self, candidate: Candidate, measurement: Measurement) -> None:
        """Learn from one outcome. Also called for candidates that the strategy did not propose."""


@dataclass(frozen=True)
class Proposal:
    """A candidate and the name of the rule that proposed it (`seed`, `tpe`, `mutate`, ...)."""

    candidate: Candidate
    proposer: str


class Featurizer(Protocol):
    """Turns candidates of one task into rows for a cost model."""

    def rows(self, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        """One row of fixed length a candidate; None where the candidate cannot be scheduled."""


class Builder(Protocol):
    def build(self, task: Task, candidates: Sequence[Candidate]) -> list[Artifact | BuildFailure]:
        """Build candidates in parallel; the order of the results is that of the candidates."""


class Bench(Protocol):
    """Checks and times kernels, each in a child that may die of it. A job is what `measure.kernel.job_of` makes."""

    def measure(self, job: Mapping[str, Any], policy: Policy) -> Measurement:
        """Whatever goes wrong with the kernel is a status with a reason."""

    def measure_interleaved(
        self, jobs: Sequence[Mapping[str, Any]], policy: Policy, budget_s: float, seed: int
    ) -> tuple[list[Measurement], Mapping[str, Any] | None]:
        """Kernels of one task in turn, within about `budget_s` seconds; and the first one's second entry."""

    def store_outputs(self, job: Mapping[str, Any], path: Path) -> str | None:
        """Run once and store the outputs; the reason when that fails."""

    def renew(self) -> None:
        """What is measured next runs in a fresh process."""

    def close(self) -> None: ...


# --- models, baselines, records, export ---------------------------------------------------------


@dataclass(frozen=True)
class InputSpec:
    """A named model input."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Importer(Protocol):
    """Loads the model that a recipe describes, as relax."""

    def __call__(self, model_spec: Mapping[str, Any]) -> ImportedModel: ...


@dataclass(frozen=True)
class ImportedModel:
    """A model ready to be lowered.

    `module` is a relax IRModule with one function `main`, weights bound as constants, operators as
    the framework wrote them (cleaning is `tuner.graph`'s work). `model_spec` is JSON-able data from which
    a child process can make the same model again, weights included: what the baselines are given.
    """

    name: str
    source: str
    module: Any
    inputs: tuple[InputSpec, ...]
    model_spec: Mapping[str, Any]


class Baseline(Protocol):
    """A rival: a launchable with a name, or the reason why it cannot be had here."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> str:
        """The settings it was given, in words, for the report."""

    def unavailable(self) -> str | None: ...

    def load(self, model_spec: Mapping[str, Any], threads: int) -> Launchable: ...


class RecordStore(Protocol):
    def append(self, records: Sequence[Record]) -> None: ...

    def read(
        self, *, scope: str | None = None, task_key: str | Collection[str] | None = None, run_id: str | None = None
    ) -> list[Record]: ...

    def add_environment(self, environment_id: str, facts: Mapping[str, Any]) -> None:
        """Store the facts behind an id of `tuner.environment.environment_id`, unless they are there."""

    def environment(self, environment_id: str) -> dict[str, Any] | None:
        """The facts that were stored under an id; None where there are none, or none that can be understood."""

    def end(self, run_id: str) -> None:
        """Note that a run has measured all that it is going to."""

    def ended(self) -> frozenset[str]:
        """The runs that were ended; not those that were killed or interrupted, or still go on."""
