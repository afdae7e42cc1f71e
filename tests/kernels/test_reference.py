"""The reference agrees with TVM's untuned code and with numpy and torch, and catches what is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from tvm import te, tirx, topi

from kernels import reference
from kernels.reference import domain, reductions

Array = np.ndarray[Any, Any]


def tensor(*shape: int, dtype: str = "float32") -> Any:
    return te.placeholder(shape, dtype, name="p")


def prim_func(inputs: list[Any], *outputs: Any) -> tirx.PrimFunc:
    return te.create_prim_func([*inputs, *outputs])


def random_inputs(func: tirx.PrimFunc, num_outputs: int = 1) -> list[Array]:
    rng = np.random.default_rng(7)
    arrays = []
    for param in list(func.params)[: len(func.params) - num_outputs]:
        shape, dtype = tuple(int(n) for n in param.shape), str(param.dtype)
        if dtype.startswith("float"):
            arrays.append(rng.standard_normal(shape).astype(dtype))
        else:
            arrays.append(rng.integers(0, 3, shape).astype(dtype))
    return arrays


def untuned(func: tirx.PrimFunc, inputs: list[Array], num_outputs: int = 1) -> list[Array]:
    """The outputs of TVM's unscheduled build."""
    outputs = [
        tvm.runtime.empty(tuple(int(n) for n in p.shape), str(p.dtype)) for p in list(func.params)[-num_outputs:]
    ]
    tvm.compile(func, target="llvm")(*map(tvm.runtime.tensor, inputs), *outputs)
    return [output.numpy() for output in outputs]


def conv(data: tuple[int, ...], weight: tuple[int, ...], stride: Any, padding: Any, groups: int = 1) -> tirx.PrimFunc:
    a, w = tensor(*data), tensor(*weight)
    if groups == data[1]:
        return prim_func([a, w], topi.nn.depthwise_conv2d_nchw(a, w, stride, padding, 1))
    if groups > 1:
        return prim_func([a, w], topi.nn.group_conv2d_nchw(a, w, stride, padding, 1, groups, "float32"))
    return prim_func([a, w], topi.nn.relu(topi.nn.conv2d_nchw(a, w, stride, padding, 1)))


def packed_conv(block: int = 16) -> tirx.PrimFunc:
    """data (1, ic/16, h, w, 16) and weight (oc/16, ic/16, kh, kw, 16, 16)."""
    a, w = tensor(1, 2, 9, 7, block), tensor(3, 2, 3, 3, block, block)
    padded = topi.nn.pad(a, (0, 0, 1, 1, 0), (0, 0, 1, 1, 0))
    ic, ry, rx = te.reduce_axis((0, 2 * block)), te.reduce_axis((0, 3)), te.reduce_axis((0, 3))
    out = te.compute(
        (1, 3, 9, 7, block),
        lambda n, o, y, x, c: te.sum(
            padded[n, ic // block, y + ry, x + rx, ic % block] * w[o, ic // block, ry, rx, ic % block, c], [ic, ry, rx]
        ),
    )
    return prim_func([a, w], out)


def matmul(a: Any, b: Any, **kwargs: Any) -> tirx.PrimFunc:
    return prim_func([a, b], topi.nn.matmul(a, b, **kwargs))


def unary(operation: Callable[[Any], Any], *shape: int, dtype: str = "float32") -> tirx.PrimFunc:
    a = tensor(*(shape or (7, 33)), dtype=dtype)
    return prim_func([a], operation(a))


def layer_norm() -> tirx.PrimFunc:
    a, gamma, beta = tensor(5, 48), tensor(48), tensor(48)
    return prim_func([a, gamma, beta], topi.nn.layer_norm(a, gamma, beta, [1], 1e-5))


def gather() -> tirx.PrimFunc:
    a, i = tensor(5, 8), tensor(6, dtype="int64")
    return prim_func([a, i], topi.take(a, i, axis=0, mode="clip"))


def pool(kind: str, padded: int = 1) -> tirx.PrimFunc:
    pads = (padded,) * 4
    return unary(lambda a: topi.nn.pool2d(a, (3, 3), (2, 2), (1, 1), pads, kind, count_include_pad=False), 2, 3, 11, 8)


PROGRAMS: dict[str, Callable[[], tirx.PrimFunc]] = {
    "conv": lambda: conv((1, 5, 9, 11), (7, 5, 3, 3), 1, 1),
    "conv strided": lambda: conv((2, 4, 13, 10), (6, 4, 3, 5), 2, (1, 2)),
    "conv 1x1": lambda: conv((1, 8, 6, 6), (4, 8, 1, 1), 1, 0),
    "conv grouped": lambda: conv((1, 12, 7, 7), (6, 4, 3, 3), 1, 1, groups=3),
    "conv depthwise": lambda: conv((1, 6, 9, 9), (6, 1, 3, 3), 2, 1, groups=6),
    "conv packed": packed_conv,
    "matmul": lambda: matmul(tensor(17, 31), tensor(31, 13)),
    "matmul batched": lambda: matmul(tensor(3, 9, 31), tensor(3, 31, 5)),
    "matmul int8": lambda: matmul(tensor(9, 70, dtype="int8"), tensor(70, 5, dtype="int8"), out_dtype="int32"),
    "matmul half to float": lambda: matmul(
        tensor(9, 70, dtype="float16"), tensor(70, 5, dtype="float16"), out_dtype="float32"
    ),
    "softmax": lambda: unary(lambda a: topi.nn.softmax(a, axis=-1)),
    "layer norm": layer_norm,
    "lrn": lambda: unary(lambda a: topi.nn.lrn(a, 5, 1, 1e-4, 0.75, 1.0), 1, 9, 4, 4),
    "max pool": lambda: pool("max"),
    "average pool": lambda: pool("avg"),
    "global pool": lambda: unary(lambda a: topi.nn.global_pool(a, "avg"), 1, 6, 5, 7),
    "sum": lambda: unary(lambda a: topi.sum(a, axis=[0, 2]), 3, 4, 5),
    "min of all": lambda: unary(topi.min),
    "argmax": lambda: unary(lambda a: topi.argmax(a, axis=1)),
    "erf": lambda: unary(topi.erf),
    "tanh": lambda: unary(topi.tanh),
    "sigmoid": lambda: unary(topi.sigmoid),
    "exp": lambda: unary(topi.exp),
    "rsqrt": lambda: unary(lambda a: topi.rsqrt(a * a + tirx.const(1.0, "float32"))),
    "power": lambda: unary(lambda a: topi.power(topi.exp(a), 1.5)),
    "round": lambda: unary(lambda a: topi.round(a * tirx.const(4.0, "float32"))),
    "through half": lambda: unary(lambda a: topi.cast(topi.cast(a, "float16"), "float32")),
    "truncated division": lambda: unary(lambda a: topi.cast(a * tirx.const(9.0, "float32"), "int32")),
    "reshape": lambda: unary(lambda a: topi.reshape(a, (11, 21))),
    "transpose": lambda: unary(lambda a: topi.transpose(a, (2, 0, 1)), 3, 4, 5),
    "concatenate": lambda: unary(lambda a: topi.concatenate([a, topi.nn.relu(a)], axis=1)),
    "gather": gather,
    "mask": lambda: unary(lambda a: topi.where(topi.logical_not(topi.greater(a, 0.5)), a, topi.negative(a))),
    "clip": lambda: unary(lambda a: topi.clip(a, -1.0, 0.5)),
    "scalar": lambda: unary(topi.sum, 6),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_agrees_with_untuned_code_and_catches_a_wrong_value(name: str) -> None:
    func = PROGRAMS[name]()
    inputs = random_inputs(func)
    copies = [x.copy() for x in inputs]
    [expected] = reference.evaluate(func, inputs)
    [actual] = untuned(func, inputs)
    assert all(np.array_equal(x, y) for x, y in zip(inputs, copies, strict=True)), "inputs were changed"
    dtype, k = reference.working_dtype(func), reference.reduction_length(func)
    right, worst, _, reason = reference.compare(actual, expected, dtype, k)
    assert right, reason

    if expected.dtype.kind == "f":
        rtol, factor = reference.tolerance(dtype, k)
        assert worst <= 0.5 * (rtol * np.abs(expected).max() + factor * np.sqrt(np.mean(expected**2))), "no room left"
    wrong = actual.copy()
    wrong.reshape(-1)[-1] += max(1, 3 * np.abs(actual).max() * reference.tolerance(dtype, k)[0])
    right, _, _, reason = reference.compare(wrong, expected, dtype, k)
    assert not right
    assert "1 of" in reason


def test_a_large_convolution_in_chunks_agrees_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    func = conv((1, 64, 28, 28), (96, 64, 3, 3), 1, 1)
    inputs = random_inputs(func)
    expected = torch.relu(
        torch.nn.functional.conv2d(*(torch.from_numpy(x).double() for x in inputs), padding=1)
    ).numpy()
    [whole] = reference.evaluate(func, inputs)
    monkeypatch.setattr(domain, "CHUNK", 1 << 14)
    [chunked] = reference.evaluate(func, inputs)
    np.testing.assert_allclose(whole, expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(chunked, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["max pool", "softmax", "layer norm", "sum", "conv grouped", "matmul int8"])
def test_chunks_do_not_change_the_output(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    func = PROGRAMS[name]()
    inputs = random_inputs(func)
    [whole] = reference.evaluate(func, inputs)
    monkeypatch.setattr(domain, "CHUNK", 40)
    [chunked] = reference.evaluate(func, inputs)
    np.testing.assert_allclose(chunked, whole, rtol=1e-12, atol=1e-12)


def test_several_outputs() -> None:
    a = tensor(4, 6)
    func = prim_func([a], topi.tanh(a), topi.sum(a, axis=1))
    inputs = random_inputs(func, num_outputs=2)
    tanh, total = reference.evaluate(func, inputs, num_outputs=2)
    np.testing.assert_allclose(tanh, np.tanh(inputs[0].astype(np.float64)), rtol=1e-14)
    np.testing.assert_allclose(total, inputs[0].sum(axis=1, dtype=np.float64), rtol=1e-14)


def test_bfloat16_rounds_to_even() -> None:
    func = unary(lambda a: topi.cast(topi.cast(a, "bfloat16"), "float32"), 4)
    values = np.array([1.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, -3.1415927], np.float32)
    [rounded] = reference.evaluate(func, [values])
    assert rounded.tolist() == [1.0, 1.0, 1 + 2.0**-6, -3.140625]


def test_integers_divide_as_in_c_and_wrap() -> None:
    a, b = tensor(4, dtype="int8"), tensor(4, dtype="int8")
    x, y = np.array([7, -7, 100, -8], np.int8), np.array([2, 2, 100, -3], np.int8)
    quotient = te.compute((4,), lambda i: tirx.truncdiv(a[i], b[i]))
    [quotients] = reference.evaluate(prim_func([a, b], quotient), [x, y])
    assert quotients.tolist() == [3, -3, 1, 2]
    assert quotients.dtype == np.int8
    [total] = reference.evaluate(prim_func([a, b], topi.add(a, b)), [x, y])
    assert total.tolist() == [9, -5, -56, -11]


def test_a_read_outside_is_rejected_unless_guarded() -> None:
    a = tensor(4)
    bare = te.compute((4,), lambda i: a[i + 1])
    guarded = te.compute((4,), lambda i: tirx.if_then_else(i < 3, a[i + 1], tirx.const(0.0, "float32")))
    values = np.arange(4, dtype=np.float32)
    with pytest.raises(reference.Unsupported, match="outside"):
        reference.evaluate(prim_func([a], bare), [values])
    assert reference.evaluate(prim_func([a], guarded), [values])[0].tolist() == [1, 2, 3, 0]


def test_what_has_no_rule_is_named() -> None:
    a = tensor(4)
    odd = te.compute((4,), lambda i: tirx.call_pure_extern("float32", "mystery", a[i]))
    with pytest.raises(reference.Unsupported, match="call_pure_extern"):
        reference.evaluate(prim_func([a], odd), [np.ones(4, np.float32)])
    schedule = tvm.s_tir.Schedule(PROGRAMS["matmul"]())
    schedule.split(schedule.get_loops(schedule.get_sblock("T_matmul_NN"))[0], [None, 4])
    with pytest.raises(reference.Unsupported):
        reference.evaluate(schedule.mod["main"], [np.ones((17, 31), np.float32), np.ones((31, 13), np.float32)])


def test_a_long_odd_reduction_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reductions, "MAX_STEPS", 10)
    func = PROGRAMS["argmax"]()
    with pytest.raises(reference.Unsupported, match="steps"):
        reference.evaluate(func, random_inputs(func))


def test_inputs_must_fit() -> None:
    func = PROGRAMS["erf"]()
    with pytest.raises(ValueError, match="1 arguments"):
        reference.evaluate(func, [])
    with pytest.raises(ValueError, match="float32"):
        reference.evaluate(func, [np.zeros((7, 33))])
    with pytest.raises(ValueError, match=r"\(7, 33\)"):
        reference.evaluate(func, [np.zeros((7, 32), np.float32)])


def test_reduction_lengths_add_up() -> None:
    assert reference.reduction_length(PROGRAMS["conv"]()) == 5 * 3 * 3
    assert reference.reduction_length(PROGRAMS["layer norm"]()) == 2 * 48
    assert reference.reduction_length(PROGRAMS["max pool"]()) == 1
    assert reference.reduction_length(PROGRAMS["erf"]()) == 1


def test_working_dtype_is_the_coarsest_that_computes() -> None:
    assert reference.working_dtype(PROGRAMS["matmul half to float"]()) == "float32"
    assert reference.working_dtype(PROGRAMS["through half"]()) == "float32", "a rounding is no arithmetic"
    assert reference.working_dtype(PROGRAMS["matmul int8"]()) == "int32"


def test_roundings_add_to_the_tolerance_of_what_is_rounded() -> None:
    half, quantized = reference.EPSILON["float16"], unary(lambda a: topi.cast(topi.round(a * _float(9.0)), "int8"))
    assert reference.rounding(PROGRAMS["through half"]()) == (reference.ROUNDED * half,)
    assert reference.rounding(unary(lambda a: topi.cast(topi.exp(a), "float16"))) == (half,), "one step of the output"
    assert reference.rounding(quantized) == (1.0,), "one step of an integer"
    for name in ("matmul int8", "matmul half to float", "argmax", "gather", "softmax"):
        assert not any(reference.rounding(PROGRAMS[name]())), name


def test_few_integers_may_be_rounded_apart() -> None:
    expected = np.random.default_rng(0).integers(-100, 100, (40, 50)).astype(np.int8)
    apart = expected.copy()
    apart[3, :7] += 1
    assert not reference.Expectation(expected, "float32", 1).check(apart)[0]
    assert reference.Expectation(expected, "float32", 1, 1.0).check(apart)[0]
    apart[3, 7] += 2
    assert "1 of 2000" in reference.Expectation(expected, "float32", 1, 1.0).check(apart)[3], "two steps are wrong"
    assert not reference.Expectation(expected, "float32", 1, 1.0).check(expected + (expected > 0))[0], "so are many"


def _float(value: float) -> tirx.PrimExpr:
    return tirx.const(value, "float32")


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_bits_as_another_dtype(dtype: str) -> None:
    """Those of a bfloat16 as a number, and shifted as a float32's."""
    values = np.array([1.5, -0.0, 3e38, np.inf], np.float32)

    def bits(a: te.Tensor) -> te.Tensor:
        narrow = te.compute(a.shape, lambda i: tirx.reinterpret("uint16", a[i]), "bits")
        if dtype == "uint16":
            return narrow
        wide = lambda i: tirx.reinterpret("float32", narrow[i].astype("uint32") << tirx.const(16, "uint32"))  # noqa: E731
        return te.compute(a.shape, wide, "wide")

    a = te.placeholder((4,), "bfloat16", name="a")
    [output] = reference.evaluate(te.create_prim_func([a, bits(a)]), [values.astype("bfloat16")])
    rounded = values.astype("bfloat16")
    expected = rounded.view(np.uint16) if dtype == "uint16" else rounded.astype(np.float64)
    np.testing.assert_array_equal(output, expected)


# --- comparing --------------------------------------------------------------------------------------


@given(
    k=st.integers(1, 100_000),
    dtype=st.sampled_from(["float32", "float16", "bfloat16", "float64"]),
    excess=st.floats(1.1, 1e6),
    sign=st.sampled_from([-1, 1]),
)
def test_the_tolerance_is_the_documented_one(k: int, dtype: str, excess: float, sign: int) -> None:
    expected = np.random.default_rng(k).standard_normal(100)
    rtol, factor = reference.tolerance(dtype, k)
    line = rtol * abs(expected[42]) + factor * np.sqrt(np.mean(expected**2))
    almost, over = expected.copy(), expected.copy()
    almost[42] += 0.9 * sign * line
    over[42] += excess * sign * line
    assert reference.compare(almost, expected, dtype, k)[0]
    right, worst, relative, reason = reference.compare(over, expected, dtype, k)
    assert not right
    assert worst == pytest.approx(excess * line, rel=1e-3)
    assert relative > 0
    assert "1 of 100 values wrong, first at (42,)" in reason


@pytest.mark.parametrize("k", [9, 576, 4608, 25088])
def test_leaving_out_one_term_of_a_sum_is_caught(k: int) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((8, k)), rng.standard_normal((k, 8))
    expected = a @ b
    left_out = expected - np.outer(a[:, k // 2], b[k // 2])
    assert not reference.compare(left_out, expected, "float32", k)[0]


def test_values_that_are_not_finite() -> None:
    nan, inf = float("nan"), float("inf")
    finite = np.array([1.0, 2.0])
    odd = np.array([nan, inf])
    assert reference.compare(odd, odd, "float32", 1) == (True, 0.0, 0.0, "")
    assert reference.compare(np.array([1e3, inf]), np.array([1e3, 1e39]), "float32", 1)[0], "fp32 cannot hold 1e39"
    for actual, expected in ((odd, finite), (finite, odd), (np.array([nan, -inf]), odd), (-odd, odd)):
        right, worst, _, reason = reference.compare(actual, expected, "float32", 1)
        assert not right
        assert worst == inf
        assert "not finite" in reason


def test_most_of_a_gelu_in_its_tail_is_judged_by_the_rest() -> None:
    """1 + erf(x) is 0 from -5.5 on in float32, and -3e-11 is then right to a rounding of one."""
    x = np.full(1000, -6.6)
    x[:20] = np.linspace(-2, 2, 20)
    expected = np.array([v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in x])
    narrow = x.astype(np.float32)
    erf = np.array([math.erf(v / math.sqrt(2)) for v in narrow], np.float32)
    got = narrow * np.float32(0.5) * (np.float32(1) + erf)
    assert reference.compare(got, expected, "float32", 1)[0]
    got[3] *= 1.001
    assert not reference.compare(got, expected, "float32", 1)[0]


@pytest.mark.parametrize("apart", [False, True])
def test_what_errs_on_the_way_is_known_by_its_size(apart: bool) -> None:
    """All results lie in the tail: -1.3e-7, made of numbers near one. The stages are one block, or two."""
    x = te.placeholder((64,), name="x")
    one, root = tirx.const(1.0, "float32"), tirx.const(math.sqrt(0.5), "float32")
    if apart:
        erf = te.compute((64,), lambda i: tirx.erf(x[i] * root))
        made = te.compute((64,), lambda i: x[i] * (one + erf[i]) * tirx.const(0.5, "float32"))
    else:
        made = te.compute((64,), lambda i: x[i] * (one + tirx.erf(x[i] * root)) * tirx.const(0.5, "float32"))
    function = te.create_prim_func([x, made])
    data = np.full(64, -5.3, np.float32)
    outputs = reference.evaluate(function, [data])
    [passing] = reference.passing_sizes(function, [data], outputs)
    assert passing == pytest.approx(2.65, rel=1e-3)
    got = data * np.float32(0.5) * (np.float32(1) + np.float32(math.erf(-5.3 * math.sqrt(0.5))))
    assert not reference.compare(got, outputs[0], "float32", 1)[0]
    assert reference.compare(got, outputs[0], "float32", 1, passing=passing)[0]
    [expectation] = reference.expectations(outputs, "float32", 1, [], [passing])
    assert expectation.check(got)[0]
    assert not expectation.check(got + np.float32(2e-5))[0]


def test_programs_without_exponentials_have_no_such_size() -> None:
    x = te.placeholder((4,), name="x")
    function = te.create_prim_func([x, te.compute((4,), lambda i: x[i] - tirx.const(1.0, "float32"))])
    data = np.ones(4, np.float32)
    assert reference.passing_sizes(function, [data], reference.evaluate(function, [data])) == (0.0,)


def test_an_outlier_does_not_excuse_the_others() -> None:
    expected = np.random.default_rng(1).standard_normal(1000)
    expected[0] = -3.4e38
    wrong = expected.copy()
    wrong[500] += 0.01
    assert reference.compare(expected, expected, "float32", 64)[0]
    assert not reference.compare(wrong, expected, "float32", 64)[0]


def test_integers_shapes_and_nothing() -> None:
    ones = np.ones(3, np.int32)
    assert reference.compare(ones, ones, "int32", 1)[0]
    assert not reference.compare(ones + np.array([0, 1, 0], np.int32), ones, "float16", 1)[0]
    assert "shape" in reference.compare(ones[:2], ones, "int32", 1)[3]
    assert reference.compare(np.zeros((0, 4)), np.zeros((0, 4)), "float32", 1)[0]
    zeros = np.zeros(3)
    assert reference.compare(zeros, zeros, "float32", 1)[0]
    assert not reference.compare(np.array([0, 1e-9, 0]), zeros, "float32", 1)[0], "nothing but zero is zero"


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_an_expectation_checks_as_compare_does(scale: float) -> None:
    rng = np.random.default_rng(3)
    expected = (rng.standard_normal((40, 50)) * scale).astype(np.float32)
    expectation = reference.Expectation(expected, "float32", 64)
    for error in (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-2):
        actual = expected.copy()
        actual[7, 9] += error * scale
        assert expectation.check(actual)[0] == reference.compare(actual, expected, "float32", 64)[0], error
    broken = expected.copy()
    broken[0, 0] = np.nan
    assert not expectation.check(broken)[0]
    assert not expectation.check(expected[:, :49])[0]
    constant = np.zeros((3, 3), np.float32)
    assert reference.Expectation(constant, "float32", 4).check(constant)[0]
    assert not reference.Expectation(constant, "float32", 4).check(constant + 1)[0]
