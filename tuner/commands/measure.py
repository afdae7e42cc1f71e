"""`measure`: check and time a bundle on this machine. Needs numpy and PyCUDA or pyopencl; never TVM."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tuner import config
from tuner.bundle import Bundle, Item, Manifest, TaskEntry
from tuner.bundle.measurements import FORMAT, Header, Row, TaskKernels, Writer
from tuner.bundle.replay import BundleReplayBench
from tuner.caveats import NONE, Caveat
from tuner.devices import resolve
from tuner.devices.device import BundleBench
from tuner.errors import BundleError, UserError
from tuner.process.dispatch import dispatch, finish_s
from tuner.process.interrupts import Interrupts
from tuner.progress import Progress, milliseconds
from tuner.protocols import CERTIFY, RANK, SCREEN, ExpectedOutput, Job, Policy
from tuner.records import PROTOCOL_VERSION, Fidelity, Status
from tuner.schema import did_you_mean

SETTINGS = config.SETTINGS["standard"]
"""A `chunk` of items goes to a device together: their task's inputs are drawn and uploaded once."""

REPLAY = "replay"
"""The runner that reads recorded measurements; after a colon comes their file."""

_PER_ITEM_S, _BYTES_PER_S = 0.05, 2e8
"""For the dispatcher's predictions: what an item costs besides its sampling, and how fast inputs are drawn."""


def measure(
    path: Path, output: Path, runner: str | None, gpus: Sequence[int] | None, progress: Progress
) -> tuple[list[str], int]:
    """Measure every item of a bundle into `output`. Returns lines for the terminal, and the exit code.

    `runner`: a kind of device, or `replay:FILE` with recorded measurements; None: the kind that the bundle is for.
    `gpus`: their numbers, None for all. Everything is screened; the fastest of each task are ranked, and the winner and
    the default certified. Where `output` is there already, only what it lacks is measured. Raises TunerError.
    """
    progress.phase(f"checking {path}")
    with Bundle(path) as bundle, tempfile.TemporaryDirectory(prefix="tuner-measure-") as folder:
        manifest = bundle.manifest
        if manifest.protocol != PROTOCOL_VERSION:
            raise BundleError(str(path), f"made for timing protocol {manifest.protocol}, this program's is "
                              f"{PROTOCOL_VERSION}", "make the bundle again with this version")  # fmt: skip
        name, benches = _benches(runner, bundle, gpus)
        try:
            for digest in manifest.blobs:
                _unpack(Path(folder) / digest, bundle.blob(digest))
            devices = tuple(sorted({bench.device for bench in benches}))
            count = Counter(item.task for item in manifest.items)
            tasks = tuple(TaskKernels(task.key, task.name, count[task.key]) for task in manifest.tasks)
            header = Header(
                FORMAT, bundle.sha256, manifest.target, manifest.mode, PROTOCOL_VERSION, name, devices, tasks
            )
            with Interrupts(progress.message) as interrupted:
                caveat = _caveat(manifest, devices)
                return _Measuring(
                    manifest, Path(folder), benches, Writer(output, header), progress, interrupted, caveat
                ).run()
        finally:
            for bench in benches:
                bench.close()


def _benches(runner: str | None, bundle: Bundle, gpus: Sequence[int] | None) -> tuple[str, Sequence[BundleBench]]:
    """The runner's name and what it measures on. Raises UserError for one that is not the bundle's, TargetError without
    a device, BundleError for a recording of another bundle."""
    manifest = bundle.manifest
    kind = resolve.kind_of_text(manifest.target)
    name, colon, argument = (runner or kind.name).partition(":")
    if name == REPLAY:
        if not argument:
            raise UserError(f"--runner {runner}: names no file", f"write --runner {REPLAY}:FILE")
        replayed = BundleReplayBench(Path(argument))
        replayed.require(bundle)
        return name, [replayed]
    if name not in resolve.KINDS:
        known = ", ".join([*(known.name for known in resolve.all_kinds() if known.bundles), REPLAY])
        raise UserError(f"--runner: no runner {name!r}", did_you_mean(name, resolve.KINDS) or f"there are: {known}")
    if colon:
        raise UserError(f"--runner {runner}: {name} takes nothing behind its name", "choose devices with --gpus")
    if name != kind.name:
        made_for = kind.name if manifest.arch in kind.name else f"{kind.name} ({manifest.arch})"
        raise UserError(
            f"--runner {name}: the bundle is for {made_for}, and {name} runs none of its kernels",
            f"leave --runner out, to measure {kind.place}" + _bundle_for(name),
        )
    return name, kind.benches(gpus, manifest.arch, manifest.mode)


def _caveat(manifest: Manifest, devices: Sequence[str]) -> Caveat:
    """What the times are that are taken on these devices; a recording's are those of the device in it."""
    kind = resolve.kind_of_text(manifest.target)
    return next((caveat for device in devices if (caveat := kind.caveats(device).kernel).words), NONE)


def _bundle_for(name: str) -> str:
    """What to do for a runner that is not the bundle's."""
    if resolve.kind_named(name).bundles:
        return f"; or make a bundle for it: `target: {name}` in the run file"
    return f"; {name} needs no bundle: `python -m tuner run` with `target: {name}`"


def _unpack(path: Path, content: bytes) -> None:
    """Write a new file in our own folder, named by hex digits: nothing in a bundle decides where a file is written."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Items of one task that go to a device together."""

    task: TaskEntry
    items: tuple[Item, ...]
    policy: Policy

    @property
    def predicted_s(self) -> float:
        """Seconds that it is expected to take."""
        item_s = _PER_ITEM_S + self.policy.min_time_s + self.policy.warmup_s
        return len(self.items) * item_s + self.task.bytes / _BYTES_PER_S


class _Measuring:
    """One call of `measure`: what is known by now, and what is measured next."""

    def __init__(
        self, manifest: Manifest, folder: Path, benches: Sequence[BundleBench], writer: Writer, progress: Progress,
        interrupted: Interrupts, caveat: Caveat = NONE,
    ) -> None:  # fmt: skip
        self._manifest = manifest
        self._caveat = caveat
        self._folder = folder
        self._benches = benches
        self._writer = writer
        self._progress = progress
        self._interrupted = interrupted
        self._lock = threading.Lock()
        self._measured = {row.key: row.measurement for row in writer.done}
        self._known_before = len(self._measured)
        self._items: dict[str, list[Item]] = {task.key: [] for task in manifest.tasks}
        for item in manifest.items:
            self._items[item.task].append(item)

    def run(self) -> tuple[list[str], int]:
        try:
            self._measure_all("screening", SCREEN, lambda task: self._items[task.key])
            most = SETTINGS.finalists
            self._measure_all("ranking the finalists", RANK, lambda task: self._best(task, Fidelity.SCREEN)[:most])
            self._measure_all("certifying the winners", CERTIFY, self._to_certify)
        finally:
            self._writer.close()
        return self._lines(), 130 if self._interrupted() else 0

    def _measure_all(self, phase: str, policy: Policy, choose: Callable[[TaskEntry], Sequence[Item]]) -> None:
        """Measure by `policy` what `choose` returns for each task, save what was measured so already."""
        batches = []
        for task in self._manifest.tasks:
            missing = [i for i in choose(task) if (task.key, i.candidate, policy.fidelity) not in self._measured]
            chunks = [missing[start : start + SETTINGS.chunk] for start in range(0, len(missing), SETTINGS.chunk)]
            batches += [_Batch(task, tuple(chunk), policy) for chunk in chunks]
        if not batches or self._interrupted():
            return
        predicted = [batch.predicted_s for batch in batches]
        predicted_end_s = finish_s(predicted, len(self._benches))
        count = sum(len(batch.items) for batch in batches)
        self._progress.phase(
            f"{phase}: {count} kernels on {len(self._benches)} device(s), about {predicted_end_s:.0f} s"
        )
        dispatch(batches, predicted, self._benches, self._measure_batch, self._interrupted)

    def _measure_batch(self, bench: BundleBench, batch: _Batch) -> None:
        for item in batch.items:
            if self._interrupted():
                return
            measurement = bench.measure(self._job(batch.task, item), self._policy(batch, item))
            measurement = dataclasses.replace(measurement, build_s=item.build_s)
            row = Row(item.task, batch.task.name, item.candidate, item.proposer, batch.task.seed, bench.device,
                      datetime.now(UTC).isoformat(timespec="milliseconds"), measurement)  # fmt: skip
            with self._lock:
                self._measured[row.key] = measurement
                self._writer.add(row)

    def _policy(self, batch: _Batch, item: Item) -> Policy:
        """When screening, what is far slower than the task's best is given up; the default is always timed."""
        if batch.policy.fidelity is not Fidelity.SCREEN or item.proposer == "default":
            return batch.policy
        with self._lock:
            best = self._best_s(batch.task)
        return dataclasses.replace(batch.policy, give_up_above_s=None if best is None else SETTINGS.give_up * best)

    def _best_s(self, task: TaskEntry) -> float | None:
        times_s = [m.median_s for (key, _, _), m in self._measured.items() if key == task.key and m.ok]
        return min(times_s, default=None)

    def _best(self, task: TaskEntry, fidelity: Fidelity) -> list[Item]:
        """The items timed at a fidelity, the fastest first; excluded ones only where there are no others."""
        timed = [(self._measured.get((task.key, item.candidate, fidelity)), item) for item in self._items[task.key]]
        right = [(m, item) for m, item in timed if m is not None and m.ok]
        eligible = [(m, item) for m, item in right if not m.conditions.excluded] or right
        return [item for _, item in sorted(eligible, key=lambda pair: pair[0].median_s)]

    def _to_certify(self, task: TaskEntry) -> list[Item]:
        """The winner and the default of a task."""
        winner = (self._best(task, Fidelity.RANK) or self._best(task, Fidelity.SCREEN))[:1]
        default = [item for item in self._items[task.key] if item.proposer == "default" and item not in winner]
        return [*winner, *default]

    def _job(self, task: TaskEntry, item: Item) -> Job:
        expected = tuple(
            ExpectedOutput(self._folder / e.values, self._folder / e.sums if e.sums else None, e.rtol, e.atol)
            for e in task.expected
        )
        return Job(
            task.key, item.candidate, self._folder / item.cubin, "", tuple(a.spec for a in task.input_args),
            tuple(a.spec for a in task.output_args), task.seed, expected=expected, inputs_sha256=tuple(task.inputs),
            resources={"plan": dict(item.plan)},
        )  # fmt: skip

    def _lines(self) -> list[str]:
        counts: dict[str, int] = {}
        for (_, _, fidelity), measurement in self._measured.items():
            if fidelity is Fidelity.SCREEN:
                counts[measurement.status.value] = counts.get(measurement.status.value, 0) + 1
        lines = [f"screened {sum(counts.values())} of {len(self._manifest.items)} kernels: "
                 + ", ".join(f"{n} {status}" for status, n in sorted(counts.items(), key=lambda c: -c[1]))]  # fmt: skip
        if self._known_before:
            lines.append(f"{self._known_before} measurements were there already")
        for task in self._manifest.tasks:
            lines.append(f"{task.name}: {self._sentence_of(task)}")
        return [*lines, *self._caveat.sentences]

    def _sentence_of(self, task: TaskEntry) -> str:
        for fidelity in (Fidelity.CERTIFY, Fidelity.RANK, Fidelity.SCREEN):
            best = self._best(task, fidelity)
            if best:
                seconds = self._measured[(task.key, best[0].candidate, fidelity)].median_s
                default = next((i for i in best if i.proposer == "default"), None)
                words = f"best {self._caveat.beside(milliseconds(seconds))}"
                if default is not None and default is not best[0]:
                    ratio = self._measured[(task.key, default.candidate, fidelity)].median_s / seconds
                    words += f", default {ratio:.2f}x of it"
                return f"{words} ({fidelity})"
        failed = [m for (key, _, _), m in self._measured.items() if key == task.key and m.status is not Status.OK]
        return f"no time; {failed[0].status}: {failed[0].reason[:120]}" if failed else "not measured"
