"""Raised functions compute what the functions compute; what may not be raised says why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

pytest.importorskip("llvmlite", reason="the extra `llvm` is not installed")
pytest.importorskip("islpy", reason="the extra `llvm` is not installed")

from tuner.baselines.original import Original, build
from tuner.errors import MissingPackage, ModelError
from tuner.importers import model_inputs
from tuner.importers.c_source import compiler, ir_of
from tuner.importers.llvm_service import LlvmService
from tuner.models import InputSpec
from tuner.protocols import Array

SOURCE = Path(__file__).parent / "kernels.c"

CASES: Mapping[str, Mapping[str, int]] = {
    "gemm": {"m": 7, "n": 9, "k": 5}, "product": {"m": 1, "n": 13, "k": 11}, "tiled": {"n": 19}, "integers": {"n": 7},
    "dot": {"n": 31}, "padded": {"n": 11}, "convolution": {"f": 2, "c": 3, "h": 6, "w": 7},
    "stencil": {"n": 7, "m": 9}, "symmetric": {"n": 6, "k": 5}, "triangle": {"n": 7}, "twice": {"m": 5, "n": 6},
    "softmax": {"m": 3, "n": 10}, "layer_norm": {"m": 4, "n": 9}, "reversed": {"n": 9}, "smallest": {"m": 4, "n": 5},
    "across": {"m": 17, "n": 33, "k": 40}, "between": {"n": 31, "k": 37}, "each_across": {"b": 2, "n": 32, "k": 33},
    "rows": {"m": 5, "n": 4, "lda": 7}, "clipped": {"n": 12}, "counted": {"n": 6}, "part": {"m": 3, "n": 4, "ldc": 6},
}  # fmt: skip

IN_ORDER: Mapping[str, Mapping[str, int]] = {
    "running": {"m": 5, "n": 9}, "before": {"n": 8}, "columns": {"m": 6, "n": 7}, "added_up": {"n": 12},
    "greatest_so_far": {"n": 13}, "first_greatest": {"n": 14}, "last_least": {"m": 4, "n": 9},
    "first_from_behind": {"m": 4, "n": 5}, "filtered": {"m": 3, "n": 8}, "solved": {"n": 9},
}  # fmt: skip
"""Running sums, the place of the greatest, and what is run as it is: the same to the last bit, by whatever values."""

OPTIMISED = ("gemm", "convolution", "softmax", "symmetric")
"""Those that are raised from optimised IR, too."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the functions' IR and a library of them."""
    try:
        compiler()
    except MissingPackage as error:
        pytest.skip(str(error))
    here = tmp_path_factory.mktemp("raised")
    for level in ("-O0", "-O1"):
        content = ir_of(SOURCE, level)
        assert isinstance(content, str)
        (here / f"kernels{level}.ll").write_text(content)
    build({"path": str(SOURCE)}, ["-O2"], here / "kernels.so")
    build({"path": str(SOURCE)}, ["-O1", "-ffp-contract=off"], here / "exact.so")
    return here


def run(reply: Mapping[str, Any], inputs: list[Array]) -> list[Array]:
    return called(machine_of(reply), inputs)


def machine_of(reply: Mapping[str, Any]) -> relax.VirtualMachine:
    built = relax.build(tvm.ir.load_json(reply["module"]), tvm.target.Target("llvm"))
    return relax.VirtualMachine(built, tvm.cpu())


def called(machine: relax.VirtualMachine, inputs: list[Array]) -> list[Array]:
    return [value.numpy() for value in machine["main"](*[tvm.runtime.tensor(a) for a in inputs])]


@pytest.mark.parametrize(("name", "level"), [*((name, "-O0") for name in CASES), *((n, "-O1") for n in OPTIMISED)])
def test_a_raised_function_computes_what_the_function_computes(name: str, level: str, folder: Path) -> None:
    reply = LlvmService().op_raise(str(folder / f"kernels{level}.ll"), name, CASES[name], True)
    assert "left_alone" not in reply, reply
    specs = [InputSpec(t["name"], tuple(t["shape"]), t["dtype"]) for t in reply["inputs"]]
    uses = {s.name: {"low": -8, "high": 7} for s in specs if s.dtype.startswith("int")}
    inputs = model_inputs(specs, {"uses": uses}, 3)
    original = Original(folder / "kernels.so", reply["c"], inputs)
    original.launch(1)
    for got, wanted in zip(run(reply, inputs), original.outputs(), strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "level"), [*((n, "-O0") for n in IN_ORDER), *((n, "-O1") for n in ("running", "last_least", "solved"))]
)
def test_what_is_in_order_is_the_same_to_the_last_bit(name: str, level: str, folder: Path) -> None:
    reply = LlvmService().op_raise(str(folder / f"kernels{level}.ll"), name, IN_ORDER[name], False)
    assert "left_alone" not in reply, reply
    rng = np.random.default_rng(5)
    machine = machine_of(reply)
    for values in ("normal", "ties", "special"):
        inputs = [drawn(t, values, rng) for t in reply["inputs"]]
        original = Original(folder / "exact.so", reply["c"], inputs)
        original.launch(1)
        for got, wanted in zip(called(machine, inputs), original.outputs(), strict=True):
            assert got.dtype == wanted.dtype
            assert got.tobytes() == wanted.tobytes(), (values, got, wanted)


def drawn(tensor: Mapping[str, Any], values: str, rng: np.random.Generator) -> Array:
    """Random values; many equal ones, with zeros of both signs; or NaNs and infinities among them."""
    few: Array = rng.integers(-2, 3, tensor["shape"]).astype(tensor["dtype"])
    if not tensor["dtype"].startswith("float"):
        return few
    if values == "normal":
        return np.asarray(rng.standard_normal(tensor["shape"]), tensor["dtype"])
    signed: Array = np.copysign(few, rng.standard_normal(few.shape)).astype(few.dtype)
    if values == "special":
        odd = np.array([np.nan, np.inf, -np.inf, -0.0], few.dtype)
        return np.asarray(np.where(rng.random(few.shape) < 0.4, rng.choice(odd, few.shape), signed), few.dtype)
    return signed


def test_an_operand_whose_rows_run_along_the_sum_is_turned_where_it_is_used_often(folder: Path) -> None:
    def kernels(name: str, sizes: Mapping[str, int]) -> int:
        reply = LlvmService().op_raise(str(folder / "kernels-O0.ll"), name, sizes, True)
        return len(tvm.ir.load_json(reply["module"]).functions) - 1

    assert kernels("across", CASES["across"]) == 2
    assert kernels("across", {"m": 3, "n": 33, "k": 40}) == 1, "each element of B is used three times"
    assert kernels("across", {"m": 17, "n": 3, "k": 40}) == 1, "B is small"
    assert kernels("gemm", {"m": 40, "n": 40, "k": 40}) == 1


def test_loops_in_order_alone_are_left_alone(folder: Path) -> None:
    reply = LlvmService().op_raise(str(folder / "kernels-O0.ll"), "recurrence", {"n": 9}, True)
    assert reply["left_alone"].startswith("loop-carried")


def test_a_maximum_of_what_is_infinitely_small(folder: Path) -> None:
    reply = LlvmService().op_raise(str(folder / "kernels-O0.ll"), "largest", {"m": 3, "n": 8}, True)
    [got] = run(reply, [np.full((3, 8), -np.inf, np.float32)])
    assert np.array_equal(got, np.full(3, -np.inf, np.float32))


@pytest.mark.parametrize(
    ("name", "sizes", "words"),
    [
        ("dot", {"n": 0}, "sizes"),
        ("rows", {"m": 4, "n": 9, "lda": 7}, "sizes"),
        ("gemm", {"m": 1 << 20, "n": 1 << 20, "k": 4}, "sizes"),
    ],
)
def test_sizes_for_which_it_is_something_else_are_refused(
    name: str, sizes: Mapping[str, int], words: str, folder: Path
) -> None:
    level = "-O1" if name == "dot" else "-O0"
    reply = LlvmService().op_raise(str(folder / f"kernels{level}.ll"), name, sizes, True)
    assert reply["left_alone"].startswith(words) or "reduction over nothing" in reply["left_alone"]


def test_an_array_may_end_at_the_last_element_that_is_accessed(folder: Path) -> None:
    reply = LlvmService().op_raise(str(folder / "kernels-O0.ll"), "part", {"m": 3, "n": 4, "ldc": 6}, True)
    [output] = reply["c"]["outputs"]
    assert (output["shape"], output["reached"]) == ([3, 6], 16)


def test_sums_of_floats_keep_their_order_unless_allowed(folder: Path) -> None:
    reply = LlvmService().op_raise(str(folder / "kernels-O0.ll"), "dot", {"n": 8}, False)
    assert reply["left_alone"].startswith("reassociation")
    assert reply["line"]
    assert "left_alone" not in LlvmService().op_raise(str(folder / "kernels-O0.ll"), "integers", {"n": 8}, False)
    assert "left_alone" not in LlvmService().op_raise(str(folder / "kernels-O0.ll"), "stencil", {"n": 8, "m": 8}, False)


@pytest.mark.parametrize(
    ("name", "sizes", "words"),
    [
        ("gem", {}, "no such function"),
        ("", {}, "no function is named"),
        ("dot", {"m": 3}, "no such argument"),
        ("dot", {}, "needs a number"),
    ],
)
def test_a_request_that_is_wrong_is_named(name: str, sizes: Mapping[str, int], words: str, folder: Path) -> None:
    with pytest.raises(ModelError, match=words):
        LlvmService().op_raise(str(folder / "kernels-O0.ll"), name, sizes, True)
