"""`tuner scan`: a table of what is found; whatever a file is, an answer or one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("llvmlite", reason="the extra `llvm` is not installed")

from tuner import cli
from tuner.errors import ModelError
from tuner.importers.llvm_service import called, scan

PRODUCT = """void product(int n, float *A, float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float s = 0;
    for (int k = 0; k < n; k++) s += A[i * n + k] * B[k * n + j];
    C[i * n + j] = s;
  }
}
void smooth(int n, float *x) { for (int i = 1; i < n; i++) x[i] = (x[i - 1] + x[i]) / 2; }
"""


def test_a_line_for_each_loop_nest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "product.c"
    file.write_text(PRODUCT)
    assert cli.main(["scan", str(file)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "contraction" in shown[1] and "ik,kj->ij" in shown[1] and "A[?, n] float" in shown[1]
    assert "left alone" in shown[2] and "loop-carried" in shown[2] and " 8 " in shown[2]
    assert shown[3].startswith("1 of 2")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("bad.ll", b"define void @f( {", "line 1:18"),
        ("bad.ll", b"\x00\xff garbage", "line 1:"),
        ("bad.bc", b"not bitcode", "not LLVM bitcode"),
        ("bad.bc", b"BC\xc0\xde" + b"\x07" * 40, "bad.bc"),
        ("bad.c", b"void f( { }", "error:"),
        ("bad.mlir", b"func.func @f(%x: memref<4xf32>) {\n  memref.lod\n}", "Operation memref.lod is not"),
        ("bad.mlir", b"\x00\xff", "line 1:"),
        ("bad.txt", b"", "neither C, C++, LLVM IR nor MLIR"),
    ],
)
def test_what_cannot_be_read_is_one_error(
    name: str, content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert cli.main(["scan", str(file)]) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert "Traceback" not in shown


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["scan", str(tmp_path / "none.c")]) == 2
    assert "none.c: No such file" in capsys.readouterr().err


def test_an_empty_module_has_no_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "empty.ll"
    file.write_text("")
    assert cli.main(["scan", str(file)]) == 0
    assert "0 of 0" in capsys.readouterr().out


MLIR = """func.func @product(%A: memref<?x?xf32>, %B: memref<?x?xf32>, %C: memref<?x?xf32>) {
  linalg.matmul ins(%A, %B : memref<?x?xf32>, memref<?x?xf32>) outs(%C : memref<?x?xf32>)
  return
}
func.func @half(%x: memref<4xf16>) {
  return
}
"""


def test_mlir_is_scanned_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("xdsl", reason="the extra `mlir` is not installed")
    file = tmp_path / "product.mlir"
    file.write_text(MLIR)
    assert cli.main(["scan", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "contraction" in shown and "ik,kj->ij" in shown and "A[?, A_1] float" in shown
    assert "a value of the type f16" in shown
    assert cli.main(["scan", str(file), "--emit", "mlir"]) == 0
    shown = capsys.readouterr().out
    assert "linalg.generic" in shown and "// half, line 5 is left out: type" in shown


CPP = """namespace inner { void scale(int n, float *x) { for (int i = 0; i < n; i++) x[i] *= 2; } }
void scale(int n, float *x) { for (int i = 0; i < n; i++) x[i] *= 3; }
void twice(int n, float *x) { for (int i = 0; i < n; i++) x[i] *= 2; }
void twice(int n, double *x) { for (int i = 0; i < n; i++) x[i] *= 2; }
template <typename T> void plus(int n, T *x) { for (int i = 0; i < n; i++) x[i] += 1; }
template void plus<float>(int, float *);
"""


def test_cpp_is_read_and_its_functions_have_their_plain_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scale.cpp"
    file.write_text(CPP)
    assert cli.main(["scan", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "_Z5scaleiPf" in shown and "_ZN5inner5scaleEiPf" in shown and shown.count("elementwise") == 5
    reply = called(file, "raise", function="scale", sizes={"n": 8}, allow_reassociation=False)
    assert reply["c"]["function"] == "_Z5scaleiPf"
    with pytest.raises(ModelError, match="several of this name"):
        called(file, "raise", function="twice", sizes={"n": 8}, allow_reassociation=False)


REFUSED = {
    "static": (
        "static void f(int n, float *x) {LOOP} void g(int n, float *x) { f(n, x); }",
        {"n": 8},
        "static function",
    ),
    "a size of more bits": ("void f(int n, float *x) {LOOP}", {"n": 1 << 31}, "no number of 32 bits"),
    "volatile": ("void f(int n, volatile float *x) {LOOP}", {"n": 8}, "volatile"),
    "assembly": (
        'void f(int n, float *x) { for (int i = 0; i < n; i++) { __asm__(""); x[i] = 2; } }',
        {"n": 8},
        "call",
    ),
    "varargs": ("void f(int n, float *x, ...) {LOOP}", {"n": 8}, "variable number"),
    "a structure": ("struct s { long a[9]; }; void f(int n, float *x, struct s y) {LOOP}", {"n": 8}, "by value"),
    "a short counter": ("void f(short n, float *x) {LOOP}", {"n": 8}, "16 bits"),
}
LOOP = " for (int i = 0; i < n; i++) x[i] *= 2; "


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_put_back_is_refused_before_anything_is_tuned(name: str, tmp_path: Path) -> None:
    code, sizes, words = REFUSED[name]
    file = tmp_path / "code.c"
    file.write_text(code.replace("LOOP", LOOP))
    try:
        reply = called(file, "raise", function="f", sizes=sizes, allow_reassociation=False)
    except ModelError as error:
        reply = {"left_alone": str(error)}
    assert words in reply["left_alone"]


def test_openmp_and_restrict_and_debug_information_make_no_difference(tmp_path: Path) -> None:
    file = tmp_path / "code.c"
    file.write_text(
        "void f(int n, float *restrict x) {\n#pragma omp parallel for simd\n" + LOOP.strip() + "\n}\n"
        "float index(int n, float *x) { float s = 0; for (int i = 0; i < n; i++) s += x[i]; return s; }\n"
    )
    assert [(f["function"], f["pattern"]) for f in scan(file)] == [("f", "elementwise"), ("index", "reduction")]
