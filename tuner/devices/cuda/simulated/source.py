"""CUDA source as a host compiler takes it: shared memory, launch bounds and PTX in words that `native/include` has.

The source is that of TVM's code generator, or written like it: kernels are `extern "C" __global__ void NAME(...)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class Untranslatable(ValueError):
    """The source uses what the simulated GPU does not know; the message names it."""


@dataclass(frozen=True)
class Kernel:
    """A kernel of a source: where its body begins and ends, and the threads that its launch bounds allow."""

    name: str
    begin: int
    end: int
    max_threads: int


_KERNEL = re.compile(
    r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\(\s*(\d+)[^)]*\)\s*)?(\w+)\s*\(([^)]*)\)\s*\{'
)
_DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:(?:__align__|alignas)\(\d+\)\s*)?([\w\s]*?)(\w+)\s*\[\s*\]\s*;")
_ARRAY = re.compile(
    r"__shared__\s+((?:(?:alignas|__align__)\(\d+\))?)\s*([\w:]+(?:\s+(?:char|short|int|long))*)\s+(\w+)\s*\[([^\]]+)\]\s*;"
)
_STATIC = re.compile(r"__shared__\s+((?:alignas|__align__)\(\d+\))?")
_ASM = re.compile(r"\b(?:asm|__asm__)\s*(?:volatile|__volatile__)?\s*\(")
_OPERAND = re.compile(r'^"[=+]?[a-z]"\s*\((.*)\)$', re.DOTALL)
_ARGUMENT = re.compile(r"%(\d+)|\b(\d+)\b")

_MMA = {
    "m16n8k8.row.col.f32.f16.f16.f32": "SimtF16, 8, float",
    "m16n8k8.row.col.f32.bf16.bf16.f32": "SimtBf16, 8, float",
    "m16n8k16.row.col.f16.f16.f16.f16": "SimtF16, 16",
    "m16n8k16.row.col.f32.f16.f16.f32": "SimtF16, 16, float",
    "m16n8k16.row.col.f32.bf16.bf16.f32": "SimtBf16, 16, float",
    "m16n8k16.row.col.s32.s8.s8.s32": "SimtS8, 16, int",
    "m16n8k32.row.col.s32.s8.s8.s32": "SimtS8, 32, int",
    "m16n8k32.row.col.f32.e4m3.e4m3.f32": "SimtE4m3, 32, float",
}

PTX: Mapping[str, str] = {
    "cp.async.ca.shared.global": "ptx_cp_async",
    "cp.async.cg.shared.global": "ptx_cp_async",
    "cp.async.commit_group": "ptx_cp_async_commit_group",
    "cp.async.wait_group": "ptx_cp_async_wait_group",
    "cp.async.wait_all": "ptx_cp_async_wait_all",
    "dp4a.u32.s32": "ptx_dp4a_u32_s32",
    "dp4a.s32.u32": "ptx_dp4a_s32_u32",
    "mov.u32.laneid": "ptx_laneid",
    **{f"mma.sync.aligned.{shape}": f"ptx_mma<{arguments}>" for shape, arguments in _MMA.items()},
    **{
        f"ldmatrix.sync.aligned.m8n8.x{count}{layout}.shared.b16": f"ptx_ldmatrix<{count}, {transposed}>"
        for count in (1, 2, 4)
        for layout, transposed in (("", "false"), (".trans", "true"))
    },
}
"""The instructions that `native/include/ptx.h` has, and their functions there. `.L2::128B` and its like are hints."""

_GUARDED_COPY = re.compile(
    r"\{ \.reg \.pred p; setp\.eq\.u32 p, %3, 1; @p cp\.async\.c[ag]\.shared\.global(?:\.L2::\w+)? "
    r"\[%0\], \[%1\], %2; @!p st\.shared(?:\.v[24])?\.u32 \[%0\], \{([%\d, ]+)\}; \}"
)
"""An asynchronous copy where a predicate holds, and a plain store of other words where it does not."""

_MAX_THREADS = 1024


def kernels(source: str) -> list[Kernel]:
    """The kernels of a source, in its order."""
    return [
        Kernel(m[2], m.end(), _closing(source, m.end() - 1), int(m[1] or _MAX_THREADS))
        for m in _KERNEL.finditer(source)
    ]


def translated(source: str, seconds: Mapping[str, float], registers: Mapping[str, int]) -> str:
    """The source for a host compiler with `native/include`, the table of its kernels at the end.

    `seconds` a launch of each kernel takes by an estimate, `registers` of a thread. Raises Untranslatable.
    """
    found = kernels(source)
    if not found:
        raise Untranslatable('no kernel: expected extern "C" __global__ void NAME(...)')
    parts, at, tables = [], 0, []
    for kernel in found:
        body = source[kernel.begin : kernel.end]
        shared = f"simt_shared_{kernel.name}"
        dynamic = _DYNAMIC.sub(r"\1* const \2 = (\1*)simt_dynamic_shared();", body)
        section = f'static __attribute__((section("{shared}")))'
        # as bytes: a host compiler would construct an array of halves at its first use
        arrays = _ARRAY.sub(
            rf"alignas(16) \1 {section} char \3_bytes[sizeof(\2) * (\4)]; \2* const \3 = (\2*)\3_bytes;", dynamic
        )
        static = _STATIC.sub(rf"\1 {section} ", arrays)
        parts += [source[at : kernel.begin], _INDICES, static]
        at = kernel.end
        bounds = (f"__start_{shared}", f"__stop_{shared}") if static != dynamic else ("nullptr", "nullptr")
        tables.append((kernel, bounds))
    text = _without_asm("".join([*parts, source[at:]]))
    return text + _table(tables, seconds, registers)


_INDICES = (
    " const SimtIndex threadIdx = simt_thread(), blockIdx = simt_block(), blockDim = simt_block_size(), "
    "gridDim = simt_grid_size(); (void)threadIdx, (void)blockIdx, (void)blockDim, (void)gridDim;"
)


def _table(
    tables: Sequence[tuple[Kernel, tuple[str, str]]], seconds: Mapping[str, float], registers: Mapping[str, int]
) -> str:
    lines = [""]
    for _, bounds in tables:
        lines += [f'extern "C" char {name}[] __attribute__((visibility("hidden")));' for name in bounds
                  if name != "nullptr"]  # fmt: skip
    lines += [f"SIMT_CALLER({kernel.name})" for kernel, _ in tables]
    lines.append("SimtKernel simt_kernels[] = {")
    for kernel, (begin, end) in tables:
        numbers = f"{kernel.max_threads}, {registers.get(kernel.name, 0)}, {seconds.get(kernel.name, 0.0)!r}"
        lines.append(f"  SIMT_KERNEL({kernel.name}, {begin}, {end}, {numbers}),")
    return "\n".join([*lines, "  {}", "};", ""])


def _without_asm(text: str) -> str:
    """Each statement in PTX as a call of its function."""
    parts, at = [], 0
    for match in _ASM.finditer(text):
        if match.start() < at:
            continue
        end = _closing(text, match.end() - 1)
        parts += [text[at : match.start()], _call(text[match.end() : end])]
        at = end + 1
    return "".join([*parts, text[at:]])


def _call(statement: str) -> str:
    sections = [section.strip() for section in _split(statement, ":")]
    words = " ".join("".join(re.findall(r'"([^"]*)"', sections[0])).replace("\\n", " ").replace("\\t", " ").split())
    operands = [_operand(o) for section in sections[1:3] for o in _split(section, ",") if o.strip()]
    if guarded := _GUARDED_COPY.fullmatch(words):
        stored = [operands[int(number)] for number in re.findall(r"%(\d+)", guarded[1])]
        return f"ptx_cp_async_where({', '.join([*operands[:4], *stored])})"
    opcode, _, rest = words.rstrip("; ").partition(" ")
    if rest == "%0, %%laneid":
        opcode, rest = f"{opcode}.laneid", "%0"
    plain = re.sub(r"\.L2::\w+", "", opcode)
    if plain not in PTX:
        raise Untranslatable(f"the simulated GPU does not know the PTX instruction {words[:80]!r}")
    named = _ARGUMENT.findall(rest)
    if any(int(number or 0) >= max(len(operands), 1) for number, _ in named):
        raise Untranslatable(f"an operand that is not there: {words[:80]!r}")
    arguments = [operands[int(number)] if number else literal for number, literal in named]
    return f"{PTX[plain]}({', '.join(arguments)})"


def _operand(text: str) -> str:
    matched = _OPERAND.match(text.strip())
    if matched is None:
        raise Untranslatable(f"an operand of PTX is not understood: {text.strip()[:80]!r}")
    return matched[1]


def _split(text: str, separator: str) -> list[str]:
    """The parts of a text between separators that stand outside brackets and strings; `::` is two separators."""
    parts, depth, quoted, start = [], 0, False, 0
    for i, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == separator and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def _closing(text: str, opening: int) -> int:
    """Where the bracket closes that opens at `opening`."""
    pairs = {"(": ")", "{": "}"}
    depth, quoted = 0, False
    for i in range(opening, len(text)):
        letter = text[i]
        if letter == '"':
            quoted = not quoted
        elif not quoted and letter == text[opening]:
            depth += 1
        elif not quoted and letter == pairs[text[opening]]:
            depth -= 1
            if depth == 0:
                return i
    raise Untranslatable("a bracket is not closed")
