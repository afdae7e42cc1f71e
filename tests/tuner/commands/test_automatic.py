"""A mix that was decided is built: some layers in int8, some in narrower floats, some as they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tvm.ir import Call

from tests.tuner.commands.test_precision import CONFIG, CPU, SOURCE, _gpu, _model
from tests.tuner.graph.graphs import operators
from tuner.commands import automatic, mixing
from tuner.commands.mixing import Mix
from tuner.errors import ConfigError
from tuner.graph.layers import layers
from tuner.progress import Progress

AUTO = replace(CONFIG, precision="auto")


@pytest.mark.parametrize(("target", "last"), [(CPU, "bfloat16"), (_gpu("sm_80"), "float16")])
def test_each_layer_is_in_the_precision_that_was_decided(target: Any, last: str, tmp_path: Path) -> None:
    chosen = ("float32", "int8", "int8", "bfloat16", last)
    mixing.keep(Mix(chosen, (0.0, 0.1, 0.1, 0.01, 0.01), ((1e-3, 0.1),), True), tmp_path)
    made, module = automatic.in_mix(AUTO, target, _model(), tmp_path, Progress(live=False), None)
    assert made.reduced is not None and tuple(layer.precision for layer in made.reduced.layers) == chosen
    assert made.reduced.whole is not None and made.reduced.unit == 2.0**-8 and made.source == SOURCE
    assert [layer.number for layer in layers(module)] == [0]  # what is still in float32
    calls = [b.value for block in module["main"].body.blocks for b in block.bindings if isinstance(b.value, Call)]
    products = [c for c in calls if str(c.op.name) in ("relax.nn.conv2d", "relax.matmul")]
    types = [str(c.args[1].ty.dtype) for c in products]
    assert sorted(types) == sorted([*chosen, "float32"])  # one is depthwise
    data = {str(c.args[0].ty.dtype) for c in products if str(c.args[1].ty.dtype) == "int8"}
    assert data == {"uint8" if target is CPU else "int8"}
    assert "quantize" not in operators(module)


def test_without_a_decision_and_without_a_way_to_time_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found out by `run`"):
        automatic.in_mix(AUTO, CPU, _model(), tmp_path, Progress(live=False), None)


def test_weights_are_known_whichever_way_they_are_turned() -> None:
    weight = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    assert automatic.fingerprint(weight) == automatic.fingerprint(np.ascontiguousarray(weight.T))
    assert automatic.fingerprint(weight) != automatic.fingerprint(weight * 2)
