"""A recorded space as a cell: the quality of the search, with no device and no noise but that of the seeds.

As a program, `python -m tuner.nightly.spaces REQUEST ANSWER`, it plays the searches.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tuner.errors import TunerError
from tuner.files import write_aside
from tuner.nightly import steps
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
        arguments = ["tuner.nightly.spaces", str(request_file.absolute()), str(answer_file.absolute())]
        step = steps.run(job.tree, arguments, job.work / f"{name}.txt", job.limit_s(_EACH_S * len(seeds)))
        answer = read_json(answer_file)
        if not answer:
            return [], 0.0, f"the searches: {step.failed or 'no answer'}"
        return [float(value) for value in answer["by_seed"]], float(answer["own_s"]), ""


def main(arguments: Sequence[str]) -> int:
    """Play the searches of a request in a file. Returns an exit code; says why on stderr."""
    from tuner.commands.simulate import play
    from tuner.search import STRATEGIES
    from tuner.simulate.recording import read

    request_file, answer_file = map(Path, arguments)
    request = json.loads(request_file.read_text(encoding="utf-8"))
    try:
        if request["strategy"] not in STRATEGIES:
            raise TunerError(f"no strategy {request['strategy']!r}; there are: {', '.join(STRATEGIES)}")
        recording = read(Path(request["space"]))
        evaluations = min(request["evaluations"], len(recording))
        runs = [play(recording, request["strategy"], evaluations, seed) for seed in request["seeds"]]
    except TunerError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return error.exit_code
    best = [float(run.best_so_far(evaluations)[-1]) for run in runs]
    by_seed = [math.log(seconds / recording.best_s) if math.isfinite(seconds) else math.log(100.0) for seconds in best]
    answer = {"by_seed": by_seed, "own_s": sum(run.own_s for run in runs)}
    write_aside(answer_file, json.dumps(answer).encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
