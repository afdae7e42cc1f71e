"""Kernels that keep TVM's own program: checked like winners, and built otherwise where the usual build is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from kernels.passes import PASSES
from kernels.space import Candidate, DesignSpace
from tuner.protocols import SCREEN, Stop
from tuner.records import Measurement, Status
from tuner.tuning.session import TaskSession

_OTHERWISE = ("llvm_opt", "vector_width")
"""The passes whose other settings may lead a compiler past its own error."""


_MUCH = 0.05
"""A kernel computes much of a model from this share of its arithmetic on."""


@dataclass(frozen=True)
class Untuned:
    """How a task's untuned program goes into the model.

    `candidate` None: it was not checked by itself. `wrong`: what is wrong with the usual build, where another one takes
    its place; with all of them where `candidate` is None. Not `checked`: it takes the place of one that would be too
    slow, and only the whole model tells whether it is right.
    """

    candidate: Candidate | None
    wrong: str = ""
    checked: bool = True

    @property
    def verified(self) -> bool | None:
        """Whether its outputs are right; None where they were not checked."""
        if not self.checked:
            return None
        return True if self.candidate is not None else False if self.wrong else None


def checked(sessions: Mapping[str, TaskSession], stop: Stop) -> dict[str, Untuned]:
    """The untuned program of each task, by task key: as it was measured, or measured now unless `stop()` is true; those
    that come first in `sessions` first. A wrong one is built otherwise."""
    return {key: _checked(session, stop) for key, session in sessions.items()}


def _checked(session: TaskSession, stop: Stop) -> Untuned:
    default = session.space.default()
    found = outcome(session)
    if found is None:
        if stop() or not session.space.sketches:
            return Untuned(None)
        found = session.measure_untuned(default, SCREEN)
    if _right(found):
        return Untuned(default)
    wrong = f"{found.status}: {found.reason}"
    if found.status is not Status.WRONG_RESULT:
        return Untuned(None, wrong if found.status is Status.RUN_FAILED else "")
    for candidate in otherwise(session.space):
        if stop():
            break
        if _right(session.measure_untuned(candidate, SCREEN)):
            return Untuned(candidate, wrong)
    return Untuned(None, wrong)


def unreached(sessions: Mapping[str, TaskSession], untuned: Mapping[str, Untuned]) -> dict[str, Untuned]:
    """Of kernels that nothing right is known of, and that compute much of the model, an initial candidate each.

    TVM's own program of such a kernel may take minutes. `untuned` has the kernels without a winner.
    """
    work = {key: session.task.weight * session.task.workload.flops for key, session in sessions.items()}
    least = _MUCH * sum(work.values())
    found = {}
    for key, kept in untuned.items():
        if kept.candidate is None and work[key] > least and sessions[key].best is None:
            initial = sessions[key].space.initial_candidates() if sessions[key].space.sketches else []
            candidate = next((c for c in initial if c not in sessions[key].screened), None)
            if candidate is not None:
                found[key] = Untuned(candidate, checked=False)
    return found


def outcome(session: TaskSession) -> Measurement | None:
    """What became of the untuned program when it was last measured; None where it never was."""
    default = session.space.default()
    return next((m for found in (session.certified, session.screened) if (m := found.get(default)) is not None), None)


def _right(measurement: Measurement) -> bool:
    """Whether outputs passed: also of what was too slow to be timed, or too fast to be believed."""
    return measurement.ok or measurement.status in (Status.CENSORED, Status.SUSPECT)


def otherwise(space: DesignSpace) -> Iterable[Candidate]:
    """The untuned program with each other setting of the passes in `_OTHERWISE`."""
    default = space.default()
    for name in _OTHERWISE:
        for setting in PASSES[name].variants(space.target_kind)[:0:-1]:
            yield dataclasses.replace(default, passes=default.passes.replace(setting))


def notes(sessions: Mapping[str, TaskSession], untuned: Mapping[str, Untuned], tuned: Collection[str]) -> list[str]:
    """A sentence for each task whose untuned program is wrong; `tuned` are the keys of those that have a winner."""
    said = []
    for key, found in untuned.items():
        if not found.checked:
            said.append(
                f"{sessions[key].task.name}: never measured; its first candidate is in the model, checked there"
            )
        if not found.wrong:
            continue
        instead = "no build of it was found that is right"
        if key in tuned:
            instead = "the tuned one is right"
        elif found.candidate is not None:
            instead = f"built with {found.candidate.passes.to_text()} it is right, and so it is in the model"
        said.append(f"{sessions[key].task.name}: TVM's own kernel is wrong ({found.wrong}); {instead}")
    return said
