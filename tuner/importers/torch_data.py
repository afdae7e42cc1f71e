"""The inputs of a PyTorch model from `model.data`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tuner.importers import data
from tuner.importers.data_set import Wanted
from tuner.models import InputSpec
from tuner.protocols import Array


def stored_inputs(
    names: Sequence[str], examples: Sequence[torch.Tensor], model_spec: Mapping[str, Any]
) -> tuple[torch.Tensor, ...] | None:
    """The first set of the spec's data, of the dtypes of `examples`; None without one. Raises ConfigError."""
    if model_spec.get("data") is None:
        return None
    dtypes = [str(example.dtype).removeprefix("torch.") for example in examples]
    by_position = {f"arg{index}": name for index, name in enumerate(names)}
    inputs = {by_position.get(key, key): shape for key, shape in model_spec["inputs"].items()}
    wanted = [Wanted(name, dtype, None) for name, dtype in zip(names, dtypes, strict=True)]
    sets = data.fitted(data.read(model_spec["data"]), wanted, {**model_spec, "inputs": inputs}, by_position)
    return tuple(map(_tensor, sets[0].arrays)) if sets else None


def stored_examples(model_spec: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
    """The first set of the spec's data in its own order: the examples of a model that has none."""
    return tuple(map(_tensor, data.read(model_spec["data"]).sets[0].inputs.values()))


def with_data_shapes(model_spec: Mapping[str, Any], specs: Sequence[InputSpec]) -> Mapping[str, Any]:
    """The spec with the shapes that its data gave it."""
    if model_spec.get("data") is None:
        return model_spec
    return {**model_spec, "inputs": {spec.name: list(spec.shape) for spec in specs}}


def _tensor(array: Array) -> torch.Tensor:
    if str(array.dtype) == "bfloat16":
        return torch.from_numpy(array.astype(np.float32)).bfloat16()
    return torch.from_numpy(np.array(array))
