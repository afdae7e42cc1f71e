"""TVM's MetaSchedule as a strategy: it proposes, and this program builds, checks and measures."""

from __future__ import annotations

import dataclasses
import json
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner.process.limits import for_compilers
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import Proposal, Task
from tuner.records import Measurement
from tuner.search.base import CandidatePool, teaches, time_or_bound

if TYPE_CHECKING:
    from kernels.space import Candidate, DesignSpace

_ROUND_S = 300.0
"""For one round. A large convolution's takes a minute on a busy machine; what takes longer hangs."""

_FRUITLESS = 3
"""Rounds in a row without a single new point of the space after which TVM's search is over."""

_CHILDREN = 2
"""Children for one task: one that crashed is replaced once. It may have been killed from outside."""


@dataclass(frozen=True)
class EvolutionSettings:
    """Settings of TVM's search; the defaults are TVM's own. `batch` is the number of proposals in a round."""

    population: int = 512
    batch: int = 64


DEFAULT = EvolutionSettings()


class EvolutionService:
    """Runs in a child: TVM's search for one task, from round to round."""

    def __init__(
        self, workload: Mapping[str, Any], space: Mapping[str, Any], target: str, seed: int, settings: Mapping[str, int]
    ) -> None:
        from tvm.target import Target

        from kernels.space import DesignSpace
        from kernels.space.evolution import Evolution
        from kernels.workload import Workload

        self._evolution = Evolution(
            Workload.from_json(workload), DesignSpace.from_json(space), Target(json.loads(target)), seed, **settings
        )

    def op_round(self, outcomes: Sequence[tuple[int, float | None]]) -> list[tuple[int, str | None]] | None:
        """Learn the seconds of earlier proposals (None: failed); the next ones, by number. None: there will be none."""
        self._evolution.learn(dict(outcomes))
        proposed = self._evolution.propose()
        if proposed is None:
            return None
        return [(number, None if c is None else c.to_text()) for number, c in proposed.items()]


class MetaScheduleStrategy:
    """TVM's evolutionary search with TVM's own cost model, in a child of its own.

    TVM works in rounds of proposals, which are handed out in batches. Before each round it is told the outcomes of the
    earlier ones. A proposal that this space does not have counts as failed, and one whose outcome is known already
    (from earlier runs, from initial candidates) is not measured again. TVM searches its own sketches and knows no
    passes: when it has nothing left, or its child hangs, or dies for the second time, the rest of the space is drawn at
    random, and the proposer's name says so.
    """

    def __init__(self, space: DesignSpace, task: Task, seed: int, settings: EvolutionSettings = DEFAULT) -> None:
        self._pool = CandidatePool(space, seed)
        self._child_settings = {
            "workload": task.workload.to_json(),
            "space": space.to_json(),
            "target": task.target,
            "settings": dataclasses.asdict(settings),
        }
        self._seed = seed
        self._child: Child | None = None
        self._children_left = _CHILDREN
        self._ready: deque[Candidate] = deque()
        self._known: dict[Candidate, float | None] = {}
        self._numbers: dict[Candidate, int] = {}
        self._outcomes: dict[int, float | None] = {}
        self._passed_on: set[Candidate] = set()

    def ask(self, count: int, refine: bool = False) -> list[Proposal]:
        proposals: list[Proposal] = []
        while len(proposals) < count:
            if not self._ready:
                self._rounds()
            proposer = "metaschedule" if self._ready else "random"
            candidate = self._ready.popleft() if self._ready else self._pool.draw()
            if candidate is None:
                break
            if self._pool.claim(candidate):  # else its outcome was told in the meantime
                proposals.append(Proposal(candidate, proposer))
        return proposals

    def tell(self, candidate: Candidate, measurement: Measurement) -> None:
        self._pool.claim(candidate)
        number = self._numbers.pop(candidate, None)
        if not teaches(measurement):
            return
        self._known[candidate] = time_or_bound(measurement)
        if number is not None:
            self._pass_on(number, candidate)

    def _rounds(self) -> None:
        """Ask TVM until there is something new; after some rounds without, never again."""
        for _ in range(_FRUITLESS):
            if not self._children_left:
                return
            for number, text in self._round():
                self._take(number, text)
            if self._ready:
                return
        self._end()

    def _round(self) -> Sequence[tuple[int, str | None]]:
        """One round of TVM's; nothing where there was none, for whatever reason."""
        outcomes, self._outcomes = sorted(self._outcomes.items()), {}
        try:
            proposed: list[tuple[int, str | None]] | None = self._running().call("round", _ROUND_S, outcomes=outcomes)
        except ChildDied:
            self._replace()
            return ()
        except (ChildTimeout, ChildError):
            proposed = None
        if proposed is None:
            self._end()
            return ()
        return proposed

    def _take(self, number: int, text: str | None) -> None:
        from kernels.space import Candidate

        candidate = None if text is None else Candidate.from_text(text)
        if candidate is None or not self._pool.space.legal(candidate):
            self._outcomes[number] = None
        elif candidate in self._known:
            self._pass_on(number, candidate)
        elif candidate in self._pool and candidate not in self._numbers:
            self._numbers[candidate] = number
            self._ready.append(candidate)

    def _pass_on(self, number: int, candidate: Candidate) -> None:
        """Once: two of TVM's programs may be one point of the space, which it need not learn twice."""
        if candidate not in self._passed_on:
            self._passed_on.add(candidate)
            self._outcomes[number] = self._known[candidate]

    def _running(self) -> Child:
        if self._child is None:
            child_settings = {**self._child_settings, "seed": self._seed + _CHILDREN - self._children_left}
            env = {"TVM_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            self._child = Child(
                "tuner.search.metaschedule:EvolutionService", child_settings, env, limits=for_compilers()
            )
            weakref.finalize(self, self._child.kill)
        return self._child

    def _replace(self) -> None:
        """Give up the child. The next one has another seed and starts anew; known outcomes are not measured again."""
        self._child = None
        self._children_left -= 1
        self._numbers.clear()
        self._outcomes.clear()
        self._passed_on.clear()

    def _end(self) -> None:
        if self._child is not None:
            self._child.close()
        self._child = None
        self._children_left = 0
