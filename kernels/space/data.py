"""Candidates, knobs and sketches: plain data that replays exactly."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from kernels.passes import PassConfig
from kernels.space.gpu import Decision, GpuModel, as_parts


DEFAULT_SKETCH = -1
"""The sketch number of the untuned program: TVM's lowering with no schedule at all."""


class InvalidCandidate(Exception):
    """A candidate whose decisions cannot be applied, or whose program the target forbids."""


@dataclass(frozen=True)
class Candidate:
    """One point of a design space: hashable, replayable, printable on one line."""

    sketch: int
    decisions: tuple[Decision, ...] = ()
    passes: PassConfig = PassConfig()

    @property
    def is_default(self) -> bool:
        return self.sketch == DEFAULT_SKETCH

    def to_text(self) -> str:
        """One line of JSON: `[sketch, [decision, ...], "passes"]`."""
        return json.dumps([self.sketch, self.decisions, self.passes.to_text()], separators=(",", ":"))

    @staticmethod
    def from_text(text: str) -> Candidate:
        """The inverse of `to_text`. Raises ValueError when the text is no candidate."""
        try:
            sketch, decisions, passes = json.loads(text)
            return Candidate(
                int(sketch),
                tuple(tuple(map(int, d)) if isinstance(d, list) else int(d) for d in decisions),
                PassConfig.from_text(passes),
            )
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not a candidate: {text[:80]!r}") from error


@dataclass(frozen=True)
class Knob:
    """One decision of a sketch. `choices` are ordered so that neighbours in the list are alike.

    `role`: `spatial` or `reduce` for tiles of the anchor's loops in their order, `location`,
    or `choice`.
    """

    role: str
    choices: tuple[Decision, ...]
    instruction: int

    @functools.cached_property
    def index(self) -> Mapping[Decision, int]:
        return {choice: i for i, choice in enumerate(self.choices)}


@dataclass(frozen=True)
class Sketch:
    """The shape of a schedule with its decisions left open. `trace` is TVM's trace as JSON.

    `gpu` are the formulas of what a tiled GPU sketch takes; None on a CPU, and where nothing is tiled.
    """

    number: int
    trace: str = field(repr=False)
    knobs: tuple[Knob, ...]
    gpu: GpuModel | None = None

    @property
    def tiles(self) -> tuple[tuple[int, Knob], ...]:
        """The tile knobs with their positions among the decisions."""
        return tuple((i, k) for i, k in enumerate(self.knobs) if k.role in ("spatial", "reduce"))

    @property
    def levels(self) -> tuple[int, int]:
        """How many parts spatial and reduction loops are cut into; (0, 0) without tiles."""
        spatial = [len(parts_of(k)) for k in self.knobs if k.role == "spatial"]
        reduce = [len(parts_of(k)) for k in self.knobs if k.role == "reduce"]
        return (spatial[0] if spatial else 0, reduce[0] if reduce else 0)


def parts_of(knob: Knob) -> tuple[int, ...]:
    return as_parts(knob.choices[0])
