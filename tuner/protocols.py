"""The seams of the program: small protocols, each with one contract suite in tests/contracts.

What crosses a seam is a frozen type with one JSON form, or a numpy array. Nothing heavier than numpy is imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from kernels.tensors import NO_CONSTANTS, ConstantOperands, TensorSpec
from tuner.models import ImportedModel
from tuner.records import Fidelity, Measurement, Record, Status

if TYPE_CHECKING:
    from kernels.space import Candidate, DesignSpace
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

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{**data, "fidelity": Fidelity(data["fidelity"])})


SCREEN = Policy(Fidelity.SCREEN, min_samples=3, min_time_s=0.02, max_time_s=1.0, half_width=0.0)
RANK = Policy(Fidelity.RANK, min_samples=10, min_time_s=0.1, max_time_s=3.0, half_width=0.02)
CERTIFY = Policy(Fidelity.CERTIFY, min_samples=10, min_time_s=0.5, max_time_s=15.0, half_width=0.005, warmup_s=0.05)


LONG_CALL_S = 0.5
"""A call this long warms itself up within a few per cent of its time: no other is made before it."""


class Prepared(Protocol):
    """Something ready to be called again and again on fixed inputs."""

    def launch(self, count: int) -> None:
        """Run `count` calls back to back and return when the last one is finished."""

    def outputs(self) -> list[Array]:
        """The outputs of the last call, as numpy arrays in the model's own layout."""


class Launchable(Protocol):
    """A thing that can be timed: a tuned kernel, a whole model, or a baseline."""

    @property
    def key(self) -> str: ...

    def prepare(self, inputs: Sequence[Array]) -> Prepared: ...


class Runner(Protocol):
    """Times a launchable by a policy, in the process it is called in."""

    def run(self, launchable: Launchable, inputs: Sequence[Array], policy: Policy) -> Measurement: ...


# --- tasks and candidates ---------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A workload on a target. `weight` is how often one inference calls it. `constants`, which is no part of its
    identity, says which of its arguments the model holds constant."""

    workload: Workload
    target: str
    weight: int = 1
    constants: ConstantOperands = field(default=NO_CONSTANTS, compare=False)

    @property
    def key(self) -> str:
        return self.workload.key

    @property
    def name(self) -> str:
        return self.workload.name


@dataclass(frozen=True)
class Artifact:
    """What a build made. `path` is a shared library (CPU) or a cubin (CUDA, whose launch plan is in `resources`)."""

    path: Path
    entry: str
    sha256: str
    build_s: float
    resources: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """What a workload must give on its seeded inputs: a .npz file (arr_0, arr_1, ...).

    `dtype` is that of the arithmetic and `reduction` the longest sum; both set the tolerance. `rounding` has for each
    output what explicit roundings add to it (`kernels.reference.rounding`), `passing` the size of what errs on the way
    (`kernels.reference.passing_sizes`), nothing where none is known.
    """

    path: Path
    dtype: str
    reduction: int
    rounding: tuple[float, ...] = ()
    passing: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path), "dtype": self.dtype, "reduction": self.reduction, "rounding": list(self.rounding),
            "passing": list(self.passing),
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            Path(data["path"]), data["dtype"], data["reduction"], tuple(data["rounding"]), tuple(data["passing"])
        )


@dataclass(frozen=True)
class ExpectedOutput:
    """What one output must be, as a bundle holds it: see `tuner.bundle.expected`. `sums` of large outputs only."""

    values: Path
    sums: Path | None
    rtol: float
    atol: float

    def to_json(self) -> dict[str, Any]:
        sums = None if self.sums is None else str(self.sums)
        return {"values": str(self.values), "sums": sums, "rtol": self.rtol, "atol": self.atol}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        sums = None if data["sums"] is None else Path(data["sums"])
        return cls(Path(data["values"]), sums, data["rtol"], data["atol"])


@dataclass(frozen=True)
class Job:
    """A built kernel to be checked and timed, with all that a bench needs to know of it.

    `task` is the task's key and `candidate` the candidate's text. Its outputs on the inputs of `seed` are compared
    with `reference`, or with `expected` where a bundle brought them. `recheck`: the seed and the reference of the
    check after the timing; without it that check has the same inputs, which a stale output still does not survive.
    `inputs_sha256`: digests of the inputs, where another machine drew them first. `resources` are the artifact's.
    `constants` are the task's.
    """

    task: str
    candidate: str
    path: Path
    entry: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    seed: int
    reference: Reference | None = None
    recheck: tuple[int, Reference] | None = None
    expected: tuple[ExpectedOutput, ...] = ()
    inputs_sha256: tuple[str, ...] = ()
    resources: Mapping[str, Any] = field(default_factory=dict)
    constants: ConstantOperands = NO_CONSTANTS

    @property
    def elements(self) -> int:
        """Of all its tensors."""
        return sum(int(np.prod(spec.shape, dtype=np.int64)) for spec in (*self.inputs, *self.outputs))

    def on_recheck_inputs(self) -> Self:
        """The same kernel with the inputs and the reference of the check after the timing."""
        if self.recheck is None:
            return self
        seed, reference = self.recheck
        return dataclasses.replace(self, seed=seed, reference=reference, recheck=None)

    def to_json(self) -> dict[str, Any]:
        recheck = None if self.recheck is None else [self.recheck[0], self.recheck[1].to_json()]
        return {
            "task": self.task, "candidate": self.candidate, "path": str(self.path), "entry": self.entry,
            "inputs": [[list(spec.shape), spec.dtype, spec.largest] for spec in self.inputs],
            "outputs": [[list(spec.shape), spec.dtype, spec.largest] for spec in self.outputs], "seed": self.seed,
            "reference": None if self.reference is None else self.reference.to_json(), "recheck": recheck,
            "expected": [output.to_json() for output in self.expected], "inputs_sha256": list(self.inputs_sha256),
            "resources": dict(self.resources),
            "constants": [list(self.constants.positions), self.constants.model_bytes],
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        reference, recheck = data["reference"], data["recheck"]
        positions, model_bytes = data["constants"]
        return cls(
            task=data["task"], candidate=data["candidate"], path=Path(data["path"]), entry=data["entry"],
            inputs=_specs(data["inputs"]), outputs=_specs(data["outputs"]), seed=data["seed"],
            reference=None if reference is None else Reference.from_json(reference),
            recheck=None if recheck is None else (recheck[0], Reference.from_json(recheck[1])),
            expected=tuple(map(ExpectedOutput.from_json, data["expected"])),
            inputs_sha256=tuple(data["inputs_sha256"]), resources=dict(data["resources"]),
            constants=ConstantOperands(tuple(positions), model_bytes),
        )  # fmt: skip


def _specs(data: Sequence[Sequence[Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(tuple(shape), dtype, largest) for shape, dtype, largest in data)


def job_of(
    task: Task,
    candidate: Candidate,
    artifact: Artifact,
    seed: int,
    reference: Reference,
    recheck: tuple[int, Reference] | None = None,
) -> Job:
    """The job that checks and times an artifact of a task."""
    workload = task.workload
    return Job(
        task.key, candidate.to_text(), artifact.path, artifact.entry, workload.inputs, workload.outputs, seed,
        reference, recheck, resources=artifact.resources, constants=task.constants,
    )  # fmt: skip


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
    """A candidate and the name of the rule that proposed it (`initial`, `tpe`, `mutate`, ...)."""

    candidate: Candidate
    proposer: str


class Featurizer(Protocol):
    """Turns candidates of one task into feature vectors for a cost model."""

    def vectors(self, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        """One vector of fixed length a candidate; None where the candidate cannot be scheduled."""


Stop = Callable[[], bool]
"""Whether no further work may be begun."""


class Builder(Protocol):
    """Everything about candidates that needs a compiler: spaces, feature vectors, references and artifacts."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the feature vectors' columns."""

    @property
    def schema(self) -> str:
        """The name of what a feature vector means; a cost model keeps it."""

    def space(self, task: Task, pass_names: Sequence[str]) -> DesignSpace:
        """The design space of a task; also readies the builder for the task."""

    def features(self, task: Task, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        """One feature vector a candidate; None where it cannot be scheduled or its features take too long."""

    def reference(self, task: Task, seeds: Sequence[int], folder: Path) -> dict[int, Reference] | str:
        """Independent results for each seed, as files in `folder`; the reason, as text, where there are none."""

    def build(
        self, task: Task, candidates: Sequence[Candidate], stop: Stop = lambda: False
    ) -> list[Artifact | BuildFailure]:
        """Build candidates in parallel; the order of the results is that of the candidates.

        Once `stop()` is true no further build is begun: the results are then those of the first candidates.
        """

    def close(self) -> None: ...


@dataclass(frozen=True)
class AaControl:
    """The incumbent's second entry in one process: seconds per call and the rounds that they are from."""

    rounds: tuple[int, ...]
    seconds: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        return {"rounds": list(self.rounds), "seconds": list(self.seconds)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(tuple(data["rounds"]), tuple(data["seconds"]))


class Bench(Protocol):
    """Checks and times kernels on one device, each in a child that may die of it."""

    @property
    def rechecks(self) -> bool:
        """Whether a job's outputs are checked on other inputs after the timing: then it wants a `recheck`."""

    def measure(self, job: Job, policy: Policy) -> Measurement:
        """Whatever goes wrong with the kernel is a status with a reason."""

    def measure_interleaved(
        self, jobs: Sequence[Job], policy: Policy, budget_s: float, seed: int
    ) -> tuple[list[Measurement], AaControl | None]:
        """Kernels of one task interleaved, within about `budget_s` seconds; and the first one's A/A control."""

    def store_outputs(self, job: Job, path: Path) -> str | None:
        """Run once and store the outputs; the reason when that fails."""

    def renew(self) -> None:
        """What is measured next runs in a fresh process."""

    def close(self) -> None: ...


class TuningDevice(Protocol):
    """What the search of one task needs of hardware: here, elsewhere, or simulated."""

    @property
    def builder(self) -> Builder: ...

    @property
    def bench(self) -> Bench: ...

    def lower_bound_s(self, task: Task) -> float:
        """The least seconds that a kernel of this task can take; 0 where nothing is known."""


# --- models, baselines, records ---------------------------------------------------------


class Importer(Protocol):
    """Loads the model that a model spec describes, as relax."""

    def __call__(self, model_spec: Mapping[str, Any]) -> ImportedModel: ...


class Baseline(Protocol):
    """What a user would run instead: a launchable with a name, or the reason why it cannot be had here."""

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
