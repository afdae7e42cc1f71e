"""Of GPU kernels that were executed without a GPU."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.figures.words import Figures, table


def opencl_kernels(path: Path) -> Figures:
    """Of experiments/opencl/kernels.py: candidates that were executed, and sabotages that were seen."""
    found = json.loads(path.read_text("utf-8"))
    programs = found["programs"]
    seen = {
        kind: "{} of {}".format(*(sum(p["sabotages"][kind][key] for p in programs) for key in ("seen", "made")))
        for kind in programs[0]["sabotages"]
    }
    return {
        **seen,
        "finding": f"{found['right']} of {found['executed']} candidates of {len(programs)} programs are right; seen "
        "are " + " and ".join(f"{numbers} sabotages with {kind}" for kind, numbers in seen.items()),
    }


def cuda_simulated(path: Path) -> Figures:
    """Of experiments/cuda_simulated: candidates that were executed, and sabotages that were seen."""
    found = json.loads(path.read_text("utf-8"))
    seen = {kind: f"{counts['seen']} of {counts['made']}" for kind, counts in found["sabotages"].items()}
    failed = [f"{words}: {count}" for words, count in found["outcomes"].items()]
    return {
        **seen,
        "finding": f"{found['right']} of {found['executed']} candidates of {len(found['programs'])} programs that "
        f"compile are right{' (' + ', '.join(failed) + ')' if failed else ''}; of the sabotages are seen "
        + ", ".join(f"{numbers} with {kind}" for kind, numbers in seen.items()),
    }


def opencl_clblast(path: Path) -> Figures:
    """Of experiments/opencl/clblast.py: products of clBLAST that were run, compared and timed."""
    found = json.loads(path.read_text("utf-8"))
    return {"finding": f"{found['right']} of {found['products']} products are right"}


def opencl_oclgrind(path: Path) -> Figures:
    """Of experiments/opencl/oclgrind.py: candidates without a finding, and sabotages with one."""
    found = json.loads(path.read_text("utf-8"))
    races, bounds = (found["findings"].get(kind, 0) for kind in ("data race", "out of bounds"))
    seen = [
        f"{counts['by Oclgrind']} of {counts['made']} with {kind} ({counts['by either']} by it or by their outputs)"
        for kind, counts in found["sabotages"].items()
    ]
    return {
        "finding": f"{found['clean']} of {found['executed']} candidates of {len(found['programs'])} programs are right "
        f"and clean: {races} data races, {bounds} accesses out of bounds; of the sabotages it sees " + ", ".join(seen),
    }


def opencl_models(path: Path) -> Figures:
    """Of experiments/opencl/models.py: whole models whose outputs were compared."""
    rows = json.loads(path.read_text("utf-8"))["models"]
    right = [row for row in rows if row["verified"]]
    names = list(dict.fromkeys(row["model"] for row in rows))
    cells = [
        [row["model"], row["weights"], str(row["candidates"]), row["compared_with"],
         f"{row['max_rel_error']:.2g}" if row["verified"] else row["reason"]]
        for row in rows
    ]  # fmt: skip
    return {
        "finding": f"{len(right)} of {len(rows)} runs of {len(names)} models give the right outputs",
        "table": table(("model", "weights", "candidates", "compared with", "largest error, relative"), cells),
    }
