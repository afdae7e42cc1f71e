"""The accesses of a program counted by running each of its threads: an interpreter of the lowered form.

It shares nothing with kernels.access but the lowering: addresses of every thread, one at a time, in plain Python."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import tvm
from tvm import tirx

from kernels.launch_plan import ITEM_BYTES

Counts = list[tuple[str, str, bool, int, int]]
"""(buffer, scope, whether it stores, requests, sectors or passes over banks) of each access, in the program's order."""


def brute(function: tirx.PrimFunc, granule: int = 0) -> Counts:
    """The accesses of a lowered program, its shared memory swizzled in chunks of `granule` bytes where that is not 0.
    Conditions are not looked at: all threads take both ways."""
    found: list[Any] = []
    _walk(function.body, [], found)
    return [_counted(buffer, index, store, around, granule) for buffer, index, store, around in found]


def _walk(statement: Any, around: list[tuple[str, Any, int, int]], found: list[Any]) -> None:
    if isinstance(statement, tirx.SeqStmt):
        for child in statement.seq:
            _walk(child, around, found)
        return
    if isinstance(statement, tirx.AttrStmt) and statement.attr_key == "thread_extent":
        around = [*around, (str(statement.node.thread_tag), statement.node.var, 0, int(statement.value))]
    elif isinstance(statement, tirx.For):
        around = [*around, ("loop", statement.loop_var, int(statement.min), int(statement.extent))]
    if any(kind != "loop" for kind, *_ in around):
        for expression in _read(statement):
            _loads(expression, around, found)
        if isinstance(statement, tirx.BufferStore):
            found.append((statement.buffer, statement.indices[0], True, around))
    for name in ("body", "then_case", "else_case"):
        if getattr(statement, name, None) is not None:
            _walk(getattr(statement, name), around, found)
    found[:] = [entry for entry in found if str(entry[0].scope()) in ("", "global", "shared")]


def _read(statement: Any) -> list[Any]:
    if isinstance(statement, tirx.BufferStore):
        return [statement.value, *statement.indices]
    return [statement.condition] if isinstance(statement, tirx.IfThenElse) else []


def _loads(expression: Any, around: list[Any], found: list[Any]) -> None:
    if isinstance(expression, tvm.ir.TensorLoad):
        found.append((expression.source, expression.indices[0], False, around))
        return
    children = list(expression.args) if isinstance(expression, tvm.ir.Call) else []
    for name in ("a", "b", "value", "condition", "true_value", "false_value"):
        if not isinstance(expression, tirx.Var) and hasattr(expression, name):
            children.append(getattr(expression, name))
    for child in children:
        if not isinstance(child, (int, float, str, tirx.IntImm, tirx.FloatImm)):
            _loads(child, around, found)


def _value(expression: Any, at: dict[str, int]) -> list[int]:
    """The elements of an index, one for each lane of a vector."""
    if isinstance(expression, tirx.IntImm):
        return [int(expression)]
    if isinstance(expression, tirx.Var):
        return [at[expression.name]]
    if isinstance(expression, tirx.Ramp):
        base, step = _value(expression.base, at)[0], int(expression.stride)
        return [base + step * lane for lane in range(int(expression.lanes))]
    if isinstance(expression, (tirx.Broadcast, tirx.Cast)):
        return _value(expression.value, at)
    if isinstance(expression, tvm.ir.Call):
        a, b = (_value(argument, at)[0] for argument in expression.args)
        name = str(expression.op.name)
        return [a ^ b if name.endswith("xor") else a & b if name.endswith("and") else a >> b]
    both = itertools.zip_longest(*(_value(getattr(expression, side), at) for side in "ab"))
    pairs = list(both)
    left, right = pairs[0]
    whole = [(left if a is None else a, right if b is None else b) for a, b in pairs]
    operation: Any = {
        tirx.Add: lambda a, b: a + b, tirx.Sub: lambda a, b: a - b, tirx.Mul: lambda a, b: a * b,
        tirx.FloorDiv: lambda a, b: a // b, tirx.FloorMod: lambda a, b: a % b,
        tirx.Min: min, tirx.Max: max,
    }[type(expression)]  # fmt: skip
    return [operation(a, b) for a, b in whole]


def _counted(buffer: Any, index: Any, store: bool, around: list[tuple[str, Any, int, int]], granule: int) -> Any:
    scope, itemsize = str(buffer.scope()) or "global", ITEM_BYTES[str(buffer.dtype)]
    dims = {kind: extent for kind, _, _, extent in around if kind.startswith("threadIdx")}
    x, y = dims.get("threadIdx.x", 1), dims.get("threadIdx.y", 1)
    warps: dict[Any, list[tuple[int, list[int]]]] = defaultdict(list)
    for point in itertools.product(*(range(low, low + extent) for _, _, low, extent in around)):
        thread = dict.fromkeys(("threadIdx.x", "threadIdx.y", "threadIdx.z"), 0)
        rest = []
        for (kind, _, _, _), value in zip(around, point, strict=True):
            if kind in thread:
                thread[kind] = value
            else:
                rest.append(value)
        number = thread["threadIdx.x"] + x * (thread["threadIdx.y"] + y * thread["threadIdx.z"])
        at = {variable.name: value for (_, variable, _, _), value in zip(around, point, strict=True)}
        elements = _value(index, at)
        apart = [elements] if _beside(elements) else [[element] for element in elements]
        for part, of_request in enumerate(apart):
            warps[number // 32, tuple(rest), part].append((number % 32, of_request))
    if scope == "global":
        return buffer.name, scope, store, len(warps), sum(_sectors(lanes, itemsize) for lanes in warps.values())
    return buffer.name, scope, store, len(warps), sum(_passes(lanes, itemsize, granule) for lanes in warps.values())


def _beside(elements: list[int]) -> bool:
    return elements == list(range(elements[0], elements[0] + len(elements)))


def _sectors(lanes: list[tuple[int, list[int]]], itemsize: int) -> int:
    return len({element * itemsize // 32 for _, elements in lanes for element in elements})


def _moved(byte: int, granule: int) -> int:
    """Where a byte of swizzled memory lies: bits of its line's number, folded, against those of its chunk's."""
    line, within = divmod(byte, 128)
    chunk, rest = divmod(within, granule)
    folded, chunks = 0, 128 // granule
    while line:
        folded, line = folded ^ line % chunks, line // chunks
    return byte - within + (chunk ^ folded) * granule + rest


def _passes(lanes: list[tuple[int, list[int]]], itemsize: int, granule: int) -> int:
    width = len(lanes[0][1]) * itemsize
    together = 32 if width <= 4 else 16 if width <= 8 else 8
    total = 0
    for first in range(0, 32, together):
        banks: dict[int, set[int]] = defaultdict(set)
        for lane, elements in lanes:
            if first <= lane < first + together:
                for element in elements:
                    byte = _moved(element * itemsize, granule) if granule else element * itemsize
                    banks[byte // 4 % 32].add(byte // 4)
        total += max(map(len, banks.values()), default=0)
    return total
