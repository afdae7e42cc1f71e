"""The base of passes: a pass is a frozen dataclass whose fields are its options, and one line of text.

A pass may act in six places (`Place`), each a hook that does nothing unless it is overridden. `variants` lists the
settings worth searching, with the most often best one first. What a setting needs of a program is decided before it is
applied: `refusal` says why it cannot be, and then it is not (`PassConfig.on_schedule`, `PassConfig.applied`).

The first paragraph of a pass's docstring is its line in docs/passes.md, the others say how it works; the rest of its
page is `documentation`, with an example that the tests run. experiments/passes writes the page.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.target import Target


class Place(StrEnum):
    """Where a pass acts, in this order. The names are those of the hooks."""

    SCHEDULE = "on_schedule"
    FUNCTION = "on_function"
    LOWERING = "context_options"
    TARGET = "target_options"
    SOURCE = "on_source"
    COMPILER = "compiler_options"


@dataclass(frozen=True)
class Requirement:
    """What must hold so that a program computes the same with the pass, and what shows that it does."""

    what: str
    proof: str


class View(StrEnum):
    """What of a program shows the effect of a pass."""

    PROGRAM = "scheduled program"
    LOWERED = "lowered program"
    ASSEMBLY = "assembly"
    CUDA = "CUDA source"
    COMMAND = "options of the CUDA compiler"


@dataclass(frozen=True)
class Example:
    """A program under two configurations, `before` without the pass and `after` with it, as texts of a PassConfig.

    `program` makes the unscheduled program, and `schedule` schedules it as far as the pass finds it. `lines` is a
    regular expression: of assembly and CUDA source only lines that have it are shown; "" shows all.
    """

    program: Callable[[], tirx.PrimFunc]
    schedule: Callable[[Schedule], None]
    before: str
    after: str
    view: View = View.PROGRAM
    lines: str = ""


@dataclass(frozen=True)
class Documentation:
    """The page of a pass in docs/passes.md, less what its docstring and its variants say.

    `options` has the meaning of each field, `counters` of each name that `Pass.counters` may report. `loses`: where the
    setting costs more than it gains. `elsewhere`: what Halide, Exo, MLIR, TVM or LLVM call it.
    """

    requires: tuple[Requirement, ...]
    options: Mapping[str, str]
    loses: str
    elsewhere: str
    example: Example
    counters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pass:
    """Base of all passes. Every hook does nothing by default."""

    name: ClassVar[str]
    documentation: ClassVar[Documentation]

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        """The settings worth searching on a kind of target; a search begins with the first."""
        return (cls(),)

    @classmethod
    def concerns(cls, module: tvm.IRModule) -> bool:
        """Whether the settings can make a difference for an unscheduled program."""
        return True

    @classmethod
    def places(cls) -> tuple[Place, ...]:
        """Where the pass acts: the hooks that it overrides."""
        return tuple(place for place in Place if getattr(cls, place) is not getattr(Pass, place))

    @classmethod
    def line(cls) -> str:
        """What the pass does, in one line."""
        return " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        """Why this setting cannot be applied to a program; "" where it can, and always for the default setting.

        `function` is the program at the first place where the pass acts: with its trace applied, and from `on_function`
        on, post-processed. It is not changed. What is not refused computes what it computed before.
        """
        return ""

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        """Numbers that the setting is to change, of a scheduled program to which it was applied (or refused).

        Each name is in `documentation.counters`. The current PassContext has the options of the whole configuration
        (`Applied.counters`). To see what a setting did, take them of its default, too.
        """
        return {}

    def on_schedule(self, schedule: Schedule) -> None:
        """Change a schedule after its trace was applied and before it is post-processed."""

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        """Change a scheduled function that is about to be compiled, for the current target."""
        return function

    def context_options(self) -> Mapping[str, Any]:
        """Options of `tvm.transform.PassContext` for lowering this kernel."""
        return {}

    def target_options(self) -> Mapping[str, Any]:
        """Attributes added to the target this kernel is compiled for."""
        return {}

    def on_source(self, source: str) -> str:
        """Change emitted CUDA source."""
        return source

    def compiler_options(self) -> tuple[str, ...]:
        """Options for the CUDA compiler, in a spelling that nvcc and NVRTC both accept."""
        return ()

    def number(self) -> float:
        """The setting as a number a cost model can learn from."""
        return float(sum(float(getattr(self, f.name)) for f in fields(self)))

    def to_text(self) -> str:
        """One line, e.g. `unroll{depth=512}`."""
        body = ",".join(f"{f.name}={int(getattr(self, f.name))}" for f in fields(self))
        return f"{self.name}{{{body}}}"
