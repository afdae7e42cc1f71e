"""What a bundle says about itself, as frozen data: read strictly, because it may come from a stranger."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from kernels.tensors import TensorSpec
from tuner.errors import BundleError, ConfigError
from tuner.schema import Rule, read

FORMAT = 1
"""Bundles of another format are refused: they may mean something else by the same words."""

MAX_TENSOR_BYTES = 4 << 30
MAX_TASK_BYTES = 16 << 30
MAX_BLOCK_THREADS = 1024
MAX_SHARED_BYTES = 232448
"""Limits of what CUDA and today's GPUs can do (227 KiB of shared memory a block on sm_90 and sm_100), so that a
nonsensical plan is refused before anything is allocated for it."""


def _matching(words: str, pattern: str) -> Rule:
    compiled = re.compile(pattern)
    return lambda value: "" if compiled.fullmatch(value) else words


def _between(low: int, high: int) -> Rule:
    return lambda value: "" if low <= value <= high else f"a value from {low} to {high}"


def _three(value: tuple[int, ...]) -> str:
    return "" if len(value) == 3 and all(1 <= n < 2**31 for n in value) else "three positive numbers"


Digest = Annotated[str, _matching("a SHA-256 in hex", r"[0-9a-f]{64}")]
Name = Annotated[str, _matching("the name of a kernel", r"[A-Za-z_]\w{0,511}")]
Key = Annotated[str, _matching("16 hex digits", r"[0-9a-f]{16}")]
Text = Annotated[str, lambda value: "" if len(value) <= 4096 and value.isprintable() else "one short printable line"]
Three = Annotated[tuple[int, ...], _three]
Dtype = Literal["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint64", "uint32",
                "uint16", "uint8", "bool"]  # fmt: skip
_WIDTHS = {"float64": 8, "int64": 8, "uint64": 8, "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2, "int8": 1,
           "uint8": 1, "bool": 1}  # fmt: skip
Extent = Annotated[int, _between(1, 2**40)]
Bytes = Annotated[int, _between(0, MAX_TENSOR_BYTES)]


@dataclass(frozen=True)
class Launch:
    """One kernel launch. `args` are positions among the arguments followed by the workspaces."""

    kernel: Name
    args: tuple[Annotated[int, _between(0, 4096)], ...]
    grid: Three
    block: Three
    dynamic_shared_bytes: Annotated[int, _between(0, MAX_SHARED_BYTES)] = 0
    cluster: Three = (1, 1, 1)


@dataclass(frozen=True)
class Plan:
    """How to run a cubin: its launches in order on one stream, and the bytes of each workspace between them."""

    launches: tuple[Launch, ...]
    num_args: Annotated[int, _between(1, 256)]
    workspaces: tuple[Bytes, ...] = ()

    def problem(self) -> str:
        """Why this cannot be run, in words; "" when it can."""
        slots = self.num_args + len(self.workspaces)
        for launch in self.launches:
            if any(slot >= slots for slot in launch.args):
                return f"{launch.kernel} takes argument {max(launch.args)} of {slots}"
            if math.prod(launch.block) > MAX_BLOCK_THREADS:
                return f"{launch.kernel} wants {math.prod(launch.block)} threads a block"
            if max(launch.grid[1:]) > 65535:
                return f"{launch.kernel} wants a grid of {launch.grid}"
        return "" if self.launches else "no launch"


@dataclass(frozen=True)
class Argument:
    """Shape and dtype of one argument of a task."""

    shape: tuple[Extent, ...]
    dtype: Dtype

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.shape, self.dtype)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * _WIDTHS.get(self.dtype, 4)


@dataclass(frozen=True)
class ExpectedEntry:
    """One output's expectation: see `tuner.bundle.expected`. `values` and `sums` name blobs."""

    values: Digest
    rtol: Annotated[float, _between(0, 1)]
    atol: Annotated[float, lambda value: "" if value >= 0 else "a value of at least 0"]
    sums: Digest | None = None


@dataclass(frozen=True)
class TaskEntry:
    """One tensor program. `args` are the inputs, then the outputs; `inputs` the SHA-256 of the seeded inputs' bytes,
    `expected` is one entry an output. `flops` and `bytes` are of one call."""

    key: Key
    name: Text
    weight: Annotated[int, _between(1, 2**31)]
    flops: float
    args: tuple[Argument, ...]
    seed: Annotated[int, _between(0, 2**63)]
    inputs: tuple[Digest, ...]
    expected: tuple[ExpectedEntry, ...]

    @property
    def input_args(self) -> tuple[Argument, ...]:
        return self.args[: len(self.inputs)]

    @property
    def output_args(self) -> tuple[Argument, ...]:
        return self.args[len(self.inputs) :]

    @property
    def bytes(self) -> int:
        return sum(argument.nbytes for argument in self.args)

    def problem(self) -> str:
        if len(self.args) != len(self.inputs) + len(self.expected) or not self.expected:
            return f"{len(self.args)} arguments, {len(self.inputs)} inputs, {len(self.expected)} outputs"
        if max(argument.nbytes for argument in self.args) > MAX_TENSOR_BYTES or self.bytes > MAX_TASK_BYTES:
            return f"tensors of {self.bytes} bytes"
        return ""


@dataclass(frozen=True)
class Item:
    """One compiled candidate of a task. `build_s` is what compiling it took, in seconds."""

    task: Key
    candidate: Text
    proposer: Text
    cubin: Digest
    plan: Plan
    build_s: Annotated[float, lambda value: "" if value >= 0 else "seconds"] = 0.0
    usage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """`target` is the TVM target as canonical JSON, `arch` what the cubins are for, `protocol` the version of the
    timing protocol, `mode` hot or cold, `blobs` the size of each blob by its SHA-256."""

    format: int
    created_by: Text
    target: Text
    arch: Annotated[str, _matching("an architecture like sm_90a", r"sm_\d{2,3}[af]?")]
    protocol: int
    mode: Literal["hot", "cold"]
    tasks: tuple[TaskEntry, ...]
    items: tuple[Item, ...]
    blobs: Mapping[str, Annotated[int, _between(0, MAX_TENSOR_BYTES)]]

    def task(self, key: str) -> TaskEntry:
        return next(task for task in self.tasks if task.key == key)


def read_manifest(data: Any, where: str) -> Manifest:
    """The manifest in parsed JSON. Raises BundleError, naming `where` and the field."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise BundleError(where, f"format {found!r}, this program reads format {FORMAT}", "make it with this version")
    try:
        manifest: Manifest = read(Manifest, data)
    except ConfigError as error:
        raise BundleError(where, f"manifest: {error.message}", "make the bundle again") from error
    except RecursionError as error:
        raise BundleError(where, "manifest: nested too deeply", "make the bundle again") from error
    if problem := _problem(manifest):
        raise BundleError(where, f"manifest: {problem}", "make the bundle again")
    return manifest


def read_plan(data: Mapping[str, Any]) -> Plan:
    """A launch plan as `kernels.emit_cuda` makes it, or as a bundle holds it. Raises BundleError."""
    try:
        plan: Plan = read(Plan, data)
    except ConfigError as error:
        raise BundleError("launch plan", error.message) from error
    if problem := plan.problem():
        raise BundleError("launch plan", problem)
    return plan


def _problem(manifest: Manifest) -> str:
    tasks = {task.key: task for task in manifest.tasks}
    if len(tasks) != len(manifest.tasks):
        return "a task is there twice"
    for task in manifest.tasks:
        if problem := task.problem():
            return f"task {task.key}: {problem}"
    used = {d for t in manifest.tasks for e in t.expected for d in (e.values, e.sums) if d}
    for item in manifest.items:
        if item.task not in tasks:
            return f"an item of a task {item.task} that is not there"
        if problem := item.plan.problem() or _arguments(item.plan, tasks[item.task]):
            return f"item {item.cubin[:12]}: {problem}"
        used.add(item.cubin)
    if used != set(manifest.blobs):
        return f"{len(used ^ set(manifest.blobs))} blobs are named on one side only"
    return ""


def _arguments(plan: Plan, task: TaskEntry) -> str:
    if plan.num_args != len(task.args):
        return f"a plan for {plan.num_args} arguments, the task has {len(task.args)}"
    return "" if sum(plan.workspaces) <= MAX_TASK_BYTES else f"workspaces of {sum(plan.workspaces)} bytes"
