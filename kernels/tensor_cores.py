"""Tensor-core intrinsics: which ones an architecture allows, registered where TVM has none.

TVM registers wmma intrinsics for float16 and int8. Those for bfloat16 and TF32 are made here from the same factories.
TVM's code generator has no such fragments. So they go through it as float16 fragments (`as_half`), and the source gets
their own type (`from_half`), and for TF32 the rounding that CUDA asks for (CUDA C++ programming guide, "Alternate
Floating Point").
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

import tvm
from tvm.tirx import PrimFunc

from kernels.gpus import LEAST_SM, sm_number

_SHORT = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "int8": "s8", "int32": "s32"}

_FRAGMENTS = {"bfloat16": "__nv_bfloat16", "float32": "nvcuda::wmma::precision::tf32"}
_SCOPES = ("wmma.matrix_a", "wmma.matrix_b")
_TF32_DEPTH = 8
"""wmma has one TF32 shape, m16n16k8."""


def groups(arch: str, tf32: bool) -> list[Mapping[str, str]]:
    """Intrinsic groups for TVM's tensor-core rule, of every dtype the architecture's tensor cores take.

    TF32 rounds float32 operands to 10 bits of mantissa, so it is offered only where the caller allows it.
    """
    sm = sm_number(arch)
    pairs = [("float16", "float32"), ("float16", "float16"), ("bfloat16", "float32"), ("int8", "int32")]
    if tf32:
        pairs.append(("float32", "float32"))
    return [
        _group(read, written, transposed)
        for read, written in pairs
        if sm >= LEAST_SM[read]
        for transposed in (False, True)
    ]


def _group(read: str, written: str, transposed: bool) -> Mapping[str, str]:
    from tvm.s_tir.tensor_intrin import cuda

    if read in ("float16", "int8"):
        return dict(cuda.get_wmma_intrin_group("shared.dyn", "shared.dyn", read, written, transposed))
    depth = _TF32_DEPTH if read == "float32" else 16
    shape, short, trans = f"16x16x{depth}", _SHORT[read], "_trans" if transposed else ""
    names = {
        "init": f"wmma_fill_{shape}_f32",
        "load_a": f"wmma_load_{shape}_{short}_a_shared_dyn",
        "load_b": f"wmma_load_{shape}_{short}_b{trans}_shared_dyn",
        "compute": f"wmma_sync_{shape}_{short}{short}f32{trans}",
        "store": f"wmma_store_{shape}_f32_shared_dyn",
    }
    makers = {
        "init": lambda: cuda.get_wmma_fill_intrin(16, 16, depth, written),
        "load_a": lambda: cuda.get_wmma_load_intrin(16, 16, depth, read, "shared.dyn", False, False),
        "load_b": lambda: cuda.get_wmma_load_intrin(16, 16, depth, read, "shared.dyn", True, transposed),
        "compute": lambda: cuda.get_wmma_sync_intrin(16, 16, depth, read, written, transposed),
        "store": lambda: cuda.get_wmma_store_intrin(16, 16, depth, written, "shared.dyn"),
    }
    for role, name in names.items():
        _register(name, makers[role])
    return names


def _register(name: str, make: Callable[[], tuple[PrimFunc, PrimFunc]]) -> None:
    from tvm.s_tir import TensorIntrin

    if TensorIntrin.get(name, allow_missing=True) is None:
        TensorIntrin.register(name, *make())


def as_half(module: tvm.IRModule) -> tuple[tvm.IRModule, str | None]:
    """The device module with its bfloat16 or float32 operand fragments as float16 ones, and their dtype.

    The dtype is None where there are none; then the module is unchanged. Tensor-core programs have one operand dtype.
    """
    if not any(scope in (text := tvm.ir.save_json(module)) for scope in _SCOPES):
        return module, None
    graph = json.loads(text)
    nodes = graph["nodes"]
    dtypes = {i: n["data"]["dtype"] for i, n in enumerate(nodes) if n["type"] == "ir.PrimType"}
    scopes = {i for i, n in enumerate(nodes) if n["type"] == "ffi.String" and n["data"] in _SCOPES}
    operand_dtype = None
    for node in list(nodes):
        key = {"tirx.BufferType": "dtype", "ir.PointerType": "element_type"}.get(node["type"])
        if key is None or node["data"]["storage_scope"] not in scopes:
            continue
        dtype = dtypes[node["data"][key]]
        if dtype in _FRAGMENTS:
            if operand_dtype is None:
                nodes.append({"type": "ir.PrimType", "data": {"span": 0, "dtype": "float16"}})
                half = len(nodes) - 1
            operand_dtype, node["data"][key] = dtype, half
    return (tvm.ir.load_json(json.dumps(graph)), operand_dtype) if operand_dtype else (module, None)


def from_half(source: str, dtype: str) -> str:
    """The source of an `as_half` module with the fragments' own type, and TF32 operands rounded as they are loaded."""
    source = re.sub(
        r"(nvcuda::wmma::fragment<nvcuda::wmma::matrix_[ab], [\d, ]+, )half\b", rf"\g<1>{_FRAGMENTS[dtype]}", source
    )
    if dtype == "float32":
        rounding = r"\g<0> for (auto& operand : \g<1>.x) operand = nvcuda::wmma::__float_to_tf32(operand);"
        source = re.sub(r"nvcuda::wmma::load_matrix_sync\((\w+\[[^\]]*\]), .*?;$", rounding, source, flags=re.MULTILINE)
    return source
