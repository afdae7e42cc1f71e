"""How long each launch takes on the simulated GPU: the analytical model's estimate."""

from __future__ import annotations

from kernels.gpus import gpu_of
from kernels.launch_plan import Launch, LaunchPlan
from kernels.roofline import Work, estimate

_REGISTERS = 64
"""Of a thread: the host's compiler does not tell what ptxas would allot."""

_LEAST_S = 2e-6
"""Of a launch that the model gives no time, e.g. because no multiprocessor would hold its block."""


def seconds_of(plan: LaunchPlan, arch: str, flops: float, predicted_s: float) -> dict[str, float]:
    """Seconds of one launch by kernel. `predicted_s` is what the candidate's decisions say of its main launch, 0 where
    they say nothing; every other launch is estimated from its size, its part of `flops` and its arguments' bytes."""
    gpu = gpu_of(arch)
    each: dict[str, float] = {}
    for launch in plan.launches:
        moved = float(_bytes(plan, launch))
        work = Work(
            blocks=launch.blocks,
            threads=launch.threads,
            registers=_REGISTERS,
            shared_memory=launch.shared_bytes,
            flops=flops / len(plan.launches) / launch.blocks,
            l2_bytes=moved / launch.blocks,
            shared_bytes=0.0,
            least_dram_bytes=moved,
        )
        seconds = estimate(work, gpu).seconds
        each[launch.kernel] = seconds if seconds < float("inf") else _LEAST_S
    if predicted_s and predicted_s < float("inf"):
        main = max(plan.launches, key=lambda launch: (launch.shared_bytes > 0, launch.blocks * launch.threads))
        each[main.kernel] = predicted_s
    return each


def _bytes(plan: LaunchPlan, launch: Launch) -> int:
    sizes = [*(argument.nbytes for argument in plan.arguments), *plan.workspaces]
    return sum(sizes[slot] for slot in set(launch.args))
