"""Scheduled TensorIR -> the source of GPU kernels and a launch plan. Needs neither a GPU nor its toolkit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.sym import Analyzer
from tvm.target import Target
from tvm.tirx.build import codegen_build, split_host_device_mods

from kernels import mma, swizzle, tensor_cores, wide_vectors
from kernels.launch_plan import ITEM_BYTES, Argument, Extent, Launch, LaunchPlan

_MERGE = "tirx.merge_static_smem"
_ASYNC = "tirx.use_async_copy"


class EmitFailed(Exception):
    """TVM cannot lower the program to a GPU, e.g. because a loop is not bound to threads."""


class _Misaligned(Exception):
    """An asynchronous copy of several elements may begin where a copy of its size must not."""


@dataclass(frozen=True)
class GpuProgram:
    """CUDA or OpenCL C source and how to run it."""

    source: str
    plan: LaunchPlan


def emit(
    module: tvm.IRModule, target: Target, num_outputs: int = 1, options: Mapping[str, Any] | None = None
) -> GpuProgram:
    """Lower the scheduled function `main`, whose last arguments are outputs, as `tvm.compile` does (30 to 70 ms).

    `options` are added to those of the current PassContext. Copies of pipelined loops are asynchronous on CUDA unless
    one of the two turns that off. Raises EmitFailed when TVM rejects the schedule.
    """
    current = tvm.transform.PassContext.current()
    config = {_ASYNC: target.kind.name == "cuda", **current.config, **(options or {})}
    if "wmma." in tvm.ir.save_json(module):
        config[_MERGE] = True  # otherwise storage of two dtypes shares a buffer, which TVM's own checks reject
    with tvm.transform.PassContext(opt_level=current.opt_level, config=config):
        try:
            return _emit(module, target, num_outputs)
        except _Misaligned:
            pass
    with tvm.transform.PassContext(opt_level=current.opt_level, config={**config, _ASYNC: False}):
        return _emit(module, target, num_outputs)


def _emit(module: tvm.IRModule, target: Target, num_outputs: int) -> GpuProgram:
    function = module["main"]
    arguments, granule = _arguments(function), swizzle.granule_of(function)
    try:
        module = tirx.transform.BindTarget(target.with_host(Target("llvm")))(module)
        pipeline, _, finalize_device = tirx.get_default_tir_pipeline(target)
        host, devices = split_host_device_mods(pipeline(module))
        if len(devices) != 1:
            raise EmitFailed("no loop of the program is bound to threads")
        [(device_target, device)] = devices.items()
        if not all(_copies_are_aligned(function) for function in device.functions.values()):
            raise _Misaligned
        plain, dtype = tensor_cores.as_half(finalize_device()(device))
        source = str(codegen_build(plain, device_target).inspect_source())
    except (RuntimeError, ValueError) as error:
        raise EmitFailed((str(error).strip() or type(error).__name__).splitlines()[-1][:300]) from error
    line = swizzle.LINE_BYTES if granule else 1
    if device_target.kind.name == "cuda":
        source = wide_vectors.with_makers(source)
    shared = {gv.name_hint: _declared_shared(func, line) for gv, func in device.functions.items()}
    if dtype is not None:
        source = tensor_cores.from_half(source, dtype)
    if mma.marked(function):
        source = mma.in_mma(source)
    if granule:
        source = swizzle.in_swizzle(source, granule)
    reader = _HostReader(host["main"], len(arguments), shared)
    launches = tuple(
        replace(launch, dynamic_shared_bytes=-(-launch.dynamic_shared_bytes // line) * line)
        for launch in reader.launches
    )
    return GpuProgram(source, LaunchPlan(launches, arguments, num_outputs, tuple(reader.workspaces)))


def _copies_are_aligned(function: tirx.PrimFunc) -> bool:
    """Whether every asynchronous copy provably begins at multiples of its size, as CUDA demands (PTX ISA, "cp.async").

    TVM merges copies of neighbouring elements and does not ask. Buffers themselves begin at multiples of any size.
    """
    analyzer, calls, names = Analyzer(), list[Any](), list[Any]()
    tvm_ffi.structural_walk(function.body, [(tvm.ir.Call, calls.append), (tirx.Bind, names.append)])
    for name in names:
        if isinstance(name.var.ty, tvm.ir.PrimType) and str(name.var.ty.dtype).startswith("int"):
            analyzer.bind(name.var, name.value)
    for call in (c for c in calls if _calls(c, "cp_async_raw")):
        _, to, _, source, nbytes, *_ = call.args
        elements = int(nbytes) // ITEM_BYTES[str(call.ty.dtype)]
        for offset in (to, source):
            known = analyzer.modular_set(offset)
            if elements > 1 and (known.coeff % elements or known.base % elements):
                return False
    return True


def _arguments(func: tirx.PrimFunc) -> tuple[Argument, ...]:
    try:
        return tuple(Argument(tuple(int(n) for n in p.shape), str(p.dtype)) for p in func.params)
    except (TypeError, ValueError) as error:
        raise EmitFailed("an argument has a symbolic shape") from error


def _declared_shared(func: tirx.PrimFunc, line: int) -> int:
    """Bytes of shared memory that a kernel declares statically, of each buffer a multiple of `line`."""
    return sum(
        -(-_nbytes(s.buffer) // line) * line
        for s in _statements(func.body)
        if isinstance(s, tirx.AllocBuffer) and s.buffer.scope() == "shared"
    )


def _nbytes(buffer: Any) -> int:
    return math.prod(int(extent) for extent in buffer.shape) * ITEM_BYTES[str(buffer.dtype)]


class _HostReader:
    """Reads launches, their arguments and the workspaces out of the host function."""

    def __init__(self, host: tirx.PrimFunc, num_args: int, shared: Mapping[str, int]) -> None:
        self.launches: list[Launch] = []
        self.workspaces: list[int] = []
        self._num_args = num_args
        self._shared = shared
        self._packed = host.params[1]
        self._slots: dict[Any, int] = {}
        for statement in _statements(host.body):
            self._read(statement)

    def _read(self, statement: Any) -> None:
        if isinstance(statement, tirx.Bind):
            self._alias(statement.var, statement.value)
        elif isinstance(statement, tirx.DeclBuffer):
            self._alias(statement.buffer, statement.data)
        elif isinstance(statement, tirx.AllocBuffer):
            self._slots[statement.buffer] = self._num_args + len(self.workspaces)
            self.workspaces.append(_nbytes(statement.buffer))
        elif isinstance(statement, tirx.Evaluate) and _calls(statement.value, "call_ffi_kernel"):
            self.launches.append(self._launch(statement.value))

    def _alias(self, variable: Any, value: Any) -> None:
        """Remember which argument or workspace a variable stands for, if it stands for one."""
        if isinstance(variable.ty, tvm.ir.PrimType):
            return
        for expr in _subexpressions(value):
            if isinstance(expr, tirx.Var) and expr in self._slots:
                self._slots[variable] = self._slots[expr]
                return
            if _calls(expr, "tvm_struct_get") and self._packed.same_as(expr.args[0]):
                self._slots[variable] = int(expr.args[1])
                return

    def _launch(self, call: Any) -> Launch:
        params = [str(p) for p in call.attrs.launch_params]
        pointers, sizes = call.args[1 : len(call.args) - len(params)], call.args[len(call.args) - len(params) :]
        extents = dict(zip(params, (int(size) for size in sizes), strict=True))
        dynamic = extents.pop("tirx.use_dyn_shared_memory", 0)
        cooperative = bool(extents.pop("tirx.use_cooperative_launch", 0))
        grid, block, cluster = (_three(extents, name) for name in ("blockIdx", "threadIdx", "clusterCtaIdx"))
        if extents:
            raise EmitFailed(f"launch parameters without a rule: {', '.join(extents)}")
        kernel, slots = str(call.args[0].value), tuple(map(self._slot, pointers))
        return Launch(kernel, slots, grid, block, dynamic, self._shared.get(kernel, 0), cluster, cooperative)

    def _slot(self, pointer: Any) -> int:
        for expr in _subexpressions(pointer):
            if isinstance(expr, tirx.Var) and expr in self._slots:
                return self._slots[expr]
        raise EmitFailed(f"a launch argument is neither an argument nor a workspace: {pointer}")


def _three(extents: dict[str, int], name: str) -> Extent:
    """Take the x, y and z extents of a thread hierarchy out of the launch parameters."""
    return extents.pop(f"{name}.x", 1), extents.pop(f"{name}.y", 1), extents.pop(f"{name}.z", 1)


def _statements(statement: Any) -> Iterator[Any]:
    """All statements of a host function, in order."""
    if isinstance(statement, tirx.SeqStmt):
        for child in statement.seq:
            yield from _statements(child)
        return
    yield statement
    for name in ("body", "then_case", "else_case"):
        inner = getattr(statement, name, None)
        if inner is not None:
            yield from _statements(inner)


def _subexpressions(expr: Any) -> Iterator[Any]:
    """An expression and the arguments of its calls, recursively."""
    yield expr
    for argument in expr.args if isinstance(expr, tvm.ir.Call) else ():
        yield from _subexpressions(argument)


def _calls(expr: Any, name: str) -> bool:
    return isinstance(expr, tvm.ir.Call) and str(getattr(expr.op, "name", "")).rpartition(".")[2] == name
