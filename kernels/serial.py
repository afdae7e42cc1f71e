"""A scheduled GPU program as a program for one CPU thread, so that its numbers can be checked without a GPU.

Before lowering, a schedule with its loops bound to threads is a legal loop nest still: with the bindings taken away it
computes the same, copies into shared memory included (each thread then copies all of a tile). Tensor-core blocks are
taken before tensorization, when they still are what the intrinsics' descriptions say. This cannot see what lowering
adds: barriers, fragment layouts, asynchronous copies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import tvm
from numpy.typing import NDArray
from tvm.target import Target

from kernels.tensors import TensorSpec, poison

Array = NDArray[Any]

_PIPELINE = ("software_pipeline_stage", "software_pipeline_order")
"""Loop annotations that change the order of the work, and so are worth checking."""

_STAGED = "tirx.manifest_shared_memory_local_stage"
"""Marks copies that go through registers; TVM splits them for shared memory only, and a pipeline counts on it."""

_SERIAL = 0


def serial(module: tvm.IRModule) -> tvm.IRModule:
    """The same program with every loop serial and every buffer in main memory."""
    graph = json.loads(tvm.ir.save_json(module))
    nodes = graph["nodes"]
    nodes.append({"type": "ffi.String", "data": "global"})
    everywhere = len(nodes) - 1
    kept = () if any(n["type"] == "ffi.String" and n["data"] == _STAGED for n in nodes) else _PIPELINE
    for node in nodes:
        data = node.get("data")
        if node["type"] in ("tirx.BufferType", "ir.PointerType"):
            data["storage_scope"] = everywhere
        elif node["type"] == "tirx.For":
            data.update(kind=_SERIAL, thread_binding=0, annotations=_only(nodes, data["annotations"], kept))
        elif node["type"] == "s_tir.SBlock":
            data["annotations"] = _only(nodes, data["annotations"], ())
    return tvm.ir.load_json(json.dumps(graph))


def _only(nodes: list[Any], annotations: int, kept: Sequence[str]) -> int:
    """The index of a map with only the kept entries of another."""
    flat = nodes[annotations]["data"] if annotations else []
    pairs = [(k, v) for k, v in zip(flat[::2], flat[1::2], strict=True) if nodes[k]["data"] in kept]
    nodes.append({"type": "ffi.Map", "data": [i for pair in pairs for i in pair]})
    return len(nodes) - 1


def answers(
    modules: Mapping[str, tvm.IRModule], inputs: Sequence[Array], outputs: Sequence[TensorSpec]
) -> dict[str, list[Array]]:
    """What serial programs of one signature answer, by name. They are compiled together, without optimization."""
    functions = {name: m["main"].with_attr("global_symbol", name) for name, m in modules.items()}
    with tvm.transform.PassContext(opt_level=0, config={"tirx.disable_assert": True}):
        library = tvm.compile(tvm.IRModule(functions), Target({"kind": "llvm", "opt-level": 0}))
    arguments = [tvm.runtime.tensor(value) for value in inputs]
    found = {}
    for name in modules:
        results = [tvm.runtime.tensor(poison(spec)) for spec in outputs]
        library[name](*arguments, *results)
        found[name] = [r.numpy() for r in results]
    return found
