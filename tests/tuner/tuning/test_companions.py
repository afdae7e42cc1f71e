"""Winners that fit together: what is certified for the neighbours' sake, and what is preferred."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from kernels.passes.thread_share import ThreadShare
from kernels.space import Candidate
from tests.null_device import FASTEST_S
from tests.tuner.tuning.on_null import Loop
from tests.tuner.tuning.test_tune_model import TASK, variant
from tuner.devices.device import Together
from tuner.graph import Lowered
from tuner.protocols import Task
from tuner.store import SqlStore
from tuner.tuning.tune import SearchResult, certify, tune_model


def divided(candidate: Candidate) -> Candidate:
    """The same kernel with its threads' parts along another loop. The null device takes the same time for it."""
    return dataclasses.replace(candidate, passes=candidate.passes.replace(ThreadShare(1, 2)))


class Rows:
    """Every kernel has another form, and all forms fit together. `asked` has the options of each choice."""

    def __init__(self, known: bool = True) -> None:
        self.known = known
        self.asked: list[Mapping[str, Mapping[Candidate, float]]] = []

    def alternatives(self, task: Task, candidates: Sequence[Candidate]) -> Mapping[Candidate, tuple[Candidate, float]]:
        return {divided(candidate): (candidate, 1.0) for candidate in candidates}

    def choose(self, graph: Lowered, options: Mapping[str, Mapping[Candidate, float]]) -> Together | None:
        self.asked.append(options)
        forms = {key: next((c for c in found if c == divided(c)), None) for key, found in options.items()}
        chosen = {key: form for key, form in forms.items() if form is not None}
        return Together(chosen, 3e-3, 1e-3, (3e-3, 8e-3)) if self.known else None


def tuned(loop: Loop, neighbours: Rows) -> SearchResult:
    result = tune_model([variant(TASK)], loop.device, loop.store, loop.context, lambda record: True)
    certify(result, loop.device, loop.store, loop.context, neighbours)
    return result


def test_a_form_that_fits_is_certified_and_wins(tmp_path: Path, store: SqlStore) -> None:
    neighbours = Rows()
    result = tuned(Loop(tmp_path, store, trials=20), neighbours)
    [session] = result.sessions.values()
    assert session.best is not None
    assert session.best == divided(session.best)
    assert session.certified[session.best].ok
    before, after = (options[TASK.key] for options in neighbours.asked)
    fastest = next(iter(before))
    assert before[divided(fastest)] == before[fastest], "a form counts as fast as what it is a form of"
    assert next(iter(after.values())) == min(after.values()) >= FASTEST_S
    assert result.explanations[-1].startswith("1 kernels are not the fastest alone but fit their neighbours better")
    assert "loses 1 ms to them instead of 8 ms" in result.explanations[-1]


def test_where_nothing_is_known_the_fastest_alone_wins(tmp_path: Path, store: SqlStore) -> None:
    result = tuned(Loop(tmp_path, store, trials=20), Rows(known=False))
    [session] = result.sessions.values()
    assert session.best is not None
    assert session.best != divided(session.best)
    assert not any("neighbours" in sentence for sentence in result.explanations)


def test_an_interrupted_run_looks_for_nothing(tmp_path: Path, store: SqlStore) -> None:
    neighbours = Rows()
    loop = Loop(tmp_path, store, trials=40, interrupted=lambda: loop.device.bench.measured >= 9)
    tuned(loop, neighbours)
    assert neighbours.asked in ([], [{}])
