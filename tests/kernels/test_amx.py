"""AMX: offered where a CPU has it, in the code that LLVM makes, and right where the instructions are emulated."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import tirx
from tvm.target import Target

from kernels import amx
from kernels.dots import executed, imported
from kernels.passes.tensorize import Tensorize
from kernels.reference import Expectation, evaluate, reduction_length, rounding, working_dtype
from kernels.space import Candidate, TraceApplier, generate
from kernels.space.constraints import worth_trying
from kernels.space.dots import TILE_RULE
from kernels.workload import Workload, seeded_inputs
from tests.kernels.dot_targets import with_dots
from tests.kernels.programs import llvm
from tests.kernels.test_dots import BF16, BYTES, _dot, product
from tuner.devices.cpu.codegen import c_compiler

WITH_TILES = Target({"kind": "llvm", "mcpu": "sapphirerapids", "num-cores": 2})
"""The first CPU with AMX; whatever is compiled for it is only read."""

SHAPES = [(BF16, 40, 80, 64, False), (BF16, 33, 79, 32, True), (BYTES, 48, 256, 64, False), (BYTES, 5, 13, 48, True)]
"""Instruction, rows, depth, columns, and whether the kernel copies its left operand."""


def _candidates(workload: Workload) -> Iterator[tuple[Candidate, tirx.PrimFunc]]:
    """The first candidate with tile products, two random ones, and their programs."""
    space = generate(workload, WITH_TILES)
    [number] = [sketch.number for sketch in space.sketches if sketch.rule == TILE_RULE]
    rng = np.random.default_rng(0)
    on = space.initial_candidates()[0].passes.replace(Tensorize(True))
    first = next(c for c in space.initial_candidates() if c.sketch == number)
    drawn = [c for c in (space.sample(rng) for _ in range(40)) if c.sketch == number][:2]
    applier = TraceApplier(workload, space, WITH_TILES)
    for candidate in [first, *(Candidate(number, c.decisions, on) for c in drawn)]:
        applied = candidate.passes.applied(applier.apply(candidate).mod["main"], WITH_TILES)
        yield candidate, applied.function


@pytest.mark.parametrize(
    ("mcpu", "names"),
    [("znver5", set()), ("cooperlake", set()), ("sapphirerapids", {"tdpbf16ps", "tdpbusd"})],
)
def test_tile_products_are_offered_where_the_cpu_has_them(mcpu: str, names: set[str]) -> None:
    assert {tile.name for tile in amx.offered(Target({"kind": "llvm", "mcpu": mcpu}))} == names
    masked = Target({"kind": "llvm", "mcpu": "sapphirerapids", "mattr": ["-amx-tile"]})
    assert amx.offered(masked) == amx.offered(Target("opencl")) == (), "features that a hypervisor hides are not used"


def test_no_other_cpu_has_a_sketch_or_a_pass_for_them() -> None:
    workload = product(_dot(BF16), 16, 32, 32)
    prime = product(_dot(BF16), 17, 32, 32)
    for other, target in ((workload, with_dots()), (prime, WITH_TILES)):
        assert TILE_RULE not in {sketch.rule for sketch in generate(other, target).sketches}
    space = generate(workload, WITH_TILES)
    [number] = [sketch.number for sketch in space.sketches if sketch.rule == TILE_RULE]
    candidate = next(c for c in space.initial_candidates() if c.sketch == number)
    marked = TraceApplier(workload, space, with_dots()).apply(candidate).mod["main"]
    assert amx.called(marked) == [], "the setting is refused there, and the block is a vector"


@pytest.mark.parametrize("rows", [1, 5, 16, 17, 18, 33, 40, 64])
def test_rows_are_cut_into_equal_tiles(rows: int) -> None:
    count = amx.tiles_of(rows)
    assert worth_trying(TILE_RULE, 0, 64, (1, 1, rows)) == (count is not None)
    if count is not None:
        assert rows % count == 0 and rows // count <= amx.ROWS and count <= amx.MOST_TILES
    assert (count is None) == (rows in (1, 17)), "vectors compute one row; 17 has no such divisor"


@pytest.mark.parametrize("shape", SHAPES)
def test_the_code_has_the_instructions_after_leave_was_asked(shape: tuple[str, int, int, int, bool]) -> None:
    name, *extents = shape
    _, function = next(_candidates(product(_dot(name), *extents)))  # type: ignore[arg-type]
    [symbol] = amx.called(function)
    library = tvm.compile(tvm.IRModule({"main": imported(function)}), target=WITH_TILES)
    code = str(library.mod.inspect_source("asm"))
    found = amx.parsed(symbol)
    assert found is not None
    tile, rows, words = found
    parts = (words >= amx.WORDS) + (words % amx.WORDS > 0)  # a loop that LLVM may unroll, and what is left
    counts = {key: len(re.findall(rf"\b{key}\b", code)) for key in ("tilestored", tile.name, "ldtilecfg", "syscall")}
    assert counts["tilestored"] == amx.tiles_of(rows)
    assert counts[tile.name] >= parts * counts["tilestored"]
    assert counts["ldtilecfg"] == counts["syscall"] == 1
    assert "%tmm0" in code and symbol not in code, "and no call"
    asked = code.index("cmpb\t$0, amx_asked(%rip)")
    assert re.search(r"\bj(n?e)\b", code[asked:]), "what is asked once is not asked again"
    assert executed(function.body) >= parts * counts["tilestored"]


@pytest.fixture(scope="module")
def emulation(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The instructions as functions of this process."""
    library = tmp_path_factory.mktemp("amx") / "emulated.so"
    source = Path(__file__).with_name("emulated_amx.c")
    subprocess.run([c_compiler(), "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)


def _emulated(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """A program whose functions call the emulation; all else of them is as it is."""
    text = amx.definitions(function)
    for own, other in (("x86_amx", "ptr"), ("@llvm.x86.", "@emulated_"), (".internal", "")):
        text = text.replace(own, other)
    return function.with_body(tirx.AttrStmt(tirx.const(0, "int32"), "pragma_import_llvm", text, function.body))


@pytest.mark.parametrize("shape", SHAPES)
def test_candidates_are_right(shape: tuple[str, int, int, int, bool], emulation: ctypes.CDLL) -> None:
    name, *extents = shape
    workload = product(_dot(name), *extents)  # type: ignore[arg-type]
    inputs, program = seeded_inputs(workload.inputs, 0), workload.module()["main"]
    [expected] = evaluate(program, inputs)
    [spec] = workload.outputs
    right = Expectation(expected, working_dtype(program), reduction_length(program), rounding(program)[0])
    for candidate, function in _candidates(workload):
        library = tvm.compile(tvm.IRModule({"main": _emulated(function)}), target=llvm())
        out = tvm.runtime.tensor(np.full(spec.shape, 77, spec.dtype))
        library["main"](*[tvm.runtime.tensor(array) for array in inputs], out)
        ok, _, _, reason = right.check(out.numpy())
        assert ok, f"{candidate.to_text()}: {reason}"
