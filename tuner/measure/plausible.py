"""Times that no machine can reach: the one rule for them."""

from __future__ import annotations

from tuner.records import Measurement, Status

PLAUSIBLE = 0.95
"""A time under this share of the lower bound is not believed: the bound itself was measured, or stated by a driver."""


def plausible(measured: Measurement, lower_bound_s: float) -> Measurement:
    """`measured`; SUSPECT in its place where its median is under `PLAUSIBLE` times the lower bound (seconds)."""
    if not measured.ok or measured.median_s >= PLAUSIBLE * lower_bound_s:
        return measured
    reason = f"{measured.median_s:.3g} s is under the lower bound of {lower_bound_s:.3g} s"
    return Measurement(
        Status.SUSPECT,
        fidelity=measured.fidelity,
        reason=reason,
        build_s=measured.build_s,
        run_s=measured.run_s,
        conditions=measured.conditions,
    )
