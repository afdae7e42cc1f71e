"""The searches of a recorded space, as a program: `python -m tuner.nightly.played REQUEST ANSWER`.

It is also brought to earlier commits of this program, which do not have it: it imports nothing of nights.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from tuner.errors import TunerError

_NOTHING_FOUND = math.log(100.0)
"""What a search that found no valid configuration counts as: a hundred times the optimum."""


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
    by_seed = [math.log(s / recording.best_s) if math.isfinite(s) else _NOTHING_FOUND for s in best]
    answer_file.write_text(json.dumps({"by_seed": by_seed, "own_s": sum(run.own_s for run in runs)}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
