"""Of kernels of C programs."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.figures.words import Figures, table


def raising_variants(path: Path) -> Figures:
    """Of `experiments/raising/run.py variants`: how many ways of writing are recognized, and in what time."""
    found = json.loads(path.read_text("utf-8"))
    levels = found["levels"]
    keys = ("recognized", "left_alone", "mislabelled")
    rows = [[level, *(str(row.get(key, 0)) for key in keys), f"{row['cpu_ms_median']:.0f}", f"{row['cpu_ms_most']:.0f}"]
            for level, row in levels.items()]  # fmt: skip
    recognized = ", ".join(f"{row['recognized']} at `{level}`" for level, row in levels.items())
    mislabelled = sum(row.get("mislabelled", 0) for row in levels.values())
    heads = ("level", "recognized", "left alone", "mislabelled", "CPU ms a function, median", "most")
    return {
        "variants": str(found["variants"]),
        "finding": f"of {found['variants']} ways of writing {recognized} are recognized, and {mislabelled} mislabelled",
        "table": table(heads, rows),
    }


def raising_traps(path: Path) -> Figures:
    """Of `experiments/raising/run.py traps`: what becomes of near misses."""
    found = json.loads(path.read_text("utf-8"))
    levels = found["levels"]
    right = ", ".join(f"{row['right_reason']} of {sum(row.values())} at `{level}`" for level, row in levels.items())
    labelled = sum(row.get("labelled", 0) for row in levels.values())
    return {
        "traps": str(found["traps"]),
        "finding": f"of near misses {right} are left alone for a right reason, and {labelled} labelled",
    }


def raising_compilers(path: Path) -> Figures:
    """Of `experiments/raising/run.py compilers`: how many ways are recognized in the IR of several clangs."""
    found = json.loads(path.read_text("utf-8"))
    keys = ("recognized", "in_parts", "left_alone", "mislabelled")
    rows = [[name, level, *(str(row.get(key, 0)) for key in keys), f"{100 * row['recognized'] / found['variants']:.1f}"]
            for name, levels in found["compilers"].items() for level, row in levels.items()]  # fmt: skip
    heads = ("compiler", "level", "recognized", "in parts", "left alone", "mislabelled", "%")
    mislabelled = sum(row.get("mislabelled", 0) for levels in found["compilers"].values() for row in levels.values())
    return {"table": table(heads, rows), "mislabelled": str(mislabelled), "variants": str(found["variants"])}


def raising_fuzz(path: Path) -> Figures:
    """Of `experiments/raising/run.py fuzz`: what broken IR does to the child that reads it."""
    found = json.loads(path.read_text("utf-8"))
    kinds = {
        "findings": "gave findings", "nothing": "gave nothing", "MalformedIr": "were refused as malformed",
        "ModelError": "were refused as models", "died": "made LLVM end its child", "timeout": "took too long",
    }  # fmt: skip
    said = ", ".join(f"{found[kind]:,} {words}" for kind, words in kinds.items() if kind in found)
    return {"mutants": f"{found['count']:,}", "finding": f"of {found['count']:,} mutants of IR {said}"}


def raising_speed(path: Path) -> Figures:
    """Of `experiments/raising/speed.py`: exported functions beside the original on memory of `malloc`."""
    found = json.loads(path.read_text("utf-8"))
    summary = found["summary"]
    others = {"original_O3_fast": "`-O3 -march=native -ffast-math`", "original_O3": "`-O3 -march=native`"}
    rows = []
    for name, kernel in found["kernels"].items():
        sizes = ", ".join(f"{size} {number}" for size, number in kernel.get("sizes", {}).items())
        timed = kernel["relinked"] if kernel.get("exported") else {}
        factors = [f"{1 / timed[other]:.2f}" if other in timed else "the original stays" for other in others]
        blas = kernel.get("ratios", {}).get("numpy_blas")
        rows.append([f"`{name}`", kernel["group"], sizes, *factors, f"{1 / blas:.2f}" if blas else "–"])
    groups = dict.fromkeys(kernel["group"] for kernel in found["kernels"].values())
    means = [f"{group}s {summary[f'{group}, times original_O3_fast']:.2f}" for group in groups]
    heads = ("function", "is", "sizes", *(f"times {words}" for words in others.values()), "kernel, times numpy's BLAS")
    return {"finding": ", ".join(means), "table": table(heads, rows)}
