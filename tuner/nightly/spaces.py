"""A recorded space as a cell: the quality of the search, with no device and no noise but that of the seeds."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tuner.files import write_aside
from tuner.nightly import played, steps
from tuner.nightly.measuring import Job, Measured
from tuner.nightly.structure import read_json
from tuner.nights import Outcome

SERIES = "searched/optimum"
"""The mean over the seeds of the log ratio of what was found to the optimum of the recording."""

_EACH_S = 300.0  # of one seed, at most


class SpaceMeasurer:
    """Implements `measuring.Measurer`."""

    def measure(self, job: Job) -> Measured:
        seeds = range(job.cell.seed, job.cell.seed + job.cell.seeds)
        by_seed, seconds, why = self._play(job, list(seeds), "played")
        if why:
            return Measured().failed(Outcome.BROKEN, why)
        measured = Measured(ratios={SERIES: sum(by_seed) / len(by_seed)})
        measured.facts["by_seed"] = by_seed
        measured.structure["strategy_s"] = seconds
        return measured

    def confirm(self, job: Job, measured: Measured) -> Mapping[str, float]:
        """Nothing to confirm: the seeds are the repetitions, and a seed finds the same every time."""
        return {}

    def search_again(self, job: Job, measured: Measured, seed: int) -> float | None:
        by_seed, _, why = self._play(job, [seed], f"seed-{seed}")
        return None if why else by_seed[0]

    def rebuilt_by(self, job: Job) -> float | None:
        """Nothing is built."""
        return None

    def _play(self, job: Job, seeds: Sequence[int], name: str) -> tuple[list[float], float, str]:
        """By seed the log ratio to the optimum, the strategy's own seconds, and why there is none of it."""
        assert job.cell.space is not None
        request = {
            "space": str(Path(job.cell.space).absolute()), "strategy": job.cell.strategy, "seeds": list(seeds),
            "evaluations": job.cell.evaluations,
        }  # fmt: skip
        request_file, answer_file = job.work / f"{name}.json", job.work / f"{name}-answer.json"
        answer_file.unlink(missing_ok=True)
        write_aside(request_file, json.dumps(request).encode())
        program, tree = "tuner.nightly.played", job.tree
        if not tree.mine:  # an earlier commit does not have it
            program, tree = played.__name__.rpartition(".")[2], dataclasses.replace(tree, models=job.work.absolute())
            shutil.copyfile(played.__file__, job.work / f"{program}.py")
        arguments = [program, str(request_file.absolute()), str(answer_file.absolute())]
        step = steps.run(tree, arguments, job.work / f"{name}.txt", job.limit_s(_EACH_S * len(seeds)))
        answer = read_json(answer_file)
        if not answer:
            return [], 0.0, f"the searches: {step.failed or 'no answer'}"
        return [float(value) for value in answer["by_seed"]], float(answer["own_s"]), ""
