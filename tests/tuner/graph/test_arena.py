"""A model whose memory is one storage computes the same in TVM's virtual machine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import tvm
from tvm import relax
from tvm.relax.backend.cpu_generic import pipeline
from tvm.target import Target

from tuner import importers
from tuner.graph import GraphConfig, clean, finish, lower
from tuner.graph.arena import with_arena
from tuner.graph.plan import plan

TARGET = Target({"kind": "llvm", "num-cores": 2})


@pytest.mark.parametrize(("name", "layout"), [("branches", "NCHW"), ("dense", "NCHW16c")])
def test_the_outputs_are_right_call_after_call(name: str, layout: str) -> None:
    model = importers.load(f"torch:tests.tuner.graph.test_plan:{name}", 1, {}, "random", 3)
    lowered = lower(clean(model.module), GraphConfig(layout), TARGET)
    functions = {**dict(lowered.module.functions.items()), lowered.module.get_global_var("main"): with_arena(lowered)}
    module = tvm.IRModule(functions, attrs=lowered.module.attrs)
    assert module["main"].script().count("alloc_storage") == (plan(lowered).arena_bytes > 0)
    with TARGET, tvm.transform.PassContext(opt_level=3):
        built = relax.build(module, target=TARGET, relax_pipeline=finish(TARGET, pipeline))
    machine = relax.VirtualMachine(built, tvm.cpu())
    reference, _ = importers.torch_module(model.model_spec)
    for seed in (5, 6):
        inputs = importers.model_inputs(model.inputs, model.model_spec, seed)
        found = machine["main"](*[tvm.runtime.tensor(i) for i in inputs])
        with torch.no_grad():
            expected = reference(*[torch.from_numpy(i) for i in inputs])
        pairs = zip([*found], expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-5)
