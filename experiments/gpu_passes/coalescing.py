"""Are random thread-bound programs right after the coalescing pass, and what does it save? Executed by PoCL;
transactions are counted, not measured.

python experiments/gpu_passes/coalescing.py [-n PROGRAMS] [--first SEED] [--json FILE]
python experiments/gpu_passes/coalescing.py --simulated-cuda ...

With --simulated-cuda the programs are executed as CUDA, by TVM's own runtime on the simulated driver, which sees races
and threads that miss a barrier; nothing is sabotaged there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tvm
from tvm.target import Target

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kernels.access import analyze
from kernels.coalescing import coalesced
from kernels.emit_gpu import GpuProgram
from kernels.opencl import emit_opencl
from kernels.reference import compare, evaluate, reduction_length, working_dtype
from kernels.space import Candidate
from kernels.tensors import poison, seeded_inputs
from kernels.workload import from_prim_func
from tests.kernels.coalescing_programs import bound, program
from tests.kernels.opencl_ground import TARGET, Case, Ground, overlapping_tiles, without_barrier
from tuner.devices.opencl.driver import devices
from tuner.devices.opencl.facts import POCL

_SABOTAGED = 40
"""Programs that are sabotaged, of those that stage operands."""


def one(seed: int, ground: Ground, sabotage: bool) -> dict[str, Any]:
    """The row of one program."""
    function, kind = program(seed)
    scheduled = bound(function, seed)
    rewritten, [made] = coalesced(scheduled)
    module = tvm.IRModule({"main": rewritten})
    case = Case(from_prim_func(function, kind), Candidate(-1), emit_opencl(module, TARGET))
    wrong = ground.wrong(case)
    [before], [after] = analyze(tvm.IRModule({"main": scheduled}), TARGET), analyze(module, TARGET)
    row = {
        "seed": seed, "kind": kind, "shapes": [list(map(int, p.shape)) for p in function.params],
        "plan": made.plan, "reason": made.reason, "wrong": wrong,
        "wrong_replicated": replicated(ground, case) if wrong else "",
        "sectors": [before.total("global", "transactions"), after.total("global", "transactions")],
        "bank_conflicts": after.total("shared", "excess"),
    }  # fmt: skip
    if sabotage and "staged" in made.plan:
        changed = [without_barrier(case.program, n) for n in range(4)] + [overlapping_tiles(case.program)]
        row["sabotages"] = [bool(ground.wrong(case, other)) for other in changed if other is not None]
    return row


class SimulatedCuda:
    """The simulated GPU of this process, used through TVM's CUDA runtime."""

    label = "the simulated CUDA GPU of tuner/devices/cuda/simulated"

    def __init__(self) -> None:
        from tuner.devices.cuda.assembly import compile_models_with
        from tuner.devices.cuda.simulated import native
        from tuner.devices.cuda.simulated.assembly import compiled

        native.preload_runtime()
        compile_models_with(compiled)
        self._target = Target({"tag": "nvidia/nvidia-h100"})

    def wrong(self, function: Any, rewritten: Any) -> str:
        """What is wrong with a rewritten program's output, or ""."""
        made = from_prim_func(function, "program")
        inputs = seeded_inputs(made.inputs, 3)
        [expected] = evaluate(function, seeded_inputs(made.inputs, 3), made.num_outputs)
        module, device = tvm.IRModule({"main": rewritten.with_attr("global_symbol", "main")}), tvm.cuda(0)
        try:
            with self._target:
                library = tvm.compile(module, self._target)
            output = tvm.runtime.tensor(poison(made.outputs[0]), device)
            library(*[tvm.runtime.tensor(value, device) for value in inputs], output)
            device.sync()
        except (RuntimeError, ValueError) as error:
            return str(error)[-300:]
        right, _, _, reason = compare(output.numpy(), expected, working_dtype(function), reduction_length(function))
        return "" if right else str(reason)


def one_simulated(seed: int, gpu: SimulatedCuda) -> dict[str, Any]:
    """The row of one program on the simulated GPU."""
    function, kind = program(seed)
    scheduled = bound(function, seed)
    rewritten, [made] = coalesced(scheduled)
    both = [analyze(tvm.IRModule({"main": f}), TARGET)[0] for f in (scheduled, rewritten)]
    counted = [launch.total("global", "transactions") for launch in both]
    return {
        "seed": seed, "kind": kind, "shapes": [list(map(int, p.shape)) for p in function.params], "plan": made.plan,
        "reason": made.reason, "wrong": gpu.wrong(function, rewritten), "wrong_replicated": "", "sectors": counted,
    }  # fmt: skip


def replicated(ground: Ground, case: Case) -> str:
    """As `Ground.wrong`, with PoCL's other way to run the work items of a group: their code is repeated, where it has
    loops over them else. The driver reads the variable whenever it compiles; a comment keeps it from its cache."""
    os.environ["POCL_WORK_GROUP_METHOD"] = "workitemrepl"
    try:
        return ground.wrong(case, GpuProgram(f"{case.program.source}\n// replicated\n", case.program.plan))
    finally:
        del os.environ["POCL_WORK_GROUP_METHOD"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=320, help="programs")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first one")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--simulated-cuda", action="store_true", help="as CUDA on the simulated driver, not on PoCL")
    arguments = parser.parse_args()
    row: Callable[[int], dict[str, Any]]
    if arguments.simulated_cuda:
        gpu = SimulatedCuda()
        label, row = gpu.label, lambda seed: one_simulated(seed, gpu)
    else:
        facts = next(facts for facts in devices() if facts.platform == POCL)
        ground, few = Ground(facts.number), arguments.first + _SABOTAGED
        label, row = facts.label, lambda seed: one(seed, ground, seed < few)
    rows = []
    for seed in range(arguments.first, arguments.first + arguments.n):
        rows.append(row(seed))
        if rows[-1]["wrong"]:
            print(json.dumps(rows[-1]), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(summary(label, rows), indent=1) + "\n")
    print(json.dumps({key: value for key, value in summary(label, rows).items() if key != "programs"}, indent=1))


def summary(device: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the rows say together. Ratios are of counted sectors: geometric means over the programs that changed."""
    changed = [row for row in rows if row["plan"]]
    ratios = [row["sectors"][0] / row["sectors"][1] for row in changed if row["sectors"][1]]
    mean = math.exp(sum(map(math.log, ratios)) / max(len(ratios), 1))
    sabotages = [seen for row in rows for seen in row.get("sabotages", [])]
    return {
        "device": device, "executed": len(rows), "right": sum(not row["wrong"] for row in rows),
        "right_when_replicated": sum(bool(row["wrong"]) and not row["wrong_replicated"] for row in rows),
        "rewritten": len(changed), "fewer_sectors": round(mean, 3),
        "kinds": dict(Counter(row["kind"] for row in changed)), "reasons": dict(Counter(row["reason"] for row in rows)),
        "sabotages": {"made": len(sabotages), "seen": sum(sabotages)}, "programs": rows,
    }  # fmt: skip


if __name__ == "__main__":
    main()
