"""Attention as one kernel: scores, their softmax and the product with the values, merged after each was lowered.

The stages are those of the three kernels. As one program they can be computed for a block of rows at a time, whose
scores then never leave the caches of the core (`kernels.space.attention`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call

from tuner.graph.rewriter import variables_of

RULE = "attention"
"""The sketch rule for such kernels."""


@dataclass(frozen=True)
class _Attention:
    """Calls whose results go from one to the next only: scores, softmax, product with the values."""

    scores: Call
    between: Any
    softmax: Call
    normalized: Any
    product: Call

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(str(call.args[0].name_hint) for call in (self.scores, self.softmax, self.product))

    @property
    def arguments(self) -> list[Any]:
        """What the calls read from outside, each once."""
        arguments: list[Any] = []
        for argument in (*_arguments(self.scores), *_arguments(self.product)):
            inside = argument.same_as(self.normalized)
            if not inside and not any(argument.same_as(other) for other in arguments):
                arguments.append(argument)
        return arguments

    @property
    def wiring(self) -> tuple[int, ...]:
        """Which argument each operand is, so that equal calls become one function."""
        known = self.arguments
        operands = (*_arguments(self.scores), *_arguments(self.product))
        return tuple(next((n for n, k in enumerate(known) if k.same_as(o)), -1) for o in operands)


def merged(module: tvm.IRModule, members: dict[str, list[str]], products: Mapping[str, Any]) -> tvm.IRModule:
    """The module with each attention as one kernel, and the members of the new kernels added to `members`.

    `module` is lowered, with one TensorIR function a kernel; `members` are the operators of each, and `products` are
    the names of operators that are products.
    """
    found = _attentions(module["main"], members, products)
    if not found:
        return module
    merge = _Merge(module, found)
    main = merge.visit_expr(module["main"])
    merge.builder_.update_func(module.get_global_var("main"), main)
    merged_module = relax.transform.DeadCodeElimination()(merge.builder_.get())
    for name, attention in merge.added.items():
        members[name] = [operator for kernel in attention.names for operator in members.get(kernel, [kernel])]
    return relax.transform.DeadCodeElimination()(relax.transform.FuseTIR()(merged_module))


def shapes(operators: Sequence[str], origins: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The queries and values of an attention in one kernel for its name, as in `6x197x64_by_6x197x64`; else None."""
    found = [origins[o] for o in operators if origins.get(o, {}).get("op") == "matmul"]
    if len(found) != 2 or not any(operator.startswith("softmax") for operator in operators):
        return None
    (*batch, _, depth), rows, values = found[0]["a"], found[1]["a"][-2], found[1]["b"]
    queries = *batch, rows, depth
    return f"{'x'.join(map(str, queries))}_by_{'x'.join(map(str, values))}"


def _attentions(main: Any, members: Mapping[str, list[str]], products: Mapping[str, Any]) -> dict[Any, _Attention]:
    """The attentions of a function, by the variables of their results."""
    calls = {b.var: b.value for block in main.body.blocks for b in block.bindings if _is_kernel(b.value)}
    values = [main.body.body, *(b.value for block in main.body.blocks for b in block.bindings)]
    uses = Counter(variable for value in values for variable in variables_of(value))

    def operators(call: Call) -> list[str]:
        name = str(call.args[0].name_hint)
        return members.get(name, [name])

    def once(variable: Any) -> bool:
        return uses[variable] == 1

    found = {}
    for variable, product in calls.items():
        normalized = _arguments(product)[0]
        softmax = calls.get(normalized) if operators(product)[0] in products else None
        if softmax is None or not once(normalized) or not operators(softmax)[0].startswith("softmax"):
            continue
        between = _arguments(softmax)[0]
        scores = calls.get(between)
        if str(normalized.ty.dtype) != "float32":  # the sketch rule knows no other products
            continue
        if len(_arguments(softmax)) == 1 and scores is not None and once(between) and operators(scores)[0] in products:
            found[variable] = _Attention(scores, between, softmax, normalized, product)
    return found


def _is_kernel(value: Any) -> bool:
    return isinstance(value, Call) and isinstance(value.op, tvm.ir.Op) and str(value.op.name) == "relax.call_tir"


def _arguments(call: Call) -> list[Any]:
    return list(call.args[1].fields)


@relax.expr_functor.mutator
class _Merge(relax.PyExprMutator):  # type: ignore[misc]
    """Replaces the last call of each attention by one of a function of all three, to be fused by TVM."""

    def __init__(self, module: tvm.IRModule, attentions: Mapping[Any, _Attention]) -> None:
        super().__init__(module)
        self._module = module
        self._attentions = attentions
        self._functions: dict[Any, Any] = {}
        self.added: dict[str, _Attention] = {}

    def visit_var_binding_(self, binding: Any) -> None:
        attention = self._attentions.get(binding.var)
        if attention is None:
            super().visit_var_binding_(binding)
            return
        key = attention.names, attention.wiring
        if key not in self._functions:
            function = self.builder_.add_func(_primitive(self._module, attention), RULE)
            self._functions[key] = function
            self.added[str(function.name_hint)] = attention
        arguments = [self.visit_expr(argument) for argument in attention.arguments]
        self.set_var_remap(binding.var, self.builder_.emit(Call(self._functions[key], arguments)))


def _primitive(module: tvm.IRModule, attention: _Attention) -> relax.Function:
    """A relax function of the three calls, marked so that TVM makes one kernel of it."""
    builder = relax.BlockBuilder()
    params = [relax.Var(f"p{n}", argument.ty) for n, argument in enumerate(attention.arguments)]
    known = list(zip(attention.arguments, params, strict=True))

    def call(of: Call) -> Call:
        operands = [next(p for a, p in known if a.same_as(operand)) for operand in _arguments(of)]
        return Call(of.op, [of.args[0], relax.Tuple(operands), *of.args[2:]], of.attrs, of.ty_args)

    with builder.function(RULE, params, attrs={"Primitive": True}):
        with builder.dataflow():
            known.append((attention.between, builder.emit(call(attention.scores))))
            known.append((attention.normalized, builder.emit(call(attention.softmax))))
            result = builder.emit_output(call(attention.product))
        builder.emit_func_output(result)
    return builder.get()[RULE]
