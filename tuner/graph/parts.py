"""The tuned parts of a model that has islands: functions that stand side by side in one `main`, each by itself."""

from __future__ import annotations

from dataclasses import replace

import tvm
from tvm import relax

from tuner.graph.lower import Lowered
from tuner.graph.rewriter import Rewriter, variables_of
from tuner.models import ImportedModel, Segment


def tuned_parts(model: ImportedModel, graph: Lowered) -> list[tuple[ImportedModel, Lowered]]:
    """A model and its graph, or, with a plan, each of its tuned parts as such a pair, in order."""
    if model.plan is None or len(model.plan.tuned) == 1:
        return [(model, graph)]
    parts, params, results = [], 0, 0
    for segment in model.plan.tuned:
        part = _Part(segment, params, results)
        module = part.of(graph.module)
        called = {var.name_hint for var in module.functions}
        kernels = {name: key for name, key in graph.kernels.items() if name in called}
        tasks = tuple(task for task in graph.tasks if task.key in kernels.values())
        parts.append(
            (replace(model, module=part.of(model.module)), replace(graph, module=module, kernels=kernels, tasks=tasks))
        )
        params, results = params + len(segment.inputs), results + len(segment.outputs)
    return parts


class _Part:
    """Takes a segment, whose parameters and results begin at these numbers, out of modules."""

    def __init__(self, segment: Segment, params: int, results: int) -> None:
        self._params = range(params, params + len(segment.inputs))
        self._results = range(results, results + len(segment.outputs))

    def of(self, module: tvm.IRModule) -> tvm.IRModule:
        main = module["main"]
        bindings = [binding for block in main.body.blocks for binding in block.bindings]
        returned = next((b.value for b in bindings if b.var.same_as(main.body.body)), main.body.body)
        wanted = {returned.fields[number] for number in self._results}
        kept = []
        for binding in reversed(bindings):
            if binding.var in wanted:
                kept.append(binding)
                wanted.update(variables_of(binding.value))
        result = relax.Tuple([returned.fields[number] for number in self._results])
        result = result if len(self._results) > 1 else result.fields[0]
        params = [main.params[number] for number in self._params]
        body = relax.SeqExpr([relax.DataflowBlock(kept[::-1])], result)
        functions = dict(module.functions.items())
        functions[module.get_global_var("main")] = relax.Function(params, body, relax.TupleType([]))
        return relax.transform.DeadCodeElimination()(Rewriter(tvm.IRModule(functions)).run())
