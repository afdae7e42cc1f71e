"""What is recognized, and what is left alone and why: generated variants and near misses, at several levels."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("llvmlite", reason="the extra `llvm` is not installed")
pytest.importorskip("islpy", reason="the extra `llvm` is not installed")

from kernels.raising import ir
from kernels.raising.findings import Analysis, Finding, analyse
from tests.kernels.raising.near_misses import SOURCE, traps
from tests.kernels.raising.variants import source, variants
from tuner.errors import MissingPackage
from tuner.importers.c_source import ir_of

LEVELS = ("-O0", "-O1", "-O2")
SAMPLE = 27
"""Every so manieth variant is in the suite; experiments/raising takes them all."""


def analyses(path: Path, level: str) -> dict[str, Analysis]:
    try:
        content = ir_of(path, level)
    except MissingPackage as error:
        pytest.skip(str(error))
    return {function.name: analyse(function) for function in ir.read(content)}


def findings(code: str, folder: Path, level: str = "-O0") -> list[Finding]:
    file = folder / "code.c"
    file.write_text("#include <math.h>\n" + code)
    return [finding for analysis in analyses(file, level).values() for finding in analysis.findings]


@pytest.mark.parametrize("level", LEVELS)
def test_near_misses_are_left_alone_for_the_right_reason(level: str) -> None:
    wanted = traps()
    assert len(wanted) >= 90
    found = analyses(SOURCE, level)
    wrong = []
    for name, trap in wanted.items():
        if trap.plain and level != "-O0":
            continue
        reasons = {f.reason for f in found[name].findings if f.reason}
        patterns = {f.pattern for f in found[name].findings if f.pattern}
        if not reasons & trap.reasons or patterns - trap.but:
            wrong.append((name, sorted(reasons), sorted(patterns)))
    assert wrong == []


def test_a_finding_does_not_depend_on_where_objects_lie(tmp_path: Path) -> None:
    code = (
        "void clipped(int n, float *x, float *y) "
        "{ for (int i = 0; i < n; i++) y[i] = x[i] > 1 ? 1 : x[i] < -1 ? -1 : x[i]; }"
    )
    found = [[f.pattern for f in findings(code, tmp_path)] for _ in range(10)]
    assert found == [["elementwise"]] * 10


@pytest.mark.parametrize(("level", "first"), [("-O0", 0), ("-O1", 9), ("-O2", 18)])
def test_variants_are_what_they_are(level: str, first: int, tmp_path: Path) -> None:
    some = variants()[first::SAMPLE]
    assert len(some) >= 20
    file = tmp_path / "variants.c"
    file.write_text(source(some))
    found = analyses(file, level)
    wrong, missed = [], []
    for variant in some:
        patterns = {f.pattern for f in found[variant.name].findings if f.pattern}
        reasons = {f.reason for f in found[variant.name].findings if f.reason}
        if patterns - variant.patterns:
            wrong.append((variant.name, patterns))
        elif reasons or patterns != variant.patterns:
            missed.append((variant.name, patterns, reasons))
    assert wrong == []
    assert len(missed) <= 1, missed


def test_all_variants_have_names_of_their_own() -> None:
    names = [variant.name for variant in variants()]
    assert len(names) == len(set(names)) >= 500


def test_index_maps_lines_and_shapes(tmp_path: Path) -> None:
    code = """
void product(int n, int m, float *A, float *B, float *C) {
  for (int i = 0; i < n; i++)
    for (int j = 0; j < m; j++) {
      float s = 0;
      for (int k = 0; k < n; k++)
        s += A[k * n + i] * B[j * n + k];
      C[i * m + j] = s;
    }
}
"""
    [found] = findings(code, tmp_path)
    assert (found.pattern, found.detail) == ("contraction", "ki,jk->ij")
    assert set(found.lines) >= {8, 9}
    assert found.shapes == {"A": "[?, n] float", "B": "[?, n] float", "C": "[?, m] float"}
    assert not found.reordered  # no fast-math flags


def test_fast_math_flags_allow_another_order(tmp_path: Path) -> None:
    file = tmp_path / "dot.c"
    file.write_text(
        "#pragma clang fp reassociate(on)\n"
        "float dot(int n, float *x, float *y) {\n"
        "  float s = 0; for (int i = 0; i < n; i++) s += x[i] * y[i]; return s; }\n"
    )
    [found] = analyses(file, "-O0")["dot"].findings
    assert found.pattern == "contraction"
    assert found.reordered


def test_a_triangle_has_its_predicate(tmp_path: Path) -> None:
    code = """
void lower(int n, double *A, double *x, double *y) {
  for (int i = 0; i < n; i++) { double s = 0; for (int k = 0; k < i; k++) s += A[i * n + k] * x[k]; y[i] = s; }
}
"""
    [found] = findings(code, tmp_path)
    assert (found.pattern, found.detail) == ("contraction", "ij,j->i")
    assert "c1 < c0" in found.predicate


def test_rows_longer_than_used_are_a_requirement(tmp_path: Path) -> None:
    code = """
void rows(int m, int n, int lda, float *A, float *y) {
  for (int i = 0; i < m; i++) { float s = 0; for (int j = 0; j < n; j++) s += A[i * lda + j]; y[i] = s; }
}
"""
    file = tmp_path / "code.c"
    file.write_text(code)
    analysis = analyses(file, "-O0")["rows"]
    [found] = analysis.findings
    assert found.pattern == "reduction"
    assert found.shapes["A"] == "[?, lda] float"
    assert any("lda" in need and "n" in need for need in analysis.requirements)


def test_unsigned_products_must_not_wrap(tmp_path: Path) -> None:
    code = """
void rows(unsigned m, unsigned n, float *A, float *y) {
  for (unsigned i = 0; i < m; i++) { float s = 0; for (unsigned j = 0; j < n; j++) s += A[i * n + j]; y[i] = s; }
}
"""
    file = tmp_path / "code.c"
    file.write_text(code)
    analysis = analyses(file, "-O0")["rows"]
    assert [f.pattern for f in analysis.findings] == ["reduction"]
    kinds = [r.kind for r in analysis.accesses.trace.definitions.requirements] if analysis.accesses else []
    assert "wrap" in kinds


def test_what_is_left_alone_does_not_hide_what_is_not(tmp_path: Path) -> None:
    code = """
void two(int n, float *x, float *y) {
  for (int i = 1; i < n; i++) x[i] = x[i - 1] * 0.5f + 1;
  for (int i = 0; i < n; i++) y[i] = 2 * x[i];
}
"""
    found = findings(code, tmp_path)
    assert sorted((f.pattern, f.reason) for f in found) == [("", "loop-carried"), ("elementwise", "")]


def test_arrays_that_must_lie_apart_are_named(tmp_path: Path) -> None:
    file = tmp_path / "code.c"
    file.write_text(
        "void add(int n, float *x, float *y) { for (int i = 0; i < n; i++) y[i] = 2 * x[i]; }\n"
        "void apart(int n, float *restrict x, float *restrict y) { for (int i = 0; i < n; i++) y[i] = 2 * x[i]; }\n"
    )
    found = analyses(file, "-O0")
    assert "y does not overlap x" in found["add"].requirements
    assert found["apart"].requirements == []


def test_nothing_is_joined_across_what_is_not_known(tmp_path: Path) -> None:
    code = """
void touch(float *x);
void sums(int m, int n, float *A, float *y) {
  for (int i = 0; i < m; i++) y[i] = 0;
  touch(y);
  for (int i = 0; i < m; i++) for (int j = 0; j < n; j++) y[i] += A[i * n + j];
}
"""
    file = tmp_path / "code.c"
    file.write_text(code)
    analysis = analyses(file, "-O0")["sums"]
    assert [f.pattern for f in analysis.findings] == ["fill", "reduction"]
    assert analysis.problem is not None
    assert [op.start for op in analysis.operations if op.combine] == [None]
