"""Are clBLAST's products right on PoCL, and are they timed as a baseline is?

python experiments/opencl/clblast.py [--json FILE]

It needs clBLAST (Debian: libclblast1). The first product of a dtype takes PoCL minutes to compile.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tuner import environment
from tuner.devices.opencl.children import child_env, confined
from tuner.devices.opencl.facts import POCL
from tuner.devices.opencl.target import find_devices
from tuner.process.worker import Child, ChildError
from tuner.protocols import SCREEN

_DEADLINE_S = 3600.0

PRODUCTS = (
    ([64, 64], [64, 64]), ([31, 37], [37, 61]), ([1, 128], [128, 61]), ([61, 128], [128, 1]),
    ([512, 384], [384, 256]), ([5, 7, 13], [5, 13, 11]), ([2, 3, 16, 32], [2, 3, 32, 8]), ([4, 9, 33], [33, 17]),
)  # fmt: skip
"""Shapes of both operands: square, of primes, with vectors, large enough for the tiled kernel, batched, with one second
operand for the whole batch."""


def timed(child: Child, a: list[int], b: list[int], dtype: str) -> dict[str, Any]:
    """The row of one product: right when `op_time` gives samples, since it raises where an output is wrong."""
    row: dict[str, Any] = {"product": f"{'x'.join(map(str, a))} by {'x'.join(map(str, b))}", "dtype": dtype}
    origin = {"op": "matmul", "a": a, "b": b, "epilogue": []}
    try:
        samples = child.call("time", _DEADLINE_S, origin=origin, dtype=dtype, policy=SCREEN.to_json())
    except ChildError as error:
        return {**row, "right": False, "reason": str(error)[:300]}
    return {**row, "right": bool(samples) and min(samples) > 0, "reason": "", "samples": len(samples or ())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtypes", nargs="*", default=["float32"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = find_devices(environment.usable_threads())
    if isinstance(found, str):
        parser.error(f"missing here: {found}")
    facts = next(facts for facts in found if facts.platform == POCL)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        env = child_env(environment.usable_threads(), Path(folder))
        settings = {"device": facts.number, "mode": "hot"}
        with Child("tuner.devices.opencl.clblast:ClblastKernels", settings, env=env, limits=confined()) as child:
            for dtype in arguments.dtypes:
                for a, b in PRODUCTS:
                    rows.append(timed(child, a, b, dtype))
                    print(json.dumps(rows[-1]), flush=True)
    if arguments.json:
        right = sum(row["right"] for row in rows)
        made = {"device": facts.label, "products": len(rows), "right": right, "rows": rows}
        arguments.json.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
