"""Are random programs right with persistent blocks and stream-K, are their bits the same every time, and is what is
broken on purpose seen? Executed on the simulated CUDA GPU, or by PoCL; nothing is timed.

python experiments/gpu_passes/persistent.py --json FILE [-n PROGRAMS] [--first SEED] [--device simulated_cuda|pocl]

A program is drawn by its seed: products, convolutions and softmaxes of odd, prime and unit extents under candidates of
their spaces, and programs whose loops are bound at random; with `persist`, `stream_k`, or both, for one to 13 resident
blocks. Each is run twice. Every fourth is broken in each way that it allows. A run continues its file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tvm.target import Target

from experiments.common import write_json
from kernels.emit_gpu import emit
from kernels.opencl import emit_opencl
from kernels.tensors import seeded_inputs
from tests.kernels import cuda_ground, opencl_ground
from tests.kernels.gpu_ground import Case
from tests.kernels.persistent_programs import drawn, sabotages

_EVERY = 4
_RUNS = 2


class Simulated:
    """The simulated CUDA GPU of this process."""

    label, target, emit, barrier = "simulated_cuda", cuda_ground.TARGET, staticmethod(emit), "__syncthreads();"

    def __init__(self, folder: Path) -> None:
        self._ground = cuda_ground.Ground(folder)

    def wrong(self, case: Case, source: str | None = None) -> str:
        return self._ground.wrong(case, source)

    def kernel(self, case: Case) -> Any:
        compiled = self._ground._compiled(case.program.source)  # noqa: SLF001 - of the tests
        inputs = seeded_inputs(case.workload.inputs, 3)
        return self._ground.gpu.kernel(compiled, case.program.plan, inputs, list(case.workload.outputs))

    def synchronize(self) -> None:
        self._ground.gpu.synchronize()

    def close(self) -> None:
        self._ground.close()


class Pocl:
    """PoCL, as an OpenCL device with the limits of a small GPU."""

    label, target, emit = "pocl", opencl_ground.TARGET, staticmethod(emit_opencl)
    barrier = "barrier(CLK_LOCAL_MEM_FENCE);"

    def __init__(self, folder: Path) -> None:
        from tuner.devices.opencl.driver import devices
        from tuner.devices.opencl.facts import POCL

        self._ground = opencl_ground.Ground(next(facts.number for facts in devices() if facts.platform == POCL))

    def wrong(self, case: Case, source: str | None = None) -> str:
        from kernels.emit_gpu import GpuProgram

        return self._ground.wrong(case, None if source is None else GpuProgram(source, case.program.plan))

    def kernel(self, case: Case) -> Any:
        inputs = seeded_inputs(case.workload.inputs, 3)
        return self._ground._gpu.kernel(  # noqa: SLF001 - of the tests
            case.program.source.encode(), case.program.plan, inputs, list(case.workload.outputs)
        )

    def synchronize(self) -> None:
        self._ground._gpu.synchronize()  # noqa: SLF001

    def close(self) -> None:
        pass


DEVICES: dict[str, Callable[[Path], Simulated | Pocl]] = {"simulated_cuda": Simulated, "pocl": Pocl}


def one(seed: int, device: Simulated | Pocl) -> dict[str, Any]:
    """The row of one program; `wrong` is "" where all is right."""
    target: Target = device.target
    found = drawn(seed, target, device.emit)
    if found is None:
        return {"seed": seed, "skipped": True}
    case, applied = found
    row: dict[str, Any] = {
        "seed": seed, "program": case.workload.name, "passes": applied.passes.to_text(),
        "refused": dict(applied.refused), "launches": len(case.program.plan.launches), "wrong": device.wrong(case),
        "same_bits": same_bits(device, case),
    }  # fmt: skip
    if seed % _EVERY == 0 and not row["wrong"]:
        row["sabotages"] = {
            what: bool(device.wrong(case, source)) for what, source in sabotages(case.program.source, device.barrier)
        }
    return row


def same_bits(device: Simulated | Pocl, case: Case) -> bool:
    """Whether two runs have the same outputs."""
    kernel, runs = device.kernel(case), []
    try:
        for _ in range(_RUNS):
            kernel.enqueue(0)
            device.synchronize()
            runs.append([output.tobytes() for output in kernel.outputs()])
    finally:
        kernel.free()
    return all(run == runs[0] for run in runs)


def summary(device: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    executed = [row for row in rows if "wrong" in row]
    made: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for row in executed:
        for what, caught in row.get("sabotages", {}).items():
            made[what] += 1
            seen[what] += caught
    return {
        "device": device, "executed": len(executed), "right": sum(not row["wrong"] for row in executed),
        "same_bits": sum(row["same_bits"] for row in executed),
        "persist": sum("persist" in row["passes"] for row in executed),
        "stream_k": sum("stream_k" in row["passes"] for row in executed),
        "sabotages": {what: {"made": made[what], "seen": seen[what]} for what in made}, "rows": rows,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=300, help="programs")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first one")
    parser.add_argument("--device", choices=sorted(DEVICES), default="simulated_cuda")
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    stored = json.loads(arguments.json.read_text("utf-8")) if arguments.json.exists() else {}
    rows = stored.get(arguments.device, {}).get("rows", [])
    done = {row["seed"] for row in rows}
    with tempfile.TemporaryDirectory(prefix="persistent-") as folder:
        device = DEVICES[arguments.device](Path(folder))
        try:
            for seed in sorted(set(range(arguments.first, arguments.first + arguments.n)) - done):
                rows.append(one(seed, device))
                if rows[-1].get("wrong") or not rows[-1].get("same_bits", True):
                    print(json.dumps(rows[-1]), flush=True)
                stored[arguments.device] = summary(arguments.device, rows)
                write_json(arguments.json, stored)
        finally:
            device.close()
    print(json.dumps({key: value for key, value in stored[arguments.device].items() if key != "rows"}))


if __name__ == "__main__":
    main()
