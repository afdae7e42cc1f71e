"""What the example of a pass shows: its program, lowered program, assembly, CUDA source or command, as text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import tvm
from tvm.s_tir import Schedule
from tvm.target import Target

from kernels.emit_gpu import emit
from kernels.lowering import lowered
from kernels.metaschedule import meta_schedule
from kernels.passes import Applied, PassConfig
from kernels.passes.base import Example, View

CPU = {"kind": "llvm", "mcpu": "x86-64-v4", "mattr": ["+avx512bf16", "+avx512vnni"], "num-cores": 2}
"""The CPU that is shown: one with AVX-512 and dot products, whatever the machine has."""

GPU = {"kind": "cuda", "arch": "sm_80", "max_threads_per_block": 1024, "max_shared_memory_per_block": 49152}


def target_of(example: Example) -> dict[str, Any]:
    """The target an example is for."""
    return GPU if example.view in (View.CUDA, View.COMMAND) else CPU


def shown(example: Example, text: str) -> str:
    """What an example's view shows of its program under a configuration, as text."""
    config, target = PassConfig.from_text(text), Target(target_of(example))
    if example.view is View.COMMAND:
        return " ".join(("nvcc", *config.compiler_options()))
    applied = config.applied(scheduled(example, text)["main"], target)
    return _VIEWS[example.view](applied, target, example.lines)


def scheduled(example: Example, text: str) -> tvm.IRModule:
    """An example's program, scheduled and post-processed under a configuration."""
    target = Target(target_of(example))
    schedule = Schedule(tvm.IRModule({"main": example.program()}), error_render_level="none")
    example.schedule(schedule)
    PassConfig.from_text(text).on_schedule(schedule, target)
    schedule.enter_postproc()
    if not meta_schedule().postproc.RewriteParallelVectorizeUnroll().apply(schedule):
        raise ValueError("the example is rejected")
    return schedule.mod


def _program(applied: Applied, target: Target, lines: str) -> str:
    return _script(applied.function)


def _lowered(applied: Applied, target: Target, lines: str) -> str:
    with tvm.transform.PassContext(opt_level=3, config=applied.passes.context_options()):
        return _script(lowered(applied.function, target)["main"])


_OF_TVM = ".text.tvm.fp16.conv"
"""The section after a kernel's code: conversions that TVM adds to every module."""


def _assembly(applied: Applied, target: Target, lines: str) -> str:
    own = Target(applied.passes.target_options(json.loads(json.dumps(CPU))))
    options = {**applied.passes.context_options(), "tirx.disable_assert": True}
    with tvm.transform.PassContext(opt_level=3, config=options):
        text = tvm.compile(tvm.IRModule({"main": applied.function}), target=own).mod.inspect_source("asm")
    return _chosen(text.partition(_OF_TVM)[0], lines)


def _cuda(applied: Applied, target: Target, lines: str) -> str:
    program = emit(tvm.IRModule({"main": applied.function}), target, 1, applied.passes.context_options())
    source = applied.passes.on_source(program.source)
    first = _KERNEL.search(source)
    return _chosen(source[first.start() if first else 0 :].replace('extern "C"', "extern"), lines)


_KERNEL = re.compile(r'^extern "C" __global__.*\{', re.MULTILINE)
"""Where the first kernel begins that is more than declared."""

_VIEWS: dict[View, Callable[[Applied, Target, str], str]] = {
    View.PROGRAM: _program,
    View.LOWERED: _lowered,
    View.ASSEMBLY: _assembly,
    View.CUDA: _cuda,
}


_SAYS_NOTHING = re.compile(
    r"T\.func_attr|T\.s?block_attr|T\.reads|T\.writes|with T\.s?block\(\"root\"\)|^\s*# "  # what is there anyway
    r"|\.view\(|_1 = T\.decl_buffer\(.*data=(?:a|b|out)\.data"  # an argument as a flat buffer
)


def _script(function: Any) -> str:
    """The body of a function as TVM prints it, without attributes and declarations that say nothing."""
    _, _, body = function.script(show_meta=False).partition("def ")
    kept = [re.sub(r", annotations={.*?}", "", x) for x in body.splitlines()[1:] if not _SAYS_NOTHING.search(x)]
    indent = min(len(line) - len(line.lstrip()) for line in kept if line.strip())
    return "\n".join(line[indent:] for line in kept)


def _chosen(text: str, lines: str) -> str:
    """The lines of a source that match, without their indentation."""
    return "\n".join(line.strip().replace("\t", " ") for line in text.splitlines() if re.search(lines, line))
