"""What is raised is written as linalg that others read, and raising that again gives the same: raise(lower(x)) == x."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("xdsl", reason="the extra `mlir` is not installed")
pytest.importorskip("llvmlite", reason="the extra `llvm` is not installed")

from kernels.raising import ir
from kernels.raising.findings import Analysis, analyse
from kernels.raising.mlir.emission import emitted
from kernels.raising.mlir.lowering import lowered
from kernels.raising.reasons import Abstained
from tests.kernels.raising.mlir.modules import FORMS
from tuner.errors import MissingPackage
from tuner.importers.c_source import ir_of

SOURCE = Path(__file__).parents[1] / "kernels.c"


def found(analysis: Analysis) -> list[tuple[str, str]]:
    """Patterns with their index maps, counters without their names. What an operation leaves is copied along."""
    return [
        (f.pattern or f.reason, re.sub(r"\bc\d+\b", "c", f.detail)) for f in analysis.findings if f.pattern != "copy"
    ]


def read_again(text: str) -> Analysis:
    [function] = ir.read(lowered(text).text)
    return analyse(function)


@pytest.fixture(scope="module")
def every() -> list[Analysis]:
    """Of the functions of C."""
    try:
        return [analyse(function) for function in ir.read(ir_of(SOURCE))]
    except MissingPackage as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def analyses(every: list[Analysis]) -> list[Analysis]:
    """Of those that linalg has operations for."""
    return [analysis for analysis in every if not _ordered(analysis)]


def _ordered(analysis: Analysis) -> bool:
    return any(op.fixed or op.steps or op.choice for op in analysis.operations)


def test_what_must_stay_in_order_is_refused_by_name(every: list[Analysis]) -> None:
    in_order = [analysis for analysis in every if _ordered(analysis)]
    assert in_order
    for analysis in in_order:
        with pytest.raises(Abstained, match="linalg has no operation for"):
            emitted(analysis)


def test_a_raised_function_is_raised_to_the_same_again(analyses: list[Analysis]) -> None:
    for analysis in analyses:
        again = read_again(emitted(analysis))
        assert again.problem is None
        assert found(again) == found(analysis), analysis.function.name


def test_another_reader_takes_what_is_written(analyses: list[Analysis]) -> None:
    mlir = pytest.importorskip("iree.compiler.ir", reason="IREE's compiler is not installed")
    forms = [read_again(form.text) for form in FORMS.values()]
    for analysis in [*analyses, *forms]:
        with mlir.Context() as context:
            context.allow_unregistered_dialects = False
            assert mlir.Module.parse(emitted(analysis)).operation.verify()


@st.composite
def generics(draw: st.DrawFn) -> str:
    """A linalg.generic: a reduction of a product, or a map, of operands with some of its counters each, in any
    order."""
    sizes = draw(st.lists(st.integers(2, 5), min_size=2, max_size=4))
    counters = range(len(sizes))
    kept = sorted(draw(st.sets(st.sampled_from(counters), min_size=1)))
    operands = draw(st.lists(st.permutations(counters), min_size=1, max_size=2))
    cut = [operand[: draw(st.integers(1, len(sizes)))] for operand in operands]
    cut[0] = operands[0]  # one that has all of them
    out = draw(st.permutations(kept))
    kind = draw(st.sampled_from(["f32", "f64", "i32"]))
    suffix = "i" if kind == "i32" else "f"
    dims = ", ".join(f"d{c}" for c in counters)
    maps = ", ".join(f"affine_map<({dims}) -> ({', '.join(f'd{c}' for c in some)})>" for some in [*cut, out])
    iterators = ", ".join('"parallel"' if c in kept else '"reduction"' for c in counters)
    types = [f"tensor<{''.join(f'{sizes[c]}x' for c in some)}{kind}>" for some in [*cut, out]]
    arguments = ", ".join(f"%x{k}: {t}" for k, t in enumerate(types))
    names = [f"%a{k}" for k in range(len(cut))]
    lines, value = [], names[0]
    for number, other in enumerate(names[1:]):
        lines.append(f"%p{number} = arith.mul{suffix} {value}, {other} : {kind}")
        value = f"%p{number}"
    if len(kept) < len(sizes):
        lines.append(f"%s = arith.add{suffix} %o, {value} : {kind}")
        value = "%s"
    block = ", ".join(f"{name}: {kind}" for name in [*names, "%o"])
    return f"""func.func @f({arguments}) -> {types[-1]} {{
  %r = linalg.generic {{indexing_maps = [{maps}], iterator_types = [{iterators}]}}
      ins({", ".join(f"%x{k}" for k in range(len(cut)))} : {", ".join(types[:-1])}) outs(%x{len(cut)} : {types[-1]}) {{
  ^bb0({block}):
    {"; ".join(lines).replace("; ", chr(10) + "    ")}
    linalg.yield {value} : {kind}
  }} -> {types[-1]}
  return %r : {types[-1]}
}}"""


@settings(max_examples=25, deadline=None)
@given(generics())
def test_raising_what_was_lowered_gives_the_same(text: str) -> None:
    first = read_again(text)
    assert first.problem is None
    second = read_again(emitted(first))
    assert found(second) == found(first)
    third = read_again(emitted(second))
    assert [*map(_shape, third.operations)] == [*map(_shape, second.operations)]


def _shape(op: object) -> tuple[object, ...]:
    """An operation without the names of its counters and arrays."""
    loops = list(getattr(op, "loops", ()))
    letters = dict(zip(loops, itertools.count(), strict=False))
    subscripts = [
        tuple(tuple(letters.get(s, s) for m, _ in p.terms for s in m) for p in e.subscripts)
        for e in (getattr(op, "target"), *getattr(op, "reads"))  # noqa: B009
    ]
    return getattr(op, "combine"), len(getattr(op, "reduced")), subscripts  # noqa: B009


def test_what_linalg_has_no_form_for_is_left_out(tmp_path: Path) -> None:
    """Results on a diagonal; results that end where a guard or the loop does; steps; results of calls."""
    (tmp_path / "odd.c").write_text("""
void diagonal(int n, float *A, float *B) {
  for (int i = n - 2; i > 0; i--) for (int j = i; j < n - 1; j++) if (i == 8) A[j * 24 + i] = B[(i + 1) * 24 + j];
}
void cut(int n, float *b, float *c) {
  for (int i = 1; i < n - 1; i++) { if (i < 8) b[i] = c[i - 1] + b[i]; b[i - 1] = c[i]; }
}
void steps(int n, int t, float *x) { for (int s = 0; s < t; s++) for (int i = 1; i < n; i++) x[i] = x[i - 1] + x[i]; }
void g(float *x);
void called(float *x) { g(x); }
""")
    try:
        functions = ir.read(ir_of(tmp_path / "odd.c"))
    except MissingPackage as error:
        pytest.skip(str(error))
    for function in functions:
        with pytest.raises(Abstained):
            emitted(analyse(function))
