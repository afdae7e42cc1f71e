"""A scheduled GPU program as a program for one CPU thread, so that its outputs can be checked without a GPU.

Before lowering, a schedule whose loops are bound to threads is still a legal loop nest. Without the bindings it
computes the same, copies into shared memory included (each thread then copies a whole tile). Tensor-core blocks are
taken before tensorization, when they still are the intrinsics' descriptions. This does not test what lowering adds:
barriers, fragment layouts, asynchronous copies.
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
"""Marks copies that go through registers. TVM splits them for shared memory only, and pipelines depend on that."""

_SERIAL = 0


def serial(module: tvm.IRModule) -> tvm.IRModule:
    """The same program with every loop serial and every buffer in main memory."""
    graph = json.loads(tvm.ir.save_json(module))
    nodes = graph["nodes"]
    nodes.append({"type": "ffi.String", "data": "global"})
    main_memory = len(nodes) - 1
    staged = any(node["type"] == "ffi.String" and node["data"] == _STAGED for node in nodes)
    annotations = () if staged else _PIPELINE
    for node in nodes:
        data = node.get("data")
        if node["type"] in ("tirx.BufferType", "ir.PointerType"):
            data["storage_scope"] = main_memory
        elif node["type"] == "tirx.For":
            data.update(kind=_SERIAL, thread_binding=0, annotations=_only(nodes, data["annotations"], annotations))
        elif node["type"] == "s_tir.SBlock":
            data["annotations"] = _only(nodes, data["annotations"], ())
    return tvm.ir.load_json(json.dumps(graph))


def _only(nodes: list[Any], annotations: int, keys: Sequence[str]) -> int:
    """The index of a new map with those entries of another that have these keys."""
    flat = nodes[annotations]["data"] if annotations else []
    pairs = [(k, v) for k, v in zip(flat[::2], flat[1::2], strict=True) if nodes[k]["data"] in keys]
    nodes.append({"type": "ffi.Map", "data": [i for pair in pairs for i in pair]})
    return len(nodes) - 1


def run_serial(
    modules: Mapping[str, tvm.IRModule], inputs: Sequence[Array], outputs: Sequence[TensorSpec]
) -> dict[str, list[Array]]:
    """The outputs of serial programs of one signature, by name. They are compiled together, without optimization."""
    functions = {name: m["main"].with_attr("global_symbol", name) for name, m in modules.items()}
    with tvm.transform.PassContext(opt_level=0, config={"tirx.disable_assert": True}):
        library = tvm.compile(tvm.IRModule(functions), Target({"kind": "llvm", "opt-level": 0}))
    arguments = [tvm.runtime.tensor(value) for value in inputs]
    computed = {}
    for name in modules:
        buffers = [tvm.runtime.tensor(poison(spec)) for spec in outputs]
        library[name](*arguments, *buffers)
        computed[name] = [buffer.numpy() for buffer in buffers]
    return computed
