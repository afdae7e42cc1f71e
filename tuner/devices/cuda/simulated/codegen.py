"""A scheduled candidate compiled for the simulated GPU, with the analytical model's estimate of its launches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.devices.build_service import Compiled, Scheduled
from tuner.devices.cuda.codegen import compile_through
from tuner.devices.cuda.simulated import native
from tuner.protocols import BuildFailure
from tuner.records import Status

if TYPE_CHECKING:
    from kernels.cubin import Cubin
    from kernels.emit_gpu import GpuProgram
    from kernels.passes import PassConfig


def compile(scheduled: Scheduled) -> Compiled | BuildFailure:
    """As for a GPU; options of nvcc have no meaning here."""
    from tuner.devices.cuda.simulated.compiler import compile_simulated
    from tuner.devices.cuda.simulated.estimates import seconds_of

    def cubin(source: str, arch: str, program: GpuProgram, passes: PassConfig) -> Cubin:
        seconds = seconds_of(program.plan, arch, scheduled.flops, scheduled.predicted_s)
        return compile_simulated(source, arch, scheduled.folder, seconds)

    try:
        return compile_through(cubin, scheduled)
    except native.Unavailable as error:
        return BuildFailure(Status.BUILD_FAILED, str(error)[:300])
