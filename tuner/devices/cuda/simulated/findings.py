"""What the simulated GPU needs: a compiler, CUDA's headers, PyCUDA."""

from __future__ import annotations

from tuner.config import RunConfig
from tuner.devices.cuda.simulated.target import INSTALL, KIND, LABEL, missing_here, require
from tuner.devices.finding import Finding, Findings, State
from tuner.errors import TargetError


def findings(config: RunConfig) -> Findings:
    """Whether it can be used; broken where the run file wants it and it cannot."""
    spec = config.target.spec
    wanted = spec == KIND or (not isinstance(spec, str) and spec.get("model") == "simulated")
    if wanted:
        try:
            require()
        except TargetError as error:
            yield Finding(KIND, State.BROKEN, error.message, INSTALL)
            return
    elif missing := missing_here():
        advice = f"{INSTALL}; needed for `target: {KIND}` only"
        yield Finding(KIND, State.NOTE, f"missing: {'; '.join(missing)}", advice)
        return
    yield Finding(KIND, State.OK, LABEL)
    if wanted:
        yield Finding(KIND, State.NOTE, "the target is no GPU", "its times say nothing of one")
