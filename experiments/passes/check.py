"""Is what a pass makes of random programs right, and would a wrong pass be seen?

    python experiments/passes/check.py results/<machine>/passes_check.json     # 300 programs a pass: 30 min
    python experiments/passes/check.py /tmp/check.json --programs 20 --passes threads,vector_math

Each pass is stored as soon as it is checked. A run goes on with the passes that the file lacks; those that are named
are checked again.

Each program is of a random family with random extents (`families.py`: odd, prime, one, and empty ones), scheduled by a
random candidate of its design space. The pass is applied with one of its settings, the kernel is built as the builder
builds it, and its output is compared with numpy's in float64. A refused setting counts for nothing, and so does a
schedule that is wrong without the pass, too (TVM's own rules make some, of several stages). Memory that a kernel takes
for itself is filled with large numbers, so that what it never wrote does not look right.

A pass that rewrites the function itself, or makes calls of our own functions (`tensorize`), is sabotaged as well: in
what it has made, one thing is wrong (a loop ends one
step early, a constant differs, a sum is a difference). A sabotage counts as seen where the output is not right any
more; some change nothing (the last element of a maximum). What the other passes do is TVM's, LLVM's or the CUDA
compiler's: they are switches, in which there is nothing of ours to sabotage. CUDA's switches act on code that needs a
GPU to run.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import tvm
import tvm_ffi
from numpy.typing import NDArray
from tvm import tirx
from tvm.target import Target

from experiments.common import ScriptFailed, cpu_target, give_result, run_script, write_json
from experiments.passes.families import FAMILIES, workload
from kernels import reference
from kernels.dots import imported
from kernels.lowering import nodes
from kernels.passes import PASSES, Applied, PassConfig
from kernels.passes.base import Pass, Place
from kernels.passes.tensorize import Tensorize
from kernels.passes.thread_share import ThreadShare, levels
from kernels.space import Candidate, InvalidCandidate, TraceApplier, generate
from kernels.tensors import TensorSpec, seeded_inputs

Array = NDArray[Any]

_EMPTY_SHARE = 0.05
_DRAWS = 60
"""Programs drawn for each that is wanted, at most: a pass may refuse most."""

_BEFORE = {"balance": "bounds{on=1}"}
"""What else is on where a pass is checked: threads have uneven work after it."""

_UNWRITTEN = 1 << 30
"""What integer outputs hold before."""

_SCHEDULES = 3
"""Programs drawn of one design space: making the space takes as long as building one."""


@dataclass
class Checked:
    """What was found of a pass. `wrong` has a sentence for each program with a wrong output."""

    programs: int = 0
    refused: int = 0
    wrong_without: int = 0
    families: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    sabotaged: int = 0
    seen: int = 0
    unseen: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Program:
    """A scheduled function with its inputs and the outputs that it must give."""

    name: str
    applier: TraceApplier
    candidate: Candidate
    inputs: list[Array]
    output: TensorSpec
    expected: Array
    dtype: str
    reduction: int

    def scheduled(self, passes: PassConfig) -> tirx.PrimFunc:
        """The function, with what of a configuration acts on the schedule. Raises InvalidCandidate."""
        return self.applier.apply(dataclasses.replace(self.candidate, passes=passes)).mod["main"]


def searched_on_cpu() -> list[str]:
    """The passes that have more than one setting on a CPU."""
    return [name for name, kind in PASSES.items() if kind is ThreadShare or len(kind.variants("llvm")) > 1]


def check(name: str, programs: int, seed: int, target: Target, names: Sequence[str] = tuple(FAMILIES)) -> Checked:
    """Check a pass on so many random programs of families that it does not refuse."""
    rng, found = np.random.default_rng([seed, *name.encode()]), Checked()
    for _ in range(programs * _DRAWS):
        family = str(rng.choice(names))
        for program in drawn(family, rng, target, PASSES[name]):
            if found.programs == programs:
                return found
            if _check(program, PASSES[name], rng, target, found):
                found.families[family] += 1
    return found


def drawn(family: str, rng: np.random.Generator, target: Target, kind: type[Pass]) -> Iterator[Program]:
    """A random program of a family under random schedules; none where the extents that were drawn have no program, or
    the pass does not concern it."""
    extents = list(FAMILIES[family].drawn(rng))
    if rng.random() < _EMPTY_SHARE:
        extents[int(rng.integers(len(extents)))] = 0
    try:
        made = workload(family, tuple(extents))
    except (ValueError, RuntimeError):  # no such program: pooling without pixels
        return
    function = made.module()["main"]
    if _sums_nothing(function) or not kind.concerns(made.module()):
        return
    space = generate(made, target)
    applier = TraceApplier(made, space, target)
    inputs = seeded_inputs(made.inputs, int(rng.integers(1 << 30)))
    [expected] = reference.evaluate(function, inputs)
    dtype, reduction = reference.working_dtype(function), reference.reduction_length(function)
    for _ in range(_SCHEDULES):
        candidate = space.sample(rng)
        name = f"{made.name} {candidate.to_text()}"
        yield Program(name, applier, candidate, inputs, made.outputs[0], expected, dtype, reduction)


def _sums_nothing(function: tirx.PrimFunc) -> bool:
    """Whether a reduction has no steps: TVM leaves its output as it was, scheduled or not."""
    axes = [v for b in nodes(function.body, tvm.s_tir.SBlock) for v in b.iter_vars]
    return any(int(v.iter_type) == tirx.IterVar.CommReduce and int(v.dom.extent) == 0 for v in axes)


def chosen(kind: type[Pass], function: tirx.PrimFunc, rng: np.random.Generator) -> Pass | None:
    """A random setting of a pass that is not its default; None where it has none for the function."""
    settings: Sequence[Pass] = [setting for setting in kind.variants("llvm") if setting != kind()]
    if kind is ThreadShare:
        settings = [ThreadShare(n, count) for count in (2, 3) for n in levels(function, count)]
    return settings[int(rng.integers(len(settings)))] if settings else None


def _check(program: Program, kind: type[Pass], rng: np.random.Generator, target: Target, found: Checked) -> bool:
    """Whether a setting of the pass could be applied to a program, which was then checked."""
    others = PassConfig.from_text(_BEFORE.get(kind.name, ""))
    try:
        before = program.scheduled(others)
        setting = chosen(kind, before, rng)
        if setting is None:
            return False
        function = program.scheduled(others.replace(setting))
    except InvalidCandidate:
        return False
    before = others.applied(before, target).function
    applied = others.replace(setting).applied(function, target)
    if setting.to_text() in applied.refused:
        found.refused += 1
        return False
    if reason := fault(program, applied.function, applied.passes, target):
        if fault(program, before, others, target):
            found.wrong_without += 1
            return False
        found.wrong.append(f"{setting.to_text()}: {program.name}: {reason}")
    found.programs += 1
    if not reason and (Place.FUNCTION in setting.places() or kind is Tensorize):
        _sabotage(program, before, applied, rng, target, found)
    return True


def _sabotage(
    program: Program, before: tirx.PrimFunc, applied: Applied, rng: np.random.Generator, target: Target, found: Checked
) -> None:
    mutants = list(sabotages(before, applied.function))
    if mutants and program.expected.size:
        what, make = mutants[int(rng.integers(len(mutants)))]
        found.sabotaged += 1
        if fault(program, make(), applied.passes, target):
            found.seen += 1
        else:
            found.unseen.append(f"{what}: {applied.passes.to_text()}: {program.name}")


def fault(program: Program, function: tirx.PrimFunc, passes: PassConfig, target: Target) -> str:
    """What is wrong with a kernel that is built as the builder builds it; "" where nothing is."""
    own = Target(passes.target_options(dict(target.export())))
    options = {**passes.context_options(), "tirx.disable_assert": True}
    try:
        with own, tvm.transform.PassContext(opt_level=3, config=options):
            module = tvm.IRModule({"main": imported(function).with_attr("global_symbol", "main")})
            library = tvm.compile(module, target=own)
    except (RuntimeError, ValueError, TypeError) as error:
        return f"not built: {(str(error).strip() or type(error).__name__).splitlines()[-1][:200]}"
    spec = program.output
    output = tvm.runtime.tensor(np.full(spec.shape, np.nan if spec.dtype == "float32" else _UNWRITTEN, spec.dtype))
    library["main"](*map(tvm.runtime.tensor, program.inputs), output)
    right, _, _, reason = reference.compare(output.numpy(), program.expected, program.dtype, program.reduction)
    return "" if right else reason


# --- sabotage -----------------------------------------------------------------------------------------


def sabotages(before: tirx.PrimFunc, after: tirx.PrimFunc) -> Iterator[tuple[str, Callable[[], tirx.PrimFunc]]]:
    """Every way in which one of `_CHANGES` can be made to what a pass has added to a function: what, and the mutant."""
    for what, kind, change in _CHANGES:
        old = nodes(before.body, kind)
        for number, node in enumerate(nodes(after.body, kind)):
            if not any(node.same_as(known) for known in old) and change(node) is not None:
                yield what, functools.partial(_changed, after, kind, number, change)


def _changed(function: tirx.PrimFunc, kind: Any, number: int, change: Callable[[Any], Any]) -> tirx.PrimFunc:
    """The function with its `number`-th node of a kind changed."""
    met = 0

    def look(node: Any) -> Any:
        nonlocal met
        met += 1
        return change(node) if met == number + 1 else node

    return function.with_body(tvm_ffi.structural_map(function.body, (kind, look)))


def _shorter(loop: Any) -> Any:
    extent = getattr(loop.extent, "value", 1)
    if extent < 2:
        return None
    least = tirx.const(int(extent) - 1, str(loop.extent.ty.dtype))
    return tirx.For(loop.loop_var, loop.min, least, loop.kind, loop.body, annotations=dict(loop.annotations))


def _other_constant(constant: Any) -> Any:
    value = float(constant.value)
    return tirx.const(1.0 - value if abs(value) < 1e3 else 0.5, str(constant.ty.dtype))


def _difference(total: Any) -> Any:
    return total.a - total.b if "float" in str(total.ty.dtype) else None


_CHANGES: Sequence[tuple[str, Any, Callable[[Any], Any]]] = (
    ("a loop ends one step early", tirx.For, _shorter),
    ("a constant differs", tirx.FloatImm, _other_constant),
    ("a sum is a difference", tirx.Add, _difference),
)


# --- command ------------------------------------------------------------------------------------------


def result(checked: Checked) -> dict[str, Any]:
    return {**dataclasses.asdict(checked), "families": dict(checked.families)}


def summary(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A line a pass."""
    for name, row in found.items():
        seen = f", {row['seen']} of {row['sabotaged']} sabotages seen" if row["sabotaged"] else ""
        yield (
            f"{name:16} {row['programs']:4} programs, {len(row['wrong'])} wrong, {row['refused']} refused{seen}, "
            f"{row['wrong_without']} wrong without it"
        )


def kept(path: Path, seed: int, programs: int) -> dict[str, Any]:
    """The passes that a file has already, checked on the same programs; none where it has others."""
    if not path.exists():
        return {}
    stored = json.loads(path.read_text("utf-8"))
    same = (stored["seed"], stored["asked"]) == (seed, programs)
    return dict(stored["passes"]) if same else {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="where the result is written, as JSON")
    parser.add_argument("--programs", type=int, default=300, help="so many for each pass")
    parser.add_argument("--passes", default="", help="their names, by commas; else all that the file does not have")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        give_result(result(check(given.passes, given.programs, given.seed, cpu_target().tvm())))
        return 0
    found = kept(given.out, given.seed, given.programs)
    asked = given.passes.split(",") if given.passes else [name for name in searched_on_cpu() if name not in found]
    for name in asked:
        arguments = [str(given.out), "--programs", str(given.programs), "--passes", name, "--seed", str(given.seed)]
        try:
            found[name] = run_script(__file__, [*arguments, "--child"], {"MALLOC_PERTURB_": "128"})
        except ScriptFailed as error:  # a kernel that ends its process is a wrong kernel
            found[name] = result(Checked(wrong=[f"the process ended: {error}"]))
        print(*summary({name: found[name]}), flush=True)
        write_json(given.out, {"seed": given.seed, "asked": given.programs, "passes": found})
    return int(any(row["wrong"] for row in found.values()))


if __name__ == "__main__":
    sys.exit(main())
