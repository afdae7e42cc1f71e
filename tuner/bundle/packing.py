"""A bench that measures nothing: it packs what was built, to be measured on another machine."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.protocols import AaControl, Job, Policy
from tuner.records import Measurement, Status


@dataclass(frozen=True)
class PackedKernel:
    """A kernel as a bundle holds it: the digest of its cubin, its launch plan, and its resource usage."""

    digest: str
    plan: Any
    usage: dict[str, Any]


class PackingBench:
    """Implements `protocols.Bench`: every job is packed and its measurement deferred, save where its file is gone.

    `kernels` has, by task key and candidate's text, what was built; `blobs` the files of the bundle by digest.
    """

    def __init__(self) -> None:
        self.kernels: defaultdict[str, dict[str, PackedKernel]] = defaultdict(dict)
        self.blobs: dict[str, bytes] = {}
        self._since_new: Counter[str] = Counter()

    @property
    def rechecks(self) -> bool:
        return False

    def packed(self, task_key: str) -> int:
        """How many different kernels of a task there are."""
        return len({kernel.digest for kernel in self.kernels[task_key].values()})

    def since_new(self, task_key: str) -> int:
        """How many kernels of a task, since the last new one, had been there already."""
        return self._since_new[task_key]

    def add(self, content: bytes) -> str:
        """Add a file to the bundle; returns its SHA-256."""
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return digest

    def measure(self, job: Job, policy: Policy) -> Measurement:
        """Pack the kernel of a job."""
        before = self.packed(job.task)
        usage = dict(job.resources)
        plan = usage.pop("plan")
        try:
            content = job.path.read_bytes()
        except OSError as error:
            reason = f"{job.path}: {error.strerror}"
            return Measurement(Status.RUN_FAILED, fidelity=policy.fidelity, reason=reason)
        self.kernels[job.task][job.candidate] = PackedKernel(self.add(content), plan, usage)
        self._since_new[job.task] = 0 if self.packed(job.task) > before else self._since_new[job.task] + 1
        return Measurement(Status.DEFERRED, fidelity=policy.fidelity, reason="to be measured elsewhere")

    def measure_interleaved(
        self, jobs: Sequence[Job], policy: Policy, budget_s: float, seed: int
    ) -> tuple[list[Measurement], AaControl | None]:
        return [self.measure(job, policy) for job in jobs], None

    def store_outputs(self, job: Job, path: Path) -> str | None:
        return "a bundle's kernels do not run here"

    def renew(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""
