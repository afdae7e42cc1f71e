"""MLIR is recognized and computes what it says; what is malformed is named with its place."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("xdsl", reason="the extra `mlir` is not installed")
pytest.importorskip("llvmlite", reason="the extra `llvm` is not installed")

from kernels.raising import ir
from kernels.raising.findings import analyse
from kernels.raising.mlir.lowering import lowered
from kernels.raising.reasons import MalformedIr
from tests.kernels.raising.mlir.modules import FORMS
from tuner.baselines.original import Original
from tuner.errors import MissingPackage
from tuner.importers.c_source import compiled, compiler


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All forms, each as a function of its name, compiled."""
    try:
        compiler()
    except MissingPackage as error:
        pytest.skip(str(error))
    here = tmp_path_factory.mktemp("forms")
    text = "\n".join(form.text.replace("@f(", f"@form_{name}(") for name, form in FORMS.items())
    (here / "forms.ll").write_text(lowered(text).text)
    flags = ["-O1", "-shared", "-fPIC", "-w", "-fno-sanitize=undefined", "-lm"]
    compiled(here / "forms.ll", here / "forms.so", flags)
    return here / "forms.so"


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_recognized(name: str) -> None:
    made = lowered(FORMS[name].text)
    assert not made.problems
    [function] = ir.read(made.text)
    analysis = analyse(function)
    assert analysis.problem is None
    assert {f.pattern for f in analysis.findings} == set(FORMS[name].patterns)
    assert all(f.lines and f.reordered for f in analysis.findings)


@pytest.mark.parametrize("name", FORMS)
def test_a_form_computes_what_it_says(name: str, library: Path) -> None:
    form = FORMS[name]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in form.shapes]
    wanted = form.wanted(*arrays)
    [function] = ir.read(lowered(form.text).text)
    arguments = [{"name": a.label, "type": a.type} for a in function.arguments]
    pointers = [position for position, a in enumerate(arguments) if a["type"] == "ptr"]
    numbers = [a["name"] for a in arguments if a["type"] == "i64"]
    output = {"position": pointers[-1], "shape": list(wanted.shape), "dtype": "float32"}
    c = {
        "function": f"form_{name}", "arguments": arguments, "result": "void", "outputs": [output],
        "inputs": [{"position": position} for position in pointers[: len(arrays)]],
        "sizes": dict(zip(numbers, form.dynamic, strict=True)),
    }  # fmt: skip
    original = Original(library, c, arrays)
    original.launch(1)
    np.testing.assert_allclose(original.outputs()[0], wanted, rtol=1e-5, atol=1e-5)


_MATMUL = FORMS["matmul"].text


_TRANSPOSE = """
func.func @f(%x: tensor<4x4xf32>, %y: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %r = linalg.transpose ins(%x : tensor<4x4xf32>) outs(%y : tensor<4x4xf32>) permutation = [1, 0]
  return %r : tensor<4x4xf32>
}
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_MATMUL.replace("linalg.matmul", "linalg.matmull"), "Operation linalg.matmull is not registered"),
        (_MATMUL.replace("ins(%x0, %x1 :", "ins(%x0, %q :"), "not defined"),
        (_MATMUL.replace("7x5xf32", "8x5xf32"), "line 5:1: linalg.matmul: operand 1 has the extent 8"),
        (_MATMUL.replace("%r :", "%c :"), "line 6:"),
        (_TRANSPOSE.replace("[1, 0]", "[0, 2]"), "permutation"),
        (_TRANSPOSE.replace("[1, 0]", "[0, 0]"), "permutation"),
        ("func.func @f(", "line 1:"),
        ("\0", "line 1:"),
        ("}" * 10, "line 1:1"),
        ("func.func @f() { " + "scf.execute_region { " * 2000, "line 1:"),
    ],
)
def test_what_is_malformed_is_named_with_its_place(text: str, words: str) -> None:
    with pytest.raises(MalformedIr) as raised:
        lowered(text)
    assert words in str(raised.value) or "nested too deeply" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("func.func @f(%x: memref<4xf16>) { return }", "type"),
        ("func.func @f(%x: memref<4xf32, strided<[?], offset: ?>>) { return }", "type"),
        ("func.func @f(%x: memref<4xf32>) -> memref<4xf32> { return %x : memref<4xf32> }", "type"),
        ("func.func private @g()\nfunc.func @f() { func.call @g() : () -> () return }", "operator"),
    ],
)
def test_what_is_not_lowered_has_a_reason(text: str, reason: str) -> None:
    [(name, problem)] = lowered(text).problems
    assert (name, str(problem.reason)) == ("f", reason)


def test_sums_keep_their_order_unless_flags_or_iterators_free_it() -> None:
    plain = FORMS["affine"].text.replace(" fastmath<reassoc>", "")
    [function] = ir.read(lowered(plain).text)
    assert not analyse(function).findings[0].reordered


def test_mutants_are_read_or_refused() -> None:
    rng = random.Random(1)
    texts = [form.text for form in FORMS.values()]
    for _ in range(60):
        text = list(rng.choice(texts))
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(text))
            text[place : place + rng.randint(0, 9)] = rng.choice(
                [[], list("%x"), ["("], list("-1"), list("index"), ["?"]]
            )
        try:
            for function in ir.read(lowered("".join(text)).text):
                analyse(function)
        except MalformedIr:
            pass


def test_names_of_arguments_are_kept(tmp_path: Path) -> None:
    [function] = ir.read(lowered(FORMS["scf"].text).text)
    assert [a.label for a in function.arguments] == ["x", "x_0", "x_1", "y", "y_0"]


@pytest.mark.parametrize("text", ["", "\n \n", "// f is left out: type\n"])
def test_a_file_without_operations_is_an_empty_module(text: str) -> None:
    assert ir.read(lowered(text).text) == []
