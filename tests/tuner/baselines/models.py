"""Tiny models in each baseline's form: one convolution with relu, the same weights in all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def weights(model_spec: Mapping[str, Any]) -> NDArray[np.float32]:
    """Weights of a 3x3 convolution from 3 to 8 channels."""
    return np.random.default_rng(model_spec["seed"]).standard_normal((8, 3, 3, 3), dtype=np.float32)


def reference(
    model_spec: Mapping[str, Any], image: NDArray[np.float32], offset: NDArray[np.float32]
) -> NDArray[np.float64]:
    """relu(conv(image)) + offset, in float64 and without any of the baselines."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
    out: NDArray[np.float64] = np.einsum(
        "nchwyx,ocyx->nohw", windows.astype(np.float64), weights(model_spec).astype(np.float64)
    )
    return np.asarray(np.maximum(out, 0) + offset, dtype=np.float64)


def torch_module(model_spec: Mapping[str, Any]) -> tuple[Any, list[Any]]:
    """With a second output, and as a mapping, as `transformers` returns it."""
    import torch

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
            self.conv.weight = torch.nn.Parameter(torch.from_numpy(weights(model_spec)))

        def forward(self, image: torch.Tensor, offset: torch.Tensor) -> dict[str, Any]:
            out = torch.relu(self.conv(image)) + offset
            return {"last": out, "rest": (out * 2,)}

    return Tiny(), [torch.zeros(1, 3, 16, 16), torch.zeros(1)]


def onnx_model(model_spec: Mapping[str, Any]) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    shape = [1, 8, 16, 16]
    two = numpy_helper.from_array(np.array(2, dtype=np.float32), "two")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weight"], ["conv"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["conv"], ["relu"]),
            helper.make_node("Add", ["relu", "offset"], ["out"]),
            helper.make_node("Mul", ["out", "two"], ["double"]),
        ],
        "tiny",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16]),
            helper.make_tensor_value_info("offset", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("out", "double")],
        [numpy_helper.from_array(weights(model_spec), "weight"), two],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def onnx_bytes(model_spec: Mapping[str, Any]) -> bytes:
    data: bytes = onnx_model(model_spec).SerializeToString()
    return data


def broken(model_spec: Mapping[str, Any]) -> Any:
    raise ValueError(f"no model for {model_spec}")
