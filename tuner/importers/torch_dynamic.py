"""A PyTorch model as a program with dynamic extents, in a file that torch loads by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tuner.errors import ModelError
from tuner.importers.torch import torch_module


def save(model_specs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the model of several specs, which differ in shapes alone. Extents that differ among them are dynamic; of
    one spec, all are. Raises ModelError where torch cannot export that."""
    built = [torch_module(spec) for spec in model_specs]
    module, examples = built[0]
    shapes = [[tuple(tensor.shape) for tensor in tensors] for _, tensors in built]
    dynamic = tuple(
        {
            axis: torch.export.Dim.AUTO
            for axis in range(len(of_all[0]))
            if len(built) == 1 or len({shape[axis] for shape in of_all}) > 1
        }
        for of_all in zip(*shapes, strict=True)
    )
    try:
        with torch.no_grad():
            program = torch.export.export(module, examples, dynamic_shapes=_by_name(module, dynamic))
        torch.export.save(program, path)
    except Exception as error:  # the model is the user's, and may raise anything
        first = next(iter(str(error).strip().splitlines()), "")
        raise ModelError(
            model_specs[0]["source"], f"torch cannot export it with dynamic extents: {type(error).__name__}: {first}"
        ) from error


def _by_name(module: torch.nn.Module, dynamic: tuple[dict[int, Any], ...]) -> Any:
    """As torch.export wants it: a forward that takes `*inputs` has one argument, a tuple."""
    import inspect

    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    return (dynamic,) if kinds and kinds[0] is inspect.Parameter.VAR_POSITIONAL else dynamic
