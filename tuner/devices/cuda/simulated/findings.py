"""What the simulated GPU needs: a compiler, CUDA's headers, PyCUDA."""

from __future__ import annotations

from tuner.config import RunConfig
from tuner.devices.cuda.simulated.target import INSTALL, KIND, LABEL, missing_here
from tuner.devices.finding import Finding, Findings, State


def findings(config: RunConfig) -> Findings:
    """Whether it can be used; broken where the run file wants it and it cannot."""
    spec = config.target.spec
    wanted = spec == KIND or (not isinstance(spec, str) and spec.get("model") == "simulated")
    if missing := missing_here():
        lacking = State.BROKEN if wanted else State.NOTE
        yield Finding(KIND, lacking, f"missing: {'; '.join(missing)}", f"{INSTALL.splitlines()[0]}; needed for "
                      f"`target: {KIND}` only")  # fmt: skip
        return
    yield Finding(KIND, State.OK, LABEL)
    if wanted:
        yield Finding(KIND, State.NOTE, "the target is no GPU", "its times say nothing of one")
