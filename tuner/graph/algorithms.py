"""Algorithms for a model's convolutions: the same graph lowered in other ways, and put together kernel by kernel.

Lowered with another algorithm, a graph has the same calls in the same order; only some kernels and their constants
differ. So for each kernel the algorithm is chosen by measured time, and its call is taken over from that lowering.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call, GenericConst

from kernels.winograd import TILES
from tuner.graph.lower import GraphConfig, Lowered, is_call_tir
from tuner.protocols import Task

DIRECT = "direct"


@dataclass(frozen=True)
class Algorithm:
    """Another way to compute some kernels. `tasks` are by the workload key of the kernel that each may replace."""

    name: str
    config: GraphConfig
    tasks: Mapping[str, Task]


@dataclass(frozen=True)
class Choices:
    """A lowered graph and the algorithms that its kernels may be computed by. `again` lowers the same graph anew."""

    lowered: Lowered
    algorithms: tuple[Algorithm, ...] = ()
    again: Callable[[GraphConfig], Lowered] | None = None

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks, those of the algorithms after those of the graph; none twice."""
        every = [*self.lowered.tasks, *(task for a in self.algorithms for task in a.tasks.values())]
        return tuple({task.key: task for task in every}.values())

    @property
    def groups(self) -> Mapping[str, str]:
        """By task key, the key of the kernel that the task computes in some way: only the fastest of a group counts."""
        return {task.key: key for a in self.algorithms for key, task in a.tasks.items()} | {
            key: key for a in self.algorithms for key in a.tasks
        }

    def ways(self, key: str) -> dict[str, str]:
        """The task keys of one kernel's ways, by the name of the algorithm."""
        return {DIRECT: key} | {a.name: a.tasks[key].key for a in self.algorithms if key in a.tasks}

    def mixed(self, wanted: Mapping[str, str]) -> Lowered:
        """The graph with each kernel computed by one of its ways: `wanted` are task keys by the kernel's key."""
        lowered = self.lowered
        for algorithm in self.algorithms:
            taken = {k: t.key for k, t in algorithm.tasks.items() if wanted.get(k, k) == t.key != k}
            if taken:
                assert self.again is not None
                lowered = _with_kernels(lowered, self.again(algorithm.config), taken, algorithm)
        return lowered

    def with_tasks(self, keys: set[str]) -> Lowered | None:
        """The graph whose tasks are among these; None where there is none."""
        wanted = {}
        for task in self.lowered.tasks:
            way = next((key for key in self.ways(task.key).values() if key in keys), None)
            if way is not None:
                wanted[task.key] = way
        return self.mixed(wanted) if keys <= set(wanted.values()) else None


def choices(lowered: Lowered, again: Callable[[GraphConfig], Lowered]) -> Choices:
    """What the kernels of a lowered graph may be computed by. Needs the memory of one further lowering at a time."""
    found = []
    for tile in TILES:
        config = replace(lowered.config, tile=tile)
        other = again(config)
        if tasks := _replaceable(lowered, other):
            found.append(Algorithm(f"winograd{tile}", config, tasks))
    return Choices(lowered, tuple(found), again)


def _replaceable(lowered: Lowered, other: Lowered) -> dict[str, Task]:
    """The tasks of another lowering that may replace one here, by its key; none where the graphs differ otherwise."""
    here, there = _calls(lowered.module), _calls(other.module)
    tasks = {task.key: task for task in other.tasks}
    pairs: dict[str, str] = {}
    for own, others in zip(here, there, strict=False):
        first, second = (side.kernels.get(_name(call)) for side, call in ((lowered, own), (other, others)))
        if first is None and second is None:  # a concatenation that copies nothing is no task
            continue
        if (
            first is None
            or second is None
            or len(own.args[1].fields) != len(others.args[1].fields)
            or pairs.setdefault(first, second) != second
        ):
            return {}
    if len(here) != len(there):
        return {}
    return {first: tasks[second] for first, second in pairs.items() if first != second}


def _calls(module: tvm.IRModule) -> list[Call]:
    """The calls of kernels in `main`, in order."""
    bindings = (binding for block in module["main"].body.blocks for binding in block.bindings)
    return [b.value for b in bindings if isinstance(b.value, Call) and is_call_tir(b.value)]


def _name(call: Call) -> str:
    return str(call.args[0].name_hint)


def _with_kernels(lowered: Lowered, other: Lowered, taken: Mapping[str, str], algorithm: Algorithm) -> Lowered:
    """`lowered` with the calls of some kernels, by workload key, as another lowering has them."""
    builder = relax.BlockBuilder(lowered.module)
    added: dict[str, Any] = {}
    kernels = dict(lowered.kernels)
    for name, key in other.kernels.items():
        if key in taken.values():
            added[name] = builder.add_func(other.module[name], f"{name}_{algorithm.name}")
            kernels[str(added[name].name_hint)] = key
    replaced = _Replace(lowered, taken, _calls(other.module), added)
    main = replaced.visit_expr(lowered.module["main"])
    builder.update_func(lowered.module.get_global_var("main"), main)
    module = relax.transform.DeadCodeElimination()(builder.get())
    tasks = tuple(algorithm.tasks[task.key] if task.key in taken else task for task in lowered.tasks)
    left = {name: key for name, key in kernels.items() if key not in taken}
    return replace(lowered, module=module, tasks=tasks, kernels=left)


@relax.expr_functor.mutator
class _Replace(relax.PyExprMutator):  # type: ignore[misc]
    """Takes over calls from another lowering: the kernel, and the constants among its arguments."""

    def __init__(
        self, lowered: Lowered, taken: Mapping[str, str], others: list[Call], added: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self._kernels = lowered.kernels
        self._taken = taken
        self._others = iter(others)
        self._added = added

    def visit_call_(self, call: Call) -> Any:
        call = super().visit_call_(call)
        if not is_call_tir(call):
            return call
        other = next(self._others)
        if self._kernels.get(_name(call)) not in self._taken:
            return call
        arguments = [
            theirs if isinstance(theirs, GenericConst) else own
            for own, theirs in zip(call.args[1].fields, other.args[1].fields, strict=True)
        ]
        arguments = [self._added[_name(other)], relax.Tuple(arguments), *call.args[2:]]
        return Call(call.op, arguments, call.attrs, call.ty_args)
