"""Supervises the disposable child that runs kernels: gives it its deadlines, and replaces it by a healthy one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.errors import InfrastructureError
from tuner.process.deadlines import LEAST_RUN_S, Durations, run_limit
from tuner.process.limits import for_kernels
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import Job, Policy

_RUNS_BEFORE_REPLACEMENT = 400  # loaded libraries are never unloaded completely


class WorkerSupervisor:
    """Starts and replaces the child that runs kernels. `service` names the child's service, made with `settings`.

    A failed candidate must not affect the next one: after any failure the child is killed, and a new one must get a
    kernel right that was right before. `timeout_s` is the longest that checking one kernel may take, without sampling.
    """

    def __init__(self, service: str, settings: Mapping[str, Any], env: Mapping[str, str], timeout_s: float) -> None:
        self._service = service
        self._settings = dict(settings)
        self._env = dict(env)
        self._timeout_s = timeout_s
        self._durations = Durations(LEAST_RUN_S)
        self._child: Child | None = None
        self._runs = 0
        self._seen: set[str] = set()
        self._known_right: tuple[float, Job] | None = None

    def run(self, job: Job, policy: Policy) -> dict[str, Any]:
        """The child's reply to one job. A child that was killed from outside is replaced and the job done again, once.

        Raises ChildTimeout, ChildDied or ChildError when the job is at fault, after the child was replaced.
        """
        try:
            try:
                return self._attempt(job, policy)
            except ChildDied as error:
                if not error.killed:
                    raise
                self.replace()
                return self._attempt(job, policy)
        except (ChildTimeout, ChildDied, ChildError):
            self.replace()
            raise

    def call(self, op: str, timeout_s: float, **arguments: Any) -> Any:
        """Any other operation. Raises ChildTimeout, ChildDied or ChildError."""
        return self._ready().call(op, timeout_s, **arguments)

    def remember(self, seconds: float, job: Job) -> None:
        """A kernel was right: with the fastest of those, while its files are there, health is checked."""
        if self._known_right is None or seconds < self._known_right[0] or self._health_job() is None:
            self._known_right = (seconds, job)

    def replace(self) -> None:
        """Start a new child that passes the health check. Raises InfrastructureError when two in a row do not."""
        reason = ""
        for _ in range(2):
            self._kill()
            job = self._health_job()
            try:
                reason = self.call("health", self._timeout_s, job=None if job is None else job.to_json())
            except (ChildTimeout, ChildDied, ChildError) as error:
                reason = str(error)
            if not reason:
                return
        raise InfrastructureError(
            f"kernels no longer run as they did on this machine: {reason}",
            "look for a full disk, missing memory or files that were removed, then run the same command again",
        )

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def _attempt(self, job: Job, policy: Policy) -> dict[str, Any]:
        child = self._ready()
        task = job.task
        # A child's first job of a task makes its inputs and loads its reference: only the later ones take alike long.
        setup_s = self._durations.limit(task, self._timeout_s) if task in self._seen else self._timeout_s
        limit_s = run_limit(setup_s, policy.max_time_s, policy.give_up_above_s, self._timeout_s)
        try:
            reply: dict[str, Any] = child.call("run", limit_s, job=job.to_json(), policy=policy.to_json())
        except ChildTimeout:
            self._durations.add(task, limit_s)
            raise
        if task in self._seen:
            self._durations.add(task, float(reply["run_s"]))
        self._seen.add(task)
        return reply

    def _health_job(self) -> Job | None:
        """The kernel to check health with, if its files are still there."""
        if self._known_right is None:
            return None
        job = self._known_right[1]
        files_exist = job.path.exists() and job.reference is not None and job.reference.path.exists()
        return job if files_exist else None

    def _ready(self) -> Child:
        if self._child is not None and (not self._child.alive() or self._runs >= _RUNS_BEFORE_REPLACEMENT):
            self.close()
        if self._child is None:
            self._child = Child(self._service, self._settings, env=self._env, limits=for_kernels())
            self._runs = 0
            self._seen.clear()
        self._runs += 1
        return self._child

    def _kill(self) -> None:
        """At once: a child that failed gets no time to leave by itself."""
        if self._child is not None:
            self._child.kill()
            self._child = None
