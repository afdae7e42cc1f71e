"""Elementary functions as polynomials, which are vectorized; calls are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import tvm
import tvm_ffi
from tvm import tirx

from kernels.passes.base import Pass

_LOG2_E = 1.44269504088896341
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_LEAST, _MOST = -104.0, 89.0
"""Below and above these e^x is zero and infinite in float32."""

_ERF_TOP = (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
            -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02)  # fmt: skip
_ERF_BOTTOM = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
               -1.42647390514189e-02)  # fmt: skip
_ERF_ONE = 4.0
"""From here on erf is 1 in float32."""


@dataclass(frozen=True)
class VectorMath(Pass):
    """Compute float32's `exp`, `sigmoid` and `erf` by polynomials in the kernel itself.

    The errors are at most 2, 4 and 8 units in the last place. TVM calls the C library once for each element, even in
    vectorized loops.
    """

    name: ClassVar[str] = "vector_math"
    on: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(True), cls(False)) if target_kind == "llvm" else (cls(False),)

    @classmethod
    def concerns(cls, module: tvm.IRModule) -> bool:
        calls: list[Any] = []
        tvm_ffi.structural_walk(module["main"].body, (tvm.ir.Call, calls.append))
        return any(_polynomial_of(call) for call in calls)

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        if not self.on:
            return function
        return function.with_body(tvm_ffi.structural_map(function.body, (tvm.ir.Call, _replaced)))


def exp(x: tirx.PrimExpr) -> tirx.PrimExpr:
    """e^x of a float32: n = round(x / ln 2), a polynomial of the remainder, times 2^n in two steps.

    After Moshier's Cephes library (`expf`). Infinities, NaN and subnormal results are right.
    """
    given, bounded, power, rest = (tirx.Var(name, "float32") for name in ("x", "bounded", "n", "r"))
    scaled = _polynomial(_EXP, rest) * (rest * rest) + rest + _float(1.0)
    whole, half = tirx.Var("whole", "int32"), tirx.Var("half", "int32")
    scaled = tirx.Let(
        half, tirx.shift_right(whole, tirx.const(1, "int32")), scaled * _two_to(half) * _two_to(whole - half)
    )
    scaled = tirx.Let(whole, tirx.Cast("int32", power), scaled)
    scaled = tirx.Let(rest, bounded - power * _float(_LN2_HIGH) - power * _float(_LN2_LOW), scaled)
    scaled = tirx.Let(power, tirx.floor(bounded * _float(_LOG2_E) + _float(0.5)), scaled)
    scaled = tirx.Let(bounded, tirx.max(tirx.min(given, _float(_MOST)), _float(_LEAST)), scaled)
    return tirx.Let(given, x, tirx.Select(tirx.isnan(given), given, scaled))


def sigmoid(x: tirx.PrimExpr) -> tirx.PrimExpr:
    """1 / (1 + e^-x) of a float32."""
    return _float(1.0) / (_float(1.0) + exp(_float(0.0) - x))


def erf(x: tirx.PrimExpr) -> tirx.PrimExpr:
    """The error function of a float32: a quotient of polynomials in x^2, times x. Coefficients of Eigen's `erf`."""
    given, bounded, square = (tirx.Var(name, "float32") for name in ("x", "bounded", "square"))
    quotient = bounded * _polynomial(_ERF_TOP, square) / _polynomial(_ERF_BOTTOM, square)
    quotient = tirx.Let(square, bounded * bounded, quotient)
    quotient = tirx.Let(bounded, tirx.max(tirx.min(given, _float(_ERF_ONE)), _float(-_ERF_ONE)), quotient)
    return tirx.Let(given, x, tirx.Select(tirx.isnan(given), given, quotient))


def _polynomial(coefficients: Sequence[float], x: tirx.PrimExpr) -> tirx.PrimExpr:
    """A polynomial by Horner's rule, with the coefficient of the highest power first."""
    value = _float(coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + _float(coefficient)
    return value


def _two_to(exponent: tirx.PrimExpr) -> tirx.PrimExpr:
    """2 to the power of an int32 from -126 to 127, made from its bits."""
    bits = tirx.shift_left(exponent + tirx.const(127, "int32"), tirx.const(23, "int32"))
    return tirx.reinterpret("float32", bits)


def _float(value: float) -> tirx.PrimExpr:
    return tirx.const(value, "float32")


_POLYNOMIALS: Mapping[str, Callable[..., tirx.PrimExpr]] = {"tirx.exp": exp, "tirx.sigmoid": sigmoid, "tirx.erf": erf}


def _polynomial_of(call: Any) -> Callable[..., tirx.PrimExpr] | None:
    """The polynomial that replaces a call; None where the call stays."""
    polynomial = _POLYNOMIALS.get(getattr(call.op, "name", ""))
    return polynomial if polynomial and str(call.ty.dtype) == "float32" else None


def _replaced(call: Any) -> Any:
    polynomial = _polynomial_of(call)
    return polynomial(*call.args) if polynomial else call
