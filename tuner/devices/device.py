"""What a device is to the rest of the program: a kind, which is known without hardware, and one that was opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tuner.config import MeasureConfig, RunConfig
from tuner.devices.finding import Finding
from tuner.devices.target import ResolvedTarget
from tuner.progress import Progress
from tuner.protocols import Artifact, Builder, ImportedModel, Job, Policy, Stop, Task, TuningDevice
from tuner.records import Measurement

if TYPE_CHECKING:
    from kernels.space import Candidate, DesignSpace
    from tuner.graph import Lowered
    from tuner.measure.models import EntrySpec

Samples = dict[str, dict[str, list[float]]]
"""Seconds per call by task key and by the baseline's name."""


@dataclass(frozen=True)
class Opening:
    """What a device is opened with. `work` is scratch space, `runs` the folder of runs, where ceilings are kept.

    `workers` build at the same time. `replay`: a file of recorded measurements that stand in for the timing of kernels.
    """

    target: ResolvedTarget
    measure: MeasureConfig
    workers: int
    work: Path
    runs: Path
    progress: Progress
    replay: Path | None = None


@dataclass(frozen=True)
class Asking:
    """How kernel baselines are to be timed: `seconds` for all of them; what cannot be timed is said to `note`."""

    seconds: float
    interrupted: Stop
    note: Callable[[str], None]


class Assembly(Protocol):
    """Puts a model together from tuned kernels."""

    @property
    def runtime(self) -> str:
        """The name of the TVM device that the model runs on."""

    def part(self, task: Task, space: DesignSpace, candidate: Candidate, built: Callable[[], Artifact | None]) -> Any:
        """What the model is put together from in place of TVM's own kernel; None where it cannot be had any more.

        `built` gives what the candidate was built to, and builds it again where that is gone.
        """

    def assemble(self, graph: Lowered, parts: Mapping[str, Any]) -> Any:
        """The model as something with `export_library(path)`. `parts` are by workload key."""

    def untuned(self, model: ImportedModel, graph: Lowered) -> Any:
        """The model as TVM compiles it by itself."""


class Device(TuningDevice, Protocol):
    """One device that was opened: it builds, measures, and runs whole models. Its contract suite: tests/contracts."""

    @property
    def assembly(self) -> Assembly: ...

    @property
    def ceilings(self) -> Mapping[str, Any]:
        """What it can do at most, as `devices.cpu.ceilings.Ceilings.op_measure` answers; measured when first asked."""

    @property
    def references(self) -> tuple[str, ...]:
        """The benchmark entries whose outputs the tuned model's must equal."""

    @property
    def runs_models(self) -> bool:
        """Whether there is hardware here that whole models can run on."""

    def kernel_baselines(self, tasks: Sequence[Task], asking: Asking) -> Samples:
        """What a framework needs for each task that it has a counterpart of."""

    def entries(self, model: ImportedModel, libraries: Mapping[str, Path], baselines: Sequence[str]) -> list[EntrySpec]:
        """How the compiled models (by name) and the wanted baselines are started for the comparison."""

    def close(self) -> None: ...


class DeviceKind(Protocol):
    """A kind of device: what can be said and compiled without having one. An entry of `devices.resolve.KINDS`."""

    @property
    def name(self) -> str:
        """What a run file calls it: the kind of its TVM target."""

    @property
    def bundles(self) -> bool:
        """Whether its kernels can be compiled here and measured elsewhere."""

    def is_here(self) -> bool:
        """Whether one can be used on this machine."""

    def local(self, threads: int) -> ResolvedTarget:
        """The first one of this machine. Raises TargetError, saying what is missing."""

    def completed(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """Attributes of a TVM target, with what only the device here can tell. Raises TargetError."""

    def from_attributes(self, spec: Mapping[str, Any], wanted_threads: int | None, to_run: bool) -> ResolvedTarget:
        """The target that a run file writes out. With `to_run` False it need not be here. Raises TargetError."""

    def scope(self, target: str, device: str, threads: int, mode: str) -> str:
        """What stored measurements must share to be used again: a short hash."""

    def layout(self, lanes: int) -> str:
        """The layout of convolutions that `auto` stands for, where a vector has so many lanes."""

    def builder(self, target: str, folder: Path, workers: int, timeout_s: float) -> Builder: ...

    def assembly(self, target: ResolvedTarget) -> Assembly: ...

    def open(self, opening: Opening) -> Device:
        """Raises TargetError where it is not here, unless measurements are replayed."""

    def benches(self, numbers: Sequence[int] | None, arch: str, mode: str) -> Sequence[BundleBench]:
        """A bench for each of these devices, or for all there are, that measures a bundle made for `arch`.

        Raises TargetError, saying what is missing here.
        """

    def findings(self, config: RunConfig) -> Iterator[Finding]:
        """What `doctor` says of it."""


class BundleBench(Protocol):
    """Measures a bundle's jobs on one device, which it names; whatever goes wrong with a job is a status."""

    @property
    def device(self) -> str: ...

    def measure(self, job: Job, policy: Policy) -> Measurement: ...

    def close(self) -> None: ...
