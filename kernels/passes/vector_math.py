"""Elementary functions as polynomials, which are vectorized; calls are not."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import tvm
import tvm_ffi
from tvm import tirx
from tvm.target import Target

from kernels import examples
from kernels.lowering import nodes
from kernels.passes.base import Documentation, Example, Pass, Requirement, View

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

_TANH_TOP = (-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08,
             1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03)  # fmt: skip
_TANH_BOTTOM = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
_TANH_ONE = 7.99881172180175781
"""From here on tanh is 1 in float32, within 2 units in the last place."""

_LOG = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
        2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip
_ROOT_HALF_BITS = 0x3F3504F3
"""The bits of the root of 1/2: mantissas of `log` lie between it and twice it."""
_SUBNORMAL_SCALE = 23
_WHOLE_POWERS = (2.0, 3.0, 4.0)
"""Exponents for which products are within 2 units in the last place; LLVM finds the root for 0.5 by itself."""


@dataclass(frozen=True)
class VectorMath(Pass):
    """Compute float32's elementary functions by polynomials in the kernel itself.

    The errors are at most 2 units in the last place for `exp` and `log`, 4 for `sigmoid`, 5 for `tanh` and 8 for
    `erf`. `pow` with a constant exponent of 2, 3 or 4 becomes products, within 2; with another exponent it stays, since
    e^(y log x) is not right. TVM calls the C library once for each element, even in vectorized loops.
    """

    name: ClassVar[str] = "vector_math"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement(
                "the function is one of float32 that has a polynomial", "the call's name and dtype; else refused"
            ),
            Requirement(
                "an error of a few units in the last place is allowed",
                "bounds by test against float64 over the whole range; each kernel's outputs are checked",
            ),
        ),
        options={"on": "elementary functions of float32 are polynomials in the kernel"},
        counters={"calls": "of elementary functions that the C library computes, one element each"},
        loses="Where a kernel computes so few functions that calls do not matter.",
        elsewhere="LLVM `-fveclib`, SLEEF, MLIR `math-polynomial-approximation`, Eigen's packet math",
        example=Example(
            examples.exponentials,
            examples.vectors,
            "vector_math{on=0}",
            "vector_math{on=1}",
            View.ASSEMBLY,
            "expf|fmadd|rndscale",
        ),
    )
    on: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(True), cls(False)) if target_kind == "llvm" else (cls(False),)

    @classmethod
    def concerns(cls, module: tvm.IRModule) -> bool:
        return any(map(_polynomial_of, nodes(module["main"].body, tvm.ir.Call)))

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        if not self.on or any(map(_polynomial_of, nodes(function.body, tvm.ir.Call))):
            return ""
        return "it calls no elementary function of float32 that has a polynomial"

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        names = [getattr(call.op, "name", "") for call in nodes(function.body, tvm.ir.Call)]
        return {"calls": sum(name in _POLYNOMIALS for name in names)}

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
    return _odd_quotient(x, _ERF_TOP, _ERF_BOTTOM, _ERF_ONE)


def tanh(x: tirx.PrimExpr) -> tirx.PrimExpr:
    """The hyperbolic tangent of a float32: a quotient of polynomials in x^2, times x. Coefficients of Eigen's."""
    return _odd_quotient(x, _TANH_TOP, _TANH_BOTTOM, _TANH_ONE)


def _odd_quotient(x: tirx.PrimExpr, top: Sequence[float], bottom: Sequence[float], one: float) -> tirx.PrimExpr:
    """x times a quotient of polynomials in x^2, with x kept between -`one` and `one`; NaN of NaN."""
    given, bounded, square = (tirx.Var(name, "float32") for name in ("x", "bounded", "square"))
    quotient = bounded * (_polynomial(top, square) / _polynomial(bottom, square))
    quotient = tirx.Let(square, bounded * bounded, quotient)
    quotient = tirx.Let(bounded, tirx.max(tirx.min(given, _float(one)), _float(-one)), quotient)
    return tirx.Let(given, x, tirx.Select(tirx.isnan(given), given, quotient))


def log(x: tirx.PrimExpr) -> tirx.PrimExpr:
    """The natural logarithm of a float32: x = m 2^e, a polynomial of m - 1, plus e ln 2 in two parts.

    After Cephes (`logf`). Zero, negative numbers, infinity, NaN and subnormals are right.
    """
    given, normal, rest, square, power = (tirx.Var(name, "float32") for name in ("x", "normal", "r", "square", "e"))
    bits, whole = tirx.Var("bits", "int32"), tirx.Var("whole", "int32")
    small = given < _float(float.fromhex("0x1p-126"))
    value = _polynomial(_LOG, rest) * rest * square + power * _float(_LN2_LOW) - _float(0.5) * square
    value = rest + value + power * _float(_LN2_HIGH)
    value = tirx.Let(square, rest * rest, value)
    mantissa = tirx.reinterpret("float32", bits - tirx.shift_left(whole, tirx.const(23, "int32")))
    value = tirx.Let(rest, mantissa - _float(1.0), value)
    lost = tirx.Select(small, _float(_SUBNORMAL_SCALE), _float(0.0))
    value = tirx.Let(power, tirx.Cast("float32", whole) - lost, value)
    value = tirx.Let(
        whole, tirx.shift_right(bits - tirx.const(_ROOT_HALF_BITS, "int32"), tirx.const(23, "int32")), value
    )
    value = tirx.Let(bits, tirx.reinterpret("int32", normal), value)
    value = tirx.Let(normal, tirx.Select(small, given * _float(2.0**_SUBNORMAL_SCALE), given), value)
    value = tirx.Select(given < _float(math.inf), value, given)  # infinity and NaN
    value = tirx.Select(given == _float(0.0), _float(-math.inf), value)
    value = tirx.Select(given < _float(0.0), _float(math.nan), value)
    return tirx.Let(given, x, value)


def power(x: tirx.PrimExpr, y: tirx.PrimExpr) -> tirx.PrimExpr:
    """x^y of a float32 as products, for a constant y of `_WHOLE_POWERS`."""
    given = tirx.Var("x", "float32")
    return tirx.Let(given, x, functools.reduce(operator.mul, [given] * int(y.value)))


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


_POLYNOMIALS: Mapping[str, Callable[..., tirx.PrimExpr]] = {
    "tirx.exp": exp,
    "tirx.log": log,
    "tirx.sigmoid": sigmoid,
    "tirx.tanh": tanh,
    "tirx.erf": erf,
    "tirx.pow": power,
}


def _polynomial_of(call: Any) -> Callable[..., tirx.PrimExpr] | None:
    """The polynomial that replaces a call; None where the call stays."""
    polynomial = _POLYNOMIALS.get(getattr(call.op, "name", ""))
    if polynomial is None or str(call.ty.dtype) != "float32":
        return None
    if polynomial is power and getattr(call.args[1], "value", None) not in _WHOLE_POWERS:
        return None
    return polynomial


def _replaced(call: Any) -> Any:
    polynomial = _polynomial_of(call)
    return polynomial(*call.args) if polynomial else call
