"""Compiling whole models with TVM: what the devices share."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax
from tvm.target import Target


def finish(target: Target, pipeline: Any) -> Any:
    """The part of TVM's pipeline after fusion, as one pass: memory planning and lowering to VM instructions.

    `pipeline` is a device's module below `tvm.relax.backend`, e.g. `tvm.relax.backend.cpu_generic.pipeline`.
    """
    return tvm.transform.Sequential([*pipeline.dataflow_lower_passes(target), *pipeline.finalize_passes(target)])


def build_untuned(module: tvm.IRModule, target: Target) -> Any:
    """The model as TVM compiles it by itself: default pipeline, plain layout, no schedules."""
    with target, tvm.transform.PassContext(opt_level=3):
        return relax.build(module, target=target, relax_pipeline=relax.get_default_pipeline(target))
