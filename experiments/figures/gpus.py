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


def gpu_coalescing(path: Path) -> Figures:
    """Of experiments/gpu_passes/coalescing.py: random programs after the pass, executed, their sectors counted."""
    found = json.loads(path.read_text("utf-8"))
    return {
        "finding": f"{found['right']} of {found['executed']} random programs are right; {found['rewritten']} were "
        f"rewritten, to {found['fewer_sectors']:.1f} times fewer sectors in the geometric mean"
    }


def gpu_fragments(path: Path) -> Figures:
    """Of experiments/gpu_passes/fragments.py: random products with `mma` and `swizzle`."""
    found = json.loads(path.read_text("utf-8"))
    return {
        "finding": f"{found['right']} of {found['executed']} random products are right, {found['by_mma']} of them on "
        f"tensor cores; {found['swizzled']} were swizzled, to {found['conflicts_fall_by']:.1f} times fewer bank "
        f"conflicts in {found['bytes_fall_by']:.2f} times fewer bytes (geometric means); {found['seen']} of "
        f"{found['sabotages']} sabotages are seen"
    }


def gpu_balance(path: Path) -> Figures:
    """Of experiments/gpu_passes/balance.py: idle shares and predicted speedups of split-K and stream-K, by kernel."""
    rows = json.loads(path.read_text("utf-8"))["kernels"]
    ways = {"split": "predicted_speedup", "stream": "predicted_speedup_stream"}
    gains = {which: sum(row.get(key, 0) >= 1.1 for row in rows) for which, key in ways.items()}
    cells = []
    for row in rows:
        own = [row["kernel"], f"{row['whole']['idle_share']:.2f}"]
        for which, key in ways.items():
            own += [f"{row[which]['idle_share']:.2f}", f"{row[key]:.2f}"] if which in row else ["not divided", ""]
        cells.append(own)
    head = ("kernel", "idle", "idle, split-K", "predicted speedup", "idle, stream-K", "predicted speedup")
    return {
        "finding": f"of {len(rows)} kernels {gains['split']} are predicted to gain 1.1 times or more by split-K, and "
        f"{gains['stream']} by stream-K",
        "table": table(head, cells),
    }


def gpu_persistent(path: Path) -> Figures:
    """Of experiments/gpu_passes/persistent.py: random programs with `persist` and `stream_k`, by device."""
    found = json.loads(path.read_text("utf-8"))
    executed = sum(one["executed"] for one in found.values())
    right = sum(one["right"] for one in found.values())
    same = sum(one["same_bits"] for one in found.values())
    cells = [
        [device, str(one["executed"]), str(one["right"]), str(one["same_bits"]), str(one["persist"]),
         str(one["stream_k"]), "; ".join(f"{what}: {n['seen']} of {n['made']}" for what, n in one["sabotages"].items())]
        for device, one in found.items()
    ]  # fmt: skip
    return {
        "finding": f"{right} of {executed} random programs are right, and {same} have the same bits in two runs",
        "table": table(
            ("device", "programs", "right", "same bits", "with `persist`", "with `stream_k`", "sabotages seen"), cells
        ),
    }


def gpu_memory(path: Path) -> Figures:
    """Of experiments/memory: plans of whole models, in MiB."""
    rows = json.loads(path.read_text("utf-8"))["models"]
    sizes = ("lower_bound", "plan", "in_place", "tvm", "pytorch_peak")
    cells = [
        [row["model"], str(row["calls"]), *(f"{(row[size] or 0) / 2**20:.2f}" for size in sizes),
         f"{row['over_bound']:.4f}", row["clobbered"] or "nothing"]
        for row in rows
    ]  # fmt: skip
    most = max(row["over_bound"] for row in rows)
    below = sum(row["plan"] <= (row["pytorch_peak"] or 0) for row in rows)
    return {
        "finding": f"{len(rows)} models are planned at {most:.4f} of the lower bound at most, {below} of them at no "
        "more than PyTorch's peak",
        "table": table(
            ("model", "calls", "lower bound", "plan", "in place", "TVM's plan", "PyTorch's peak", "plan / bound",
             "clobbered"), cells
        ),
    }  # fmt: skip
