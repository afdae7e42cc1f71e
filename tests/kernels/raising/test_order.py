"""Order of stores, steps that follow each other, memory of a function's own, and NaNs: raised as they are written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tvm

pytest.importorskip("llvmlite", reason="the extra `llvm` is not installed")
pytest.importorskip("islpy", reason="the extra `llvm` is not installed")

from tests.kernels.raising.test_raised import run
from tuner.baselines.original import Original, build
from tuner.errors import MissingPackage
from tuner.importers import model_inputs
from tuner.importers.c_source import compiler, ir_of
from tuner.importers.llvm_service import LlvmService
from tuner.models import InputSpec

SOURCE = Path(__file__).parent / "order.c"

CASES: Mapping[str, Mapping[str, int]] = {
    "skewed": {"n": 9}, "jacobi": {"n": 8, "t": 3}, "gradients": {"n": 9, "t": 4}, "lu": {"n": 6},
    "nested": {"n": 5, "t": 2}, "temporary": {"n": 9}, "unordered": {"n": 32},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the functions' IR and a library of them."""
    try:
        compiler()
    except MissingPackage as error:
        pytest.skip(str(error))
    here = tmp_path_factory.mktemp("order")
    content = ir_of(SOURCE, "-O0")
    assert isinstance(content, str)
    (here / "order.ll").write_text(content)
    build({"path": str(SOURCE)}, ["-O1"], here / "order.so")
    return here


@pytest.mark.parametrize("name", CASES)
def test_order_is_kept(name: str, folder: Path) -> None:
    reply = LlvmService().op_raise(str(folder / "order.ll"), name, CASES[name], True)
    assert "left_alone" not in reply, reply
    specs = [InputSpec(t["name"], tuple(t["shape"]), t["dtype"]) for t in reply["inputs"]]
    inputs = model_inputs(specs, {}, 3)
    if name == "unordered":
        some = np.array([np.nan, -0.0, 0.0, np.inf, -np.inf, 1.0], np.float32)
        inputs = [np.random.default_rng(k).choice(some, a.shape) for k, a in enumerate(inputs)]
    original = Original(folder / "order.so", reply["c"], inputs)
    original.launch(1)
    for got, wanted in zip(run(reply, inputs), original.outputs(), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_too_many_steps_are_left_alone(folder: Path) -> None:
    for name, sizes in (("jacobi", {"n": 8, "t": 300}), ("lu", {"n": 40})):
        reply = LlvmService().op_raise(str(folder / "order.ll"), name, sizes, True)
        assert reply["left_alone"].startswith("sequential")


def test_steps_share_their_kernels(folder: Path) -> None:
    reply = LlvmService().op_raise(str(folder / "order.ll"), "jacobi", {"n": 8, "t": 50}, True)
    module = tvm.ir.load_json(reply["module"])
    assert len(module.get_global_vars()) == 2  # main, and one kernel for both halves of all steps
