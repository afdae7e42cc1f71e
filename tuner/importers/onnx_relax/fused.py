"""Products and convolutions that ONNX Runtime writes together with what surrounds them (com.microsoft)."""

from __future__ import annotations

from tuner.importers.onnx_relax.node import Any, Converter, Node, Unsupported, const, relax, shape_of
from tuner.importers.onnx_relax.quantization import convolution


def fused_matmul(node: Node) -> Any:
    """FusedMatMul: alpha * a @ b, either transposed before."""
    if node.attributes.get("transBatchA", 0) or node.attributes.get("transBatchB", 0):
        raise Unsupported("transposed batches")
    operands = [
        _transposed(node, node.input(index)) if node.attributes.get(name, 0) else node.input(index)
        for index, name in enumerate(("transA", "transB"))
    ]
    return _scaled(node, node.emit(relax.op.matmul(*operands)), node.attributes.get("alpha", 1.0))


def fused_gemm(node: Node) -> Any:
    """FusedGemm: activation(alpha * a @ b + beta * c)."""
    made = fused_matmul(node)
    if node.input(2) is not None:
        made = node.emit(relax.op.add(made, _scaled(node, node.input(2), node.attributes.get("beta", 1.0))))
    numbers = [node.attributes[name] for name in ("activation_alpha", "activation_beta") if name in node.attributes]
    return _activated(node, made, node.text("activation", ""), numbers)


def fused_conv(node: Node) -> Any:
    """FusedConv: activation(conv(x, w) + bias + z)."""
    made = convolution(node, node.input(0), node.input(1))
    if node.input(2) is not None:
        spread = (1, -1, *([1] * (len(node.shape()) - 2)))
        made = node.emit(relax.op.add(made, relax.op.reshape(node.input(2), spread)))
    if node.input(3) is not None:
        made = node.emit(relax.op.add(made, node.input(3)))
    numbers = list(node.attributes.get("activation_params", []))
    return _activated(node, made, node.text("activation", ""), numbers)


def _transposed(node: Node, value: Any) -> Any:
    rank = len(shape_of(value))
    return node.emit(relax.op.permute_dims(value, [*range(rank - 2), rank - 1, rank - 2]))


def _scaled(node: Node, value: Any, factor: float) -> Any:
    return value if factor == 1.0 else node.emit(relax.op.multiply(value, const(factor, node.dtype())))


def _activated(node: Node, value: Any, name: str, numbers: list[float]) -> Any:
    if name in ("", "Relu", "Sigmoid", "Tanh"):
        plain = {"": value, "Relu": relax.op.nn.relu, "Sigmoid": relax.op.sigmoid, "Tanh": relax.op.tanh}[name]
        return node.emit(plain(value)) if name else value
    if name == "LeakyRelu":
        return node.emit(relax.op.nn.leakyrelu(value, numbers[0] if numbers else 0.01))
    if name == "Clip" and len(numbers) == 2:
        return node.emit(relax.op.clip(value, float(numbers[0]), float(numbers[1])))
    if name == "HardSigmoid" and len(numbers) == 2:
        dtype = node.dtype()
        line = relax.op.add(relax.op.multiply(value, const(numbers[0], dtype)), const(numbers[1], dtype))
        return node.emit(relax.op.clip(line, 0.0, 1.0))
    raise Unsupported(f"the activation {name!r}")


_MS = "com.microsoft"
CONVERTERS: dict[tuple[str, str], Converter] = {
    (_MS, "FusedConv"): fused_conv,
    (_MS, "FusedGemm"): fused_gemm,
    (_MS, "FusedMatMul"): fused_matmul,
    (_MS, "TransposeMatMul"): fused_matmul,
}
