"""Are random products right with `mma` and `swizzle`, what do they save, and is what is broken on purpose seen?
Executed on the simulated GPU; conflicts and bytes are counted, not measured.

python experiments/gpu_passes/fragments.py [-n PROGRAMS] [--first SEED] [--json FILE]

Extents are odd, prime, one and multiples of tiles; operands float16, bfloat16, int8 and float32. A program is drawn by
its seed, a candidate of a sketch of its space likewise. Every twentieth is sabotaged. A run continues its file.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tvm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import write_json
from kernels.emit_gpu import EmitFailed, emit
from kernels.passes import PassConfig
from kernels.passes.mma import Mma
from kernels.passes.swizzle import Swizzle
from kernels.space import Candidate, InvalidCandidate, TraceApplier, generate
from kernels.workload import Workload, from_prim_func
from tests.kernels.cuda_ground import TARGET, Case, Ground, swapped_fragment
from tests.kernels.gpu_workloads import matmul

EXTENTS = (1, 5, 13, 16, 31, 32, 37, 48, 61, 64, 97)
DTYPES = (
    ("float16", "float32"), ("float16", "float16"), ("bfloat16", "float32"), ("int8", "int32"), ("float32", "float32"),
)  # fmt: skip

_DRAWS = 40
_EVERY = 20


def program(seed: int) -> tuple[Workload, np.random.Generator]:
    """The product of a seed, and the generator for its candidate."""
    rng = np.random.default_rng(seed)
    m, n, k = (int(rng.choice(EXTENTS)) for _ in range(3))
    read, written = DTYPES[int(rng.integers(len(DTYPES)))]
    batch = int(rng.choice((0, 0, 0, 2)))
    return from_prim_func(
        matmul(m, n, k, read, written, batch), f"{batch or 1} x {m} x {n} x {k} {read} {written}"
    ), rng


def one(seed: int, ground: Ground) -> dict[str, Any]:
    """The row of one program: "" as `wrong` where all is right."""
    made, rng = program(seed)
    found: dict[str, Any] = {"seed": seed, "program": made.name, "wrong": "no candidate is legal"}
    space = generate(made, TARGET)
    tensor = [s.number for s in space.sketches if s.gpu is not None and s.gpu.tensor_cores]
    applier = TraceApplier(made, space, TARGET)
    for _ in range(_DRAWS):
        sketches = tensor or [s.number for s in space.sketches]
        candidate = space.sample_sketch(int(rng.choice(sketches)), rng)
        try:
            function = applier.apply(candidate).mod["main"] if candidate else None
            if candidate is None or function is None:
                continue
            base = PassConfig().replace(Mma(True)).applied(function, TARGET)
            applied = PassConfig().replace(Mma(True)).replace(Swizzle(True)).applied(function, TARGET)
            emitted = emit(tvm.IRModule({"main": applied.function}), TARGET, made.num_outputs)
        except (InvalidCandidate, EmitFailed):
            continue
        case = Case(made, Candidate(candidate.sketch, candidate.decisions, applied.passes), emitted)
        found |= {"candidate": case.candidate.to_text(), "wrong": ground.wrong(case)}
        found["counts"] = [counted.counters(TARGET)["swizzle"] for counted in (base, applied)]
        if seed % _EVERY == 0:
            found["sabotages"] = {what: bool(ground.wrong(case, source)) for what, source in sabotages(emitted.source)}
        return found
    return found


def sabotages(source: str) -> Iterator[tuple[str, str]]:
    """A source broken in each way that it allows."""
    access = ">{(char*)buf_dyn_shmem_ptr, %d} +"
    made = {
        "another fragment": swapped_fragment(source),
        "registers in another order": source.replace('"r"(a[0]), "r"(a[1])', '"r"(a[1]), "r"(a[0])'),
        "one access that is not swizzled": source.replace(access % 0, access % 8, 1),
    }  # fmt: skip
    yield from ((what, changed) for what, changed in made.items() if changed and changed != source)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Totals, and the geometric means of what conflicts and bytes became, of the programs that were changed."""
    executed = [row for row in rows if "candidate" in row]
    changed = [row for row in executed if row["counts"][0] != row["counts"][1]]
    seen = [caught for row in rows for caught in row.get("sabotages", {}).values()]
    both = [
        [(1 + row["counts"][0][name]) / (1 + row["counts"][1][name]) for row in changed]
        for name in ("bank conflicts", "shared bytes")
    ]
    means = [math.exp(sum(map(math.log, ratios)) / max(len(ratios), 1)) for ratios in both]
    return {
        "programs": len(rows), "executed": len(executed), "right": sum(not row["wrong"] for row in executed),
        "by_mma": sum("mma{on=1}" in row["candidate"] for row in executed), "swizzled": len(changed),
        "conflicts_fall_by": round(means[0], 3), "bytes_fall_by": round(means[1], 3),
        "sabotages": len(seen), "seen": sum(seen), "rows": rows,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=320, help="programs")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first one")
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    rows = json.loads(arguments.json.read_text("utf-8"))["rows"] if arguments.json.exists() else []
    done = {row["seed"] for row in rows}
    with tempfile.TemporaryDirectory(prefix="fragments-") as folder:
        ground = Ground(Path(folder))
        try:
            for seed in sorted(set(range(arguments.first, arguments.first + arguments.n)) - done):
                rows.append(one(seed, ground))
                print(json.dumps(rows[-1]), flush=True)
                write_json(arguments.json, summary(rows))
        finally:
            ground.close()
    print(json.dumps({name: value for name, value in summary(rows).items() if name != "rows"}))


if __name__ == "__main__":
    main()
