"""How good the tuned model is: on the inputs that it is verified with, or on samples of the user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuner.commands.prepare import RunContext
from tuner.commands.within import Rehearsal
from tuner.config import RunConfig
from tuner.errors import ConfigError
from tuner.importers import input_sets
from tuner.importers.samples import Samples, read_samples
from tuner.measure.entries import EXACT, EXACT_WHOLE, SHOWN, TUNED, EntrySpec, answers
from tuner.measure.exact import exact_outputs
from tuner.measure.quality import Outputs, Quality, agreement_of, errors_of, scored
from tuner.models import ImportedModel
from tuner.process.worker import ChildDied, ChildError, ChildTimeout

if TYPE_CHECKING:
    from tuner.measure.models import ModelComparison


def samples_of(config: RunConfig, model: ImportedModel) -> Samples | None:
    """The user's samples, where there are some. Raises ConfigError for a file that does not fit."""
    data = config.accuracy.data
    if data is None:
        return None
    samples = read_samples(data, model.inputs)
    if samples.labels is not None and config.accuracy.metric not in ("top1", "top5"):
        why = f"{config.accuracy.metric} is not one of labels"
        raise ConfigError("accuracy.metric", why, "top1 or top5; or give outputs in place of labels")
    return samples


def judge(
    run: RunContext, model: ImportedModel, tuned: EntrySpec, entries: Sequence[EntrySpec], rehearsal: Rehearsal,
    comparison: ModelComparison,
) -> None:  # fmt: skip
    """Say in `comparison` how good the tuned outputs are, where they can be compared with anything."""
    bound = run.config.accuracy.bound
    if model.reduced is None and bound is None:
        return
    if TUNED not in comparison.settings:
        comparison.quality = Quality(0, metric=run.config.accuracy.metric, bound=bound)
        return
    run.progress.phase("judging the accuracy of the tuned model")
    try:
        comparison.quality = _judged(run, model, tuned, entries, rehearsal, bound)
    except (ChildDied, ChildError, ChildTimeout) as error:
        comparison.notes.append(f"the accuracy is not known: {str(error)[:SHOWN]}")
        comparison.quality = Quality(0, metric=run.config.accuracy.metric, bound=bound)


def _judged(
    run: RunContext, model: ImportedModel, tuned: EntrySpec, entries: Sequence[EntrySpec], rehearsal: Rehearsal,
    bound: float | None,
) -> Quality:  # fmt: skip
    metric, threads = run.config.accuracy.metric, run.target.threads
    samples = samples_of(run.config, model)
    if samples is not None:
        outputs = answers(tuned, samples.inputs, run.work, threads)
        right: Sequence[Outputs] = samples.outputs
        if not right and samples.labels is None:
            named = {entry.name: entry for entry in entries}
            right = exact_outputs(named.get(EXACT_WHOLE, named[EXACT]), samples.inputs, run.work, threads)
        score: float | None = scored(metric, outputs, right or outputs, samples.labels)
        errors = errors_of(outputs, right) if right else ()
        agreement = agreement_of(outputs, right) if right else None
        return Quality(len(outputs), errors, agreement, metric, score, bound, samples.name)
    given, exact = _on_run_inputs(run, model, tuned, rehearsal)
    if not exact:
        return Quality(0, metric=metric, bound=bound)
    score = scored(metric, given, exact)
    return Quality(len(given), errors_of(given, exact), agreement_of(given, exact), metric, score, bound)


def _on_run_inputs(
    run: RunContext, model: ImportedModel, tuned: EntrySpec, rehearsal: Rehearsal
) -> tuple[Sequence[Outputs], Sequence[Outputs]]:
    """The tuned outputs and those in float64 on the inputs that the run verifies with, as far as these are known."""
    exact = rehearsal.whole or rehearsal.exact
    sets = input_sets(model.inputs, model.model_spec, run.config.search.seed)
    known = [None if exact is None else exact.yardstick(number) for number in range(len(sets))]
    pairs = [(one.arrays, found.exact) for one, found in zip(sets, known, strict=True) if found is not None]
    if not pairs:
        return [], []
    given = answers(tuned, [inputs for inputs, _ in pairs], run.work, run.target.threads)
    return given, [right for _, right in pairs]
