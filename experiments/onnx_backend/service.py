"""One node test of the `onnx` package: through our importer and an untuned build, and through ONNX Runtime."""

from __future__ import annotations

import functools
import os
import re
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tvm
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests
from tvm import relax
from tvm.target import Target

from tuner.errors import ModelError
from tuner.graph.build import build_untuned
from tuner.graph.clean import clean
from tuner.importers import make_model_spec
from tuner.importers.onnx import load

Values = list[NDArray[Any]]

NOT_CORE = re.compile(
    r"training|_ml_|string|sequence|optional|float8|float4|float6|e4m3|e5m2|e8m0|int4|int2|adagrad|adam|momentum"
    r"|gradient|tfidf|label_enc|image_decoder|regex|bernoulli|random|_tree_|array_feature|nllloss|_sce_|softmax_cross",
    re.IGNORECASE,
)
"""Tests of training, classic machine learning, strings, sequences, optionals and 4- and 8-bit floats."""

SETTINGS: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,), "BlackmanWindow": (0,), "CenterCropPad": (1,), "Col2Im": (1, 2), "ConstantOfShape": (0,),
    "CumProd": (1,), "CumSum": (1,), "DFT": (1, 2), "Dropout": (1, 2), "Expand": (1,), "HammingWindow": (0,),
    "HannWindow": (0,), "Loop": (0, 1), "MaxUnpool": (2,), "OneHot": (1,), "Pad": (1, 3), "Range": (0, 1, 2),
    "Reshape": (1,), "Resize": (1, 2, 3), "STFT": (1, 3), "Slice": (1, 2, 3, 4), "Split": (1,), "Squeeze": (1,),
    "Tile": (1,), "TopK": (1,), "Trilu": (1,), "Unsqueeze": (1,), "Upsample": (1,), "MelWeightMatrix": (0, 1, 2, 3, 4),
    **{f"Reduce{kind}": (1,) for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum",
                                           "SumSquare")},
}  # fmt: skip
"""Operands that set shapes, axes or counts; stored in the model, as exporters store them. All others are data."""


@functools.cache
def cases() -> dict[str, TestCase]:
    """Every node test by name, in the order of the package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests are computed here, overflows included
        return {case.name: case for case in load_model_tests(kind="node") if case.model is not None}


def is_core(name: str) -> bool:
    return NOT_CORE.search(name) is None


class NodeTest:
    """A service of a child process."""

    def __init__(self, all_inputs: bool) -> None:
        self._all_inputs = all_inputs

    def op_run(self, name: str) -> dict[str, Any]:
        """`class` (one of `run.CLASSES`) with a reason, `runtime` (right, wrong or refused), `operators`, and
        the names of the inputs that were `stored`."""
        case = cases()[name]
        assert case.model is not None
        assert case.data_sets is not None
        given, expected = (_arrays(side) for side in case.data_sets[0])
        operators = sorted({f"{node.domain}.{node.op_type}".lstrip(".") for node in case.model.graph.node})
        answer: dict[str, Any] = {"operators": operators}
        if given is None or expected is None:
            return {**answer, "class": "refused", "runtime": "refused", "reason": "not tensors"}
        names = [value.name for value in case.model.graph.input]
        feeds = {name: value for name, value in zip(names, given, strict=False) if name}
        rtol, atol = max(case.rtol, 1e-3), max(case.atol, 1e-5)
        answers = _runtime(case.model, feeds)
        answer["runtime"] = (
            "refused" if answers is None else "wrong" if _difference(answers, expected, rtol, atol) else "right"
        )
        model = case.model if self._all_inputs else _with_settings(case.model, feeds, _settings(name))
        answer["stored"] = sorted({value.name for value in case.model.graph.input} - set(feeds))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{os.getpid()}.onnx"
            path.write_bytes(model.SerializeToString())
            try:
                made = _ours(path, feeds)
            except ModelError as error:
                return {**answer, "class": "refused", "reason": str(error).replace(str(path), "model")[:300]}
            except Exception as error:  # noqa: BLE001  what is no message is the finding
                return {**answer, "class": "error", "reason": f"{type(error).__name__}: {error}"[:300]}
        made = [_as_narrow(value, right) for value, right in zip(made, expected, strict=False)] + made[len(expected) :]
        difference = _difference(made, expected, rtol, atol)
        if difference and answers is not None and not _difference(made, answers, rtol, atol):
            return {**answer, "class": "runtime", "reason": difference}
        return {**answer, "class": "wrong" if difference else "right", "reason": difference}


def _arrays(side: Sequence[Any]) -> Values | None:
    """The tensors of a test; None where some are sequences, optionals or texts."""
    values = [numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value for value in side]
    if any(isinstance(value, (list, dict, str)) or value is None for value in values):
        return None
    arrays = [np.asarray(value) for value in values]
    return None if any(value.dtype.kind in "OUS" for value in arrays) else arrays


def _settings(name: str) -> set[str]:
    """The inputs that are operands of `SETTINGS`; a function's body has those of the operator itself."""
    case = cases().get(name.removesuffix("_expanded"), cases()[name])
    assert case.model is not None
    return {
        node.input[index]
        for node in case.model.graph.node
        for index in SETTINGS.get(node.op_type, ())
        if index < len(node.input)
    }


def _with_settings(model: onnx.ModelProto, feeds: dict[str, NDArray[Any]], settings: set[str]) -> onnx.ModelProto:
    """A copy in which the settings are stored; they leave `feeds`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [value for value in copy.graph.input if value.name not in settings]
    del copy.graph.input[:]
    copy.graph.input.extend(kept)
    copy.graph.initializer.extend(
        numpy_helper.from_array(feeds.pop(name), name) for name in sorted(settings.intersection(feeds))
    )
    return copy


def _ours(path: Path, feeds: dict[str, NDArray[Any]]) -> Values:
    shapes = {name: value.shape for name, value in feeds.items()}
    spec = {**make_model_spec(f"onnx:{path}", 1, {}, "original", 0), "inputs": {n: list(s) for n, s in shapes.items()}}
    loaded = load(spec)
    if loaded.plan is not None:  # ONNX Runtime computes a part of it: that is no test of converters
        reasons = (str(node) for segment in loaded.plan.segments for node in segment.nodes if not node.follows)
        raise ModelError(loaded.source, f"not all of it is converted: {'; '.join(reasons)}")
    module = clean(loaded.module)
    target = Target("llvm")
    with target:
        module = relax.backend.DispatchSortScan()(module)
    machine = relax.VirtualMachine(build_untuned(module, target), tvm.cpu())
    given = [np.array(feeds[spec.name], dtype=spec.dtype, order="C") for spec in loaded.inputs]
    made = machine["main"](*map(tvm.runtime.tensor, given))
    return [value.numpy() for value in ([made] if hasattr(made, "numpy") else made)]


def _as_narrow(made: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """What stands for bfloat16 in float32, as it does outside of the model, in bfloat16."""
    return made.astype(right.dtype) if right.dtype.name == "bfloat16" and made.dtype == np.float32 else made


def _runtime(model: onnx.ModelProto, feeds: dict[str, NDArray[Any]]) -> Values | None:
    """What ONNX Runtime answers; None where it refuses."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [np.asarray(value) for value in session.run(None, feeds)]
    except Exception:  # noqa: BLE001  it has no common base for its errors
        return None


def _difference(made: Values, expected: Values, rtol: float, atol: float) -> str:
    """In words; empty where there is none. Tolerances are those of the test, integers are exact."""
    for index, (value, right) in enumerate(zip(made, expected, strict=False)):
        if value.shape != right.shape or value.dtype != right.dtype:
            return f"output {index} is {value.dtype}{value.shape} for {right.dtype}{right.shape}"
        if right.dtype.kind in "biu":
            if not np.array_equal(value, right):
                return f"output {index} differs in {int(np.sum(value != right))} of {right.size} integers"
            continue
        wide = np.complex128 if right.dtype.kind == "c" else np.float64
        if right.dtype.itemsize == 2:
            rtol, atol = max(rtol, 1e-2), max(atol, 1e-2)
        if not np.allclose(value.astype(wide), right.astype(wide), rtol=rtol, atol=atol, equal_nan=True):
            return f"output {index} differs by {np.nanmax(np.abs(value.astype(wide) - right.astype(wide))):.3g}"
    return "" if len(made) == len(expected) else f"{len(made)} outputs for {len(expected)}"
