"""Functions of MLIR in the forms that are read, each with what it must be recognized as and what it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tuner.protocols import Array


@dataclass(frozen=True)
class Form:
    """`text` of a function f. `shapes`: of its array arguments; `wanted`: the result, or the last array after
    the call."""

    text: str
    patterns: tuple[str, ...]
    shapes: Sequence[tuple[int, ...]]
    wanted: Callable[..., Array]
    dynamic: tuple[int, ...] = ()


def _convolved(x: Array, w: Array) -> Array:
    windows = np.lib.stride_tricks.sliding_window_view(x[0], w.shape[2:], (1, 2))[:, ::2, ::2]
    return np.asarray(np.einsum("chwyx,fcyx->fhw", windows, w)[None])


def _pooled(x: Array) -> Array:
    return np.asarray(np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2].max((-1, -2)))


def _named(name: str, shapes: Sequence[str], attributes: str = "", start: str = "0.0") -> str:
    """A named operation on tensors from a constant start, the result's shape last."""
    ins, out = shapes[:-1], shapes[-1]
    values = [f"%x{k}" for k in range(len(ins))]
    kinds = [f"tensor<{shape}xf32>" for shape in ins]
    arguments = ", ".join(f"{v}: {k}" for v, k in zip(values, kinds, strict=True))
    result = f"tensor<{out}xf32>"
    return f"""func.func @f({arguments}) -> {result} {{
  %c = arith.constant {start} : f32
  %e = tensor.empty() : {result}
  %s = linalg.fill ins(%c : f32) outs(%e : {result}) -> {result}
  %r = {name} {attributes} ins({", ".join(values)} : {", ".join(kinds)}) outs(%s : {result}) -> {result}
  return %r : {result}
}}"""


_AFFINE = """func.func @f(%A: memref<6x7xf32>, %B: memref<7x5xf32>, %C: memref<6x5xf32>) {
  affine.for %i = 0 to 6 { affine.for %j = 0 to 5 { affine.for %k = 0 to 7 {
    %a = affine.load %A[%i, %k] : memref<6x7xf32>
    %b = affine.load %B[%k, %j] : memref<7x5xf32>
    %c = affine.load %C[%i, %j] : memref<6x5xf32>
    %p = arith.mulf %a, %b : f32
    %s = arith.addf %c, %p fastmath<reassoc> : f32
    affine.store %s, %C[%i, %j] : memref<6x5xf32>
  } } }
  return
}"""

_SCF = """func.func @f(%x: memref<?x?xf32>, %y: memref<?xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %z = arith.constant 0.0 : f32
  %m = memref.dim %x, %c0 : memref<?x?xf32>
  %n = memref.dim %x, %c1 : memref<?x?xf32>
  scf.parallel (%i) = (%c0) to (%m) step (%c1) {
    %r = scf.for %j = %c0 to %n step %c1 iter_args(%s = %z) -> (f32) {
      %v = memref.load %x[%i, %j] : memref<?x?xf32>
      %t = arith.addf %s, %v fastmath<fast> : f32
      scf.yield %t : f32
    }
    memref.store %r, %y[%i] : memref<?xf32>
  }
  return
}"""

_SMOOTHED = """func.func @f(%x: memref<9xf32>, %y: memref<9xf32>) {
  affine.for %i = 1 to 8 {
    %a = affine.load %x[%i - 1] : memref<9xf32>
    %b = affine.load %x[%i + 1] : memref<9xf32>
    %s = arith.addf %a, %b : f32
    affine.store %s, %y[%i] : memref<9xf32>
  }
  return
}"""

_PADDED = """func.func @f(%x: tensor<3x4xf32>) -> tensor<5x5xf32> {
  %z = arith.constant 2.0 : f32
  %p = tensor.pad %x low[1, 0] high[1, 1] {
  ^bb0(%i: index, %j: index):
    tensor.yield %z : f32
  } : tensor<3x4xf32> to tensor<5x5xf32>
  return %p : tensor<5x5xf32>
}"""

_GENERIC = """#id = affine_map<(d0, d1) -> (d0, d1)>
func.func @f(%x: tensor<4x6xf32>, %b: tensor<6xf32>) -> tensor<4x6xf32> {
  %z = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<4x6xf32>
  %w = linalg.broadcast ins(%b : tensor<6xf32>) outs(%e : tensor<4x6xf32>) dimensions = [0]
  %r = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%x, %w : tensor<4x6xf32>, tensor<4x6xf32>) outs(%e : tensor<4x6xf32>) {
  ^bb0(%a: f32, %c: f32, %o: f32):
    %s = arith.addf %a, %c : f32
    %m = arith.maximumf %s, %z : f32
    linalg.yield %m : f32
  } -> tensor<4x6xf32>
  return %r : tensor<4x6xf32>
}"""

_REDUCED = """func.func @f(%x: tensor<3x4x5xf32>, %y: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %r = linalg.reduce { arith.addf } ins(%x : tensor<3x4x5xf32>) outs(%y : tensor<3x5xf32>) dimensions = [1]
  return %r : tensor<3x5xf32>
}"""

_RESHAPED = """func.func @f(%x: tensor<2x3x4xf32>) -> tensor<4x6xf32> {
  %c = tensor.collapse_shape %x [[0, 1], [2]] : tensor<2x3x4xf32> into tensor<6x4xf32>
  %e = tensor.empty() : tensor<4x6xf32>
  %t = linalg.transpose ins(%c : tensor<6x4xf32>) outs(%e : tensor<4x6xf32>) permutation = [1, 0]
  return %t : tensor<4x6xf32>
}"""

FORMS: dict[str, Form] = {
    "affine": Form(_AFFINE, ("contraction",), [(6, 7), (7, 5), (6, 5)], lambda a, b, c: c + a @ b),
    "scf": Form(_SCF, ("reduction",), [(4, 9), (4,)], lambda x, y: x.sum(1), (4, 9, 4)),
    "stencil": Form(_SMOOTHED, ("stencil",), [(9,), (9,)],
                    lambda x, y: np.concatenate([y[:1], x[:-2] + x[2:], y[-1:]])),
    "pad": Form(_PADDED, ("fill", "copy"), [(3, 4)], lambda x: np.pad(x, ((1, 1), (0, 1)), constant_values=2)),
    "generic": Form(_GENERIC, ("elementwise",), [(4, 6), (6,)], lambda x, b: np.maximum(x + b, 0)),
    "reduce": Form(_REDUCED, ("reduction",), [(3, 4, 5), (3, 5)], lambda x, y: y + x.sum(1)),
    "reshape": Form(_RESHAPED, ("transpose",), [(2, 3, 4)], lambda x: x.reshape(6, 4).T),
    "matmul": Form(_named("linalg.matmul", ["4x7", "7x5", "4x5"]), ("contraction",), [(4, 7), (7, 5)], np.matmul),
    "batch": Form(_named("linalg.batch_matmul", ["2x4x7", "2x7x5", "2x4x5"]), ("contraction",), [(2, 4, 7), (2, 7, 5)],
                  np.matmul),
    "dot": Form(_named("linalg.matvec", ["4x7", "7", "4"]), ("contraction",), [(4, 7), (7,)], np.matmul),
    "convolution": Form(
        _named("linalg.conv_2d_nchw_fchw", ["1x3x9x9", "2x3x3x3", "1x2x4x4"],
               "{dilations = dense<1> : tensor<2xi64>, strides = dense<2> : tensor<2xi64>}"),
        ("convolution",), [(1, 3, 9, 9), (2, 3, 3, 3)], _convolved,
    ),
    "pooling": Form(
        _named("linalg.pooling_nhwc_max", ["2x7x7x3", "3x3", "2x3x3x3"], "{strides = dense<2> : vector<2xi64>}",
               "0xFF800000"),
        ("pooling",), [(2, 7, 7, 3), (3, 3)], lambda x, w: _pooled(x),
    ),
    "exp": Form(_named("linalg.exp", ["4x6", "4x6"]), ("fill", "elementwise"), [(4, 6)], np.exp),
}  # fmt: skip
