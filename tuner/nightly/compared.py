"""The interleaved comparison of a cell, in a process of its own: `python -m tuner.nightly.compared REQUEST ANSWER`.

Entries are exported models, all timed by today's runtime, and baselines. Each pass starts them anew: the memory layout
of a process is fixed for its life, and is part of what differs between two of them.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.errors import TunerError
from tuner.files import write_aside

if TYPE_CHECKING:
    from tuner.config import RunConfig
    from tuner.devices.target import ResolvedTarget
    from tuner.measure.models import EntrySpec, ModelComparison
    from tuner.models import ImportedModel

REFERENCE, REBUILT, SEARCHED = "reference", "rebuilt", "searched"
OURS = (REFERENCE, REBUILT, SEARCHED)

PASSES = 3
"""Fresh processes for each of our entries: with fewer, the variation between processes is not known from the data."""

_LEAST_ROUNDS = 4
_BASELINE_SHARE = 0.5
"""Of the time, for the one pass in which baselines take part."""


@dataclass(frozen=True)
class Request:
    """What is to be compared: the run file of the model, our exported models by entry, baselines by name.

    `machine`: where what is known of this machine is kept. `reverse`: entries are started and timed in the opposite
    order.
    """

    run_file: str
    exports: Mapping[str, str]
    baselines: Sequence[str]
    seconds: float
    seed: int
    machine: str
    reverse: bool = False


@dataclass
class Answer:
    """What was measured. By pass: the seconds of each entry's blocks by round, those of the A/A control of the pass's
    first entry, and the entry it is of. `wrong` are entries whose outputs differ from the reference's, `dropped` those
    that failed; each with the reason."""

    passes: list[dict[str, Any]] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    load_s: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    state: str = ""

    @classmethod
    def read(cls, path: Path) -> Answer | None:
        """The answer in a file; None where there is none."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None


def compare(request: Request, work: Path) -> Answer:
    """Time the entries of a request. Raises TunerError where the model or its target cannot be had."""
    from tuner import config as config_file
    from tuner.commands.prepare import imported
    from tuner.devices import resolve
    from tuner.importers import model_inputs

    config = config_file.load(request.run_file)
    target = resolve.resolve(config.target)
    model = imported(config)
    answer = Answer(inputs=[f"{spec.name}: {spec.dtype} {list(spec.shape)}" for spec in model.inputs])
    inputs = model_inputs(model.inputs, model.model_spec, request.seed)
    baselines = _baselines(config, target, model, request.baselines, work) if request.baselines else []
    probe = resolve.kind_of(target).state_probe(target.threads, Path(request.machine))
    share = (1.0 - _BASELINE_SHARE * bool(baselines)) / PASSES
    try:
        for number in range(PASSES):
            ours = _exported(request, target)
            others = baselines if number == 0 else []
            seconds = request.seconds * (share + (_BASELINE_SHARE if others else 0.0))
            specs = [*ours, *others]
            result = _timed(
                specs[::-1] if request.reverse != bool(number % 2) else specs, inputs, work, target.threads, seconds,
                request.seed + number, probe,
            )  # fmt: skip
            _note(answer, result, first=number == 0)
    finally:
        if probe is not None:
            probe.close()
    return answer


def _exported(request: Request, target: ResolvedTarget) -> list[EntrySpec]:
    """Our entries. Raises UserError for an export that was changed since."""
    from tuner.export.library import read_manifest
    from tuner.measure.models import EntrySpec

    specs = []
    for name, folder in request.exports.items():
        manifest = read_manifest(Path(folder))
        settings = {
            "library": str(Path(folder) / manifest["library"]), "threads": target.threads, "device": manifest["device"],
        }  # fmt: skip
        specs.append(EntrySpec(name, "tuner.measure.compiled_model:CompiledModelWorker", settings))
    return specs


def _baselines(
    config: RunConfig, target: ResolvedTarget, model: ImportedModel, names: Sequence[str], work: Path
) -> list[EntrySpec]:
    from tuner import environment
    from tuner.devices import resolve
    from tuner.devices.device import Opening
    from tuner.measure.models import EXACT, TUNED
    from tuner.progress import Progress

    opening = Opening(target, config.measure, environment.usable_threads(), work, work, Progress())
    device = resolve.kind_of(target).open(opening)
    try:
        specs = device.entries(model, {TUNED: work}, names)
    finally:
        device.close()
    return [spec for spec in specs if spec.name not in (TUNED, EXACT)]


def _timed(
    specs: Sequence[EntrySpec], inputs: Sequence[Any], work: Path, threads: int, seconds: float, seed: int, probe: Any
) -> ModelComparison:
    from tuner.measure.models import Timing, compare_models
    from tuner.models import InputSet

    references = [REFERENCE] if any(spec.name == REFERENCE for spec in specs) else []
    with tempfile.TemporaryDirectory(dir=work, prefix="pass-") as folder:
        return compare_models(
            specs, references, [InputSet("the night's inputs", tuple(inputs))], Path(folder), threads,
            Timing(lambda: seconds, _LEAST_ROUNDS), seed, lambda text: None, probe,
        )  # fmt: skip


def _note(answer: Answer, comparison: ModelComparison, first: bool) -> None:
    state, result = comparison.result.main(*[n for n in comparison.result.blocks if n in OURS])
    answer.passes.append(
        {
            "blocks": {name: sorted(rounds.items()) for name, rounds in result.blocks.items()},
            "control": sorted(result.control.items()),
            "incumbent": result.incumbent,
        }
    )
    answer.dropped |= comparison.result.dropped
    answer.state = "" if state is None else str(state)
    for sentence in comparison.notes:
        name, is_not_compared, why = sentence.partition(" is not compared: ")
        if is_not_compared:
            differs = why.startswith("its outputs ")
            (answer.wrong if differs else answer.dropped).setdefault(name, why)
    if first:
        answer.settings, answer.load_s = comparison.settings, comparison.load_s
    answer.peak_bytes |= comparison.peak_bytes


def main(arguments: Sequence[str]) -> int:
    """Answer the request in a file. Returns an exit code; says why on stderr."""
    request_file, answer_file = map(Path, arguments)
    request = Request(**json.loads(request_file.read_text(encoding="utf-8")))
    try:
        answer = compare(request, answer_file.parent)
        write_aside(answer_file, json.dumps(dataclasses.asdict(answer)).encode())
    except TunerError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
