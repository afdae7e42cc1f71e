"""A device in one file: constant times and no compiler. With a line in `devices.resolve.KINDS` a whole `run` uses it.

It is an example of what a device is, from the bottom up: a builder, a bench, an assembly with a worker for whole
models, the device that holds them, and its kind. A kernel takes what the sum of its decisions says, the untuned program
`UNTUNED_S`. Nothing is computed: every output is a zero, and so is every reference.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kernels.space import Candidate, DesignSpace, Knob, Sketch
from kernels.space.encoding import ENCODING_COLUMNS
from kernels.tensors import TensorSpec
from tuner.caveats import OWN, Caveats
from tuner.devices import resolve
from tuner.devices.device import Listing
from tuner.devices.finding import Finding, State
from tuner.devices.target import ResolvedTarget, canonical
from tuner.errors import TargetError
from tuner.export.library import NATIVE
from tuner.measure.model_service import ModelWorker
from tuner.measure.models import TUNED, UNTUNED, EntrySpec
from tuner.models import ImportedModel
from tuner.protocols import AaControl, Array, Artifact, BuildFailure, Job, Policy, Reference, Stop, Task
from tuner.records import Conditions, Measurement, Status

if TYPE_CHECKING:
    import pytest

    from kernels.passes import Applied
    from tuner.config import RunConfig
    from tuner.devices.device import BaselineTiming, BundleBench, Opening, Samples
    from tuner.graph import Lowered

NAME = "null"
UNTUNED_S = 1e-3
FASTEST_S = 1e-4
COST_S = 0.01
"""What a screening costs of the search's budget: constant too, so that a search can be repeated exactly."""

REFERENCE = "zeros"
"""The benchmark entry that the tuned model's outputs are compared with."""

TARGET = {"kind": "llvm", "num-cores": 1}
"""What models are lowered for: a plain CPU without a name."""

_CHOICES = 6
_ROUNDS = 12


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the device known for one test: the line that a device needs."""
    monkeypatch.setitem(resolve.KINDS, NAME, f"{__name__}:NULL")


def space_of(knobs: int = 3) -> DesignSpace:
    """One sketch of a few plain choices."""
    choices = tuple(Knob("choice", tuple(range(_CHOICES)), number) for number in range(knobs))
    return DesignSpace(NAME, (Sketch(0, "", choices),), ())


def seconds_of(candidate: Candidate) -> float:
    """What a candidate takes: less with each step of its decisions."""
    if candidate.is_default:
        return UNTUNED_S
    steps_left = sum(_CHOICES - 1 - int(d) for d in candidate.decisions if isinstance(d, int))
    return FASTEST_S * (1 + steps_left)


def samples_of(seconds: float) -> tuple[float, ...]:
    """Constant, save for a hair: a clock that never differs from itself is none."""
    return tuple(seconds * (1 + 1e-5 * (number % 3)) for number in range(_ROUNDS))


def _store_zeros(specs: Sequence[TensorSpec], path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, *(np.zeros(spec.shape, spec.dtype) for spec in specs))


class NullBuilder:
    """Implements `protocols.Builder`. A build is an empty file; `built` counts them."""

    columns = ENCODING_COLUMNS
    schema = "encoding"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spaces: dict[str, DesignSpace] = {}
        self.built = 0
        folder.mkdir(parents=True, exist_ok=True)

    def space(self, task: Task, pass_names: Sequence[str]) -> DesignSpace:
        return self._spaces.setdefault(task.key, space_of())

    def features(self, task: Task, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        return [self._spaces[task.key].encode(candidate) for candidate in candidates]

    def reference(self, task: Task, seeds: Sequence[int], folder: Path) -> dict[int, Reference] | str:
        paths = {seed: folder / f"{task.key}-{seed}.npz" for seed in seeds}
        for path in paths.values():
            _store_zeros(task.workload.outputs, path)
        return {seed: Reference(path, "float32", 1) for seed, path in paths.items()}

    def build(
        self, task: Task, candidates: Sequence[Candidate], stop: Stop = lambda: False
    ) -> list[Artifact | BuildFailure]:
        made: list[Artifact | BuildFailure] = []
        for candidate in candidates:
            if stop():
                break
            digest = hashlib.sha256(f"{task.key} {candidate.to_text()}".encode()).hexdigest()
            path = self._folder / digest[:16]
            path.touch()
            made.append(Artifact(path, f"null_{digest[:12]}", digest, 0.0))
            self.built += 1
        return made

    def close(self) -> None:
        """Nothing is held."""


class NullBench:
    """Implements `protocols.Bench`. `measured` counts the jobs."""

    rechecks = False

    def __init__(self) -> None:
        self.measured = 0

    def measure(self, job: Job, policy: Policy) -> Measurement:
        self.measured += 1
        if not job.path.exists():
            return Measurement(Status.RUN_FAILED, fidelity=policy.fidelity, reason=f"{job.path} is not there")
        seconds, limit = seconds_of(Candidate.from_text(job.candidate)), policy.give_up_above_s
        cost = Conditions(cost_s=COST_S)
        if limit is not None and seconds > limit:
            return Measurement(
                Status.CENSORED, fidelity=policy.fidelity, reason="too slow", censored_at_s=limit, conditions=cost
            )
        return Measurement(
            Status.OK, samples_of(seconds), policy.fidelity, "constant", max_abs_error=0.0, max_rel_error=0.0,
            conditions=cost,
        )  # fmt: skip

    def measure_interleaved(
        self, jobs: Sequence[Job], policy: Policy, budget_s: float, seed: int
    ) -> tuple[list[Measurement], AaControl | None]:
        """Every kernel takes part in every round."""
        rounds = tuple(range(_ROUNDS))
        measured = [self.measure(job, policy) for job in jobs]
        paired = [replace(m, conditions=replace(m.conditions, rounds=(rounds,))) if m.ok else m for m in measured]
        first = next((m for m in paired if m.ok), None)
        return paired, None if first is None else AaControl(rounds, first.samples_s)

    def store_outputs(self, job: Job, path: Path) -> str | None:
        if not job.path.exists():
            return f"{job.path} is not there"
        _store_zeros(job.outputs, path)
        return None

    def renew(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True)
class NullExecutable:
    """A model that is the list of its parts."""

    parts: Mapping[str, Any]

    def export_library(self, path: str) -> None:
        Path(path).write_text(json.dumps(dict(self.parts)))


class NullAssembly:
    """Implements `devices.device.Assembly`: a part is a candidate's text."""

    runtime = "cpu"
    form = NATIVE

    def part(
        self, task: Task, space: DesignSpace, candidate: Candidate, built: Callable[[], Artifact | None]
    ) -> str | None:
        return None if built() is None else candidate.to_text()

    def assemble(self, graph: Lowered, parts: Mapping[str, Any]) -> NullExecutable:
        return NullExecutable(parts)

    def untuned(self, model: ImportedModel, graph: Lowered) -> NullExecutable:
        return NullExecutable({})


class NullModel(ModelWorker):
    """A child's service: a model whose calls take `seconds` and whose outputs are zeros."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def op_prepare(self, inputs_npz_path: str) -> dict[str, Any]:
        return {"settings": "nothing is computed", "load_s": 0.5}

    def op_block(self, count: int) -> dict[str, float | None]:
        return {"first_s": 2 * self._seconds, "seconds": self._seconds * count}

    def op_outputs(self, path: str) -> int:
        _store_zeros([TensorSpec((1,), "float32")], Path(path))
        return 1


class Null:
    """Implements `devices.device.Device`."""

    references = (REFERENCE,)
    runs_models = True
    neighbours = None
    ceilings: Mapping[str, Any] = {
        "peak_flops_per_s": 1e12, "peaks": {"float32": 1e12}, "bandwidth_bytes_per_s": 1e11, "levels": [],
        "cache_bytes": 0,
    }  # fmt: skip

    def __init__(self, folder: Path) -> None:
        self.builder = NullBuilder(folder)
        self.bench = NullBench()
        self.assembly = NullAssembly()

    def lower_bound_s(self, task: Task) -> float:
        return 0.0

    def kernel_baselines(self, tasks: Sequence[Task], timing: BaselineTiming) -> Samples:
        return {}

    def entries(self, model: ImportedModel, libraries: Mapping[str, Path], baselines: Sequence[str]) -> list[EntrySpec]:
        seconds = {TUNED: FASTEST_S, UNTUNED: UNTUNED_S, REFERENCE: 2 * FASTEST_S}
        started = [name for name in seconds if name in libraries or name == REFERENCE]
        return [EntrySpec(name, f"{__name__}:NullModel", {"seconds": seconds[name]}) for name in started]

    def close(self) -> None:
        self.builder.close()
        self.bench.close()


class NullKind:
    """Implements `devices.device.DeviceKind`."""

    name = NAME
    tvm_kind = "llvm"
    selectors = ()
    modes = ("hot", "cold")
    bundles = False
    data_bytes = "uint8"
    place = "nowhere"

    def is_here(self) -> bool:
        return True

    def is_automatic(self) -> bool:
        return True

    def devices(self) -> Sequence[str]:
        return ("no device",)

    def local(self, threads: int) -> ResolvedTarget:
        return ResolvedTarget(NAME, canonical(TARGET), threads, "no device")

    def completed(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        return spec

    def from_attributes(self, spec: Mapping[str, Any], wanted_threads: int | None, to_run: bool) -> ResolvedTarget:
        return ResolvedTarget(NAME, canonical(spec), wanted_threads or 1, "no device")

    def caveats(self, device: str) -> Caveats:
        return OWN

    def scope(self, target: str, device: str, threads: int, mode: str) -> str:
        return hashlib.sha256(f"{NAME} {target} {threads} {mode}".encode()).hexdigest()[:16]

    def layout(self, lanes: int) -> str:
        return "NCHW"

    def why_not(self, precision: str, target: ResolvedTarget) -> str:
        return f"nothing computes here, {precision} or not"

    def require_compiler(self) -> None:
        """Nothing is compiled."""

    def require_arithmetic(self, target: ResolvedTarget, tasks: Sequence[Task]) -> None:
        """Nothing computes."""

    def builder(self, target: str, folder: Path, workers: int, timeout_s: float) -> NullBuilder:
        return NullBuilder(folder)

    def assembly(self, target: ResolvedTarget) -> NullAssembly:
        return NullAssembly()

    def state_probe(self, threads: int, runs: Path) -> None:
        return None

    def open(self, opening: Opening) -> Null:
        return Null(opening.work / "kernels")

    def account(self, library: Path, inputs: Sequence[Array], threads: int, seconds: float) -> Mapping[str, Any] | None:
        return None

    def listing(self, applied: Applied, target: ResolvedTarget, artifact: Path) -> Listing:
        return Listing("none", note="it has no code")

    def benches(self, numbers: Sequence[int] | None, arch: str, mode: str) -> Sequence[BundleBench]:
        raise TargetError(f"--runner: {NAME} measures no bundles", "choose another device")

    def findings(self, config: RunConfig) -> Iterator[Finding]:
        yield Finding(NAME, State.OK, "nothing is needed")


NULL = NullKind()
