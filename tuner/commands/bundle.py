"""`bundle`: compile the candidates that a search would measure next, and pack them for a machine with a GPU."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.reference import tolerance
from kernels.tensors import scale_of, seeded_inputs
from tuner import __version__, environment
from tuner import bundle as bundles
from tuner.bundle import expect
from tuner.bundle.expected import to_bytes
from tuner.bundle.packing import PackingBench
from tuner.commands.prepare import lowered, open_store
from tuner.config import RunConfig
from tuner.devices import resolve
from tuner.devices.device import mode_of
from tuner.devices.target import ResolvedTarget
from tuner.errors import OutputError, TargetError, UserError
from tuner.files import require_room
from tuner.process.interrupts import Interrupts
from tuner.progress import Progress
from tuner.protocols import Builder, Reference, Task
from tuner.records import PROTOCOL_VERSION, Record
from tuner.schema import did_you_mean
from tuner.tuning.budget import Budget, SearchEnd
from tuner.tuning.context import SearchContext, searched_passes
from tuner.tuning.phase import Pace
from tuner.tuning.searcher import Searcher
from tuner.tuning.tune import tune_session

if TYPE_CHECKING:
    from tuner.store import SqlStore

_FRUITLESS = 8
"""Batches in a row without a new kernel, after which a task's space counts as used up."""

_A_DAY_S = 86_400.0
_NEVER = 1 << 30
"""Trials before an early stop: without times no trial is an improvement, and the budget alone ends the search."""


def bundle(config: RunConfig, count: int, output: Path, progress: Progress, device: str | None = None) -> list[str]:
    """Compile about `count` candidates of the configured model into `output`. Returns lines for the terminal.

    The configured strategy proposes them. It is told what `import` brought back from `device`, so that each bundle
    continues the search of the last one. Raises TunerError; after an interrupt what was built by then is packed.
    """
    environment.check_versions()
    _require_writable(output)
    target = resolve.resolve(config.target, to_run=False)
    kind = resolve.kind_of(target)
    if not kind.bundles:
        raise TargetError(
            "target: a bundle holds kernels for GPUs",
            "name the GPU, e.g. target: {tag: nvidia/nvidia-h100}; without one: target: opencl, or simulated_cuda",
        )
    kind.require_compiler()
    _, variants = lowered(config, target, progress)
    tasks = variants[0].lowered.tasks
    with (
        Interrupts(progress.message) as interrupted,
        open_store(config, progress.message) as store,
        tempfile.TemporaryDirectory(prefix="tuner-bundle-") as work,
    ):
        searched_device = _device(store, target, config, tasks, device)
        packer = _Packer(config, target, Path(work), store, searched_device, progress, interrupted)
        try:
            packed = packer.pack(tasks, count)
        finally:
            packer.close()
    if not packed.items:
        raise UserError(
            "nothing to pack: no candidate was compiled", "; ".join(packed.notes) or "see the progress lines"
        )
    return packed.write(output, config, target)


def _require_writable(output: Path) -> None:
    """Raises OutputError where no bundle can be written: before minutes of compiling, not after."""
    hint = "choose another file with -o"
    if output.is_dir():
        raise OutputError(f"{output}: a folder, where the bundle is to be written", hint)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output.parent}: cannot be made: {error.strerror}", hint) from error
    require_room(output.parent)


def _device(
    store: SqlStore, target: ResolvedTarget, config: RunConfig, tasks: Sequence[Task], wanted: str | None
) -> str:
    """The device whose measurements the search continues from; "" where nothing is known.

    Raises UserError where measurements of other kinds are known alone, or of several and none of them was named.
    """
    if not config.search.reuse:
        return wanted or ""
    kind = resolve.kind_of(target)
    mode = mode_of(kind, config.measure.mode)
    devices: Counter[str] = Counter()
    for record in store.read(task_key=[task.key for task in tasks]):
        device = record.measurement.conditions.device
        if record.scope == kind.scope(target.text, device, target.threads, mode):
            devices[device] += 1
    if wanted is not None:
        if devices and wanted not in devices:
            near = did_you_mean(wanted, devices) or f"known are: {', '.join(devices)}"
            raise UserError(f"--device: nothing was imported from {wanted!r}", near)
        return wanted
    if len(devices) > 1:
        raise UserError(f"measurements of {len(devices)} kinds of GPU are known: {', '.join(devices)}",
                        "say with --device for which one to search on")  # fmt: skip
    return next(iter(devices), "")


def shares(weights: Sequence[float], count: int) -> list[int]:
    """`count` split in proportion to `weights` by largest remainders, at least one each while there is enough."""
    least = 1 if count >= len(weights) else 0
    divided = count - least * len(weights)
    total = sum(weights) or 1.0
    exact = [divided * weight / total for weight in weights]
    whole = [int(share) for share in exact]
    largest_remainders = sorted(range(len(weights)), key=lambda i: (whole[i] - exact[i], -weights[i], i))
    for i in largest_remainders[: divided - sum(whole)]:
        whole[i] += 1
    return [least + share for share in whole]


# --- packing ---------------------------------------------------------------------------------------


@dataclass
class _Packed:
    """What goes into a bundle: tasks and items as data, blobs by digest; how many candidates failed, by reason."""

    tasks: list[dict[str, Any]] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def write(self, output: Path, config: RunConfig, target: ResolvedTarget) -> list[str]:
        """Write the bundle; returns lines for the terminal. Raises OutputError and BundleError."""
        manifest = {
            "created_by": f"tuner {__version__}",
            "target": target.text,
            "arch": target.features[0],
            "protocol": PROTOCOL_VERSION,
            "mode": mode_of(resolve.kind_of(target), config.measure.mode),
            "tasks": self.tasks,
            "items": self.items,
        }
        # Of a task of which nothing could be compiled there are blobs that nothing names.
        named = {d for t in self.tasks for e in t["expected"] for d in (e["values"], e.get("sums")) if d}
        named |= {item["cubin"] for item in self.items}
        bundles.write(output, manifest, {digest: self.blobs[digest] for digest in named})
        lines = [f"bundle: {output}, {len(self.items)} kernels of {len(self.tasks)} tasks for {target.features[0]}, "
                 f"{output.stat().st_size / 1e6:.1f} MB"]  # fmt: skip
        if self.failed:
            lines.append("left out: " + ", ".join(f"{n} {why}" for why, n in self.failed.most_common()))
        lines += self.notes
        place = resolve.kind_of(target).place
        lines.append(f"{place}: python -m tuner measure {output.name} -o measurements.jsonl")
        return lines


@dataclass(frozen=True)
class _CompileOnly:
    """Implements `protocols.TuningDevice`: what is built here is measured elsewhere."""

    builder: Builder
    bench: PackingBench

    def lower_bound_s(self, task: Task) -> float:
        return 0.0


@dataclass
class _Unwritten:
    """A `protocols.RecordStore` over another store for a search that measures nothing: what is appended goes to `new`,
    and is neither written nor read back."""

    store: SqlStore
    new: list[Record] = field(default_factory=list)

    def append(self, records: Sequence[Record]) -> None:
        self.new += records

    def read(
        self, *, scope: str | None = None, task_key: str | Collection[str] | None = None, run_id: str | None = None
    ) -> list[Record]:
        return self.store.read(scope=scope, task_key=task_key, run_id=run_id)

    def end(self, run_id: str) -> None:
        """Nothing was measured."""

    def ended(self) -> frozenset[str]:
        return self.store.ended()

    def add_environment(self, environment_id: str, facts: Mapping[str, Any]) -> None:
        """Nothing was measured."""

    def environment(self, environment_id: str) -> dict[str, Any] | None:
        return self.store.environment(environment_id)


@dataclass
class _PackingBudget(Budget):
    """`wanted` different kernels of a task, or all there are: spent after `fruitless` trials without a new one."""

    bench: PackingBench = field(default_factory=PackingBench)
    task_key: str = ""
    wanted: int = 0
    fruitless: int = 0

    def spent(self) -> SearchEnd | None:
        enough = self.bench.packed(self.task_key) >= self.wanted
        if enough or self.bench.since_new(self.task_key) >= self.fruitless:
            return SearchEnd.TRIALS
        return super().spent()

    def allowed(self, count: int) -> int:
        """As many as are missing, and more where few of the last ones were new."""
        missing = self.wanted - self.bench.packed(self.task_key) + self.bench.since_new(self.task_key)
        return super().allowed(min(count, missing))


class _Packer:
    """Searches each task on a device that only compiles, and packs what it built."""

    def __init__(
        self, config: RunConfig, target: ResolvedTarget, work: Path, store: SqlStore, device: str, progress: Progress,
        interrupted: Interrupts,
    ) -> None:  # fmt: skip
        self._config = config
        self._progress = progress
        self._interrupted = interrupted
        kind = resolve.kind_of(target)
        workers = config.measure.workers or environment.usable_threads()
        builder = kind.builder(target.text, work / "kernels", workers, config.measure.build_timeout_s)
        self._device = _CompileOnly(builder, PackingBench())
        self._records = _Unwritten(store)
        self._scope = kind.scope(target.text, device, target.threads, mode_of(kind, config.measure.mode))
        context = SearchContext(
            config.search, searched_passes(config.passes), "bundle", self._scope, work, progress, interrupted,
            # What was throttled counts as unknown: it is tried again.
            usable=lambda record: not record.measurement.conditions.excluded,
        )  # fmt: skip
        self._searcher = Searcher(self._device, self._records, context)

    def close(self) -> None:
        self._device.builder.close()

    def pack(self, tasks: Sequence[Task], count: int) -> _Packed:
        """About `count` kernels of all tasks, more of those that the model spends more time in."""
        packed = _Packed(blobs=self._device.bench.blobs)
        weights = [task.weight * (self._known_s(task) or _estimated_s(task)) for task in tasks]
        for task, wanted in zip(tasks, shares(weights, count), strict=True):
            if self._interrupted():
                break
            if wanted:
                self._progress.phase(f"compiling {wanted} candidates of {task.name}")
                self._pack_task(task, wanted, packed)
        return packed

    def _known_s(self, task: Task) -> float | None:
        """The seconds of the task's fastest known kernel on the device that is searched for."""
        if not self._config.search.reuse:
            return None
        known = [r.measurement for r in self._records.read(task_key=task.key, scope=self._scope)]
        return min((m.median_s for m in known if m.ok and not m.conditions.excluded), default=None)

    def _pack_task(self, task: Task, wanted: int, packed: _Packed) -> None:
        bench, batch = self._device.bench, self._config.search.batch
        session = self._searcher.start(task)
        reference = session.reference()
        if reference is None or session.unverified:
            packed.notes.append(f"{task.name}: left out, {session.unverified}")
            return
        entry = self._entry(task, reference)
        before = len(self._records.new)
        budget = _PackingBudget(
            time.monotonic() + _A_DAY_S, _A_DAY_S, None, self._searcher.ledger, self._interrupted, refining_share=0.0,
            bench=bench, task_key=task.key, wanted=wanted, fruitless=_FRUITLESS * batch,
        )  # fmt: skip
        pace = Pace(batch, first_batch=batch, early_stop=_NEVER, untuned_first=True)
        tune_session(session, self._searcher, budget, pace)
        items = self._items(task, self._records.new[before:], packed.failed)
        if items:
            packed.tasks.append(entry)
            packed.items += items
        else:
            packed.notes.append(f"{task.name}: no candidate was compiled")

    def _items(self, task: Task, records: Sequence[Record], failed: Counter[str]) -> list[dict[str, Any]]:
        """The kernels that were built, each once, as a bundle describes them; what came to nothing is counted."""
        items: dict[str, dict[str, Any]] = {}
        for record in records:
            kernel = self._device.bench.kernels[task.key].get(record.candidate)
            if kernel is None:
                failed[record.measurement.status.value] += 1
            elif kernel.digest in items:
                failed["the same code again"] += 1
            else:
                items[kernel.digest] = {
                    "task": task.key, "candidate": record.candidate, "proposer": record.proposer,
                    "cubin": kernel.digest, "plan": kernel.plan, "build": record.measurement.build_s,
                    "usage": kernel.usage,
                }  # fmt: skip
        return list(items.values())

    def _entry(self, task: Task, reference: Reference) -> dict[str, Any]:
        """The task as a bundle describes it, with what its outputs must be."""
        seed, workload = self._config.search.seed, task.workload
        entries = []
        with np.load(reference.path, allow_pickle=False) as stored:
            nothing = (0.0,) * len(stored.files)
            known = (reference.rounding or nothing, reference.passing or nothing)
            for name, slack, passing in zip(stored.files, *known, strict=True):
                output = stored[name]
                rtol, factor = tolerance(reference.dtype, reference.reduction)
                if output.dtype.kind == "f":
                    expected = expect(output, rtol + slack, (factor + slack) * max(scale_of(output), passing))
                else:
                    expected = expect(output, 0.0, slack)
                values, sums = to_bytes(expected)
                add = self._device.bench.add
                entry = {"values": add(values), "rtol": expected.rtol, "atol": expected.atol}
                entries.append(entry if sums is None else {**entry, "sums": add(sums)})
        return {
            "key": task.key, "name": task.name, "weight": task.weight, "flops": workload.flops, "seed": seed,
            "args": [asdict(spec) for spec in workload.args],
            "inputs": [hashlib.sha256(a.tobytes()).hexdigest() for a in seeded_inputs(workload.inputs, seed)],
            "expected": entries, "origin": dict(workload.origin),
        }  # fmt: skip


def _estimated_s(task: Task) -> float:
    """Seconds on a GPU of some 20 TFLOP/s and 1 TB/s that starts a kernel in 3 us: only proportions matter."""
    return max(task.workload.flops / 2e13, task.workload.bytes / 1e12) + 3e-6
