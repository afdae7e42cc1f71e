"""A scheduled candidate as `<entry>.o`, linked into `<entry>.so`; with it how many of its loops are vectors.

The object is kept: the whole model is later linked from the objects that were measured.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess

from tuner.devices.build_service import Compiled, Scheduled
from tuner.errors import InfrastructureError
from tuner.protocols import BuildFailure
from tuner.records import Status

_UNNEEDED = ("tirx.RemoveNoOp", "s_tir.RenormalizeSplitPattern")
"""Passes of TVM that cost a tenth of a build, and without which LLVM's code is the same, byte for byte."""


def compile(scheduled: Scheduled) -> Compiled | BuildFailure:
    """An object and a shared library of one kernel."""
    import tvm
    from tvm.target import Target

    from kernels.dots import imported
    from kernels.nests.scalar import loop_kinds

    entry = scheduled.entry
    applied = scheduled.candidate.passes.applied(scheduled.schedule.mod["main"], Target(dict(scheduled.target)))
    function, passes = imported(applied.function, entry).with_attr("global_symbol", entry), applied.passes
    target = Target(passes.target_options(scheduled.target))
    # No checks of ranks, shapes and strides in each kernel: half of its code, a fifth of its build. A kernel is
    # called only by this program and by the model's own code, which checks what it is given.
    options = {**passes.context_options(), "tirx.disable_assert": True}
    object_file = scheduled.folder / f"{entry}.o"
    try:
        with target, tvm.transform.PassContext(opt_level=3, config=options, disabled_pass=_UNNEEDED):
            library = tvm.compile(tvm.IRModule({entry: function}), target=target)
        library.mod.write_to_file(str(object_file))
    except (tvm.error.InternalError, RuntimeError, ValueError, TypeError) as error:
        message = str(error).strip()
        return BuildFailure(Status.BUILD_FAILED, message.splitlines()[-1][:300] if message else type(error).__name__)
    shared = object_file.with_suffix(".so")
    subprocess.run([*linker(), "-o", str(shared), str(object_file)], check=True, capture_output=True, timeout=60)
    counted = {"loops": loop_kinds(applied.function)}
    return Compiled(shared, hashlib.sha256(object_file.read_bytes()).hexdigest(), counted)


def linker() -> list[str]:
    """The command that links objects into a shared library. Raises InfrastructureError without one."""
    for name, flags in (("ld", ["-shared"]), ("cc", ["-shared"]), ("gcc", ["-shared"])):
        program = shutil.which(name)
        if program:
            return [program, *flags]
    raise InfrastructureError("no linker found (ld, cc or gcc)", "install a C toolchain, e.g. the package gcc")


def c_compiler() -> str:
    """The program that compiles C. Raises InfrastructureError without one."""
    names = ("cc", "gcc", "g++", "clang")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        raise InfrastructureError(f"no C compiler found ({', '.join(names)})", "install one, e.g. the package gcc")
    return program
