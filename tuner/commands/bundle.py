"""Compile here, measure there: the candidates that a search would measure next, packed for a host with a GPU."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import __version__, environment
from tuner.commands.prepare import Features, lowered, open_store
from tuner.config import RunConfig
from tuner.devices import resolve as targets
from tuner.devices.resolve import ResolvedTarget
from tuner.errors import TargetError, UserError
from tuner.process.interrupts import Interrupts
from tuner.progress import Progress
from tuner.protocols import Artifact, Proposal, Task
from tuner.records import PROTOCOL_VERSION, Fidelity, Measurement, Record, excluded

if TYPE_CHECKING:
    from tuner.devices.builder import LocalBuilder
    from tuner.search.ranker import Ranker
    from tuner.store import SqlStore

_FRUITLESS = 8
"""Asks in a row that brought no new kernel before a task's space counts as used up."""


def bundle(config: RunConfig, count: int, output: Path, progress: Progress, device: str | None = None) -> list[str]:
    """Compile about `count` candidates of the configured model and pack them into `output`; what to say about it.

    Proposed by the configured strategy, which is told what `import` brought back from `device`, so that each bundle
    goes on where the last one ended. Raises TunerError; an interrupt packs what there is.
    """
    environment.check_versions()
    target = targets.resolve(config.target, to_run=False)
    if target.kind != "cuda":
        raise TargetError("target: a bundle holds CUDA kernels", "name the GPU, e.g. target: {tag: nvidia/nvidia-h100}")
    _check_compiler()
    _, variants = lowered(config, target, progress)
    tasks = variants[0].tasks
    with (
        Interrupts(progress.message) as interrupted,
        open_store(config, progress.message) as store,
        tempfile.TemporaryDirectory(prefix="tuner-bundle-") as work,
    ):
        known = _Known(store, target, config.measure.mode, device, tasks if config.search.reuse else ())
        packer = _Packer(config, target, Path(work), known, progress, interrupted)
        try:
            packed = packer.pack(tasks, count)
        finally:
            packer.close()
    if not packed.items:
        raise UserError(
            "nothing to pack: no candidate was compiled", "; ".join(packed.notes) or "see the progress lines"
        )
    return packed.write(output, config, target)


def _check_compiler() -> None:
    from kernels import nvrtc
    from kernels.cubin import MissingCompiler, find_nvcc

    if nvrtc.library() is not None:
        return
    try:
        find_nvcc()
    except MissingCompiler as error:
        raise TargetError("target cuda: missing here: a CUDA compiler", str(error)) from error


# --- what is known -------------------------------------------------------------------------------


class _Known:
    """What was absorbed of these tasks from one kind of GPU. Raises UserError when there are several to choose from."""

    def __init__(
        self, store: SqlStore, target: ResolvedTarget, mode: str, device: str | None, tasks: Sequence[Task]
    ) -> None:
        self._records: dict[str, list[Record]] = {}
        devices: Counter[str] = Counter()
        for task in tasks:
            for record in store.read(task_key=task.key):
                where = str(record.measurement.conditions.get("device", ""))
                if record.scope == environment.gpu_scope_key(target.text, where, mode):
                    devices[where] += 1
                    self._records.setdefault(task.key, []).append(record)
        if device is None and len(devices) > 1:
            raise UserError(f"measurements of {len(devices)} kinds of GPU are known: {', '.join(devices)}",
                            "say with --device for which one to search on")  # fmt: skip
        self.device = device or next(iter(devices), "")

    def of(self, task: Task) -> list[Record]:
        """The task's records of this device, oldest first. What was throttled counts as unknown: it is tried again."""
        found = self._records.get(task.key, [])
        mine = [record for record in found if record.measurement.conditions.get("device") == self.device]
        return [record for record in mine if not excluded(record.measurement)]

    def best_s(self, task: Task) -> float | None:
        return min((r.measurement.median_s for r in self.of(task) if r.measurement.ok), default=None)


def shares(weights: Sequence[float], count: int) -> list[int]:
    """`count` split in proportion to `weights` by largest remainders, at least one each while there is enough."""
    least = 1 if count >= len(weights) else 0
    left = count - least * len(weights)
    total = sum(weights) or 1.0
    exact = [left * weight / total for weight in weights]
    given = [int(share) for share in exact]
    rest = sorted(range(len(weights)), key=lambda i: (given[i] - exact[i], -weights[i], i))
    for i in rest[: left - sum(given)]:
        given[i] += 1
    return [least + share for share in given]


# --- packing ---------------------------------------------------------------------------------------


@dataclass
class _Packed:
    tasks: list[dict[str, Any]] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def add(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return digest

    def write(self, output: Path, config: RunConfig, target: ResolvedTarget) -> list[str]:
        from tuner import bundle as bundles

        manifest = {
            "created_by": f"tuner {__version__}",
            "target": target.text,
            "arch": target.features[0],
            "protocol": PROTOCOL_VERSION,
            "mode": config.measure.mode,
            "tasks": self.tasks,
            "items": self.items,
        }
        # A task of which nothing could be compiled left its expected outputs behind.
        named = {d for t in self.tasks for e in t["expected"] for d in (e["values"], e.get("sums")) if d}
        named |= {item["cubin"] for item in self.items}
        bundles.write(output, manifest, {digest: self.blobs[digest] for digest in named})
        lines = [f"bundle: {output}, {len(self.items)} kernels of {len(self.tasks)} tasks for {target.features[0]}, "
                 f"{output.stat().st_size / 1e6:.1f} MB"]  # fmt: skip
        if self.failed:
            lines.append("left out: " + ", ".join(f"{n} {why}" for why, n in self.failed.most_common()))
        lines += self.notes
        lines.append(f"on a host with such a GPU: python -m tuner measure {output.name} -o measurements.jsonl")
        return lines


class _Packer:
    def __init__(
        self, config: RunConfig, target: ResolvedTarget, work: Path, known: _Known, progress: Progress,
        interrupted: Interrupts,
    ) -> None:  # fmt: skip
        from costmodel.xgb import XgbRanker
        from kernels.features import SCHEMA
        from tuner.devices.builder import LocalBuilder
        from tuner.search.ranker import Ranker
        from tuner.search.winners import Winners

        self._config = config
        self._known = known
        self._progress = progress
        self._interrupted = interrupted
        self._work = work
        workers = config.measure.workers or environment.usable_threads()
        self._builder: LocalBuilder = LocalBuilder(
            target.text, work / "cubins", workers, config.measure.build_timeout_s
        )
        seed = config.search.seed
        self._ranker: Ranker = Ranker(XgbRanker(SCHEMA, seed=seed))
        self._winners: Winners = Winners()

    def close(self) -> None:
        self._builder.close()

    def pack(self, tasks: Sequence[Task], count: int) -> _Packed:
        packed = _Packed()
        known = {task.key: self._known.best_s(task) for task in tasks}
        weights = [task.weight * (known[task.key] or _guess_s(task)) for task in tasks]
        for task, wanted in zip(tasks, shares(weights, count), strict=True):
            if self._interrupted():
                break
            if wanted:
                self._progress.phase(f"compiling {wanted} candidates of {task.name}")
                self._pack_task(task, wanted, packed)
        return packed

    def _pack_task(self, task: Task, wanted: int, packed: _Packed) -> None:
        config = self._config
        passes = tuple(
            p for p in config.passes.kernel if p not in ("fast_math", "cuda_math") or config.passes.fast_math
        )
        self._space = self._builder.space(task, passes)
        entry = self._entry(task, packed)
        if entry is None:
            return
        items = self._items(task, wanted, packed)
        if items:
            packed.tasks.append(entry)
            packed.items.extend(items)
        else:
            packed.notes.append(f"{task.name}: no candidate was compiled")

    def _items(self, task: Task, wanted: int, packed: _Packed) -> list[dict[str, Any]]:
        from tuner import search
        from tuner.search.ranker import FeatureCache

        features = FeatureCache(Features(self._builder, task))
        problem = search.Problem(
            self._space,
            features,
            self._ranker.task(task.key),
            self._config.search.seed,
            task,
            self._winners.task(task.key),
        )
        strategy = search.create(self._config.search.strategy, problem)
        screened = self._tell(task, strategy)
        default = self._space.default()
        first = [] if default.to_text() in screened else [Proposal(default, "default")]
        items: dict[str, dict[str, Any]] = {}
        fruitless = 0
        while len(items) < wanted and fruitless < _FRUITLESS and not self._interrupted():
            missing = (wanted - len(items) - len(first)) << fruitless  # where few can be built, more are asked for
            proposals = [*first, *strategy.ask(min(missing, self._config.search.batch))]
            first = []
            if not proposals:
                break
            before = len(items)
            made = self._builder.build(task, [p.candidate for p in proposals], self._interrupted)
            for proposal, built in zip(proposals, made, strict=False):
                if len(items) >= wanted:
                    break
                if isinstance(built, Artifact):
                    item = self._item(task, proposal, built, packed)
                    if item["cubin"] in items:
                        packed.failed["the same code again"] += 1
                    items.setdefault(item["cubin"], item)
                else:
                    packed.failed[built.status.value] += 1
                    if not proposal.candidate.is_default:
                        strategy.tell(proposal.candidate, Measurement(built.status, reason=built.reason))
            fruitless = 0 if len(items) > before else fruitless + 1
        return list(items.values())

    def _tell(self, task: Task, strategy: Any) -> set[str]:
        """Tell what earlier bundles brought back; the candidates that are known."""
        from kernels.space import Candidate

        screened = {
            r.candidate: r.measurement for r in self._known.of(task) if r.measurement.fidelity is Fidelity.SCREEN
        }
        for text, measurement in screened.items():
            candidate = Candidate.from_text(text)
            if not candidate.is_default:
                strategy.tell(candidate, measurement)
        return set(screened)

    def _item(self, task: Task, proposal: Proposal, built: Artifact, packed: _Packed) -> dict[str, Any]:
        resources = dict(built.resources)
        return {
            "task": task.key,
            "candidate": proposal.candidate.to_text(),
            "proposer": proposal.proposer,
            "cubin": packed.add(built.path.read_bytes()),
            "plan": resources.pop("plan"),
            "build": built.build_s,
            "usage": resources,
        }

    def _entry(self, task: Task, packed: _Packed) -> dict[str, Any] | None:
        """The task as a bundle describes it; None, with a note, where nothing independent knows its outputs."""
        import numpy as np

        from kernels.reference import tolerance
        from kernels.tensors import seeded_inputs
        from tuner.bundle import expect
        from tuner.bundle.expected import scale_of, to_bytes

        seed = self._config.search.seed
        found = self._builder.reference(task, [seed], self._work)
        if isinstance(found, str):
            packed.notes.append(f"{task.name}: left out, nothing to check it against: {found}")
            return None
        reference = found[seed]
        workload = task.workload
        entries = []
        with np.load(reference.path, allow_pickle=False) as stored:
            for name in stored.files:
                output = stored[name]
                rtol, factor = (
                    tolerance(reference.dtype, reference.reduction) if output.dtype.kind == "f" else (0.0, 0.0)
                )
                expected = expect(output, rtol, factor * scale_of(output))
                values, sums = to_bytes(expected)
                entry = {"values": packed.add(values), "rtol": expected.rtol, "atol": expected.atol}
                entries.append(entry if sums is None else {**entry, "sums": packed.add(sums)})
        reference.path.unlink()
        return {
            "key": task.key, "name": task.name, "weight": task.weight, "flops": workload.flops, "seed": seed,
            "args": [{"shape": list(spec.shape), "dtype": spec.dtype} for spec in workload.args],
            "inputs": [hashlib.sha256(a.tobytes()).hexdigest() for a in seeded_inputs(workload.inputs, seed)],
            "expected": entries, "origin": dict(workload.origin),
        }  # fmt: skip


def _guess_s(task: Task) -> float:
    """Seconds on a GPU of some 20 TFLOP/s and 1 TB/s that starts a kernel in 3 us: only proportions matter."""
    return max(task.workload.flops / 2e13, task.workload.bytes / 1e12) + 3e-6
