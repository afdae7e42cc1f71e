"""What a device is to the rest of the program: a kind, which needs no hardware, and a device that was opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tuner.caveats import Caveats
from tuner.config import MeasureConfig, RunConfig
from tuner.devices.finding import Finding
from tuner.devices.target import ResolvedTarget
from tuner.errors import ConfigError
from tuner.export.library import Form
from tuner.models import ImportedModel
from tuner.progress import Progress
from tuner.protocols import Artifact, Builder, Job, Policy, Stop, Task, TuningDevice
from tuner.records import Measurement

if TYPE_CHECKING:
    from kernels.passes import Applied
    from kernels.space import Candidate, DesignSpace
    from tuner.graph import Lowered
    from tuner.measure.models import EntrySpec
    from tuner.measure.states import StateProbe
    from tuner.protocols import Array

Samples = dict[str, dict[str, list[float]]]
"""Seconds per call by task key and by the baseline's name."""


ON_TENSOR_CORES = " on tensor cores"
"""What the name of a peak that only tensor cores reach ends in, after a dtype, where a device's ceilings have both."""


@dataclass(frozen=True)
class Opening:
    """What a device is opened with. `work` is scratch space, `runs` the folder of runs, where ceilings are kept.

    `workers` is how many children build at the same time. `replay`: a file of recorded measurements that stand in for
    the timing of kernels. `hurried`: seconds matter, so that the ceilings are measured in part.
    """

    target: ResolvedTarget
    measure: MeasureConfig
    workers: int
    work: Path
    runs: Path
    progress: Progress
    replay: Path | None = None
    hurried: bool = False


@dataclass(frozen=True)
class Listing:
    """The code of a kernel in a language (`asm`, `sass`, `opencl`), and of it the innermost loop with the most
    arithmetic; "" where one or the other is not known. `note` says why."""

    language: str
    code: str = ""
    hot: str = ""
    note: str = ""


@dataclass(frozen=True)
class BaselineTiming:
    """How kernel baselines are to be timed: in `seconds` for all of them, until `interrupted()` is true. `note` is
    called with a sentence for each that cannot be timed."""

    seconds: float
    interrupted: Stop
    note: Callable[[str], None]


@dataclass(frozen=True)
class Together:
    """The candidates that take the least time together, by task key. `alone_s` is what their own times sum to in one
    inference, `shared_s` what they cost one another; `fastest_s` is both for those that are fastest alone."""

    candidates: Mapping[str, Candidate]
    alone_s: float
    shared_s: float
    fastest_s: tuple[float, float]


class Neighbours(Protocol):
    """What kernels of one model cost one another, which no time of a kernel alone tells."""

    def alternatives(self, task: Task, candidates: Sequence[Candidate]) -> Mapping[Candidate, tuple[Candidate, float]]:
        """The same kernels in other forms, which may fit their neighbours better; by form, which candidate it is of and
        about how many times that one's seconds it takes alone."""

    def choose(self, graph: Lowered, options: Mapping[str, Mapping[Candidate, float]]) -> Together | None:
        """Of each task's options, with their seconds alone, those that take the least time together. None where that
        is not known. The first of each are the ones that are fastest alone."""


class Assembly(Protocol):
    """Puts a model together from tuned kernels."""

    @property
    def runtime(self) -> str:
        """The name of the TVM device that the model runs on."""

    @property
    def form(self) -> Form:
        """What an export of such a model is made of."""

    def part(self, task: Task, space: DesignSpace, candidate: Candidate, built: Callable[[], Artifact | None]) -> Any:
        """What takes the place of TVM's own kernel in the model; None where the candidate builds no more, or where it
        is the untuned program and `assemble` makes the same by itself.

        `built` returns the candidate's artifact, and builds it again where its files are gone.
        """

    def assemble(self, graph: Lowered, parts: Mapping[str, Any]) -> Any:
        """The model with these parts, by workload key, as something with `export_library(path)`."""

    def untuned(self, model: ImportedModel, graph: Lowered) -> Any:
        """The model as TVM compiles it by itself."""


class Device(TuningDevice, Protocol):
    """One device that was opened: it builds, measures, and runs whole models."""

    @property
    def assembly(self) -> Assembly:
        """What puts tuned models together for it."""

    @property
    def ceilings(self) -> Mapping[str, Any]:
        """What it can do at most, as `devices.cpu.ceilings.Ceilings.op_measure` returns it; measured once. Where it
        was not measured, `source` says where it is from."""

    @property
    def references(self) -> tuple[str, ...]:
        """The benchmark entries whose outputs the tuned model's must equal."""

    @property
    def neighbours(self) -> Neighbours | None:
        """What tells which kernels fit together; None where they cost one another nothing that is known."""

    @property
    def runs_models(self) -> bool:
        """Whether whole models can run here: not where recorded measurements stand in for the hardware."""

    def kernel_baselines(self, tasks: Sequence[Task], timing: BaselineTiming) -> Samples:
        """The samples of a framework's operators, for each task that it has a counterpart of."""

    def entries(self, model: ImportedModel, libraries: Mapping[str, Path], baselines: Sequence[str]) -> list[EntrySpec]:
        """How the compiled models (by name) and the wanted baselines are started for the comparison."""

    def close(self) -> None:
        """End its children."""


class DeviceKind(Protocol):
    """A kind of device: what can be known and compiled without having one. An entry of `devices.resolve.KINDS`."""

    @property
    def name(self) -> str:
        """What a run file calls it."""

    @property
    def tvm_kind(self) -> str:
        """The kind of its TVM targets."""

    @property
    def selectors(self) -> Sequence[str]:
        """What a run file may write among the attributes of a target to choose a device, besides those of TVM."""

    @property
    def modes(self) -> Sequence[str]:
        """The states of the caches in which it can time kernels, of `MeasureConfig.mode`; the first is the default."""

    @property
    def bundles(self) -> bool:
        """Whether its kernels can be compiled on one machine and measured on another."""

    @property
    def place(self) -> str:
        """Where a bundle for it is measured, in words."""

    def is_here(self) -> bool:
        """Whether one can be used on this machine."""

    def is_automatic(self) -> bool:
        """Whether `auto` may take the one of this machine: not where it only stands for another."""

    def devices(self) -> Sequence[str]:
        """Those of this machine, in words; none where there is none, or nothing to use them with."""

    def local(self, threads: int) -> ResolvedTarget:
        """The first one of this machine. Raises TargetError, saying what is missing."""

    def completed(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """The attributes of a TVM target, completed with what only the device here can tell. Raises TargetError."""

    def from_attributes(self, spec: Mapping[str, Any], wanted_threads: int | None, to_run: bool) -> ResolvedTarget:
        """The target that a run file writes out; with `to_run` False also of a device elsewhere. Raises TargetError."""

    def caveats(self, device: str) -> Caveats:
        """What the times are that are taken on one of its devices, by the device's name as it is stored; none where
        they are the device's own."""

    def scope(self, target: str, device: str, threads: int, mode: str) -> str:
        """What stored measurements must share to be used again: a short hash."""

    def layout(self, lanes: int) -> str:
        """The layout of convolutions that `auto` stands for, where a vector has `lanes` lanes."""

    def why_not(self, precision: str, features: Sequence[str]) -> str:
        """Why a precision below float32 gains nothing with these instruction sets, or cannot be had; "" where it may
        be asked for."""

    def require_compiler(self) -> None:
        """Raises TargetError where nothing here compiles for it, saying what is missing."""

    def require_arithmetic(self, target: ResolvedTarget, tasks: Sequence[Task]) -> None:
        """Raises TargetError for a task in a dtype that the device has no arithmetic for, as far as it is known."""

    def builder(self, target: str, folder: Path, workers: int, timeout_s: float) -> Builder:
        """A builder for a TVM target as JSON. Artifacts go to `folder`; a build takes at most `timeout_s`."""

    def assembly(self, target: ResolvedTarget) -> Assembly:
        """What puts tuned models together for a target; the device need not be here."""

    def state_probe(self, threads: int, runs: Path) -> StateProbe | None:
        """What tells the machine's state while models of `threads` threads are compared; what it learns of this machine
        is kept in `runs`. None where there is but one state: under two threads, or where the CPUs do not compute."""

    def open(self, opening: Opening) -> Device:
        """Open the device. Raises TargetError where it is not here, unless measurements are replayed."""

    def account(self, library: Path, inputs: Sequence[Array], threads: int, seconds: float) -> Mapping[str, Any] | None:
        """Where the time of an exported model goes, as `devices.cpu.account.take` returns it; None where its calls
        cannot be told apart. Raises InfrastructureError."""

    def listing(self, applied: Applied, target: ResolvedTarget, artifact: Path) -> Listing:
        """The code of a kernel, built from a scheduled function with its passes, for a reader."""

    def benches(self, numbers: Sequence[int] | None, arch: str, mode: str) -> Sequence[BundleBench]:
        """A bench for each of these devices, or for all there are, that measures a bundle made for `arch`.

        Raises TargetError, saying what is missing here.
        """

    def findings(self, config: RunConfig) -> Iterator[Finding]:
        """What `doctor` finds out about it, for a run of `config`."""


def mode_of(kind: DeviceKind, wanted: str | None) -> str:
    """The mode in which a kind of device times kernels; `wanted` is that of the run file. Raises ConfigError."""
    if wanted is None:
        return kind.modes[0]
    if wanted not in kind.modes:
        modes = ", ".join(kind.modes)
        raise ConfigError("measure.mode", f"{wanted!r} is no mode of {kind.name} devices", f"choose auto, {modes}")
    return wanted


class BundleBench(Protocol):
    """Measures a bundle's jobs on one device, whose name is `device`; whatever goes wrong with a job is a status."""

    @property
    def device(self) -> str:
        """The name of the hardware: measurements of one name are compared."""

    def measure(self, job: Job, policy: Policy) -> Measurement:
        """Check and time one kernel."""

    def close(self) -> None:
        """End its children."""
