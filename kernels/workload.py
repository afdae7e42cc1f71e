"""One tensor program, as data: TensorIR, shapes, dtypes, flops, bytes, and a key that is the same on every machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import analysis
from tvm_ffi import structural_hash

from kernels.lowering import nodes
from kernels.tensors import TensorSpec, arithmetic_dtype, seeded_inputs

__all__ = ["TensorSpec", "Workload", "from_prim_func", "seeded_inputs"]


_INDEX_TYPES = ("int32", "int64", "uint32", "uint64")


@dataclass(frozen=True)
class Workload:
    """An unscheduled tensor program with static shapes, destination-passing (outputs last).

    `flops` counts the arithmetic of one call as TVM's analysis does (a multiply-add is 2). `bytes` is the least
    traffic: every argument is read or written once. `origin` says which operator it comes from, as plain data for
    baselines and reports; it is no part of the identity. Its "flops", where given, are those of the workload: of an
    algorithm whose stages beside the products are to count for nothing. Two workloads are equal when their keys are.
    """

    name: str = field(compare=False)
    key: str
    tir_json: str = field(repr=False, compare=False)
    args: tuple[TensorSpec, ...] = field(compare=False)
    num_outputs: int = field(compare=False)
    flops: float = field(compare=False)
    origin: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.args[: len(self.args) - self.num_outputs]

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self.args[len(self.args) - self.num_outputs :]

    @property
    def arithmetic(self) -> str:
        """The dtype that its arithmetic is in, as far as its arguments tell."""
        return arithmetic_dtype([*(spec.dtype for spec in self.inputs), self.outputs[0].dtype])

    @property
    def bytes(self) -> int:
        return sum(spec.nbytes for spec in self.args)

    def module(self) -> tvm.IRModule:
        """A fresh IRModule whose one function is `main`."""
        return tvm.ir.load_json(self.tir_json)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "tir_json": self.tir_json,
            "num_outputs": self.num_outputs,
            "origin": dict(self.origin),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Workload:
        module = tvm.ir.load_json(data["tir_json"])
        return from_prim_func(module["main"], data["name"], data["num_outputs"], data["origin"])


def _within_tables(func: tvm.tirx.PrimFunc, specs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """The arguments, with those marked that index an axis of one element: of these 0 alone is an index."""
    wide = [place for place, spec in enumerate(specs) if spec.dtype in _INDEX_TYPES]
    found = list(specs)
    if not wide:
        return found
    accesses = [(load.source, load.indices) for load in nodes(func.body, tvm.ir.TensorLoad)]
    accesses += [(store.buffer, store.indices) for store in nodes(func.body, tirx.BufferStore)]
    for buffer, indices in accesses:
        for extent, index in zip(buffer.shape, indices, strict=True):
            if int(extent) != 1:
                continue
            for read in nodes(index, tvm.ir.TensorLoad):
                for place in wide:
                    if read.source.same_as(func.params[place]):
                        found[place] = replace(found[place], largest=0)
    return found


def from_prim_func(
    func: tvm.tirx.PrimFunc, name: str, num_outputs: int = 1, origin: Mapping[str, Any] | None = None
) -> Workload:
    """Make a workload of a TensorIR function.

    The key is TVM's structural hash of the function under the name `main`, as 16 hex digits. It is the same in every
    process and for any names of variables, and differs when shape, dtype or body differ. Raises ValueError when a shape
    is not static.
    """
    func = func.with_attr("global_symbol", "main").with_attr("tirx.noalias", True)
    specs = []
    for param in func.params:
        try:
            shape = tuple(int(extent) for extent in param.shape)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: argument {param.name} has a symbolic shape {param.shape}") from error
        specs.append(TensorSpec(shape, str(param.dtype)))
    specs = _within_tables(func, specs)
    module = tvm.IRModule({"main": func})
    key = f"{structural_hash(module) & (2**64 - 1):016x}"
    origin = dict(origin or {})
    try:
        flops = float(origin["flops"] if "flops" in origin else analysis.estimate_tir_flops(module))
    except RuntimeError:
        flops = 0.0  # bodies the analysis has no rule for, e.g. data-dependent loops
    return Workload(
        name=name,
        key=key,
        tir_json=tvm.ir.save_json(module),
        args=tuple(specs),
        num_outputs=num_outputs,
        flops=flops,
        origin=json.loads(json.dumps(origin)),
    )
