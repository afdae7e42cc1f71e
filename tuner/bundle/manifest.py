"""The manifest of a bundle, as frozen data: read strictly, because it may come from anyone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from kernels.launch_plan import ITEM_BYTES, BadPlan, LaunchPlan
from kernels.tensors import TensorSpec
from tuner.errors import BundleError, ConfigError
from tuner.schema import Rule, read

FORMAT = 1
"""Bundles of another format are refused: the same names may mean something else there."""

MAX_TENSOR_BYTES = 4 << 30
MAX_TASK_BYTES = 16 << 30
"""A bundle must not make a machine allocate more than this."""


def _matching(words: str, pattern: str) -> Rule:
    compiled = re.compile(pattern)
    return lambda value: "" if compiled.fullmatch(value) else words


def _between(low: int, high: int) -> Rule:
    return lambda value: "" if low <= value <= high else f"a value from {low} to {high}"


Digest = Annotated[str, _matching("a SHA-256 in hex", r"[0-9a-f]{64}")]
Key = Annotated[str, _matching("16 hex digits", r"[0-9a-f]{16}")]
Text = Annotated[str, lambda value: "" if len(value) <= 4096 and value.isprintable() else "one short printable line"]
Dtype = Annotated[str, lambda value: "" if value in ITEM_BYTES else f"one of {', '.join(ITEM_BYTES)}"]
Extent = Annotated[int, _between(1, 2**40)]


@dataclass(frozen=True)
class ArgumentEntry:
    """Shape and dtype of one argument of a task, and the largest of its wide integers."""

    shape: tuple[Extent, ...]
    dtype: Dtype
    largest: Annotated[int, _between(0, 1)] = 1

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.shape, self.dtype, self.largest)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


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
    `expected` is one entry an output. `flops` and `bytes` are of one call. `origin` says which operator it came from,
    for baselines."""

    key: Key
    name: Text
    weight: Annotated[int, _between(1, 2**31)]
    flops: float
    args: tuple[ArgumentEntry, ...]
    seed: Annotated[int, _between(0, 2**63)]
    inputs: tuple[Digest, ...]
    expected: tuple[ExpectedEntry, ...]
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_args(self) -> tuple[ArgumentEntry, ...]:
        return self.args[: len(self.inputs)]

    @property
    def output_args(self) -> tuple[ArgumentEntry, ...]:
        return self.args[len(self.inputs) :]

    @property
    def bytes(self) -> int:
        return sum(argument.nbytes for argument in self.args)

    def problem(self) -> str:
        """What contradicts itself or is too large, in words; "" when nothing."""
        if len(self.args) != len(self.inputs) + len(self.expected) or not self.expected:
            return f"{len(self.args)} arguments, {len(self.inputs)} inputs, {len(self.expected)} outputs"
        if max(argument.nbytes for argument in self.args) > MAX_TENSOR_BYTES or self.bytes > MAX_TASK_BYTES:
            return f"tensors of {self.bytes} bytes"
        return ""


@dataclass(frozen=True)
class Item:
    """One candidate of a task: `cubin` names its blob, a cubin or OpenCL source. `plan` is a LaunchPlan as data,
    `build_s` the seconds that making it took."""

    task: Key
    candidate: Text
    proposer: Text
    cubin: Digest
    plan: Mapping[str, Any]
    build_s: Annotated[float, lambda value: "" if value >= 0 else "seconds"] = 0.0
    usage: Mapping[str, Any] = field(default_factory=dict)


_ARCH = r"sm_\d{2,3}[af]?|opencl|simulated"


@dataclass(frozen=True)
class Manifest:
    """`target` is the TVM target as canonical JSON, `arch` what the kernels are for, `protocol` the version of the
    timing protocol, `mode` hot or cold, `blobs` the size of each blob by its SHA-256."""

    format: int
    created_by: Text
    target: Text
    arch: Annotated[str, _matching("an architecture like sm_90a, opencl or simulated", _ARCH)]
    protocol: int
    mode: Literal["hot", "cold"]
    tasks: tuple[TaskEntry, ...]
    items: tuple[Item, ...]
    blobs: Mapping[str, Annotated[int, _between(0, MAX_TENSOR_BYTES)]]

    def task(self, key: str) -> TaskEntry:
        """The task with a key that is there."""
        return next(task for task in self.tasks if task.key == key)


def read_manifest(data: Any, where: str) -> Manifest:
    """The manifest in parsed JSON. Raises BundleError, naming `where` and the field."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        version = data.get("format") if isinstance(data, dict) else None
        raise BundleError(where, f"format {version!r}, this program reads format {FORMAT}", "make it with this version")
    try:
        manifest: Manifest = read(Manifest, data)
    except ConfigError as error:
        raise BundleError(where, f"manifest: {error.message}", "make the bundle again") from error
    except RecursionError as error:
        raise BundleError(where, "manifest: nested too deeply", "make the bundle again") from error
    if problem := _problem(manifest):
        raise BundleError(where, f"manifest: {problem}", "make the bundle again")
    return manifest


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
        if problem := _plan_problem(item.plan, tasks[item.task]):
            return f"item {item.cubin[:12]}: {problem}"
        used.add(item.cubin)
    if used != set(manifest.blobs):
        return f"{len(used ^ set(manifest.blobs))} blobs are listed and not used, or used and not listed"
    return ""


def _plan_problem(data: Mapping[str, Any], task: TaskEntry) -> str:
    try:
        plan = LaunchPlan.from_json(data)
    except BadPlan as error:
        return str(error)
    if [(a.shape, a.dtype) for a in plan.arguments] != [(a.shape, a.dtype) for a in task.args]:
        return "its plan is for other arguments than the task's"
    if plan.num_outputs != len(task.expected):
        return f"its plan writes {plan.num_outputs} outputs, the task has {len(task.expected)}"
    return "" if sum(plan.workspaces) <= MAX_TASK_BYTES else f"workspaces of {sum(plan.workspaces)} bytes"
