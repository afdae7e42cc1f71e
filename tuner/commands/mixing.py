"""`precision: auto`: the fastest mix of precisions, layer by layer, that keeps the accuracy.

Times are measured: each layer by itself, in each precision. Accuracy is that of the model run with the layers' operands
rounded as the mix says (`tuner.baselines.layerwise`). From the fastest mix on, layers go to the precision in which they
lose less, those first that gain most accuracy for the time they cost, until the bound is kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner import files
from tuner.config import AccuracyConfig
from tuner.measure.entries import arrays, store
from tuner.measure.quality import Outputs, relative_error, scored
from tuner.metrics import keeps
from tuner.process.limits import for_compilers
from tuner.process.pinning import thread_env
from tuner.process.worker import Child
from tuner.protocols import Array

PLAN = "mix.json"
"""In the run's folder of precisions: what was decided, so that it is decided once."""

DEFAULT = AccuracyConfig(metric="cosine", at_least=0.999)
"""What a mix must keep where the run file asks for nothing."""

MOST_SAMPLES = 16
"""So many of the user's samples tell whether a mix keeps the accuracy; the tuned model is judged on all of them."""

_CALL_S = 600.0


@dataclass(frozen=True)
class Mix:
    """What is decided: the precision of each layer, by number, and its error by itself in it; and what was looked at,
    as (predicted seconds, relative error of the outputs)."""

    layers: tuple[str, ...]
    errors: tuple[float, ...]
    looked_at: tuple[tuple[float, float], ...]
    kept: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "layers": list(self.layers), "errors": list(self.errors), "looked_at": [list(p) for p in self.looked_at],
            "kept": self.kept,
        }  # fmt: skip

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Mix:
        looked_at = tuple((float(seconds), float(error)) for seconds, error in data["looked_at"])
        return Mix(tuple(map(str, data["layers"])), tuple(map(float, data["errors"])), looked_at, bool(data["kept"]))


def read(folder: Path) -> Mix | None:
    """What `keep` wrote; None where there is none, or a damaged one."""
    try:
        return Mix.from_json(json.loads((folder / PLAN).read_bytes()))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def keep(mix: Mix, folder: Path) -> None:
    files.write_aside(folder / PLAN, json.dumps(mix.to_json()).encode())


class Simulated:
    """The model with each layer in a precision of its own, on a few samples. A context manager: it holds a child."""

    def __init__(
        self, model_spec: Mapping[str, Any], target: str, threads: int, samples: Sequence[Sequence[Array]], folder: Path
    ) -> None:
        self._folder = folder
        settings = {"model_spec": dict(model_spec), "target": target, "threads": threads}
        service = "tuner.baselines.layerwise:LayerwiseWorker"
        self._child = Child(service, settings, env=thread_env(threads), limits=for_compilers())
        self._inputs = [store(one, folder / f"sample-{number}.npz") for number, one in enumerate(samples)]

    def __enter__(self) -> Simulated:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()
        for path in (*self._inputs, self._folder / "simulated.npz"):
            path.unlink(missing_ok=True)

    def outputs(self, precisions: Sequence[str]) -> list[Outputs]:
        """The outputs of each sample. Raises the errors of a child."""
        path = self._folder / "simulated.npz"
        made: list[Outputs] = []
        for inputs in self._inputs:
            self._child.call(
                "outputs", _CALL_S, inputs_npz_path=str(inputs), path=str(path), precisions=list(precisions)
            )
            made.append(arrays(path))
        return made

    def calibrate(self) -> None:
        """Learn the ranges of the layers' data from all samples."""
        for inputs in self._inputs:
            self._child.call("calibrate", _CALL_S, inputs_npz_path=str(inputs))


@dataclass(frozen=True)
class Judge:
    """Whether outputs keep a bound: against labels or outputs that are right."""

    accuracy: AccuracyConfig
    right: Sequence[Outputs]
    labels: Array | None = None

    def accepts(self, outputs: Sequence[Outputs]) -> bool:
        metric, bound = self.accuracy.metric, self.accuracy.bound
        assert bound is not None, "a mix is looked for with a bound"
        return keeps(metric, scored(metric, outputs, self.right, self.labels), bound)


Times = Sequence[Mapping[str, float]]
"""Of each layer the seconds of one call, by precision."""


def find(times: Times, outputs: Callable[[Sequence[str]], list[Outputs]], judge: Judge, reference: str) -> Mix:
    """The mix that `times` predict to be the fastest of those that keep the bound, as far as this way finds it.

    `outputs` runs a mix; `reference` is the precision in which layers lose nothing.
    """
    count = len(times)
    whole = outputs([reference] * count)
    errors = [_alone(number, times[number], outputs, whole, reference) for number in range(count)]
    fastest = [min(known, key=lambda p, known=known: known[p]) for known in times]  # type: ignore[misc]
    steps = ladder(times, errors, fastest, reference)
    looked_at: list[tuple[float, float]] = []

    def after(number: int) -> list[str]:
        mix = list(fastest)
        for layer, precision in steps[:number]:
            mix[layer] = precision
        return mix

    def keeps(number: int) -> bool:
        mix = after(number)
        made = outputs(mix)
        seconds = sum(known[p] for known, p in zip(times, mix, strict=True))
        looked_at.append((seconds, _error_of(made, whole) or 0.0))
        return judge.accepts(made)

    low, high = 0, len(steps)  # the fewest steps that keep the bound, as if more steps never lost any
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle + 1, high)
    kept = keeps(low)
    layers = after(low)
    alone = tuple(errors[number].get(precision, 0.0) for number, precision in enumerate(layers))
    return Mix(tuple(layers), alone, tuple(looked_at), kept)


def ladder(
    times: Times, errors: Sequence[Mapping[str, float]], fastest: Sequence[str], reference: str
) -> list[tuple[int, str]]:
    """The layers that go to a more accurate precision, and which, those first that win most accuracy for their time. A
    layer may come twice: first to one in between."""
    steps: list[tuple[float, int, str]] = []
    for number, (known, lost) in enumerate(zip(times, errors, strict=True)):
        here = fastest[number]
        slower = sorted((p for p in known if known[p] > known[here] or p == reference), key=lambda p: known[p])
        worth = float("inf")
        for precision in slower:
            won = lost.get(here, 0.0) ** 2 - lost.get(precision, 0.0) ** 2
            if precision == here or not won > 0.0:  # two that overflow differ by no number
                continue
            worth = min(worth, won / max(known[precision] - known[here], 1e-9))  # never before the step it follows
            steps.append((worth, number, precision))
            here = precision
    ordered = sorted(enumerate(steps), key=lambda item: (-item[1][0], item[0]))
    return [(number, precision) for _, (_, number, precision) in ordered]


def _alone(
    number: int, known: Mapping[str, float], outputs: Callable[[Sequence[str]], list[Outputs]],
    whole: Sequence[Outputs], reference: str,
) -> dict[str, float]:  # fmt: skip
    """What one layer costs the outputs in each precision, all others losing nothing: the relative error."""
    found = {reference: 0.0}
    for precision in known:
        if precision == reference:
            continue
        mix = [reference] * number + [precision]
        error = _error_of(outputs(mix), whole)
        found[precision] = float("inf") if error is None else error
    return found


def _error_of(made: Sequence[Outputs], whole: Sequence[Outputs]) -> float | None:
    """The relative error of the outputs of all samples together."""
    return relative_error([a for one in made for a in one], [a for one in whole for a in one])
