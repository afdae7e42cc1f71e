"""Measuring one cell in one night: searched, rebuilt, and both interleaved with the reference and the baselines."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tuner import strict_yaml
from tuner.caveats import Caveats
from tuner.files import write_aside
from tuner.measure.stats import LEAST_ROUNDS, log_ratio_interval
from tuner.nightly import steps, structure
from tuner.nightly.compared import OURS, REBUILT, REFERENCE, SEARCHED, Answer, Request
from tuner.nightly.config import CellConfig, NightConfig, run_document
from tuner.nightly.steps import Tree
from tuner.nights import CAVEAT, Outcome

_IMPORT_S = 900.0
"""Beyond its search, what a run of a cell may take at most: import, certification, comparison, export."""

_COMPARE_S = 600.0
"""The same for a comparison: baselines may compile for minutes."""

_REBUILD_S = 900.0


@dataclass(frozen=True)
class Reference:
    """The artifact that a cell is measured against: the night it was made in, and that night's run folder."""

    night: str
    folder: Path


@dataclass(frozen=True)
class Job:
    """One cell to be measured. `work` is scratch space, `left_s` says how many seconds the night has left; its ratios
    are medians of so many `comparisons`."""

    cell: CellConfig
    night: NightConfig
    reference: Reference | None
    work: Path
    left_s: Callable[[], float]
    tree: Tree = field(default_factory=Tree.here)
    comparisons: int = 1

    @property
    def machine(self) -> Path:
        """The folder in whose `.machine` is kept what was measured of this machine: once, and not for each cell."""
        folder = Path(self.night.out).absolute() / "machine"
        (folder / ".machine").mkdir(parents=True, exist_ok=True)
        return folder

    def limit_s(self, most_s: float) -> float:
        """The time of a step: `most_s`, or what is left of the night."""
        return min(most_s, max(self.left_s(), 1.0))


@dataclass
class Measured:
    """What was measured of a cell, in the terms of `CellNight`. `outcome` is SAME unless it is MISSING or BROKEN.

    `run`: the folder of tonight's run, whose export may become a reference. `by_seed`: of a recorded space, log ratios
    to the optimum.
    """

    outcome: Outcome = Outcome.SAME
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    structure: dict[str, float] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, dict[int, float]] = field(default_factory=dict)
    run: Path | None = None

    def failed(self, outcome: Outcome, reason: str) -> Measured:
        return dataclasses.replace(self, outcome=outcome, reason=reason)


class Measurer(Protocol):
    """Measures cells of one kind."""

    def measure(self, job: Job) -> Measured:
        """All of a cell. What goes wrong with it is an outcome with a reason."""

    def confirm(self, job: Job, measured: Measured) -> Mapping[str, float]:
        """The log ratios of our entries once more, in fresh processes and reversed order; empty where that failed."""

    def search_again(self, job: Job, measured: Measured, seed: int) -> float | None:
        """Search with another seed: the log ratio of what it finds to the rebuilt model (to the reference where there
        is none); None where that failed."""

    def rebuilt_by(self, job: Job) -> float | None:
        """The log ratio to the reference of its candidates as the job's tree builds them; None where that failed."""


class ModelMeasurer:
    """Models, and kernels as models of one operator."""

    def measure(self, job: Job) -> Measured:
        measured = Measured()
        run, why = self._search(job, "searched", job.cell.seed)
        exports = {}
        if job.reference is not None:
            exports[REFERENCE] = job.reference.folder / "export"
            if rebuilt := self._rebuild(job, measured):
                exports[REBUILT] = rebuilt
        if run is not None:
            exports[SEARCHED] = run / "export"
            measured.run = run
            _describe(measured, SEARCHED, run)
            measured.structure |= {f"{SEARCHED}.{n}": v for n, v in structure.of_search(run).items()}
        if not exports:
            return measured.failed(Outcome.BROKEN, why)
        answers, failed = self._compared(job, exports, job.cell.baselines)
        if not answers:
            return measured.failed(Outcome.BROKEN, f"the comparison: {failed}")
        _take(measured, answers)
        measured.facts["comparisons"] = job.comparisons
        if run is None:
            return measured.failed(Outcome.BROKEN, why)
        if SEARCHED not in measured.seconds:
            reason = answers[0].wrong.get(SEARCHED) or answers[0].dropped.get(SEARCHED) or "it gave no times"
            return measured.failed(Outcome.BROKEN, f"{SEARCHED}: {reason}")
        return measured

    def confirm(self, job: Job, measured: Measured) -> Mapping[str, float]:
        again = self._again(job, measured)
        if len(again) < 2:
            return {}
        return _medians(self._compared(job, again, reverse=True)[0])

    def search_again(self, job: Job, measured: Measured, seed: int) -> float | None:
        run, _ = self._search(job, f"seed-{seed}", seed)
        others = {name: folder for name, folder in self._again(job, measured).items() if name != SEARCHED}
        if run is None or not others:
            return None
        ratios = _medians(self._compared(job, {**others, SEARCHED: run / "export"}, reverse=bool(seed % 2))[0])
        return ratios.get(f"{SEARCHED}/{REBUILT}", ratios.get(f"{SEARCHED}/{REFERENCE}"))

    def rebuilt_by(self, job: Job) -> float | None:
        export = None if job.reference is None else self._rebuild(job, Measured())
        if job.reference is None or export is None:
            return None
        exports = {REFERENCE: job.reference.folder / "export", REBUILT: export}
        return _medians(self._compared(job, exports)[0]).get(f"{REBUILT}/{REFERENCE}")

    def _again(self, job: Job, measured: Measured) -> dict[str, Path]:
        """The exports that gave times."""
        folders = {REBUILT: job.work / "rebuilt-export"}
        if job.reference is not None:
            folders[REFERENCE] = job.reference.folder / "export"
        if measured.run is not None:
            folders[SEARCHED] = measured.run / "export"
        return {name: folders[name] for name in OURS if name in measured.seconds and name in folders}

    def _search(self, job: Job, name: str, seed: int) -> tuple[Path | None, str]:
        """The run folder of a search that exported its model, or None with the reason."""
        folder = job.work / name
        shutil.rmtree(folder, ignore_errors=True)
        document = run_document(job.cell, f"sqlite:///{(folder / 'records.db').absolute()}", seed)
        tree = _with_model(job, document)
        run_file = folder / "cell.yaml"
        write_aside(run_file, strict_yaml.dump(document).encode())
        (folder / "runs").mkdir()
        (folder / "runs" / ".machine").symlink_to(job.machine / ".machine")
        arguments = ["tuner", "run", str(run_file.absolute()), "--out", str((folder / "runs").absolute())]
        limit_s = job.limit_s(4.0 * job.cell.budget_s + _IMPORT_S)
        step = steps.run(tree, arguments, folder / "log.txt", limit_s)
        exported = sorted((folder / "runs").glob("*/export/manifest.json"))
        if exported:
            return exported[-1].parent.parent, ""
        if step.failed:
            return None, f"the search: {step.failed}"
        notes = [str(n) for f in (folder / "runs").glob("*/summary.json") for n in structure.read_json(f)["notes"]]
        return None, f"the search: {next((n for n in notes if n.startswith('not exported')), 'nothing was exported')}"

    def _rebuild(self, job: Job, measured: Measured) -> Path | None:
        """Today's build of the reference's candidates: the export's folder; None, with a note, where that fails."""
        assert job.reference is not None
        folder = job.work / "rebuilt" / job.reference.folder.name
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copyfile(job.reference.folder / "summary.json", folder / "summary.json")
        document = strict_yaml.load((job.reference.folder / "config.yaml").read_text("utf-8"), "config.yaml")
        tree = _with_model(job, document)
        write_aside(folder / "config.yaml", strict_yaml.dump(document).encode())
        arguments = ["tuner", "export", folder.name, "--out", str(folder.parent.absolute())]
        step = steps.run(tree, arguments, job.work / "rebuilt.txt", job.limit_s(_REBUILD_S))
        if step.failed or not (folder / "export").is_dir():
            measured.notes.append(
                f"the reference's candidates were not rebuilt: {step.failed or 'nothing was exported'}"
            )
            return None
        _describe(measured, REBUILT, folder)
        measured.structure[f"{REBUILT}.compile_s"] = step.seconds
        export = job.work / "rebuilt-export"
        shutil.rmtree(export, ignore_errors=True)
        shutil.copytree(folder / "export", export)
        return export

    def _compared(
        self, job: Job, exports: Mapping[str, Path], baselines: Sequence[str] = (), reverse: bool = False
    ) -> tuple[list[Answer], str]:
        """The answers of as many comparisons as the cell gets, in alternating order, baselines in the first alone; and
        why the first that failed did."""
        answers, reasons = [], [""]
        for number in range(job.comparisons):
            if number and job.left_s() < job.night.compare_s:
                break
            answer, failed = self._compare(
                job, exports, () if number else baselines, reverse != bool(number % 2), job.cell.seed + 2 * number
            )
            answers += [] if answer is None else [answer]
            reasons += [failed] if failed else []
        return answers, reasons[min(1, len(reasons) - 1)]

    def _compare(
        self, job: Job, exports: Mapping[str, Path], baselines: Sequence[str], reverse: bool, seed: int
    ) -> tuple[Answer | None, str]:
        run_file = job.work / "compared.yaml"
        write_aside(run_file, strict_yaml.dump(run_document(job.cell)).encode())
        request = Request(
            str(run_file.absolute()), {name: str(folder.absolute()) for name, folder in exports.items()},
            list(baselines), job.night.compare_s, seed + reverse, str(job.machine), reverse,
        )  # fmt: skip
        request_file, answer_file = (job.work / name for name in ("request.json", "answer.json"))
        answer_file.unlink(missing_ok=True)
        write_aside(request_file, json.dumps(dataclasses.asdict(request)).encode())
        arguments = ["tuner.nightly.compared", str(request_file.absolute()), str(answer_file.absolute())]
        limit_s = job.limit_s(3.0 * job.night.compare_s + _COMPARE_S)
        step = steps.run(Tree.here(), arguments, job.work / "compared.txt", limit_s)
        answer = Answer.read(answer_file)
        return answer, step.failed or ("" if answer else "it left no answer")


def _with_model(job: Job, document: dict[str, Any]) -> Tree:
    """The job's tree, with the model of a run file: what lies here, and not in an earlier commit, is brought to it.

    A file of a model is named in full in `document`; a module that makes one is copied beside the job.
    """
    if job.tree.mine:
        return job.tree
    kind, _, name = str(document["model"]["source"]).partition(":")
    if kind == "onnx" and Path(name).is_file():
        document["model"]["source"] = f"onnx:{Path(name).absolute()}"
    module = Path(*name.partition(":")[0].split(".")).with_suffix(".py")
    if kind != "torch" or not module.is_file():
        return job.tree
    models = job.work / "models"
    (models / module).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(module, models / module)
    return dataclasses.replace(job.tree, models=models.absolute())


def _describe(measured: Measured, entry: str, run: Path) -> None:
    """The structural series of a run, under the name of an entry, and what its times are."""
    measured.facts |= _caveat(run)
    numbers, texts = structure.of_run(run)
    measured.structure |= {f"{entry}.{name}": value for name, value in numbers.items()}
    measured.texts |= {f"{entry}.{name}": text for name, text in texts.items()}


def _caveat(run: Path) -> dict[str, Any]:
    """What the times of a run's model are, where they are not its device's own, as a fact of the cell."""
    caveat = Caveats.of_summary(structure.read_json(run / "summary.json")).model
    return {CAVEAT: caveat.to_json()} if caveat.words else {}


def _take(measured: Measured, answers: Sequence[Answer]) -> None:
    """What the comparisons found."""
    answer = dataclasses.replace(answers[0], passes=[one for each in answers for one in each.passes])
    measured.ratios = _medians(answers)
    for name, (low, high) in _ratios(answer)[1].items():
        ratio = measured.ratios.setdefault(name, 0.5 * (low + high))
        measured.intervals[name] = (min(low, ratio), max(high, ratio))
    for number, one in enumerate(answer.passes):
        for name, blocks in one["blocks"].items():
            pooled = measured.samples.setdefault(name, {})
            pooled |= {1000 * number + int(r): float(s) for r, s in blocks}
    measured.samples = {name: blocks for name, blocks in measured.samples.items() if blocks}
    measured.seconds = {name: float(np.median(list(blocks.values()))) for name, blocks in measured.samples.items()}
    measured.structure |= {f"{name}.peak_bytes": float(peak) for name, peak in answer.peak_bytes.items()}
    measured.structure |= {f"{name}.load_s": seconds for name, seconds in answer.load_s.items()}
    measured.notes += [f"{name} is not compared: {why}" for name, why in (answer.dropped | answer.wrong).items()]
    measured.facts |= {"inputs": answer.inputs, "settings": answer.settings}
    if answer.state:
        measured.facts["cpus"] = answer.state


def _medians(answers: Sequence[Answer]) -> dict[str, float]:
    """The log ratios of all pairs that are followed: the median over the comparisons."""
    found = [_ratios(answer)[0] for answer in answers]
    names = {name for ratios in found for name in ratios}
    return {name: float(np.median([ratios[name] for ratios in found if name in ratios])) for name in names}


def _ratios(answer: Answer) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """The log ratios `A/B` of all pairs that are followed, and their intervals; `aa` is one entry against itself."""
    names = {name for one in answer.passes for name in one["blocks"]}
    wanted = [(REBUILT, REFERENCE), (SEARCHED, REBUILT), (SEARCHED, REFERENCE)]
    wanted += [(name, REFERENCE if REFERENCE in names else SEARCHED) for name in sorted(names - {*OURS})]
    ratios, intervals = {}, {}
    found = {f"{a}/{b}": _paired(answer, a, b) for a, b in wanted} | {"aa": _paired_with_control(answer)}
    for name, (logs, groups) in found.items():
        if len(logs) >= LEAST_ROUNDS:
            ratios[name] = float(np.median(logs))
            low, high = log_ratio_interval(np.array(logs), groups=groups)
            intervals[name] = (min(low, ratios[name]), max(high, ratios[name]))
    return ratios, intervals


def _paired(answer: Answer, a: str, b: str) -> tuple[list[float], list[int]]:
    """The log ratios of two entries, round by round, and the pass that each is from."""
    logs, groups = [], []
    for number, one in enumerate(answer.passes):
        first, second = (dict(map(tuple, one["blocks"].get(name, ()))) for name in (a, b))
        for round_number in sorted(first.keys() & second.keys()):
            logs.append(float(np.log(first[round_number] / second[round_number])))
            groups.append(number)
    return logs, groups


def _paired_with_control(answer: Answer) -> tuple[list[float], list[int]]:
    logs, groups = [], []
    for number, one in enumerate(answer.passes):
        first, second = dict(map(tuple, one["blocks"].get(one["incumbent"], ()))), dict(map(tuple, one["control"]))
        for round_number in sorted(first.keys() & second.keys()):
            logs.append(float(np.log(first[round_number] / second[round_number])))
            groups.append(number)
    return logs, groups
