"""What a task's kernels must give on the inputs of a search and of its certification."""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path

from tuner.protocols import Builder, Reference, Task


class Source(enum.StrEnum):
    """Where the references of a task come from."""

    INDEPENDENT = "independent"
    UNTUNED = "untuned build"
    NONE = "none"


class References:
    """By seed; those of a search and of its certification are each other's second check.

    `untuned_outputs(seed, path)` stores what the untuned build gives, for programs that nothing independent evaluates;
    it answers with the reason where it cannot.
    """

    def __init__(
        self,
        task: Task,
        builder: Builder,
        seed: int,
        folder: Path,
        recheck: bool,
        untuned_outputs: Callable[[int, Path], str | None],
    ) -> None:
        self._task = task
        self._builder = builder
        self._seed = seed
        self._folder = folder
        self._recheck = recheck
        self._untuned_outputs = untuned_outputs
        self._known: dict[int, Reference] = {}
        self.source = Source.INDEPENDENT
        self._reason = ""

    @property
    def unverified(self) -> str:
        """Why nothing independent checks the kernels, in words; empty where something does."""
        if self.source is Source.INDEPENDENT:
            return ""
        return {Source.UNTUNED: "untuned build as reference", Source.NONE: "nothing to check against"}[
            self.source
        ] + f": {self._reason}"

    def of(self, seed: int) -> Reference | None:
        """The reference for a seed, as far as `prepare` could make one."""
        return self._known.get(seed)

    def recheck_of(self, seed: int) -> tuple[int, Reference] | None:
        """The seed and the reference of the check after the timing."""
        other = self._other(seed)
        return (other, self._known[other]) if self._recheck and other in self._known else None

    def prepare(self, seed: int) -> None:
        """Make the references for a seed and for its second check, unless they are there."""
        wanted = [s for s in (seed, self._other(seed)) if s not in self._known and (s == seed or self._recheck)]
        if not wanted or self.source is Source.NONE:
            return
        if self.source is Source.INDEPENDENT:
            computed = self._builder.reference(self._task, wanted, self._folder)
            if not isinstance(computed, str):
                self._known.update(computed)
                return
            self.source, self._reason = Source.UNTUNED, computed
        for one in wanted:
            path = self._folder / f"{self._task.key}-{one}.npz"
            if failure := self._untuned_outputs(one, path):
                self.none(failure)
                return
            self._known[one] = Reference(path, self._task.workload.outputs[-1].dtype, 1)

    def none(self, reason: str) -> None:
        """Say that there is nothing to check against, and why."""
        self.source, self._reason = Source.NONE, reason

    def _other(self, seed: int) -> int:
        return self._seed + 1 if seed == self._seed else self._seed
