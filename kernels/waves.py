"""Wave quantization: what part of a GPU waits while the last thread blocks of a launch run."""

from __future__ import annotations

import math


def idle_share(blocks: int, multiprocessors: int) -> float:
    """The part of the multiprocessors' time that is idle, 0 to 1, when thread blocks take equally long.

    The busiest multiprocessor has `ceil(blocks / multiprocessors)` of them, however many it holds at once: 133 blocks
    on 132 multiprocessors leave half of the time idle.
    """
    if blocks <= 0:
        return 1.0
    return 1.0 - blocks / (math.ceil(blocks / multiprocessors) * multiprocessors)
