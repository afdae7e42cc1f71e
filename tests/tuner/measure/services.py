"""Services that children of these tests serve: benchmark entries that behave, hang, die or lie."""

from __future__ import annotations

import os
import time


class Sleeper:
    """An entry of a known speed. After `blocks` blocks it does as `then` says."""

    def __init__(self, call_s: float, then: str = "", blocks: int = 0) -> None:
        self._call_s = call_s
        self._then = then
        self._left = blocks

    def op_block(self, count: int) -> float:
        if self._then and self._left == 0:
            self._misbehave()
        self._left -= 1
        start = time.perf_counter()
        time.sleep(self._call_s * count)
        return time.perf_counter() - start if self._then != "lie" else 0.0

    def op_threads(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name.endswith("_THREADS")}

    def _misbehave(self) -> None:
        if self._then == "hang":
            time.sleep(3600)
        if self._then == "die":
            os._exit(7)
        if self._then == "raise":
            raise RuntimeError("out of luck")
